"""Latent multiple choice over state changes."""
