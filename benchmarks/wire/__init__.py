"""How long reading an engine's stream takes."""
