"""What an operator's check certifies and saves."""
