"""Decode a stream only where its meaning changes."""
