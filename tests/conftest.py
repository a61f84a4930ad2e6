"""What several test files need and what takes a second to make: one certified policy."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small arrays: more threads only get in the way

import pytest

from suffice.certify.bundling import Certification
from support import make_trials, settle_trials


@pytest.fixture(scope="session")
def settled() -> Certification:
    """A policy over two rungs, certified at alpha 0.1 on 400 synthetic requests."""
    made = settle_trials(make_trials())
    assert made.bundle is not None
    return made
