"""Rules that end reasoning early, one per request group, certified together on traces."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product

import numpy as np
from msgspec import Struct

from suffice.early_stop.engine import stopping_hash
from suffice.early_stop.rule import ReasoningTags, StoppedTrace, StopRule, Trace, replay
from suffice.guarantee import (
    Calibration,
    Certificate,
    Evidence,
    LabelSource,
    Method,
    Scope,
    Splits,
    Terms,
    calibrate,
    content_hash,
    issue,
    method_for,
)
from suffice.guarantee.clusters import Clusters, number_clusters
from suffice.meter import Price
from suffice.trials.table import Floats, Rows, split_rows
from suffice.types import Rung

RULES = tuple(
    StopRule(every_tokens=every, agree=agree, min_logprob=least)
    for every, agree, least in product(
        (8, 16, 32, 64, 128, 256), (1, 2, 3), (None, -0.5, -0.1, -0.02)
    )
)
LEVELS = tuple(float(level) for level in np.geomspace(0.001, 0.1, 21))
SPLITS = ("fit", "certify", "report")
NEVER = -1  # instead of a rule number: this group is never stopped

Point = tuple[int, ...]  # the number of a rule for each group


class StopTarget(Struct, frozen=True, kw_only=True):
    """The promise to certify, the rung with its price, and the source of the qualities."""

    rung: Rung
    tags: ReasoningTags
    alpha: float
    delta: float
    lapses_after_s: float
    label_source: LabelSource
    price: Price | None = None
    seed: int = 0


class StopFigures(Struct, frozen=True, kw_only=True):
    """Figures of the rules on the reporting split, relative to the uncut reasoning.

    `saving_tokens` and `probe_tokens` are shares of its output tokens; the saving is net of the
    probes. `input_ratio` is the input tokens of all calls, cached ones included, over those of the
    uncut call. `usd_ratio` is the cost over that of the uncut call; None without a price.
    """

    risk: float
    saving_tokens: float
    probe_tokens: float
    stopped: float
    input_ratio: float
    usd_ratio: float | None


class LearnedStop(Struct, frozen=True, kw_only=True):
    """The chosen rules; `figures` is None and `rules` empty if no rule saves anything.

    If `certified`, the mean loss against the uncut reasoning is at most `alpha`, except with
    probability `delta`. If not, the rules are those with the smallest bound. `bound`, `n` and
    `losses` are those of the certifying split; `quality` is that of the uncut reporting rows.
    """

    certified: bool
    alpha: float
    delta: float
    rules: dict[str, StopRule]
    bound: float | None
    n: int
    losses: float
    rows: dict[str, int]
    left_out: int
    quality: float
    figures: StopFigures | None
    certificate: Certificate | None


@dataclass(frozen=True, kw_only=True, eq=False)
class RuleTable:
    """Every rule on every trace, in arrays of shape (traces, rules).

    The uncut arrays, `group` and `cluster` have shape (traces,). `group` is the index in `names`,
    and requests of equal text share a `cluster`.
    """

    losses: Floats
    output: Floats
    probes: Floats
    input: Floats
    stopped: Floats
    output_uncut: Floats
    input_uncut: Floats
    group: Rows
    cluster: Rows
    names: tuple[str, ...]

    def subset(self, rows: Rows) -> "RuleTable":
        """Return some of the traces."""
        arrays = {name: array[rows] for name, array in vars(self).items() if name != "names"}
        return RuleTable(**arrays, names=self.names)

    def losses_of(self, point: Point) -> Floats:
        """Return the loss of each trace under the rule of its group; shape (traces,)."""
        return self._of(point, self.losses, np.zeros(len(self.group)))

    def saving_of(self, point: Point) -> float:
        """Return the share of all output tokens that is saved."""
        spent = self._of(point, self.output, self.output_uncut)
        return float(1.0 - spent.sum() / self.output_uncut.sum())

    def figures(self, point: Point, *, price: Price | None = None) -> StopFigures:
        """Return the figures of the rules of a point."""
        nothing = np.zeros(len(self.group))
        probes = self._of(point, self.probes, nothing)
        reads = self._of(point, self.input, self.input_uncut)
        return StopFigures(
            risk=float(self.losses_of(point).mean()),
            saving_tokens=self.saving_of(point),
            probe_tokens=float(probes.sum() / self.output_uncut.sum()),
            stopped=float(self._of(point, self.stopped, nothing).mean()),
            input_ratio=float(reads.sum() / self.input_uncut.sum()),
            usd_ratio=None if price is None else self._usd_ratio(point, price),
        )

    def _usd_ratio(self, point: Point, price: Price) -> float:
        """Return the cost over that of the uncut call; repeated reads take the cached rate."""
        rates = price.rates_at(datetime.now(UTC), input_tokens=int(self.input_uncut.mean()))
        read, write = float(rates.input_usd_per_mtok), float(rates.output_usd_per_mtok)
        cached = rates.cache_read_usd_per_mtok
        again = self._of(point, self.input, self.input_uncut).sum() - self.input_uncut.sum()
        first = read * self.input_uncut.sum()
        uncut = first + write * self.output_uncut.sum()
        spent = first + (read if cached is None else float(cached)) * again
        spent += write * self._of(point, self.output, self.output_uncut).sum()
        return float(spent / uncut) if uncut else 1.0

    def _of(self, point: Point, values: Floats, uncut: Floats) -> Floats:
        rules = np.asarray(point)[self.group]
        chosen: Floats = np.where(rules == NEVER, uncut, values[np.arange(len(rules)), rules])
        return chosen


@dataclass(frozen=True, kw_only=True, eq=False)
class CandidateRules:
    """The points of the path, from safe to cheap, and their calibration on the certifying rows."""

    path: tuple[Point, ...]
    calibration: Calibration | None

    @property
    def point(self) -> Point | None:
        """The certified point, or the one with the smallest bound; None if the path is empty."""
        return None if self.calibration is None else self.path[self.calibration.index]


def learn_stop(traces: Sequence[Trace], target: StopTarget) -> LearnedStop:
    """Order rules on half of the traces, certify on four tenths, report on the last tenth.

    Traces of equal requests go into one split, where only the first counts. Traces with an unscored
    answer are left out. Raises InputError for too few traces.
    """
    scored = [trace for trace in traces if trace.scored]
    table = tabulate(scored)
    parts = dict(zip(SPLITS, split_rows(table.cluster, seed=target.seed), strict=True))
    fit, certify, report = (table.subset(parts[name]) for name in SPLITS)
    candidates = choose(fit, certify, alpha=target.alpha, delta=target.delta)
    calibration, point = candidates.calibration, candidates.point
    rules = {} if point is None else _rules(table, point)
    certificate = None
    if calibration is not None and calibration.certified:
        certificate = issue(calibration, _terms(traces, scored, parts, target, rules=rules))
    return LearnedStop(
        certified=certificate is not None,
        alpha=target.alpha,
        delta=target.delta,
        rules=rules,
        bound=None if calibration is None else calibration.bound,
        n=len(parts["certify"]) if calibration is None else calibration.n,
        losses=0.0 if calibration is None else calibration.losses,
        rows={name: len(rows) for name, rows in parts.items()},
        left_out=len(traces) - len(scored),
        quality=float(np.mean([scored[row].quality for row in parts["report"]])),
        figures=None if point is None else report.figures(point, price=target.price),
        certificate=certificate,
    )


def tabulate(traces: Sequence[Trace]) -> RuleTable:
    """Replay every rule on every trace; the loss is the quality that the rule loses."""
    runs = [[replay(trace, rule) for rule in RULES] for trace in traces]
    groups = [trace.group or "" for trace in traces]
    names = tuple(sorted(set(groups)))

    def by_rule(value: Callable[[Trace, StoppedTrace], float]) -> Floats:
        rows = [[value(t, run) for run in row] for t, row in zip(traces, runs, strict=True)]
        return np.array(rows, np.float64)

    return RuleTable(
        losses=by_rule(_loss),
        output=by_rule(lambda _, run: run.output_tokens),
        probes=by_rule(lambda _, run: run.probe_tokens),
        input=by_rule(lambda _, run: run.input_tokens),
        stopped=by_rule(lambda _, run: run.stopped is not None),
        output_uncut=np.array([trace.output_tokens for trace in traces], np.float64),
        input_uncut=np.array([trace.prompt_tokens for trace in traces], np.float64),
        group=np.array([names.index(group) for group in groups], np.int64),
        cluster=number_clusters([trace.text_hash or trace.request_id for trace in traces]),
        names=names,
    )


def choose(fit: RuleTable, certify: RuleTable, *, alpha: float, delta: float) -> CandidateRules:
    """Order the points that save on the fitting rows from safe to cheap, and calibrate the path."""
    path = _path(fit)
    if not path:
        return CandidateRules(path=(), calibration=None)
    method = method_for(fit.losses)
    losses = np.stack([certify.losses_of(point) for point in path], axis=1)
    if method is Method.BINOMIAL:
        losses = np.ceil(losses)  # a part of a loss counts as one, if the fitting rows had none
    evidence = Evidence(losses=losses, clusters=Clusters(codes=certify.cluster, largest=1))
    calibration = calibrate(evidence, alpha=alpha, delta=delta, method=method)
    return CandidateRules(path=path, calibration=calibration)


def _path(fit: RuleTable) -> tuple[Point, ...]:
    """Return a point for each level of risk: in each group, the rule below it that saves most.

    The risk counts two more traces, one of them lost, so that a few traces prove nothing.
    """
    points = dict.fromkeys(
        tuple(_best(fit, group, level=level) for group in range(len(fit.names))) for level in LEVELS
    )
    return tuple(point for point in points if fit.saving_of(point) > 0)


def _best(fit: RuleTable, group: int, *, level: float) -> int:
    rows = fit.group == group
    risks = (fit.losses[rows].sum(axis=0) + 1) / (rows.sum() + 2)
    saved = fit.output_uncut[rows].sum() - fit.output[rows].sum(axis=0)
    saved = np.where(risks <= level, saved, 0.0)
    return int(saved.argmax()) if saved.max() > 0 else NEVER


def _rules(table: RuleTable, point: Point) -> dict[str, StopRule]:
    return {
        name: RULES[rule] for name, rule in zip(table.names, point, strict=True) if rule != NEVER
    }


def _loss(trace: Trace, run: StoppedTrace) -> float:
    if run.stopped is None:
        return 0.0
    return max(0.0, (trace.quality or 0.0) - (run.stopped.quality or 0.0))


def _terms(
    traces: Sequence[Trace],
    scored: Sequence[Trace],
    parts: Mapping[str, Rows],
    target: StopTarget,
    *,
    rules: Mapping[str, StopRule],
) -> Terms:
    created = datetime.now(UTC)
    return Terms(
        policy_hash=stopping_hash(rules, target.tags, target.rung),
        reference=target.rung.name,
        label_source=target.label_source,
        splits=Splits(
            **{name: content_hash([scored[row] for row in rows]) for name, rows in parts.items()}
        ),
        scope=Scope(
            groups=tuple(sorted({trace.group for trace in scored if trace.group is not None})),
            unscored=len(traces) - len(scored),
        ),
        created=created,
        lapses_at=created + timedelta(seconds=target.lapses_after_s),
    )
