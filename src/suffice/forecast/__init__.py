"""A forecast of a request's cost until 2028, as a fan, and advice on contracts for chips."""
