"""End reasoning early where a certified rule says that the answer stands."""
