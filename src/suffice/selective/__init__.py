"""Selective decoding: decode a stream only when the predicted answer changes."""
