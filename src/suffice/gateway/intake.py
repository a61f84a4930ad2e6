"""What a worker takes in: how many bytes of bodies at once, by client, and of what shape.

A body is several times as large in memory as on the wire until it has been answered: text, values,
and what goes to an engine. Values are dearer still: a thousand empty objects are 3 kB of JSON.
"""

import asyncio
from collections import Counter
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network

import numpy as np

from suffice.gateway.problems import Problem

CLIENT_BYTES = 40 * 1024 * 1024
TOTAL_BYTES = 256 * 1024 * 1024
MOST_ITEMS = 200_000
DEEPEST = 128
_CHUNK = 1 << 16
_QUOTE, _BACKSLASH = ord('"'), ord("\\")
_OPEN, _CLOSE, _COMMA = b"{[", b"}]", ord(",")


@lru_cache(4096)
def source_of(address: str) -> str:
    """Return what limits by address count: of IPv6 the network, which one client has to itself."""
    try:
        parsed = IPv6Address(address)
    except ValueError:
        return address
    mapped = parsed.ipv4_mapped
    return str(IPv6Network((int(parsed) >> 64 << 64, 64)) if mapped is None else mapped)


class Intake:
    """Counts the bytes of bodies that are being read or answered, by client and in all."""

    def __init__(self, *, client_bytes: int = CLIENT_BYTES, total_bytes: int = TOTAL_BYTES) -> None:
        self._client_bytes, self._total_bytes = client_bytes, total_bytes
        self._held: Counter[str] = Counter()
        self._total = 0

    def take(self, client: str, size: int) -> None:
        """Make room for bytes; raises Problem where a client, or all together, hold too many."""
        if self._held[client] + size > self._client_bytes:
            raise Problem(
                f"your requests in flight hold more than {self._client_bytes} bytes together",
                status=429,
                code="rate_limit_exceeded",
                hint="send large requests one after the other",
                retry_after_s=1.0,
            )
        if self._total + size > self._total_bytes:
            raise Problem(
                "the gateway has no memory for this request now",
                status=503,
                hint="try again soon, or run more workers",
                retry_after_s=1.0,
            )
        self._held[client] += size
        self._total += size

    def give_back(self, client: str, size: int) -> None:
        """Free what was taken."""
        self._total -= size
        self._held[client] -= size
        if self._held[client] <= 0:
            del self._held[client]


async def check_shape(body: bytes) -> None:
    """Raise Problem for JSON that is nested too deeply, or is made of too many values.

    Counts exactly, outside of strings, a piece at a time; other requests go on in between. Most
    bodies have so few brackets and commas that counting those suffices.
    """
    brackets = body.count(b"{") + body.count(b"[")
    if brackets <= DEEPEST and brackets + body.count(b",") <= MOST_ITEMS:
        return
    items, depth, deepest, inside, escaped = 0, 0, 0, 0, False
    for start in range(0, len(body), _CHUNK):
        piece = np.frombuffer(body, np.uint8, count=min(_CHUNK, len(body) - start), offset=start)
        quotes, escaped = _quotes(piece, escaped=escaped)
        parity = (np.cumsum(quotes, dtype=np.int64) + inside) & 1
        outside = (parity == 0) & ~quotes
        inside = int(parity[-1])
        opens = outside & ((piece == _OPEN[0]) | (piece == _OPEN[1]))
        closes = outside & ((piece == _CLOSE[0]) | (piece == _CLOSE[1]))
        items += int(opens.sum()) + int((outside & (piece == _COMMA)).sum())
        depths = np.cumsum(opens.astype(np.int8) - closes.astype(np.int8), dtype=np.int64) + depth
        depth, deepest = int(depths[-1]), max(deepest, int(depths.max()))
        if deepest > DEEPEST:
            raise Problem(
                f"the body is nested more than {DEEPEST} levels deep",
                status=400,
                hint="send a flatter request",
            )
        if items > MOST_ITEMS:
            raise Problem(
                f"the body has more than {MOST_ITEMS} values",
                status=413,
                hint="send fewer messages, parts or array items",
            )
        await asyncio.sleep(0)


def _quotes(
    piece: "np.ndarray[tuple[int], np.dtype[np.uint8]]", *, escaped: bool
) -> tuple["np.ndarray[tuple[int], np.dtype[np.bool_]]", bool]:
    """Find the quotation marks that no backslash escapes; `escaped` says how the piece begins.

    A backslash escapes what follows where it ends a run of them of odd length.
    """
    slashes = piece == _BACKSLASH
    quotes = piece == _QUOTE
    if not slashes.any():
        if escaped:
            quotes[0] = False
        return quotes, False
    places = np.flatnonzero(slashes)
    begins = np.concatenate(([True], np.diff(places) != 1))
    first = places[np.maximum.accumulate(np.where(begins, np.arange(len(places)), 0))]
    lengths = places - first + 1
    if escaped and places[0] == 0:
        run = first == 0
        lengths = np.where(run, lengths - 1, lengths)
    escapes = places[lengths % 2 == 1]
    ends = bool(len(escapes)) and int(escapes[-1]) == len(piece) - 1
    after = escapes[escapes + 1 < len(piece)] + 1
    quotes[after] = False
    if escaped:
        quotes[0] = False
    return quotes, ends
