"""Stopping reasoning early: what it saves, and whether the certificate holds."""
