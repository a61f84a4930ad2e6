"""Where a certificate comes from: how often its rows were looked at, and what that spends of delta.

Whoever tries ten seeds, or seven alphas, or certifies again every week, and keeps what passes,
gives a false certificate as many chances. So a plan says how many looks there will be, and each of
them tests at delta over that number (Bonferroni): all certificates of the plan hold together with
probability at least 1 - delta, and any of them may be kept, or each in its turn.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Annotated

from msgspec import Meta, Struct

RENEWALS = 12  # looks that a renewal plans for by default: one a month for a year
_SKETCHED = 64  # smallest hashes of request ids that stand for a set of requests


class Lineage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The looks at some rows so far, this one included, of `planned` that share delta equally.

    `seeds` and `alphas` are those tried; `renewal` says that the rows are a ledger's. `carries`
    names the earlier certificates whose audits go on counting against this one. `sketch` stands
    for the requests that it rests on, in all three splits.
    """

    looks: Annotated[int, Meta(ge=1)] = 1
    planned: Annotated[int, Meta(ge=1)] = 1
    seeds: tuple[int, ...] = ()
    alphas: tuple[float, ...] = ()
    renewal: bool = False
    carries: tuple[str, ...] = ()
    sketch: tuple[int, ...] = ()

    def plan(self, delta: float) -> str:
        """Say what is spent, in one line."""
        what = "renewal" if self.renewal else "look"
        share = delta / self.planned
        plan = (
            f"{what} {self.looks} of {self.planned} that share delta {delta:g}: each is tested at "
            f"{share:.3g}"
        )
        if not self.seeds:
            return plan
        alphas = ", ".join(f"{alpha:g}" for alpha in self.alphas)
        return f"{plan} (seeds {', '.join(map(str, self.seeds))}; alphas {alphas})"


def sketch_of(request_ids: Iterable[str]) -> tuple[int, ...]:
    """Return the smallest hashes of some ids, sorted: sets that share many ids share some of them.

    Of pairs of sets that have a tenth of their ids in common, one in 800 shares no hash.
    """
    hashes = {
        int.from_bytes(
            blake2b(request_id.encode("utf-8", "replace"), digest_size=6).digest(), "big"
        )
        for request_id in request_ids
    }
    return tuple(sorted(hashes)[:_SKETCHED])


def share_requests(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two sketches are of sets that share requests; a handful in thousands may not show."""
    return bool({*one} & {*other})
