"""What a change would make of the bill, with what is measured, modelled and unknown kept apart."""

from decimal import Decimal
from typing import TYPE_CHECKING

from msgspec import Struct

from suffice.guarantee import rows_needed

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ALPHA, DELTA = 0.05, 0.1
UNPROVEN = "whether answers stay as good: cost at equal quality is unproven"


class Proof(Struct, frozen=True, kw_only=True):
    """The smallest experiment that would prove a change: `labels` pairs of answers, and dollars.

    It certifies a loss of at most 5 % at 90 % confidence if no answer is worse;
    `labels_if_2_percent` is what it takes if two in a hundred are.
    """

    unit: str
    labels: int
    labels_if_2_percent: int
    usd: Decimal | None
    command: str


class WhatIf(Struct, frozen=True, kw_only=True):
    """One change: the dollars of what it touches before and after; None where unknown.

    `low` and `high` are the ends of `usd_after`. `measured` says what of it is in the log,
    `modelled` what was worked out and how well, `unknown` what nobody can say from a log.
    """

    name: str
    title: str
    usd_before: Decimal | None
    usd_after: Decimal | None
    low: Decimal | None = None
    high: Decimal | None = None
    measured: str
    modelled: str
    unknown: str
    proof: Proof | None = None

    @property
    def saving_usd(self) -> Decimal | None:
        """What is saved; below 0 where the change costs more."""
        if self.usd_before is None or self.usd_after is None:
            return None
        return self.usd_before - self.usd_after


def proof_of(unit: str, *, usd_each: Decimal | None, command: str) -> Proof:
    """Size the smallest experiment; `usd_each` is what one unit costs both ways."""
    least = rows_needed(ALPHA, DELTA)
    likely = rows_needed(ALPHA, DELTA, loss_rate=0.02)
    assert least is not None
    assert likely is not None
    return Proof(
        unit=unit,
        labels=least,
        labels_if_2_percent=likely,
        usd=None if usd_each is None else (usd_each * least).quantize(Decimal("0.01")),
        command=command,
    )


def one(store: "DuckDBPyConnection", query: str) -> tuple[int, ...]:
    """Return the one row of a query, with 0 for what is empty."""
    row = store.execute(query).fetchone()
    assert row is not None
    return tuple(int(value or 0) for value in row)
