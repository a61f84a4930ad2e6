"""Many requests through one gateway: its memory should not grow, its books be whole and right."""

import re
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from benchmarks.gateway.bed import Bed, say
from benchmarks.gateway.load import LoadSize, LoadTarget
from benchmarks.gateway.ours import audit
from benchmarks.gateway.processes import Running
from benchmarks.gateway.stub import Counts

PARTS = 10
CONNECTIONS = 32
STREAMED_SHARE = 0.2
_REQUEST_ID = re.compile(rb"(?i)\r\nx-suffice-request-id: *(\S+)")


class _Seen:
    """The request ids that answers carried."""

    def __init__(self) -> None:
        self.ids: set[str] = set()

    def read(self, _tag: str, answer: bytes) -> str | None:
        """Take the id of an answer; says so if it has none, or one that was seen before."""
        found = _REQUEST_ID.search(answer)
        request_id = found[1].decode() if found else None
        if request_id is None or request_id in self.ids:
            return f"answered with the id {request_id}"
        self.ids.add(request_id)
        return None


class Soaked(Struct, frozen=True, kw_only=True):
    """What a soak saw: request ids, and the server's resident memory after each part."""

    ids: frozenset[str]
    resident_bytes: tuple[int, ...]


def soak(ready: Bed, target: LoadTarget, server: Running, *, requests: int) -> Soaked:
    """Send requests in ten parts, a fifth of them streamed."""
    seen = _Seen()
    resident: list[int] = []
    streamed = int(requests // PARTS * STREAMED_SHARE)
    for part in range(PARTS):
        say(f"soaking: {part * requests // PARTS:,} of {requests:,} requests")
        for share, stream in ((requests // PARTS - streamed, False), (streamed, True)):
            limits = LoadSize(connections=CONNECTIONS, requests=share)
            ready.load(replace(target, streamed=stream), limits, read=seen.read)
        server.check()
        resident.append(server.resident_bytes)
    return Soaked(ids=frozenset(seen.ids), resident_bytes=tuple(resident))


def soak_figures(soaked: Soaked, ledger: Path, *, served: Counts, answered: int) -> dict[str, Any]:
    """Compare the books of a gateway that has ended with all that the stub served to it."""
    found = audit(ledger, served, seen=soaked.ids, answered=answered)
    resident = soaked.resident_bytes
    return {
        "rss_growth": round(resident[-1] / resident[0] - 1, 4),
        "ledger_rows_missing": found.rows_missing,
        "token_sum_error": found.token_sum_error,
        "picousd_sum_error": found.picousd_error,
        "soak_requests": len(soaked.ids),
        "resident_mb_by_part": [round(size / 1e6, 1) for size in resident],
    }
