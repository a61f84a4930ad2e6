"""Texts and names as DuckDB's SQL quotes them."""


def sql_text(value: object) -> str:
    """Return the SQL literal of a text."""
    return "'" + str(value).replace("'", "''") + "'"


def sql_name(name: str) -> str:
    """Return the SQL name of a column."""
    return '"' + name.replace('"', '""') + '"'
