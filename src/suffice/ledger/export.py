"""A ledger as Parquet files, one a table, for other tools; streamed, whatever its size."""

import tempfile
from pathlib import Path

import msgspec
import sqlalchemy as sa

from suffice.errors import writing
from suffice.ledger.database import Ledger
from suffice.ledger.records import ALL_TIME, Window
from suffice.ledger.schema import TABLES, within

_PAGE = 10_000
_TYPES = {sa.BigInteger: "BIGINT", sa.Integer: "BIGINT", sa.Double: "DOUBLE", sa.Boolean: "BOOLEAN"}


def export(ledger: Ledger, folder: Path, *, window: Window = ALL_TIME) -> dict[str, int]:
    """Write each table's rows of a window into `folder`; returns how many, by the file's name.

    Amounts are whole 1e-12 dollars, times microseconds since 1970 in UTC, as in the tables. Raises
    LedgerError, and InputError when the disk refuses.
    """
    counts = {}
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for table in TABLES:
        path = folder / f"{table.name}.parquet"
        with writing(path):
            counts[path.name] = _export_table(ledger, table, path, window=window)
    return counts


def _export_table(ledger: Ledger, table: sa.Table, path: Path, *, window: Window) -> int:
    """Write rows as lines of JSON beside the file, and let DuckDB turn them into columns."""
    import duckdb

    page = (
        sa.select(table)
        .where(*within(table.c.time_us, window), table.c.id > sa.bindparam("last"))
        .order_by(table.c.id)
        .limit(_PAGE)
    )
    last, count, encoder = 0, 0, msgspec.json.Encoder()
    with tempfile.TemporaryDirectory(dir=path.parent) as draft:
        lines, columns = Path(draft) / "rows.json", Path(draft) / "rows.parquet"
        with lines.open("wb") as stream, ledger.reading() as connection:
            while rows := connection.execute(page, {"last": last}).mappings().all():
                stream.write(encoder.encode_lines([dict(row) for row in rows]))
                last, count = rows[-1]["id"], count + len(rows)
        types = ", ".join(
            f"'{column.name}': '{_TYPES.get(type(column.type), 'VARCHAR')}'"
            for column in table.columns
        )
        with duckdb.connect() as database:
            database.execute(
                f"COPY (SELECT * FROM read_json('{lines}', format = 'newline_delimited',"  # noqa: S608
                f" columns = {{{types}}}, maximum_object_size = 67108864))"
                f" TO '{columns}' (FORMAT parquet, COMPRESSION zstd)"
            )
        columns.replace(path)
    return count
