"""How often certificates are false on traffic that is built to break them."""
