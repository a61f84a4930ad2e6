"""Tables of a database as JSON lines: our own ledger, LiteLLM's spend logs, OpenCode's messages."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from suffice.errors import InputError

if TYPE_CHECKING:
    import sqlalchemy as sa

_BATCH = 10_000
LEDGER, LITELLM = "suffice_attempts", "LiteLLM_SpendLogs"


def is_database(name: str) -> bool:
    """Say whether a name is the URL of a database."""
    return "://" in name


def read_database(name: str, target: Path) -> str:
    """Write the rows of a known table as JSON lines; returns the format's name.

    Raises InputError for a database that has no such table, or that cannot be read.
    """
    import sqlalchemy as sa

    from suffice.ledger import Ledger

    url = name if is_database(name) else f"sqlite:///file:{Path(name).absolute()}?mode=ro&uri=true"
    try:
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            tables = sa.inspect(connection).get_table_names()
            if LEDGER in tables:
                Ledger.open(name, read_only=True).close()
                _write(connection, _ledger_query(), target)
                return "ledger"
            if LITELLM in tables:
                table = sa.Table(LITELLM, sa.MetaData(), autoload_with=connection)
                _write(connection, sa.select(table), target)
                return "litellm"
            if {"message", "session"} <= set(tables):
                _write(connection, sa.text("SELECT id, session_id, data FROM message"), target)
                _unfold_messages(target)
                return "opencode"
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        raise InputError(
            f"cannot read {sa.make_url(url)!r}: {type(error).__name__}: {str(error)[:200]}",
            hint="name a suffice ledger, or the database of LiteLLM or OpenCode",
        ) from error
    raise InputError(
        f"{name} is no log: it has no table {LEDGER}, {LITELLM}, or message and session",
        hint="export its rows as JSON lines or CSV",
    )


def _write(connection: "sa.Connection", query: Any, target: Path) -> None:
    with target.open("wb") as out:
        rows = connection.execution_options(stream_results=True).execute(query)
        for batch in rows.mappings().partitions(_BATCH):
            out.writelines(msgspec.json.encode(dict(row), enc_hook=str) + b"\n" for row in batch)


def _unfold_messages(target: Path) -> None:
    """Put the columns of OpenCode's messages into the JSON that each row holds."""
    rows = [msgspec.json.decode(line) for line in target.read_bytes().splitlines()]
    with target.open("wb") as out:
        for row in rows:
            data = msgspec.json.decode(row["data"])
            if isinstance(data, dict):
                message = data | {"id": row["id"], "sessionID": row["session_id"]}
                out.write(msgspec.json.encode(message) + b"\n")


def _ledger_query() -> Any:
    """Select every attempt as one request, named as a record names it."""
    import sqlalchemy as sa

    from suffice.ledger.schema import attempts, requests

    picousd = 10**12
    return sa.select(
        (attempts.c.request_id + "/" + sa.cast(attempts.c.ordinal, sa.Text)).label("id"),
        attempts.c.time_us.label("time"),
        sa.func.coalesce(
            requests.c.session_id, requests.c.conversation_id, attempts.c.request_id
        ).label("session"),
        sa.func.coalesce(requests.c.conversation_id + "/", "")
        .concat(attempts.c.role)
        .label("agent"),
        attempts.c.rung.label("model"),
        attempts.c.input_tokens,
        attempts.c.cache_read_tokens,
        attempts.c.cache_write_tokens,
        attempts.c.output_tokens,
        attempts.c.reasoning_tokens,
        attempts.c.service_tier.label("tier"),
        (attempts.c.charge_picousd * 1.0 / picousd).label("stated_usd"),
        requests.c.key_id.label("key"),
        sa.func.coalesce(requests.c.tag, requests.c.group_name).label("tag"),
        attempts.c.error,
        attempts.c.duration_s.label("latency_s"),
        requests.c.text,
        attempts.c.answer,
    ).join(requests, requests.c.request_id == attempts.c.request_id)
