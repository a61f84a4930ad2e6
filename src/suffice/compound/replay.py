"""Every combination of levers, replayed from the same trials, and the competent baseline."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
from msgspec import Struct

from suffice.compound.answering import RungAnswers, SplitWorkload, answer_all, cheapest_fixed, deal
from suffice.compound.cells import Cell, Factorial, Grade, subsets
from suffice.compound.recorded import Flags, record
from suffice.compound.result import Compound, Preregistration, compound
from suffice.compound.workload import CompoundWorkload, Deployed, read_workload
from suffice.encoders.base import Encoder, default_encoder
from suffice.trials.importers import read_trials
from suffice.trials.table import Floats
from suffice.types import Say, Trial, Vector, ZeroCost


class Replay(Struct, frozen=True, kw_only=True, eq=False):
    """All cells of a workload, the competent baseline, and what a reader must know of them."""

    factorial: Factorial
    competent: Cell
    notes: tuple[str, ...]


def compound_files(
    workload: Path, trials: Sequence[Path], *, made: datetime, seed: int = 0, say: Say
) -> Compound:
    """Work out the compound effect of a workload file from files of its trials."""
    described = read_workload(workload)
    say("reading trials")
    found = read_trials(*trials, zero_cost=ZeroCost.FREE)  # costs are worked out from tokens
    source = ", ".join(path.name for path in trials)
    return compound_trials(described, found, made=made, source=source, seed=seed, say=say)


def compound_trials(
    workload: CompoundWorkload,
    trials: Sequence[Trial],
    *,
    made: datetime,
    source: str = "trials",
    seed: int = 0,
    say: Say = lambda _stage: None,
) -> Compound:
    """Replay every cell from trials and work out what the levers are worth; `source` names them."""
    replayed = replay(workload, trials, now=made, encoder=default_encoder(), seed=seed, say=say)
    say("resampling")
    return compound(
        replayed.factorial,
        _plan(workload, source=source),
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
    """Replay every combination of levers on the reporting requests of the same trials.

    Raises InputError for what `record` and `deal` refuse.
    """
    say("checking trials")
    dealt = deal(workload, record(workload, trials, now=now), now=now, seed=seed)
    say("fitting and certifying who answers")
    answered = answer_all(dealt, encoder=encoder)
    cells = [_lever_cell(dealt, answered, levers) for levers in subsets(workload.lever)]
    fixed = cheapest_fixed(dealt)
    notes = [each.note for each in (*answered.values(), fixed) if each.note is not None]
    return Replay(
        factorial=Factorial(levers=workload.levers, cells=tuple(cells)),
        competent=_competent(dealt, fixed),
        notes=(*dealt.recorded.notes, *notes),
    )


def _plan(workload: CompoundWorkload, *, source: str) -> Preregistration:
    prices = dict.fromkeys(price.source for price in workload.prices().values())
    return Preregistration(
        name=workload.name,
        fixed=workload.fixed,
        alpha=workload.alpha,
        delta=workload.delta,
        shares={name: part.share for name, part in workload.part.items()},
        source=source,
        prices=tuple(prices),
    )


def _lever_cell(
    dealt: SplitWorkload, answered: Mapping[frozenset[str], RungAnswers], levers: frozenset[str]
) -> Cell:
    """Make the cell of some levers: who answers from two of them, what it costs from the others."""
    workload = dealt.workload
    model, chip = (
        workload.sides(vector)[workload.lever_of(vector) in levers]
        for vector in (Vector.ARCHITECTURE, Vector.SILICON)
    )
    answering = max(answered, key=len)
    return _cell(dealt, answered[levers & answering], levers=levers, at=(model, chip))


def _competent(dealt: SplitWorkload, fixed: RungAnswers) -> Cell:
    """Make the competent baseline: one effort for all, each text answered once, the cheapest chip.

    The cache is warm with every request of the file that stands before; an answer from it costs
    nothing.
    """
    model = dealt.workload.sides(Vector.ARCHITECTURE)[1]
    repeated = _repeats(dealt.recorded.requests.texts)[dealt.report]
    asked = {rung: mask & ~repeated for rung, mask in fixed.asked.items()}
    cached = replace(fixed, asked=asked)
    rentable = [at for at in dealt.workload.prices() if at[0] == model]
    cells = [_cell(dealt, cached, levers=fixed.levers, at=at) for at in rentable]
    return min(cells, key=lambda cell: float(cell.usd.sum()))


def _repeats(texts: Sequence[str]) -> Flags:
    """Say which texts stood earlier in the file."""
    first: dict[str, int] = {}
    return np.array([first.setdefault(text, at) < at for at, text in enumerate(texts)])


def _cell(
    dealt: SplitWorkload, answered: RungAnswers, *, levers: frozenset[str], at: Deployed
) -> Cell:
    """Add up what every asked rung cost each request at one deployment."""
    recorded, workload, rows = dealt.recorded, dealt.workload, dealt.report
    decoding = {rung: mask for rung, mask in answered.asked.items() if rung in recorded.decoded}
    chips = workload.sides(Vector.SILICON)

    def total(column: Callable[[str], Floats]) -> Floats:
        return np.asarray(
            sum(np.where(on, column(rung)[rows], 0.0) for rung, on in decoding.items())
        )

    def work(rates: Callable[[str], Mapping[Deployed, Floats]]) -> Floats:
        """Price the tokens at the geometric mean of the chips compared, the same for every chip."""
        return total(lambda rung: np.sqrt(np.prod([rates(rung)[at[0], c] for c in chips], axis=0)))

    decoded = recorded.decoded
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
        other_usd=_asking_usd(dealt, answered),
        quality=answered.quality,
        grade=_grade(dealt, decoding, at=at),
        certificate=answered.certificate,
        as_reference=answered.certificate is None,
    )


def _asking_usd(dealt: SplitWorkload, answered: RungAnswers) -> Floats:
    """Add up what asking the rungs that decode nothing cost each request."""
    lever = dealt.workload.lever_of(Vector.PARADIGM)
    usd = np.zeros(len(dealt.report))
    for rung, mask in answered.asked.items():
        if lever is not None and rung in dealt.workload.lever[lever].rungs:
            usd += mask * float(dealt.workload.lever[lever].ask_usd or 0)
    return usd


def _grade(dealt: SplitWorkload, decoding: Mapping[str, Flags], *, at: Deployed) -> Grade:
    """Grade a cell by the worst of its rates and its counts."""
    estimated = any(dealt.recorded.decoded[rung].estimated[at] for rung in decoding)
    return Grade.MODELLED if estimated else dealt.workload.grades()[at]
