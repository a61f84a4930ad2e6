"""The live page: one snapshot of the books and the guard, written as one self-contained page."""

from suffice.gateway.dashboard.page import render
from suffice.gateway.dashboard.snapshot import Latency, Snapshot, snapshot

__all__ = ["Latency", "Snapshot", "render", "snapshot"]
