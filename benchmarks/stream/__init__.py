"""Selective decoding on streams: decodes saved and answers kept."""
