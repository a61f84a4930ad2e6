"""The latent rung: it predicts the answers to closed-set requests and decodes nothing."""
