"""A database that has gone silent is given up, and what was committed is not written twice."""

import socket
import time
from datetime import UTC, datetime

import psycopg
import pytest
from postgres_server import new_schema

from suffice.errors import LedgerError
from suffice.ledger import Entry, Ledger, Status, database, entries
from suffice.ledger.patience import Patience


def entry(name: str) -> Entry:
    return Entry(
        request_id=name, time=datetime.now(UTC), status=Status.REFUSED, reference_rung="big"
    )


def test_a_silent_database_is_given_up_in_time(
    postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = new_schema(postgresql)
    with Ledger.open(where) as ledger:
        monkeypatch.setattr(database, "WRITE_TIMEOUT_S", 0.3)
        ledger.append(entry("before"))
        with psycopg.connect(where) as other:
            other.execute("LOCK TABLE suffice_requests IN ACCESS EXCLUSIVE MODE")
            began_s = time.monotonic()
            with pytest.raises(LedgerError) as given_up:
                ledger.append(entry("during"))
            assert time.monotonic() - began_s < 0.3 + 2.0
            assert given_up.value.retryable
        monkeypatch.setattr(database, "WRITE_TIMEOUT_S", 10.0)
        ledger.append_many(ledger.unwritten([entry("before"), entry("after")]))
        names = [row.request_id for row in entries(ledger)]
    assert names == ["before", "after"]


def test_work_that_ends_in_time_keeps_its_socket() -> None:
    ours, theirs = socket.socketpair()
    patience = Patience()
    with patience.within(5.0, fileno=ours.fileno()):
        pass
    ours.send(b"x")
    assert theirs.recv(1) == b"x"
    with patience.within(0.05, fileno=ours.fileno()):
        assert ours.recv(1) == b""
    ours.close()
    theirs.close()
