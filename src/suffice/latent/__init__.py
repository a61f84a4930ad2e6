"""The latent rung: answers to closed-set requests, predicted without decoding."""
