"""The latent rung: certified share, errors, and time for a decision."""
