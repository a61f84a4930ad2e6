"""What the four factors are worth together and apart, on one live workload."""
