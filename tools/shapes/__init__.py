"""Exact parameter counts of many model families, by building them without weights."""
