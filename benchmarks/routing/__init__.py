"""What certified routing saves on recorded outcomes."""
