"""What each factor of cost was worth on the records of others, one workload at a time."""
