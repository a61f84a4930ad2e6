"""What several test files need and what takes a second to make: one certified policy."""

import gc
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small arrays: more threads only get in the way

import pytest

from suffice.certify.bundling import Certification
from support import make_trials, settle_trials


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
