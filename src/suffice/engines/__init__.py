"""Engines answer requests: over HTTP, in this process, from recorded trials, or by prediction."""

from suffice.engines.base import Engine, last
from suffice.engines.chunk import Chunk

__all__ = ["Chunk", "Engine", "last"]
