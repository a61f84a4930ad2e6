"""What each kind of reasoning step is worth to the shipped model."""
