"""Many requests through one gateway: its memory should not grow, its books be whole and right."""

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from benchmarks.gateway_bed import Bed, say
from benchmarks.gateway_load import Limits, Target
from benchmarks.gateway_ours import audit, stub_counts
from benchmarks.gateway_processes import Running

PARTS = 10
CONNECTIONS = 32
STREAMED_SHARE = 0.2
_REQUEST_ID = re.compile(rb"(?i)\r\nx-suffice-request-id: *(\S+)")


class Seen:
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


def soak(
    ready: Bed, target: Target, server: Running, *, ledger: Path, requests: int
) -> dict[str, Any]:
    """Send requests in ten parts, a fifth of them streamed, and compare the books afterwards.

    The ledger is compared over all that the stub has served since it was reset.
    """
    seen = Seen()
    resident: list[int] = []
    for part in range(PARTS):
        say(f"soaking: {part * requests // PARTS:,} of {requests:,} requests")
        streamed = int(requests / PARTS * STREAMED_SHARE)
        for share, stream in ((requests // PARTS - streamed, False), (streamed, True)):
            limits = Limits(connections=CONNECTIONS, requests=share)
            ready.load(replace(target, streamed=stream), limits, read=seen.read)
        server.check()
        resident.append(server.resident_bytes)
    served = stub_counts(ready.stub.port)
    found = audit(ledger, served, seen=seen.ids, answered=sum(served.requests.values()))
    return {
        "rss_growth": round(resident[-1] / resident[0] - 1, 4),
        "ledger_rows_missing": found.rows_missing,
        "token_sum_error": found.token_sum_error,
        "usd_sum_error": str(Decimal(found.picousd_error).scaleb(-12)),
        "soak_requests": len(seen.ids),
        "resident_mb_by_part": [round(size / 1e6, 1) for size in resident],
    }
