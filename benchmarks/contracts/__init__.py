"""Contract rules over real prices of chips."""
