"""From trials to a table: runs side by side, one unit of cost, and what is left out of it."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from suffice.errors import InputError
from suffice.trials.order import cheapest_first, name_key
from suffice.trials.table import CostUnit, TrialTable, clusters_of
from suffice.types import Trial, TrialStatus
from suffice.units import show_share

TableRow = Mapping[str, Trial]  # a trial for each rung

NO_COST = "no cost"
SPARED_FOR_UNIT = 0.05  # share of the requests that a better unit of cost may leave out
FEWEST_WITH_COST = 0.5  # share of the requests
MOST_WITHOUT_RUNG = 0.5  # share of the requests, before leaving the rung out is better


def tabulate(trials: Iterable[Trial], *, costs: bool = True) -> TrialTable:
    """Turn trials into arrays, requests by name, rungs in the order in which they first come.

    Answers that are asked for at once arrive in any order, so nothing rests on the order of trials.
    Several runs of a request are several rows of one cluster, as `pair_runs` has them. Requests
    that lack a trial on some rung, or a cost in the unit of the table, are left out and counted.
    With dollars the rungs are put in order of their mean; without `costs` the table has none.
    Raises InputError when nothing is left, or when a request has two texts, groups or clusters.
    """
    trials = tuple(trials)
    rungs = tuple(dict.fromkeys(trial.rung for trial in trials))
    paired = pair_runs(trials)
    lacking = Counter(rung for row in paired.values() for rung in rungs if rung not in row)
    left_out = Counter(
        f"no {max(lacking.keys() - row.keys(), key=lambda rung: (lacking[rung], rung))!r} trial"
        for row in paired.values()
        if len(row) < len(rungs)
    )
    rows = {row_id: paired[row_id] for row_id in sorted(paired, key=name_key)}
    rows = {row_id: row for row_id, row in rows.items() if len(row) == len(rungs)}
    notes = [
        f"rung {rung!r} has no trial of {show_share(count / len(paired))} of the requests: "
        "to keep them, leave that rung out"
        for rung, count in lacking.items()
        if count > MOST_WITHOUT_RUNG * len(paired)
    ]
    unit = cost_unit(tuple(rows.values())) if costs else None
    if unit is not None:
        kept = {row_id: row for row_id, row in rows.items() if _has_costs(row, unit)}
        left_out[NO_COST] = len(rows) - len(kept)
        rows = kept
    elif costs and any(cost_of(trial, unit) is not None for trial in trials for unit in CostUnit):
        notes.append("no unit of cost covers half of the requests: costs count as unknown")
    if not rows:
        raise InputError(
            f"no request has a trial on every rung: {_listed(left_out) or 'there is no trial'}",
            hint="leave out the rungs that are missing most: all are compared on the same ones",
        )
    return _table(trials, rungs, rows, unit=unit, left_out=left_out, notes=notes)


def pair_runs(trials: Iterable[Trial]) -> dict[str, dict[str, Trial]]:
    """Lay the runs of every request side by side: a trial for each rung, by the id of the row.

    A request with one run on each rung is one row under its own id. With several runs it is as many
    rows, `ID#1`, `ID#2` and so on, as the rung with the most runs has; a rung with fewer takes its
    own in turn, so that an answer stays with its own quality and each run counts nearly equally.
    Raises InputError where another request has the id of such a row.
    """
    requests: dict[str, dict[str, dict[str | None, Trial]]] = {}
    for trial in trials:
        runs = requests.setdefault(trial.request_id, {}).setdefault(trial.rung, {})
        runs[trial.run] = trial
    paired = {}
    for request_id, by_rung in requests.items():
        runs_of = {
            rung: tuple(runs[run] for run in sorted(runs, key=lambda run: name_key(run or "")))
            for rung, runs in by_rung.items()
        }
        most = max(map(len, runs_of.values()))
        for k in range(most):
            row_id = request_id if most == 1 else f"{request_id}#{k + 1}"
            if row_id in paired or (most > 1 and row_id in requests):
                raise InputError(
                    f"run {k + 1} of request {request_id!r} has the name of request {row_id!r}",
                    hint="give requests ids without # and a number at their end",
                )
            paired[row_id] = {rung: runs[k % len(runs)] for rung, runs in runs_of.items()}
    return paired


def cost_unit(rows: Sequence[TableRow]) -> CostUnit | None:
    """Choose the unit that costs are counted in; units never mix.

    Dollars come before output tokens, and those before words, as long as the unit leaves out at
    most 5 % of the requests; else the unit that most requests have counts. None where that is not
    even half of them. Dollars that are all 0 are no unit: they tell no rung from another.
    """
    answered = [
        row for row in rows if any(t.status is not TrialStatus.FAILED for t in row.values())
    ]
    known = {unit: sum(_has_costs(row, unit) for row in answered) for unit in CostUnit}
    if not any(trial.charge_usd for row in answered for trial in row.values()):
        known[CostUnit.USD] = 0
    for unit, count in known.items():
        if count and count >= (1 - SPARED_FOR_UNIT) * len(answered):
            return unit
    best = max(known, key=known.__getitem__)
    return best if known[best] and known[best] >= FEWEST_WITH_COST * len(answered) else None


def cost_of(trial: Trial, unit: CostUnit | None) -> float | None:
    """Return what a trial cost in one unit, None where that is not known."""
    if unit is None:
        return None
    if unit is CostUnit.USD:
        return None if trial.charge_usd is None else float(trial.charge_usd)
    if unit is CostUnit.OUTPUT_TOKENS:
        return None if trial.usage.output_tokens is None else trial.usage.output_tokens.tokens
    return trial.output_words


def _has_costs(row: TableRow, unit: CostUnit) -> bool:
    """Whether every answer of a row has its cost; a call that failed needs none."""
    return all(
        trial.status is TrialStatus.FAILED or cost_of(trial, unit) is not None
        for trial in row.values()
    )


def _table(
    trials: Sequence[Trial],
    rungs: tuple[str, ...],
    rows: Mapping[str, TableRow],
    *,
    unit: CostUnit | None,
    left_out: Mapping[str, int],
    notes: Sequence[str],
) -> TrialTable:
    ids = [row[rungs[0]].request_id for row in rows.values()]
    texts, groups, clusters = (
        [values.get(request_id) for request_id in ids]
        for values in (_one_each(trials, name) for name in ("text", "group", "cluster"))
    )
    numbers, names = clusters_of(ids, [text or "" for text in texts], clusters)
    table = TrialTable(
        request_ids=tuple(rows),
        texts=tuple(text or "" for text in texts),
        groups=tuple(groups),
        rungs=rungs,
        quality=np.array([[_or_nan(row[rung].quality) for rung in rungs] for row in rows.values()]),
        signals=tuple(tuple(row[rung].signals for rung in rungs) for row in rows.values()),
        cost=np.array(
            [[_or_nan(cost_of(row[rung], unit)) for rung in rungs] for row in rows.values()]
        ),
        cost_unit=unit,
        unscored=np.array(
            [[row[rung].status is TrialStatus.UNSCORED for rung in rungs] for row in rows.values()]
        ),
        clusters=numbers,
        cluster_names=names,
        left_out={reason: count for reason, count in left_out.items() if count},
        notes=tuple(notes),
    )
    return cheapest_first(table) if unit is CostUnit.USD else table


def _one_each(trials: Iterable[Trial], name: str) -> dict[str, str]:
    """Index a field by request; raises InputError when a request has two values of it."""
    pairs = {(trial.request_id, value) for trial in trials if (value := getattr(trial, name))}
    by_request = dict(pairs)
    if len(by_request) < len(pairs):
        twice = next(request_id for request_id, value in pairs if by_request[request_id] != value)
        raise InputError(
            f"request {twice!r} has two {name}s",
            hint="an id stands for one request: give those of different tasks different ids",
        )
    return by_request


def _listed(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{reason}: {count:,}" for reason, count in left_out.items() if count)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
