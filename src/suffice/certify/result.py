"""What certifying said: the promise, its evidence, and what else the same requests would allow."""

from math import ceil

from msgspec import Struct

from suffice.certify.savings import DearestCluster
from suffice.guarantee import (
    Certificate,
    CheckErrors,
    LabelSource,
    Lineage,
    Method,
    PartBound,
    Per,
    RiskKind,
)
from suffice.policy import Baseline
from suffice.trials.table import CostUnit
from suffice.units import show_share

MOST_IN_ONE_CLUSTER = 0.1  # of the cost of the reference, before a saving rests on luck
UNEVEN = 3  # times the mean size of a cluster, from which the largest one makes a promise dear


class CertifyResult(Struct, frozen=True, kw_only=True):
    """What certifying said; shares, risk, saving and quality are those of the reporting split.

    Risk and quality, the baselines' too, are means over what the promise counts (`per`).

    `certified` is True when a cheaper choice than always the reference holds the promise; if not,
    the figures are those of always the reference. `share` is by rung. `saving` is a fraction of the
    reference's cost in `saving_unit`, discarded attempts paid; None where costs are unknown.
    `saving_interval` holds it with 95 %, from clusters drawn again; None where there is only one.
    `rung_bounds` hold together with confidence 1 - delta. `clusters_needed`, and the `rows_needed`
    in them, assume the loss rate seen. With a judge's labels, risk and quality are the judge's, and
    no rung has a bound of its own. `n`, `clusters`, `largest`, `losses` and `bound` are those of
    the certificate. `beyond_largest` of all requests come later in their cluster than the first
    `largest`, of which alone a promise per request speaks. `unscored` requests were left out;
    `worthless` ones have an answer that no scorer could judge. `unmarked` ones were not marked, as
    planned or not, and count as lost where they are kept. The risk of baselines is the excess, or
    for a net loss the net loss.
    `family` is the kind of policy, and `part` the share of requests, drawn at random, that it
    applies to; `losses` and `n` then stand for all of them. `fixed_rungs` is what always the same
    rung comes to. `use_as_reference` names the cheapest rung that is certified at alpha for every
    request: as good as the reference, so promise against it instead. None if there is none.
    `failed` counts the calls of each cheaper rung that gave no answer where the reference's was
    scored; those requests are left out. `saving_with_failed` is the saving with them, if each is
    then answered by the reference and both are paid: None without any, or without costs. `dearest`
    is the request or cluster that the reference costs most on; None where costs are unknown.
    `checks` says by rung how often its check errs, and `without_checks` what is saved where nobody
    checks: None without checks, or where costs are unknown.
    """

    certified: bool
    family: str
    part: float
    use_as_reference: str | None
    reference: str
    alpha: float
    delta: float
    seed: int
    share: dict[str, float]
    risk: float | None
    bound: float
    n: int
    clusters: int
    largest: int
    beyond_largest: int
    losses: float
    saving: float | None
    saving_interval: tuple[float, float] | None
    saving_unit: CostUnit | None
    risk_kind: RiskKind
    per: Per
    method: Method
    label_source: LabelSource
    baselines: dict[str, Baseline]
    fixed_rungs: dict[str, Baseline]
    quality: float
    reference_quality: float
    rung_bounds: tuple[PartBound, ...]
    rows: dict[str, int]
    unscored: int
    worthless: int
    unmarked: int
    left_out: dict[str, int]
    rows_needed: int | None
    clusters_needed: int | None
    lineage: Lineage
    certificate: Certificate | None
    failed: dict[str, int] = {}
    saving_with_failed: float | None = None
    dearest: DearestCluster | None = None
    checks: dict[str, CheckErrors] = {}
    without_checks: float | None = None

    @property
    def rungs_between(self) -> dict[str, Baseline]:
        """The fixed rungs between the cheapest and the reference."""
        return dict(list(self.fixed_rungs.items())[1:-1])

    @property
    def about_checks(self) -> tuple[str, ...]:
        """How the checks of rungs erred, and whether they pay."""
        sentences = [
            f"check of {rung}: passes {errors.false_accepts:,} of {errors.bad:,} answers that are "
            f"worse than the reference's (bound {show_share(errors.false_accept_bound)}), fails "
            f"{errors.false_rejects:,} of {errors.good:,} others (bound "
            f"{show_share(errors.false_reject_bound)})"
            for rung, errors in self.checks.items()
        ]
        if self.without_checks is not None and self.saving is not None:
            without = show_share(self.without_checks)
            low, high = self.saving_interval or (self.saving, self.saving)
            if low <= self.without_checks <= high:
                pays = "whether checking pays is not known"
            else:
                pays = f"checking {'pays' if self.saving > self.without_checks else 'does not pay'}"
            sentences.append(f"{pays}: without it {without} would be saved")
        return tuple(sentences)

    @property
    def about_saving(self) -> tuple[str, ...]:
        """What the saving on the reporting split leaves out, or rests on."""
        sentences = []
        if self.certified and self.saving is not None and self.saving <= 0:
            sentences.append(
                f"this policy costs more than {self.reference} on requests that it was not fitted "
                "on: stay with the reference, or give more requests"
            )
        elif self.saving_interval is not None and self.certified and self.saving_interval[0] <= 0:
            sentences.append("whether it saves anything is not known: the interval holds 0")
        if self.failed:
            calls = ", ".join(f"{count:,} of {rung}" for rung, count in self.failed.items())
            sentences.append(f"calls that failed where {self.reference} answered: {calls}")
        if self.saving_with_failed is not None:
            sentences.append(
                "those requests are left out; with them the saving is about "
                f"{show_share(self.saving_with_failed)}, for {self.reference} answers them and "
                "both calls are paid"
            )
        dear = self.dearest
        if self.certified and dear is not None and dear.share > MOST_IN_ONE_CLUSTER:
            sentences.append(
                f"{dear.name} alone makes {show_share(dear.share)} of the cost of "
                f"{self.reference}: the saving depends on where it fell, more than its interval "
                "shows"
            )
        return tuple(sentences)

    @property
    def advice(self) -> str:
        """What would certify, where nothing was: a larger alpha, or more rows."""
        least = ceil(self.bound * 10_000) / 10_000
        larger = f"these requests certify no alpha below {least:.4f}"
        if self.method is Method.JUDGED:
            return f"{larger}; more human labels would bring it down"
        if self.rows_needed is None:
            return f"{larger}; the loss rate itself is too high for more of them to help"
        needed = f"{self.rows_needed:,} certifying rows"
        if self.clusters < self.n:
            needed += f" in {self.clusters_needed:,} clusters"
        advice = f"{larger}; at this loss rate {needed} would do"
        uneven = self.largest * self.clusters > UNEVEN * self.n
        if uneven and self.per is Per.REQUEST:
            advice += (
                f". Some clusters hold up to {self.largest} requests, most far fewer: a promise "
                "per session (--per session) takes fewer clusters"
            )
        return advice
