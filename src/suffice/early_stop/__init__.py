"""End reasoning early, by a certified rule, once the answer no longer changes."""
