"""What routing costs and saves where sessions share a cached prefix."""
