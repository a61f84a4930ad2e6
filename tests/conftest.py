"""What several test files need and what takes a second to make: one certified policy."""

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small arrays: more threads only get in the way

import pytest
from postgres_server import postgresql_server, server_binaries
from quick_ledgers import migrate_quickly

from suffice.certify.bundling import Certification
from suffice.ledger import migrations
from support import make_trials, settle_trials

migrations.migrate = migrate_quickly
MEMORY = Path("/dev/shm")
ROOM = 6 * 2**30  # bytes; the suite holds about one GiB at a time

if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM:
    # Some thousand tests open a ledger each, which waits for the disk several times.
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


def pytest_collection_finish() -> None:
    """Keep thousands of collected tests out of what the garbage collector walks through."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def settled() -> Certification:
    """A policy over two rungs, certified at alpha 0.1 on 400 synthetic requests."""
    made = settle_trials(make_trials())
    assert made.bundle is not None
    return made


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of one PostgreSQL server; each test makes a schema of its own on it."""
    if server_binaries() is None:
        pytest.skip("no PostgreSQL server binaries here (Debian package postgresql)")
    with postgresql_server() as url:
        yield url
