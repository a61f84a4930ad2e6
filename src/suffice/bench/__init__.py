"""Tasks in, trials out: run a ladder over tasks and keep every answer with its quality."""
