"""What a log cost, and what would change it."""
