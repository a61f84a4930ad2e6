"""What is to be promised: the reference rung, alpha, delta, and how long it holds."""

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from suffice.certify.target import GroupSource, Target
from suffice.config import Targets, load_config
from suffice.errors import InputError
from suffice.guarantee import LabelSource, Per, RiskKind
from suffice.units import seconds

if TYPE_CHECKING:
    from suffice.ledger import Ledger

LONGEST_S = 10 * 365 * 86400.0  # that a certificate may hold


class Promise(Struct, frozen=True, kw_only=True):
    """What to certify, in the words of the command line.

    `looks` at the same requests share delta; None means one, and for renewals `RENEWALS`. A file
    beside `folder` keeps count of them. `plan` is a file that says what was to be marked.
    """

    reference: str
    alpha: float
    delta: float
    seed: int = 0
    lapses_after: str = "30d"
    risk: RiskKind = RiskKind.EXCESS_OVER_REFERENCE
    per: Per = Per.REQUEST
    random_part: bool = True
    looks: int | None = None
    folder: Path | None = None
    groups: GroupSource = GroupSource.DECLARED
    plan: Path | None = None

    def ask(self, source: LabelSource) -> Target:
        """Return the question to `certify`, once it is known where the labels come from."""
        return Target(
            reference=self.reference,
            label_source=source,
            alpha=self.alpha,
            delta=self.delta,
            seed=self.seed,
            lapses_after_s=lapses_after_s(self.lapses_after),
            risk=self.risk,
            per=self.per,
            random_part=self.random_part,
            groups=self.groups,
        )


def lapses_after_s(text: str) -> float:
    """Read how long a certificate holds; raises InputError for nothing, or more than ten years."""
    try:
        after_s = seconds(text)
    except ValueError as error:
        raise InputError(f"lapses-after: {error}", hint="30d is a usual value") from error
    if not 0 < after_s <= LONGEST_S:
        raise InputError(
            f"lapses-after: {text} is not more than nothing and at most ten years",
            hint="30d is a usual value",
        )
    return after_s


class PromiseOptions(Struct, frozen=True, kw_only=True):
    """What of a promise was said on the command line; None leaves it to a file's targets."""

    reference: str | None = None
    alpha: float | None = None
    delta: float | None = None
    lapses_after: str | None = None
    risk: RiskKind = RiskKind.EXCESS_OVER_REFERENCE
    per: Per = Per.REQUEST
    random_part: bool = True
    looks: int | None = None
    folder: Path | None = None
    groups: GroupSource = GroupSource.DECLARED
    plan: Path | None = None

    def promise(self, ladder: Path | None, *, seed: int) -> Promise:
        """Complete it from a `suffice.toml`, or the defaults; InputError without a reference."""
        config = None if ladder is None else load_config(ladder)
        reference = self.reference or (config.reference if config else None)
        if reference is None:
            raise InputError(
                "no reference rung is named", hint="add --reference RUNG, or --ladder suffice.toml"
            )
        targets = config.targets if config else Targets()
        return Promise(
            reference=reference,
            alpha=targets.alpha if self.alpha is None else self.alpha,
            delta=targets.delta if self.delta is None else self.delta,
            lapses_after=self.lapses_after or targets.lapses_after,
            seed=seed,
            risk=self.risk,
            per=self.per,
            random_part=self.random_part,
            looks=self.looks,
            folder=self.folder,
            groups=self.groups,
            plan=self.plan,
        )


def reference_of(ledger: "Ledger") -> str:
    """Return the one reference rung of a ledger; raises InputError when it has had several."""
    from suffice.ledger import totals

    names = [str(each.key) for each in totals(ledger, by="reference_rung")]
    if len(names) != 1:
        raise InputError(
            f"{ledger.where} has {len(names)} reference rungs"
            + (f": {', '.join(names)}" if names else ", for it holds no request"),
            hint="say which one to promise against: --reference RUNG",
        )
    return names[0]
