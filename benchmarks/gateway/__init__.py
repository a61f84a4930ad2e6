"""The gateway's throughput, added latency, faults, drift and soak."""
