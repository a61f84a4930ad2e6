"""What the commands do, without the printing: files and settings in, values out."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace as replaced
from datetime import UTC, datetime
from decimal import Decimal
from math import ceil
from pathlib import Path

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from suffice.bench.certify import Ask, Certified, Result, Say, certify
from suffice.bench.frontier import frontier
from suffice.bench.importers import read_trials, tabulate
from suffice.bench.labels import label_source, read_labels, score_by_agreement
from suffice.bench.run import BenchResult, Show, bench_of, run_bench
from suffice.bench.tasks import load_tasks
from suffice.bundle import Bundle
from suffice.config import Config, Targets, load_config
from suffice.engines import Engine, build_engines
from suffice.errors import InputError, writing
from suffice.guarantee import LabelSource, Method
from suffice.ladder import build_ladder
from suffice.latent.encoder import default_encoder
from suffice.ledger import Flow, Label, Ledger, Window, labelled_trials, totals
from suffice.report import (
    Baseline,
    Report,
    Side,
    TrialsReport,
    Verdict,
    build_report,
    ledger_report,
    side,
    token_spreads,
)
from suffice.types import Trial, TrialStatus
from suffice.units import seconds

LONGEST_S = 10 * 365 * 86400.0  # that a certificate may hold
_SQLITE = b"SQLite format 3\0"
_LABELS = {
    Label.TARGET: LabelSource.TARGET,
    Label.SCORER: LabelSource.SCORER,
    Label.FEEDBACK: LabelSource.SCORER,
    Label.JUDGE: LabelSource.JUDGE,
    Label.AGREEMENT: LabelSource.AGREEMENT,
}


_SHARED = (  # fields that a report's verdict takes over as they are
    "certified",
    "alpha",
    "delta",
    "n",
    "losses",
    "bound",
    "risk_kind",
    "share",
    "risk",
    "saving",
    "quality",
    "reference_quality",
    "label_source",
)


class Promise(Struct, frozen=True, kw_only=True):
    """What to certify, in the words of the command line."""

    reference: str
    alpha: float
    delta: float
    seed: int = 0
    lapses_after: str = "30d"

    def ask(self, source: LabelSource) -> Ask:
        """Return the question to `certify`, once it is known where the labels come from."""
        return Ask(
            reference=self.reference,
            label_source=source,
            alpha=self.alpha,
            delta=self.delta,
            seed=self.seed,
            lapses_after_s=lapses_after_s(self.lapses_after),
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


class Targeted(Struct, frozen=True, kw_only=True):
    """What of a promise was said on the command line; None leaves it to a file's targets."""

    reference: str | None = None
    alpha: float | None = None
    delta: float | None = None
    lapses_after: str | None = None

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
        )


class Settled(Struct, frozen=True, kw_only=True, eq=False):
    """What certifying some trials came to; `bundle` is None when nothing was certified."""

    trials: tuple[Trial, ...]
    certified: Certified
    bundle: Bundle | None

    @property
    def result(self) -> Result:
        """The figures that are printed."""
        return self.certified.result

    @property
    def advice(self) -> str:
        """What would certify, where nothing was: a larger alpha, or more rows."""
        result = self.result
        least = ceil(result.bound * 10_000) / 10_000
        larger = f"these requests certify no alpha below {least:.4f}"
        if result.method is Method.PREDICTION_POWERED:
            return f"{larger}; more human labels would bring it down"
        if result.rows_needed is None:
            return f"{larger}; the loss rate itself is too high for more of them to help"
        return f"{larger}; at this loss rate {result.rows_needed:,} certifying rows would do"


def bench_tasks(
    config: Config,
    tasks: str,
    *,
    out: Path,
    max_usd: Decimal | None,
    judge: str | None,
    show: Show,
) -> BenchResult:
    """Run tasks on every rung of a ladder, into `out`."""
    ladder = build_ladder(config)
    plan = bench_of(config, tasks=load_tasks(tasks), out=out, max_usd=max_usd)
    if judge is not None:
        plan = replaced(plan, judge=ladder.rung(judge))

    async def run() -> BenchResult:
        async with AsyncExitStack() as stack:
            engines = await opened(stack, config)
            return await run_bench(plan, engines=engines, show=show)

    return asyncio.run(run())


async def opened(stack: AsyncExitStack, config: Config) -> dict[str, Engine]:
    """Open every engine of a configuration until the stack unwinds."""
    engines = build_engines(config)
    for engine in engines.values():
        stack.push_async_callback(engine.close)
    return engines


def certify_files(
    paths: Sequence[Path],
    promise: Promise,
    *,
    labels: Path | None = None,
    agreement: bool = False,
    say: Say,
) -> Settled:
    """Certify the trials in some files; `agreement` takes the reference's answers for right."""
    say("reading trials")
    trials = read_trials(*paths)
    if agreement:
        trials = score_by_agreement(trials, reference=promise.reference)
    human = None if labels is None else read_labels(labels)
    return settle(trials, promise.ask(label_source(trials)), labels=human, say=say)


def certify_ledger(ledger: Ledger, promise: Promise, *, say: Say) -> Settled:
    """Certify the audited and scored requests of a ledger; the weakest label names the promise."""
    say("reading the ledger")
    found = labelled_trials(ledger)
    sources = [_LABELS[label] for label in found.labels]
    source = max(sources, key=list(LabelSource).index, default=LabelSource.AGREEMENT)
    return settle(_all_pairs(found.trials), promise.ask(source), say=say)


def reference_of(ledger: Ledger) -> str:
    """Return the one reference rung of a ledger; raises InputError when it has had several."""
    names = [str(each.key) for each in totals(ledger, by="reference_rung")]
    if len(names) != 1:
        raise InputError(
            f"{ledger.where} has {len(names)} reference rungs"
            + (f": {', '.join(names)}" if names else ", for it holds no request"),
            hint="say which one to promise against: --reference RUNG",
        )
    return names[0]


def _all_pairs(trials: Sequence[Trial]) -> list[Trial]:
    """Stand in for audits that were cut off by trials that failed, so that they are counted."""
    one_each = {trial.request_id: trial for trial in trials}
    rungs = dict.fromkeys(trial.rung for trial in trials)
    by_pair = {(trial.request_id, trial.rung): trial for trial in trials}
    return [
        by_pair.get((request_id, rung)) or _cut_off(trial, rung)
        for request_id, trial in one_each.items()
        for rung in rungs
    ]


def _cut_off(trial: Trial, rung: str) -> Trial:
    return Trial(
        request_id=trial.request_id,
        rung=rung,
        status=TrialStatus.FAILED,
        text=trial.text,
        group=trial.group,
        error="its audit was cut off",
    )


def settle(
    trials: Sequence[Trial],
    ask: Ask,
    *,
    labels: Mapping[tuple[str, str], float] | None = None,
    say: Say,
) -> Settled:
    """Certify trials and bundle the policy with its certificate and what its rungs cost."""
    table = tabulate(trials)
    certified = certify(table, ask, encoder=default_encoder(), labels=labels, say=say)
    certificate = certified.result.certificate
    bundle = None
    if certificate is not None:
        kept = _kept_cheap(certified)
        mean = mean_usd([trial for trial in trials if trial.request_id in kept])
        bundle = Bundle(policy=certified.policy, certificate=certificate, mean_usd=mean)
    return Settled(trials=tuple(trials), certified=certified, bundle=bundle)


def _kept_cheap(certified: Certified) -> set[str]:
    """Name the reporting requests that a cheaper rung answered: easier, and cheaper, than most."""
    reference = len(certified.policy.rungs) - 1
    kept = np.flatnonzero(certified.plays.chosen[:, 0] < reference).tolist()
    return {certified.reported.request_ids[row] for row in kept}


def mean_usd(trials: Sequence[Trial]) -> dict[str, Decimal]:
    """Return the mean charge of each rung whose every answer has one."""
    charges: dict[str, list[Decimal | None]] = {}
    for trial in trials:
        if trial.status is not TrialStatus.FAILED:
            charges.setdefault(trial.rung, []).append(trial.charge_usd)
    known = {rung: [usd for usd in each if usd is not None] for rung, each in charges.items()}
    return {
        rung: sum(usd, Decimal(0)) / len(usd)
        for rung, usd in known.items()
        if usd and len(usd) == len(charges[rung])
    }


def trials_report(trials: Sequence[Trial], *, source: str, settled: Settled | None) -> TrialsReport:
    """Gather what a report on trials says; with `settled`, also what was certified and saved."""
    whole = tabulate(trials)
    report = TrialsReport(
        source=source,
        made=datetime.now(UTC),
        reference=settled.result.reference if settled else whole.rungs[-1],
        requests=len(whole),
        frontier=frontier(trials),
        tokens=token_spreads(trials),
    )
    if settled is None:
        return report
    return replace(
        report,
        verdict=verdict(settled.result),
        flow=_flow(settled.certified),
        sides=_sides(settled),
    )


def verdict(result: Result) -> Verdict:
    """Say in a report's words what certifying said."""
    certificate = result.certificate
    return Verdict(
        **{name: getattr(result, name) for name in _SHARED},
        baselines={
            name: Baseline(risk=each.risk, saving=each.saving)
            for name, each in result.baselines.items()
        },
        certificate_id=certificate.certificate_id if certificate else None,
        lapses_at=certificate.terms.lapses_at if certificate else None,
        limits=certificate.limits if certificate else (),
    )


def _paths(certified: Certified) -> list[list[str]]:
    """List the rungs that each reported request paid for, in the order asked."""
    rungs, asked = certified.policy.rungs, certified.plays.attempted[:, :, 0]
    return [[rungs[at] for at in np.flatnonzero(column)] for column in asked.T]


def _flow(certified: Certified) -> tuple[Flow, ...]:
    """Count which rung was tried first and which one answered, on the reporting split."""
    chosen = [certified.policy.rungs[at] for at in certified.plays.chosen[:, 0].tolist()]
    pairs = Counter(zip((path[0] for path in _paths(certified)), chosen, strict=True))
    return tuple(
        Flow(first=first, answered=answered, requests=requests)
        for (first, answered), requests in sorted(pairs.items())
    )


def _sides(settled: Settled) -> tuple[Side, Side]:
    """Work out the cost identity on the reporting split: always the reference, and suffice."""
    by_pair = {(trial.request_id, trial.rung): trial for trial in settled.trials}
    ids, reference = settled.certified.reported.request_ids, settled.result.reference
    always = [[by_pair[request_id, reference]] for request_id in ids]
    paths = zip(ids, _paths(settled.certified), strict=True)
    chosen = [[by_pair[request_id, rung] for rung in path] for request_id, path in paths]
    return side(f"always {reference}", always), side("suffice", chosen)


def report_on(source: str, promise: Promise | None, *, say: Say) -> Report:
    """Report on a ledger or on trials, whichever `source` is."""
    if _is_ledger(source):
        if promise is not None:
            raise InputError(
                f"{source} is a ledger: a report on it certifies nothing",
                hint=f"suffice recertify {source} --reference {promise.reference}",
            )
        with Ledger.open(source, read_only=True) as ledger:
            return ledger_report(ledger, made=datetime.now(UTC), window=Window())
    settled = None if promise is None else certify_files([Path(source)], promise, say=say)
    trials = settled.trials if settled else read_trials(source)
    return trials_report(trials, source=Path(source).name, settled=settled)


def write_report(path: Path, report: Report) -> None:
    """Write a report as one HTML page; raises InputError when the disk refuses."""
    write_page(path, build_report(report))


def write_page(path: Path, page: str) -> None:
    """Write an HTML page; raises InputError when the disk refuses."""
    with writing(path):
        path.write_text(page, "utf-8")


def _is_ledger(source: str) -> bool:
    """Tell a database, by its URL or its first bytes, from a file of trials."""
    if "://" in source:
        return True
    path = Path(source)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE
