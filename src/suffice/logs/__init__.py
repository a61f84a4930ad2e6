"""Request logs of any tool, read into one table of records."""
