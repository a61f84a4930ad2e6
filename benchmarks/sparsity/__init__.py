"""Dense against sparse attention and experts, in bytes and FLOPs a token."""
