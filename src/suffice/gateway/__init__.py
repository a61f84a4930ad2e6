"""The policy in front of live traffic: guard, keys, metrics and dashboard around the pipeline."""
