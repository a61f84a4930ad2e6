"""Read any mixture of logs into one table of records, and say what was left out and why."""

import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from suffice.logs.agent_formats import AGENT_FORMATS
from suffice.logs.clean import Cleaned, clean
from suffice.logs.copies import find_copies
from suffice.logs.databases import is_database, read_database
from suffice.logs.files import LogFile, find_files, open_log, salvage
from suffice.logs.format import LogFormat, Structure, structure_sql
from suffice.logs.protobuf import is_protobuf, spans_as_json
from suffice.logs.record import Skipped
from suffice.logs.server_formats import TextFormat
from suffice.logs.session_formats import SESSION_FORMATS
from suffice.logs.sniff import SQLITE, Sniffed, of_names, sniff
from suffice.logs.sql import sql_text
from suffice.logs.store import THREADS, open_store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_LARGEST_ROW_BYTES = 32 * 1024**2
_DOCUMENTS = ("array", "document")
SESSIONS = {form.name for form in (*SESSION_FORMATS, *AGENT_FORMATS)}


class LogOptions(Struct, frozen=True, kw_only=True):
    """How logs are read: columns of plain rows by field, and the zone of times without one."""

    columns: Mapping[str, str] = {}
    timezone: str = "UTC"


DEFAULTS = LogOptions()


class Logs(Struct, frozen=True, kw_only=True):
    """Logs that were read: the store with the table `records`, and what is to be said of them.

    `formats` counts the files of each format; `bytes` is the size of the files as they lie.
    """

    store: Any
    files: int
    bytes: int
    formats: Mapping[str, int]
    skipped: tuple[Skipped, ...]
    cleaned: Cleaned
    sources: tuple["_Source", ...] = ()

    def read_texts(self, hashes: Collection[int]) -> dict[int, str]:
        """Read the prompts with these hashes from the files again, as far as they are there."""
        texts: dict[int, str] = {}
        wanted = ", ".join(str(int(name)) for name in hashes) or "NULL"
        for source in self.sources:
            form = source.sniffed.format
            if isinstance(form, LogFormat) and form.prompt:
                rows = self.store.execute(
                    f"""WITH rows AS ({_rows([source], form.structure)})
                    SELECT DISTINCT ON (1) hash_of(p), p FROM (
                        SELECT ({form.prompt})::VARCHAR AS p FROM {form.relation})
                    WHERE p IS NOT NULL AND hash_of(p) IN ({wanted})"""
                ).fetchall()
                texts.update(rows)
        return texts

    def read_openings(self) -> dict[str, str]:
        """Read what a person wrote first in each session, where a format says where that is.

        Words in angle brackets were put there by the agent's program, not by a person.
        """
        texts: dict[str, str] = {}
        for source in self.sources:
            form = source.sniffed.format
            opening = form.openings if isinstance(form, LogFormat) else None
            if opening is not None:
                rows = self.store.execute(
                    f"""WITH rows AS ({_rows([source], opening.structure)}), words AS (
                        SELECT {opening.session} AS session, {opening.time} AS time,
                            trim({opening.text}) AS text FROM rows WHERE {opening.where})
                    SELECT session, arg_min(text, time) FROM words
                    WHERE session IS NOT NULL AND text <> '' AND text NOT LIKE '<%' GROUP BY 1"""
                ).fetchall()
                texts |= {session: text for session, text in rows if session not in texts}
        return texts


class _Source(Struct, frozen=True, kw_only=True):
    """One file with its number, and the file that is read in its place."""

    id: int
    log: LogFile
    sniffed: Sniffed
    read_as: Path


@contextmanager
def read_logs(names: Iterable[str], options: LogOptions = DEFAULTS) -> Iterator[Logs]:
    """Read files, folders, globs and database URLs; raises InputError where nothing can be read."""
    urls = [name for name in names if is_database(name)]
    paths = find_files(name for name in names if not is_database(name))
    with (
        tempfile.TemporaryDirectory(prefix="suffice-bill-") as spare,
        open_store(timezone=options.timezone) as store,
    ):
        copies = find_copies(paths)
        skipped = [Skipped(path=str(path), reason=reason) for path, reason in copies.items()]
        formats: dict[str, int] = defaultdict(int)
        groups: dict[tuple[str, str, str], list[_Source]] = defaultdict(list)
        size = 0
        places: list[Path | str] = [*(path for path in paths if path not in copies), *urls]
        for number, path in enumerate(places):
            source = _look_at(number, path, options, spare=Path(spare))
            size += source.log.size
            if source.sniffed.format is None:
                skipped.append(Skipped(path=str(path), reason=source.sniffed.reason))
                continue
            formats[source.sniffed.format.name] += 1
            store.execute(
                "INSERT INTO files VALUES (?, ?, ?)", [number, str(path), str(source.read_as)]
            )
            groups[_group_of(source)].append(source)
        for group in groups.values():
            skipped += _read_group(store, group, spare=Path(spare))
        skipped += _without_requests(store, groups)
        cleaned = clean(store)
        yield Logs(
            store=store,
            files=len(paths) + len(urls),
            bytes=size,
            formats=dict(formats),
            skipped=(*skipped, *_broken_rows(store)),
            cleaned=cleaned,
            sources=tuple(source for group in groups.values() for source in group),
        )


def _look_at(number: int, path: Path | str, options: LogOptions, *, spare: Path) -> _Source:
    """Tell what a file is; what DuckDB cannot read is first written as JSON lines."""
    target = spare / f"{number}.jsonl"
    log = None if isinstance(path, str) else open_log(path)
    if log is None or log.head.startswith(SQLITE):
        name = read_database(str(path), target)
        log = open_log(target)
        sniffed = sniff(log, mapping={})
        if sniffed.format is not None:
            sniffed = replace(sniffed, format=replace(sniffed.format, name=name))
        return _Source(id=number, log=log, sniffed=sniffed, read_as=target)
    if is_protobuf(log.head):
        spans_as_json(log, target)
        log = open_log(target)
    sniffed = sniff(log, mapping=options.columns)
    if sniffed.shape == "parquet":
        sniffed = _sniff_parquet(log, options)
    read_as = log.path
    if log.packing != "none" and sniffed.shape in _DOCUMENTS:
        salvage(log, target)
        log, read_as = replace(log, packing="none"), target
    if set("*?[") & set(str(read_as)):  # DuckDB would take it for a glob
        read_as = target.with_suffix(".link")
        read_as.symlink_to(log.path.resolve())
    return _Source(id=number, log=log, sniffed=sniffed, read_as=read_as)


def _sniff_parquet(log: LogFile, options: LogOptions) -> Sniffed:
    import duckdb

    try:
        with duckdb.connect() as connection:
            described = connection.execute(
                "DESCRIBE SELECT * FROM read_parquet(?)", [str(log.path)]
            ).fetchall()
    except duckdb.Error as error:
        return Sniffed(reason=f"broken Parquet: {_short(error)}")
    form = of_names([row[0] for row in described], options.columns)
    if form is None:
        return Sniffed(reason="no column is known to count tokens")
    return Sniffed(shape="parquet", format=form)


def _group_of(source: _Source) -> tuple[str, str, str]:
    """Files of one group are read by one query; tables by one each, for their columns differ."""
    form = source.sniffed.format
    assert form is not None
    alone = source.sniffed.shape in ("csv", "parquet") or form.name == "plain"
    return (
        form.name,
        f"{source.sniffed.shape} {source.sniffed.wrapper} {source.id if alone else ''}",
        source.log.packing,
    )


def _read_group(
    store: "DuckDBPyConnection", group: list[_Source], *, spare: Path
) -> Iterator[Skipped]:
    """Read all files at once; where that fails, one by one, and what is whole of a broken one."""
    import duckdb

    failure: Exception | None = None
    for threads in (THREADS, 1):
        try:
            store.execute(f"SET threads = {threads}")
            store.execute("BEGIN")
            store.execute(_insert(group))
            store.execute("COMMIT")
        except duckdb.Error as error:
            store.execute("ROLLBACK")
            failure = error
            if isinstance(error, duckdb.OutOfMemoryException):
                continue
        else:
            failure = None
        break
    store.execute(f"SET threads = {THREADS}")
    if failure is None:
        return
    if len(group) > 1:
        for source in group:
            yield from _read_group(store, [source], spare=spare)
        return
    yield from _read_broken(store, group[0], failure, spare=spare)


def _read_broken(
    store: "DuckDBPyConnection", source: _Source, failure: Exception, *, spare: Path
) -> Iterator[Skipped]:
    """Read the whole lines of a file that is cut off; say so, or that nothing could be read."""
    import duckdb

    path = str(source.log.path)
    if source.log.packing == "none" or source.sniffed.shape not in ("lines", "csv", "text"):
        yield Skipped(path=path, reason=f"unreadable: {_short(failure)}")
        return
    target = spare / f"{source.id}.part"
    whole = salvage(source.log, target)
    store.execute("UPDATE files SET read_as = ? WHERE id = ?", [str(target), source.id])
    part = _Source(id=source.id, log=open_log(target), sniffed=source.sniffed, read_as=target)
    try:
        store.execute(_insert([part]))
    except duckdb.Error as error:
        yield Skipped(path=path, reason=f"unreadable: {_short(error)}")
    else:
        if not whole:
            yield Skipped(path=path, reason=f"{source.log.packing} is cut off: read up to there")
    finally:
        target.unlink(missing_ok=True)


def _insert(group: list[_Source]) -> str:
    """Write the query that appends the records of files of one shape and format."""
    first = group[0]
    form = first.sniffed.format
    if isinstance(form, TextFormat):
        paths, packed = _files_sql(group)
        rows = (
            "SELECT line, f.id AS file, row_number() OVER () AS n FROM read_csv("
            f"{paths}, columns = {{line: 'VARCHAR'}}, delim = '\x07', quote = '', escape = '', "
            "header = false, auto_detect = false, ignore_errors = true, filename = true, "
            f"max_line_size = {_LARGEST_ROW_BYTES}{packed}) t "
            "JOIN files f ON f.read_as = t.filename"
        )
        return f"INSERT INTO records WITH rows AS MATERIALIZED ({rows}) {form.select()}"
    assert isinstance(form, LogFormat)
    rows = _rows(group, form.structure)
    insert = f"INSERT INTO records WITH rows AS ({rows}) {form.select()}"
    if form.nested and first.sniffed.shape == "lines":
        insert += (
            " UNION ALL BY NAME SELECT 'broken' AS source, f.id AS file, 'no JSON' AS problem "
            f"FROM ({_objects(group)}) t JOIN files f ON f.read_as = t.filename "
            "WHERE j IS NULL"
        )
    return insert


def _files_sql(group: list[_Source]) -> tuple[str, str]:
    """Write the list of files, and the argument that says how they are packed."""
    packing = group[0].log.packing
    paths = ", ".join(sql_text(source.read_as) for source in group)
    return f"[{paths}]", "" if packing == "none" else f", compression = '{packing}'"


def _rows(group: list[_Source], structure: Structure) -> str:
    """Write the query that gives the relation `rows` of a format.

    `OFFSET 0` keeps DuckDB from putting the transformation into each of the thirty columns that
    look into its result, which would take five times as long.
    """
    return (
        f"SELECT json_transform(j, {structure_sql(structure)}) AS r, j IS NULL AS broken, f.id AS "
        f"file FROM ({_objects(group)}) t JOIN files f ON f.read_as = t.filename OFFSET 0"
    )


def _objects(group: list[_Source]) -> str:
    """Write the query that gives one JSON object a row, whatever the files hold.

    DuckDB keeps two buffers of the longest object for each thread, so a document's is as long as
    the longest file.
    """
    (paths, packed), sniffed = _files_sql(group), group[0].sniffed
    shape = sniffed.shape
    if shape == "csv":
        table = (
            f"read_csv({paths}, all_varchar = true, header = true, ignore_errors = true, "
            f"delim = '{sniffed.delimiter}', quote = '\"', escape = '\"', "
            "strict_mode = false, null_padding = true, filename = true, "
            f"max_line_size = {_LARGEST_ROW_BYTES}{packed})"
        )
        return f"SELECT to_json(whole_row)::JSON AS j, filename FROM {table} whole_row"
    if shape == "parquet":
        table = f"read_parquet({paths}, filename = true)"
        return f"SELECT to_json(whole_row)::JSON AS j, filename FROM {table} whole_row"
    form, largest = "unstructured", max(source.read_as.stat().st_size for source in group) + 1
    if shape in ("lines", "array"):
        form, largest = "newline_delimited" if shape == "lines" else "array", _LARGEST_ROW_BYTES
    lenient = ", ignore_errors = true" if shape == "lines" else ""
    rows = (
        "json" if not sniffed.wrapper else f"unnest(json_extract(json, '$.{sniffed.wrapper}[*]'))"
    )
    return (
        f"SELECT {rows} AS j, filename FROM read_json_objects({paths}, format = '{form}', "
        f"filename = true, maximum_object_size = {largest}{lenient}{packed})"
    )


def _without_requests(
    store: "DuckDBPyConnection", groups: Mapping[tuple[str, str, str], list[_Source]]
) -> list[Skipped]:
    """Name the files that were read, and hold no request; sessions may well be empty."""
    read = {row[0] for row in store.execute("SELECT DISTINCT file FROM records").fetchall()}
    return [
        Skipped(
            path=str(source.log.path),
            reason=": ".join(
                filter(None, (f"read as {name}, but no request is in it", _hint(source)))
            ),
        )
        for (name, *_), sources in groups.items()
        for source in sources
        if source.id not in read and name not in SESSIONS
    ]


def _hint(source: _Source) -> str:
    form = source.sniffed.format
    return form.hint if isinstance(form, LogFormat) else ""


def _broken_rows(store: "DuckDBPyConnection") -> list[Skipped]:
    """Count the rows that are no record, by file and reason."""
    rows = store.execute(
        "SELECT f.path, p.problem, p.rows FROM problems p JOIN files f ON f.id = p.file "
        "ORDER BY p.rows DESC, f.path"
    ).fetchall()
    return [Skipped(path=path, reason=reason, rows=count) for path, reason, count in rows]


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
