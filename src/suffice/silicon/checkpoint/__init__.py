"""Read a published checkpoint's `config.json`: its shape and the number formats of its weights."""
