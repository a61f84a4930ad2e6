"""What a database refuses, as errors of the ledger that say what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from suffice.errors import LedgerError


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn a database's errors into LedgerErrors that say what to do."""
    try:
        yield
    except PoolTimeout as error:
        raise LedgerError(
            f"{where}: no connection was free in time", hint="try again", retryable=True
        ) from error
    except DBAPIError as error:
        failure = next((f for f in _FAILURES if _code(error).startswith(f.codes)), None)
        if failure is None and not isinstance(error, OperationalError):
            raise
        what, hint, retryable = (failure or _UNREACHABLE)[1:]
        raise LedgerError(
            f"{where}: {what or str(error.orig).splitlines()[0]}", hint=hint, retryable=retryable
        ) from error


READ_ONLY = "25006"


def leads_nowhere(error: BaseException | None) -> bool:
    """Whether a new connection may do what this one cannot: it leads to a read-only server."""
    return getattr(error, "sqlstate", None) == READ_ONLY


def _code(error: DBAPIError) -> str:
    """Name the failure as its database does: SQLITE_FULL, or PostgreSQL's 53100; "" for neither."""
    raw = error.orig
    return getattr(raw, "sqlite_errorname", None) or getattr(raw, "sqlstate", None) or ""


class _Failure(NamedTuple):
    codes: tuple[str, ...]
    what: str | None
    hint: str
    retryable: bool = False


_UNREACHABLE = _Failure((), None, "is the database up and reachable?", retryable=True)
_FAILURES = (
    _Failure(
        ("SQLITE_FULL", "53"),
        "the disk is full; nothing was written",
        "free some space and try again",
        retryable=True,
    ),
    _Failure(
        ("SQLITE_READONLY", "42501"),
        "it may not be written to",
        "check the permissions of the file and its folder, or of the database user",
    ),
    _Failure(
        (READ_ONLY,),
        "this server of the database is read-only",
        "it is a standby, or one that failed over: list all servers in the URL, and "
        "target_session_attrs=read-write",
        retryable=True,
    ),
    _Failure(
        ("SQLITE_BUSY", "SQLITE_LOCKED", "40", "55P03"),
        "another process holds it",
        "try again; if it stays so, look for a program that keeps it open",
        retryable=True,
    ),
    _Failure(
        ("SQLITE_NOTADB",),
        "it is not a ledger",
        "name a database; `certify` and `compare` read trials",
    ),
    _Failure(
        ("SQLITE_CORRUPT",),
        "it is damaged",
        "`sqlite3 FILE .recover` saves what can be read; name another file to go on",
    ),
    _Failure(
        ("SQLITE_CANTOPEN",),
        "it cannot be opened",
        "does its folder exist, and may you write there?",
    ),
    _Failure(
        ("SQLITE_IOERR",),
        "the disk failed to read or write; nothing was written",
        "look at the disk and try again",
        retryable=True,
    ),
    _Failure(
        ("SQLITE_CONSTRAINT_FOREIGNKEY", "23503"),
        "that request is not in the ledger",
        "use the request id of an answered request",
    ),
    _Failure(
        ("SQLITE_CONSTRAINT", "23505", "P0001"),
        None,
        "entries are written once and never changed; give each request its own id",
    ),
    _Failure(("28", "3D"), None, "check user, password and database name in the URL"),
)
