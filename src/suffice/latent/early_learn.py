"""A rule that ends reasoning early, chosen and certified on recorded traces."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product

import numpy as np
from msgspec import Struct

from suffice.errors import InputError
from suffice.guarantee import (
    Calibration,
    Certificate,
    Evidence,
    LabelSource,
    Scope,
    Splits,
    Terms,
    calibrate,
    content_hash,
    issue,
    method_for,
)
from suffice.latent.early_rule import Marks, Replayed, StopRule, Trace, replay
from suffice.latent.early_stop import stopping_hash
from suffice.trials import Floats, Rows, split_rows
from suffice.types import Rung

RULES = tuple(
    StopRule(every_tokens=every, agree=agree, min_logprob=least)
    for every, agree, least in product(
        (8, 16, 32, 64, 128, 256), (1, 2, 3), (None, -0.5, -0.1, -0.02)
    )
)
SPLITS = ("fit", "certify", "report")


class Wanted(Struct, frozen=True, kw_only=True):
    """What to promise, for which rung, and where the qualities come from."""

    rung: Rung
    marks: Marks
    alpha: float
    delta: float
    lapses_after_s: float
    label_source: LabelSource
    seed: int = 0


class Figures(Struct, frozen=True, kw_only=True):
    """A rule on the reporting split, against the uncut reasoning; shares are of its output tokens.

    `saving_tokens` is net of `probe_tokens`. `input_ratio` is how many input tokens all calls
    together read for one of the uncut call: engines that keep prefixes read few of them anew.
    """

    risk: float
    saving_tokens: float
    probe_tokens: float
    stopped: float
    input_ratio: float


class Learned(Struct, frozen=True, kw_only=True):
    """What came of it; `rule` and `figures` are None when no rule saved anything on the fitting rows.

    `certified` is the promise: loss against the uncut reasoning at most `alpha`, on average over
    all requests, except with probability `delta`. If it is False `rule` is the one nearest to it.
    `bound`, `n` and `losses` stand behind it; `tried` rules were on the path.
    """

    certified: bool
    alpha: float
    delta: float
    rule: StopRule | None
    tried: int
    bound: float | None
    n: int
    losses: float
    rows: dict[str, int]
    left_out: int
    quality: float
    figures: Figures | None
    certificate: Certificate | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """Every rule on every trace: arrays of shape (traces, rules); `output_uncut` has (traces,)."""

    losses: Floats
    output: Floats
    probes: Floats
    input: Floats
    stopped: Floats
    output_uncut: Floats
    input_uncut: Floats

    def subset(self, rows: Rows) -> "Table":
        """Return some of the traces."""
        return Table(**{name: array[rows] for name, array in vars(self).items()})

    def savings(self) -> Floats:
        """Return the share of output tokens that each rule saves; shape (rules,)."""
        saved: Floats = 1.0 - self.output.sum(axis=0) / self.output_uncut.sum()
        return saved

    def figures(self, rule: int) -> Figures:
        """Return the figures of one rule."""
        return Figures(
            risk=float(self.losses[:, rule].mean()),
            saving_tokens=float(self.savings()[rule]),
            probe_tokens=float(self.probes[:, rule].sum() / self.output_uncut.sum()),
            stopped=float(self.stopped[:, rule].mean()),
            input_ratio=float(self.input[:, rule].sum() / self.input_uncut.sum()),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Chosen:
    """The rules of the path, safe to cheap, and what the certifying rows say of them."""

    path: tuple[int, ...]
    calibration: Calibration | None

    @property
    def rule(self) -> int | None:
        """The rule that may be used, or the nearest to it; None where the path is empty."""
        return None if self.calibration is None else self.path[self.calibration.index]

    @property
    def certified(self) -> bool:
        """Whether a rule may be used."""
        return self.calibration is not None and self.calibration.certified


def learn_stop(traces: Sequence[Trace], wanted: Wanted) -> Learned:
    """Order rules on half of the traces, certify one on four tenths, report on the last tenth.

    Traces that are not wholly marked are left out. Raises InputError for too few.
    """
    scored = [trace for trace in traces if trace.scored]
    parts = dict(zip(SPLITS, split_rows(len(scored), seed=wanted.seed), strict=True))
    table = tabulate(scored)
    chosen = choose(
        table.subset(parts["fit"]),
        table.subset(parts["certify"]),
        alpha=wanted.alpha,
        delta=wanted.delta,
    )
    found, rule = chosen.calibration, chosen.rule
    certificate = None
    if found is not None and rule is not None and found.certified:
        terms = _terms(scored, parts, wanted, rule=RULES[rule], left_out=len(traces) - len(scored))
        certificate = issue(found, terms)
    return Learned(
        certified=chosen.certified,
        alpha=wanted.alpha,
        delta=wanted.delta,
        rule=None if rule is None else RULES[rule],
        tried=len(chosen.path),
        bound=None if found is None else found.bound,
        n=len(parts["certify"]),
        losses=0.0 if found is None else found.losses,
        rows={name: len(rows) for name, rows in parts.items()},
        left_out=len(traces) - len(scored),
        quality=float(np.mean([scored[i].quality for i in parts["report"]])),
        figures=None if rule is None else table.subset(parts["report"]).figures(rule),
        certificate=certificate,
    )


def tabulate(traces: Sequence[Trace]) -> Table:
    """Replay every rule on every trace; the loss is what the quality falls short of the uncut."""
    if not traces:
        raise InputError("there is no marked trace", hint="give tasks with targets or scorers")
    runs = [[replay(trace, rule) for rule in RULES] for trace in traces]

    def each(field: str) -> Floats:
        return np.array([[getattr(run, field) for run in row] for row in runs], np.float64)

    return Table(
        losses=np.array(
            [[_loss(t, run) for run in row] for t, row in zip(traces, runs, strict=True)]
        ),
        output=each("output_tokens"),
        probes=each("probe_tokens"),
        input=each("input_tokens"),
        stopped=np.array([[run.stopped is not None for run in row] for row in runs], np.float64),
        output_uncut=np.array([trace.output_tokens for trace in traces], np.float64),
        input_uncut=np.array([trace.prompt_tokens for trace in traces], np.float64),
    )


def choose(fit: Table, certify: Table, *, alpha: float, delta: float) -> Chosen:
    """Order the rules that save on the fitting rows from safe to cheap, and walk that path."""
    path = _path(fit)
    if not path:
        return Chosen(path=(), calibration=None)
    evidence = Evidence(losses=certify.losses[:, list(path)])
    found = calibrate(evidence, alpha=alpha, delta=delta, method=method_for(fit.losses))
    return Chosen(path=path, calibration=found)


def _path(fit: Table) -> tuple[int, ...]:
    """Return the rules that no other beats in both loss and saving, the safest first."""
    risks, savings = fit.losses.mean(axis=0), fit.savings()
    best, path = 0.0, []
    for rule in np.lexsort((-savings, risks)):
        if savings[rule] > best:
            best = float(savings[rule])
            path.append(int(rule))
    return tuple(path)


def _loss(trace: Trace, run: Replayed) -> float:
    if run.stopped is None:
        return 0.0
    return max(0.0, (trace.quality or 0.0) - (run.stopped.quality or 0.0))


def _terms(
    scored: Sequence[Trace],
    parts: dict[str, Rows],
    wanted: Wanted,
    *,
    rule: StopRule,
    left_out: int,
) -> Terms:
    created = datetime.now(UTC)
    groups = {trace.group for trace in scored if trace.group is not None}
    return Terms(
        policy_hash=stopping_hash(rule, wanted.marks, wanted.rung),
        reference=wanted.rung.name,
        label_source=wanted.label_source,
        splits=Splits(
            **{name: content_hash([scored[i] for i in rows]) for name, rows in parts.items()}
        ),
        scope=Scope(groups=tuple(sorted(groups)), unscored=left_out),
        created=created,
        lapses_at=created + timedelta(seconds=wanted.lapses_after_s),
    )
