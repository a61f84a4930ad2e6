"""Accuracy per generated token on published runs."""
