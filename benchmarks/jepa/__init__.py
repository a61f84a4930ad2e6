"""What latent prediction adds to fine-tuning, and what a step of it costs."""
