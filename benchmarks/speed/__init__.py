"""How long the commands take that people wait for."""
