"""Several servers of one engine: the one with the least to do is asked, and outliers rest.

Long prompts that begin alike go to one server, whose cache may hold their beginning: every worker
and replica finds the same one, and no server gets much more than its share (rendezvous hashing with
bounded loads, https://arxiv.org/abs/1608.01350).
"""

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b

import msgspec

from suffice.types import JSON

EJECT_AFTER = 3  # faults in a row
REST_S = 10.0  # the first time; twice as long each time after that
LONGEST_REST_S = 300.0
MOST_SHARES = 1.25  # of the calls under way, for a server that a prompt belongs to
CACHED_BYTES = 4096  # shorter prompts are in no cache worth looking for


class Server:
    """One address; `in_flight` calls are under way there."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.in_flight = 0
        self._faults = 0
        self._rests = 0
        self._rests_until_s = 0.0

    @property
    def resting(self) -> bool:
        """Whether it is left alone after its faults, for longer each time."""
        return time.monotonic() < self._rests_until_s

    def note(self, *, fault: bool) -> None:
        """Take the outcome of a call; a sound answer makes up for all faults."""
        if not fault:
            self._faults = self._rests = 0
            self._rests_until_s = 0.0
            return
        self._faults += 1
        if self._faults >= EJECT_AFTER:
            rest_s = min(LONGEST_REST_S, REST_S * 2.0**self._rests)
            self._rests_until_s = time.monotonic() + rest_s
            self._rests, self._faults = self._rests + 1, EJECT_AFTER - 1  # the next call is a trial


def beginning_of_body(body: JSON) -> bytes:
    """Return what all turns of a conversation begin with; nothing for a short prompt."""
    messages = body.get("messages", body.get("input"))  # the Responses API
    if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
        return b""
    roles = [one.get("role") for one in messages]
    first = roles.index("user") + 1 if "user" in roles else len(roles)
    start = msgspec.json.encode([body.get("system"), body.get("tools"), messages[:first]])
    return start if len(start) >= CACHED_BYTES else b""


def _place(prefix: bytes, url: str) -> bytes:
    return blake2b(url.encode() + prefix, digest_size=8).digest()


class LoadBalancer:
    """The servers of an engine; where all rest, all are asked as if none did."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.servers = tuple(Server(url) for url in urls)
        self._turn = itertools.count()

    @contextmanager
    def lend(self, *, but: Sequence[Server] = (), prefix: bytes = b"") -> Iterator[Server]:
        """Lend the server that a `prefix` belongs to, or else that with the fewest calls under way.

        Of several the next in turn. One of `but` is lent only where there is no other.
        """
        others = [server for server in self.servers if server not in but] or list(self.servers)
        sound = [server for server in others if not server.resting] or others
        if prefix:
            share = MOST_SHARES * (1 + sum(server.in_flight for server in sound)) / len(sound)
            idle = [server for server in sound if server.in_flight < math.ceil(share)]
            server = min(idle, key=lambda one: _place(prefix, one.url))
        else:
            least = min(server.in_flight for server in sound)
            idle = [server for server in sound if server.in_flight == least]
            server = idle[next(self._turn) % len(idle)]
        server.in_flight += 1
        try:
            yield server
        finally:
            server.in_flight -= 1
