"""Fine-tuning with latent prediction: the LLM-JEPA objective in one packed pass (extra `train`)."""
