"""Replay every combination of levers, and the competent baseline, from the same trials."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
from msgspec import Struct

from suffice.compound.answering import RungAnswers, SplitWorkload, answer_all, cheapest_fixed, deal
from suffice.compound.cells import Cell, Factorial, Grade, subsets
from suffice.compound.recorded import record
from suffice.compound.result import Compound, Preregistration, compound
from suffice.compound.workload import CompoundWorkload, Deployed, read_workload
from suffice.encoders.base import Encoder, default_encoder
from suffice.trials.importers import read_trials
from suffice.trials.table import Floats
from suffice.types import Say, Trial, Vector, ZeroCost


class Replay(Struct, frozen=True, kw_only=True, eq=False):
    """All cells of a workload, the competent baseline, and notes for the reader."""

    factorial: Factorial
    competent: Cell
    notes: tuple[str, ...]


def compound_files(
    workload: Path, trials: Sequence[Path], *, made: datetime, seed: int = 0, say: Say
) -> Compound:
    """Compute the compound effect of a workload file from files of its trials."""
    description = read_workload(workload)
    say("reading trials")
    recorded = read_trials(*trials, zero_cost=ZeroCost.FREE)  # costs are worked out from tokens
    source = ", ".join(path.name for path in trials)
    return compound_trials(description, recorded, made=made, source=source, seed=seed, say=say)


def compound_trials(
    workload: CompoundWorkload,
    trials: Sequence[Trial],
    *,
    made: datetime,
    source: str = "trials",
    seed: int = 0,
    say: Say = lambda _stage: None,
) -> Compound:
    """Replay every cell from trials and compute what the levers are worth; `source` names them."""
    replayed = replay(workload, trials, now=made, encoder=default_encoder(), seed=seed, say=say)
    say("resampling")
    prices = dict.fromkeys(price.source for price in workload.prices().values())
    plan = Preregistration(
        name=workload.name,
        fixed=workload.fixed,
        alpha=workload.alpha,
        delta=workload.delta,
        shares={name: part.share for name, part in workload.part.items()},
        source=source,
        prices=tuple(prices),
    )
    return compound(
        replayed.factorial,
        plan,
        made=made,
        competent=replayed.competent,
        notes=replayed.notes,
        seed=seed,
    )


def replay(
    workload: CompoundWorkload,
    trials: Sequence[Trial],
    *,
    now: datetime,
    encoder: Encoder,
    seed: int = 0,
    say: Say = lambda _stage: None,
) -> Replay:
    """Replay every combination of levers on the reporting requests.

    Raises the InputErrors of `record` and `deal`.
    """
    say("checking trials")
    split = deal(workload, record(workload, trials, now=now), now=now, seed=seed)
    say("fitting and certifying the answering rungs")
    answered = answer_all(split, encoder=encoder)
    cells = [_lever_cell(split, answered, levers) for levers in subsets(workload.lever)]
    fixed = cheapest_fixed(split)
    notes = [answers.note for answers in (*answered.values(), fixed) if answers.note is not None]
    return Replay(
        factorial=Factorial(levers=workload.levers, cells=tuple(cells)),
        competent=_competent(split, fixed),
        notes=(*split.recorded.notes, *notes),
    )


def _lever_cell(
    split: SplitWorkload, answered: Mapping[frozenset[str], RungAnswers], levers: frozenset[str]
) -> Cell:
    """Return the cell of some levers: two of them choose the rungs, the others set the prices."""
    workload = split.workload
    model, chip = (
        workload.sides(vector)[workload.lever_of(vector) in levers]
        for vector in (Vector.ARCHITECTURE, Vector.SILICON)
    )
    answering = max(answered, key=len)
    return _cell(split, answered[levers & answering], levers=levers, at=(model, chip))


def _competent(split: SplitWorkload, fixed: RungAnswers) -> Cell:
    """Return the competent baseline: one effort for all requests, a cache, and the cheapest chip.

    The cache holds the answers to all earlier requests of the file; they cost nothing.
    """
    model = split.workload.sides(Vector.ARCHITECTURE)[1]
    first: dict[str, int] = {}
    texts = split.recorded.requests.texts
    repeated = np.array([first.setdefault(text, at) < at for at, text in enumerate(texts)])
    missed = ~repeated[split.report]
    attempted = {rung: mask & missed for rung, mask in fixed.attempted.items()}
    cached = replace(fixed, attempted=attempted)
    rentable = [at for at in split.workload.prices() if at[0] == model]
    cells = [_cell(split, cached, levers=fixed.levers, at=at) for at in rentable]
    return min(cells, key=lambda cell: float(cell.usd.sum()))


def _cell(
    split: SplitWorkload, answered: RungAnswers, *, levers: frozenset[str], at: Deployed
) -> Cell:
    """Add up the cost of all called rungs for each request, in one deployment.

    A cell is modelled if one of its counts is estimated, or the rates of the deployment are.
    """
    recorded, workload, rows = split.recorded, split.workload, split.report
    decoding = {rung: mask for rung, mask in answered.attempted.items() if rung in recorded.decoded}
    chips = workload.sides(Vector.SILICON)

    def total(column: Callable[[str], Floats]) -> Floats:
        return np.asarray(
            sum(np.where(on, column(rung)[rows], 0.0) for rung, on in decoding.items())
        )

    def work(rates: Callable[[str], Mapping[Deployed, Floats]]) -> Floats:
        """Price the tokens at the geometric mean of the compared chips, the same for every chip."""
        return total(lambda rung: np.sqrt(np.prod([rates(rung)[at[0], c] for c in chips], axis=0)))

    decoded = recorded.decoded
    estimated = any(decoded[rung].estimated[at] for rung in decoding)
    return Cell(
        levers=levers,
        requests=recorded.requests.subset(rows),
        decodes=np.asarray(sum(mask.astype(np.float64) for mask in decoding.values())),
        output_tokens=total(lambda rung: decoded[rung].output_tokens),
        input_tokens=total(lambda rung: decoded[rung].input_tokens),
        answer_work=work(lambda rung: decoded[rung].answer_usd),
        prompt_work=work(lambda rung: decoded[rung].prompt_usd),
        answer_usd=total(lambda rung: decoded[rung].answer_usd[at]),
        prompt_usd=total(lambda rung: decoded[rung].prompt_usd[at]),
        other_usd=_asking_usd(split, answered),
        quality=answered.quality,
        grade=Grade.MODELLED if estimated else workload.grades()[at],
        certificate=answered.certificate,
        as_reference=answered.certificate is None,
    )


def _asking_usd(split: SplitWorkload, answered: RungAnswers) -> Floats:
    """Add up the cost of calling the rungs that decode nothing, for each request."""
    lever = split.workload.lever_of(Vector.PARADIGM)
    usd = np.zeros(len(split.report))
    for rung, mask in answered.attempted.items():
        if lever is not None and rung in split.workload.lever[lever].rungs:
            usd += mask * float(split.workload.lever[lever].ask_usd or 0)
    return usd
