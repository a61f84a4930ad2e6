"""The table of records in DuckDB: in a temporary file, with a cap on memory, and no network."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suffice.errors import InputError
from suffice.logs.record import BEYOND_USD, columns
from suffice.logs.sql import sql_text

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY_BYTES = 400 * 1024**2
THREADS = 2  # each holds buffers for the longest rows, and rows that are not yet written
_MACROS = (
    # Numbers are seconds, or by their size milli-, micro- or nanoseconds, since 1970.
    """CREATE TEMP MACRO as_time(x) AS CASE
        WHEN try_cast(x AS DOUBLE) IS NULL THEN try_cast(x AS TIMESTAMPTZ)
        WHEN try_cast(x AS DOUBLE) BETWEEN 0 AND 4e18 THEN to_timestamp(
            try_cast(x AS DOUBLE) / CASE WHEN try_cast(x AS DOUBLE) > 1e17 THEN 1e9
                WHEN try_cast(x AS DOUBLE) > 1e14 THEN 1e6
                WHEN try_cast(x AS DOUBLE) > 1e11 THEN 1e3 ELSE 1 END) END""",
    """CREATE TEMP MACRO has_zone(x) AS try_cast(x AS DOUBLE) IS NOT NULL
        OR regexp_matches(x, ':[0-9]{2}.*([Zz]|UTC|[+-][0-9]{2}(:?[0-9]{2})?)$')""",
    # A number in a table may be grouped, and dollars have a sign.
    r"""CREATE TEMP MACRO as_number(x) AS coalesce(try_cast(x AS DOUBLE), CASE
        WHEN regexp_matches(x, '^\s*\$?\s*\d{1,3}(,\d{3})*(\.\d+)?\s*$')
        THEN try_cast(regexp_replace(x, '[$,\s]', '', 'g') AS DOUBLE) END)""",
    # Of a table with a decimal comma; counts are whole, so that a point in them groups thousands.
    r"""CREATE TEMP MACRO from_comma(x, whole) AS CASE
        WHEN regexp_matches(x, '^\s*\d{1,3}(\.\d{3})*,\d+\s*$|^\s*\d+,\d+\s*$')
        THEN replace(replace(x, '.', ''), ',', '.')
        WHEN whole AND regexp_matches(x, '^\s*\d{1,3}(\.\d{3})+\s*$') THEN replace(x, '.', '')
        ELSE x END""",
    """CREATE TEMP MACRO no_number(x) AS CASE
        WHEN x IS NULL OR try_cast(x AS DOUBLE) IS NOT NULL THEN false
        ELSE trim(x) <> '' AND as_number(x) IS NULL AND lower(trim(x)) NOT IN
            ('-', '--', 'n/a', 'na', 'nan', 'none', 'null', 'unknown') END""",
    # A text that holds JSON, as cells of CSV do, becomes what it holds.
    """CREATE TEMP MACRO tree(x) AS CASE WHEN json_type(x) = 'VARCHAR'
        THEN try_cast(x->>'$' AS JSON) ELSE x END""",
    """CREATE TEMP MACRO filled(x) AS CASE WHEN x IS NULL OR x::VARCHAR IN
        ('null', '""', '{}', '[]', '"{}"', '"[]"') THEN NULL ELSE x END""",
    "CREATE TEMP MACRO hash_of(x) AS CASE WHEN x IS NULL THEN NULL ELSE hash(x) END",
    # The sum of the counts whose names match; unknown where none does.
    """CREATE TEMP MACRO share_of(counts, pattern) AS list_sum([e.value FOR e IN
        map_entries(counts) IF regexp_matches(e.key, pattern) AND NOT contains(e.key, 'total')])""",
    # Dollars that a column can hold; what is beyond its bounds stays absurd.
    f"""CREATE TEMP MACRO as_usd(x) AS CASE WHEN isnan(x::DOUBLE) THEN NULL
        WHEN x::DOUBLE NOT BETWEEN -{BEYOND_USD} AND {BEYOND_USD}
        THEN sign(x::DOUBLE) * {BEYOND_USD} ELSE x END::DECIMAL(24, 12)""",
    # vLLM writes month and day; the year of its start is not known, so it is this one's.
    """CREATE TEMP MACRO vllm_time(x) AS try_cast(CASE WHEN length(x) = 14
        THEN year(current_date) || '-' || x ELSE x END AS TIMESTAMPTZ)""",
)


@contextmanager
def open_store(*, timezone: str = "UTC") -> Iterator["DuckDBPyConnection"]:
    """Open an empty table `records` that vanishes afterwards; raises InputError for no known zone.

    Times without a zone are taken to be of `timezone`.
    """
    import duckdb

    folder = Path(tempfile.mkdtemp(prefix="suffice-bill-"))
    try:
        with duckdb.connect(str(folder / "records.duckdb"), config=_settings(folder)) as store:
            try:
                store.execute(f"SET TimeZone = {sql_text(timezone)}")
            except duckdb.Error as error:
                raise InputError(
                    f"no time zone {timezone!r}", hint="name one such as Europe/Berlin"
                ) from error
            for macro in _MACROS:
                store.execute(macro)
            described = ", ".join(f"{name} {kind}" for name, kind in columns().items())
            store.execute(f"CREATE TABLE records ({described})")
            store.execute("CREATE TABLE files (id INTEGER, path VARCHAR, read_as VARCHAR)")
            yield store
    except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
        raise InputError(
            f"no room for the records in {folder.parent}: {str(error).splitlines()[0][:160]}",
            hint="free some space, or name another disk in TMPDIR",
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _settings(folder: Path) -> dict[str, Any]:
    return {
        "memory_limit": f"{MEMORY_BYTES}B",
        "threads": THREADS,
        "temp_directory": str(folder / "spill"),
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "preserve_insertion_order": "false",
    }
