"""How traffic is audited: which share of it, and how that sinks so that a budget lasts the day."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from msgspec import Struct

from suffice.errors import InputError
from suffice.ledger import Label, Window

if TYPE_CHECKING:
    from suffice.ledger import Ledger

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)


class AuditRule(Struct, frozen=True, kw_only=True):
    """How traffic is audited: a `share` drawn by `seed`, under a budget, labelled by `labels`.

    Without `labels` they are those of `watching_labels`. A label counts when it is given within
    `label_wait_s` of its request. `assumed_usd` stands for an audit whose charge is
    unknown; a budget needs one. Audits in flight may overrun the budget by what they cost.
    Raises InputError for a share outside [0, 1], or a budget without `assumed_usd`.
    """

    share: float
    seed: int = 0
    usd_per_day: Decimal | None = None
    assumed_usd: Decimal | None = None
    labels: tuple[Label, ...] = ()
    label_wait_s: float = 3600.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise InputError(f"audit share {self.share} is outside [0, 1]", hint="0.02 is usual")
        if self.usd_per_day is not None and self.assumed_usd is None:
            raise InputError(
                "an audit budget needs to know what an audit of unknown charge counts as",
                hint="give assumed_usd, such as twice the reference's mean charge",
            )

    @property
    def counted_usd(self) -> Decimal:
        """What an audit of unknown charge counts as."""
        return self.assumed_usd or Decimal(0)


def share_within(ledger: "Ledger", rule: AuditRule, *, left_usd: Decimal, now: datetime) -> float:
    """Return which share of requests may be audited so that `left_usd` lasts until midnight UTC.

    The rest of the day is taken to bring what it brought yesterday, or, where the ledger is younger
    than a day, as many requests an hour as there have been. One share for the whole day audits
    busy hours and quiet ones alike; first come, first served would see the early hours only.
    """
    from suffice.ledger import audit_spend, traffic

    day = traffic(ledger, window=Window(since=now - _DAY))
    spend = audit_spend(ledger, window=Window(since=now - _DAY)).spend
    counted = spend.reported_count + spend.estimated_count + spend.unknown_count
    usd = spend.known_usd + spend.unknown_count * rule.counted_usd
    each_usd = usd / day.audited if day.audited and counted else rule.counted_usd
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + _DAY
    if day.first is not None and now - day.first >= _DAY - _HOUR:
        rest = traffic(ledger, window=Window(since=now - _DAY, until=midnight - _DAY)).requests
    else:
        seen = max(_HOUR, now - (day.first or now))
        rest = round(max(day.requests, 1) * ((midnight - now) / seen))
    wanted_usd = each_usd * max(rest, 1)
    if wanted_usd <= 0:
        return 1.0
    return float(max(Decimal(0), min(Decimal(1), left_usd / wanted_usd)))
