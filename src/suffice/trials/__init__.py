"""Trials: the table, readers of foreign files, the frontier, resampling."""
