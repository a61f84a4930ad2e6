"""What the gateway counts, and how Prometheus and OpenTelemetry read it."""
