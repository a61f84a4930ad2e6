"""What a request will cost until 2028, as a fan, and which contract to sign for it."""
