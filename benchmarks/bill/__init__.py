"""What it takes to make the bill of a million requests, and whether it is right."""
