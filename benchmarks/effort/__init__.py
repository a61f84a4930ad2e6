"""What effort levels of the shipped model cost and get right."""
