"""How well the silicon planner predicts: `python -m benchmarks.silicon --data PATH --json`.

Groups are model x chip x engine; a renamed twin (DeepSeek V3 and R1) is one model. Nothing is
predicted by a fit that has seen its group. `sources` leaves out who measured, each in turn, from
the fit and from the intervals. Prints errors, intervals, rankings, speed and the law.
"""

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.inputs import benchmark_parser
from benchmarks.silicon import data as silicon_data
from benchmarks.silicon import intervals, learn
from benchmarks.silicon.fit import (
    FOLDS,
    calibration_kernel,
    fit_interval,
    left_out_ways,
    log_errors,
    new_source_width,
    source_names,
    training_coverage,
    training_rows,
)
from benchmarks.silicon.learn import MeasuredRows
from benchmarks.silicon.older import older_errors, older_runs
from benchmarks.silicon.peers import beside_peers
from benchmarks.silicon.timing import configs_per_s, plan_seconds, share_of_numpy_speed
from suffice.silicon.intervals import Interval
from suffice.silicon.residual import STEP_START, ideal, step_seconds
from suffice.silicon.roofline import Array

TARGETS_PER_S = (20.0, 50.0, 100.0)
PRICE = "usd_per_Mtok_3yr_rental"
Row = dict[str, str]


def main() -> None:
    parser = benchmark_parser(__package__, __doc__, data=True)
    arguments = parser.parse_args()
    result = measure(arguments.data)
    print(json.dumps(result) if arguments.json else report_lines(result))


def measure(data: Path) -> dict[str, Any]:
    """Run everything; takes about three minutes on two cores."""
    raw = silicon_data.read_csv(data, silicon_data.SAMPLE)
    peer = {row["id"]: row for row in silicon_data.read_csv(data, silicon_data.PEER)}
    rows, sources, count = training_rows(data), source_names(data), len(raw)
    ways = left_out_ways(rows, sources)
    held, runs = ways["group"][1], older_runs(data)
    tpot, ttft = log_errors(rows, held)
    common = _common_rows(raw, peer)
    older, _ = older_errors(runs, learn.fit(rows), coverage=training_coverage(rows, data))
    left_out = intervals.join_errors(
        [intervals.collect(rows, ways, target=0, source=sources), older]
    )
    interval = fit_interval(left_out)
    width = new_source_width(rows, interval, held=held)
    coverage, factors = _coverage(rows, left_out, count=count)
    factors["new_source"] = float(np.exp(np.median(width[:count])))
    return {
        "tpot": errors(tpot[:count]),
        "ttft": errors(ttft[:count]),
        "tpot_fewshot": _few_shot(rows, tpot, width=width, count=count, keys=rows.group),
        "tpot_fewshot_deployment": _few_shot(
            rows, tpot, width=width, count=count, keys=_deployments(rows, raw)
        ),
        "tpot_common": errors(tpot[common])
        | {"rows": len(common), "peer": _peer_errors(raw, peer, common)},
        "interval_coverage": coverage,
        "interval_factor": factors,
        "sources": _sources(left_out),
        "fewshot_by_source": {
            name: _few_shot_against_median(rows.take(here), tpot[here], width=width[here])
            for name in np.unique(sources)
            for here in [sources == name]
        },
        "peers": beside_peers(
            rows,
            tpot,
            common=common,
            peer=_peer_errors(raw, peer, common),
            data=data,
        ),
        "rank_correlation": _rank_correlation(rows, ways["chip"][1], data=data, count=count),
        "configs_per_s": configs_per_s(rows.table),
        "share_of_numpy_speed": share_of_numpy_speed(rows.table),
        "plan_s": plan_seconds(),
        "law": {law: _law_error(rows, law=law, count=count) for law in ("unique", "all", "topk")},
        "groups": len(set(rows.group[:count])),
    }


def errors(log_error: Array) -> dict[str, float]:
    """Median and mean of |predicted / measured - 1|, and the share of rows predicted."""
    known = np.isfinite(log_error)
    size = np.abs(np.exp(-log_error[known]) - 1)
    return {
        "median": float(np.median(size)),
        "mean": float(size.mean()),
        "coverage": float(known.mean()),
    }


def _few_shot(
    rows: MeasuredRows, error: Array, *, width: Array, count: int, keys: learn.Groups
) -> dict[str, float]:
    """Three random points a group, 20 draws, the rest scored; the kernel has not seen the group."""
    left, scored_once = [], np.zeros(count, bool)
    first = np.arange(len(rows.group)) < count
    for train, test in learn.folds(rows.group, count=FOLDS):
        kernel = calibration_kernel(rows.take(train), error=(error / width)[train])
        scored = test & first
        for shot in learn.few_shots(
            rows.table.take(scored),
            error=(error / width)[scored],
            group=keys[scored],
            kernel=kernel,
        ):
            places = np.flatnonzero(scored)[shot.rows]
            left.append(shot.left * width[places])
            scored_once[places] = True
    return errors(np.concatenate(left)) | {"coverage": float(scored_once.mean())}


def _deployments(rows: MeasuredRows, raw: list[Row]) -> learn.Groups:
    """Name what one cluster runs: group, number format, mode and engine build."""
    extra = [f"{r['precision']}|{r['mode']}|{r['backend_version']}" for r in raw]
    extra += [""] * (len(rows.group) - len(raw))
    return np.array([f"{group}|{more}" for group, more in zip(rows.group, extra, strict=True)])


def _common_rows(raw: list[Row], peer: dict[str, Row]) -> Array:
    """Rows that the peer covers: aggregated, one a configuration, quantisation inferred or not."""
    skip = {
        "id",
        "silicon_data_source",
        "source_path",
        "source_repo",
        "measured_date",
        "backend_version",
    }
    skip |= {"silicon_ttft_ms", "silicon_tpot_ms"}
    configs, common = set(), []
    for i, row in enumerate(raw):
        key = tuple(value for name, value in row.items() if name not in skip)
        if key in configs:
            continue
        configs.add(key)
        if row["mode"] == "agg" and _peer_tpot(peer[row["id"]]) is not None:
            common.append(i)
    return np.array(common)


def _peer_tpot(row: Row) -> float | None:
    text = row["aic_pred_tpot_ms"] or row["aic_inferredquant_tpot_ms"]
    return float(text) / 1e3 if text else None


def _peer_errors(raw: list[Row], peer: dict[str, Row], common: Array) -> dict[str, float]:
    predicted = np.array([_peer_tpot(peer[raw[i]["id"]]) or np.nan for i in common])
    measured_s = np.array([float(raw[i]["silicon_tpot_ms"]) / 1e3 for i in common])
    return errors(np.log(measured_s / predicted))


def _coverage(
    rows: MeasuredRows, left_out: intervals.Errors, *, count: int
) -> tuple[float, dict[str, float]]:
    """Share of held-out rows inside their 90 % interval, and the median factor of its ends.

    The interval is itself held out. It is that of a source with other measurements behind it; the
    factors are those of a group held out, and of a chip held out.
    """
    name = np.array([text.split("|", 1)[1] for text in left_out.group])
    group = left_out.left_out == "group"
    inside, half = np.zeros(len(name), bool), np.zeros(len(name))
    for _, test in learn.folds(rows.group, count=FOLDS):
        here = np.isin(name, rows.group[test])
        interval = fit_interval(left_out.take(~here))
        half[here] = intervals.widths(interval, left_out.terms[here])
        inside[here] = np.abs(left_out.error[here]) <= half[here]
    table = left_out.source != "dashboard"
    factors = {
        "seen_chip": float(np.exp(np.median(half[group & table]))),
        "unseen_chip": float(np.exp(np.median(half[(left_out.left_out == "chip") & table]))),
    }
    assert (group & table).sum() == count
    return float(inside[group & table].mean()), factors


def _sources(left_out: intervals.Errors) -> dict[str, dict[str, float]]:
    """Predict each source by what the others measured: error, and coverage by their intervals.

    The middle of engines of 2024 is moved by what chips other than the row's own say of them.
    """
    result, all_inside, all_error = {}, [], []
    for name in np.unique(left_out.source):
        own = left_out.source == name
        interval: Interval = fit_interval(left_out.take(~own))
        test = own & np.isin(left_out.left_out, [intervals.SOURCE, intervals.OLDER])
        error = left_out.error[test]
        half = intervals.widths(interval, left_out.terms[test])
        all_inside.append(np.abs(error) <= half)
        all_error.append(error)
        result[str(name)] = errors(error) | {
            "rows": len(error),
            "interval_coverage": float(all_inside[-1].mean()),
            "interval_factor": float(np.exp(np.median(half))),
        }
    joined = np.concatenate(all_error)
    result["all"] = errors(joined) | {
        "rows": len(joined),
        "interval_coverage": float(np.concatenate(all_inside).mean()),
    }
    return result


def _few_shot_against_median(
    rows: MeasuredRows, error: Array, *, width: Array
) -> dict[str, dict[str, float]]:
    """Three points a group: what kriging leaves, and what the median ratio of the points leaves."""
    ours, median = [], []
    kernel = calibration_kernel(rows, error=error / width)
    for shot in learn.few_shots(rows.table, error=error / width, group=rows.group, kernel=kernel):
        ours.append(shot.left * width[shot.rows])
        median.append(error[shot.rows] - np.median(error[shot.points]))
    return {
        "calibrated": errors(np.concatenate(ours)),
        "median_ratio": errors(np.concatenate(median)),
    }


def _rank_correlation(
    rows: MeasuredRows, held: learn.HeldOut, *, data: Path, count: int
) -> dict[str, float]:
    """Spearman of chips by dollars per token, chip held out; the mean over lengths and targets."""
    from scipy.stats import spearmanr

    raw = silicon_data.dashboard_rows(data)
    chips = np.array([chip.key for chip in rows.table.chips])[rows.table.chip]
    tpot, ttft = np.exp(held.tpot[count:]), np.exp(held.ttft[count:])
    table = rows.table.take(slice(count, None))
    rate = table.batch / (ttft + table.output_tokens * tpot)
    per_chip = rate * (table.input_tokens + table.output_tokens) / (table.tp * table.dp)
    measured_s = np.array([float(r["total_in_plus_out_tok_s_per_gpu"]) for r in raw])
    usd = np.array([float(r[PRICE]) for r in raw])
    cells: dict[str, list[float]] = {}
    for model, mask in _cells(raw):
        for target in TARGETS_PER_S:
            pair = [
                [
                    cost_at(target, speed=1 / step_s[here], usd=cost[here])
                    for chip in np.unique(chips[count:][mask])
                    for here in [mask & (chips[count:] == chip)]
                ]
                for cost, step_s in (
                    (usd, rows.tpot_s[count:]),
                    (usd * measured_s / per_chip, tpot),
                )
            ]
            both = np.isfinite(pair[0]) | np.isfinite(pair[1])
            if both.sum() >= 3:
                ranks = [np.where(np.isfinite(side), side, 1e9)[both] for side in pair]
                cells.setdefault(model, []).append(float(spearmanr(ranks[0], ranks[1]).statistic))
    return {model: float(np.nanmean(correlations)) for model, correlations in cells.items()}


def _cells(raw: list[Row]) -> Iterator[tuple[str, Array]]:
    keys = np.array([f"{row['model_name']}|{row['sequence_length']}" for row in raw])
    for key in np.unique(keys):
        yield key.split("|")[0], keys == key


def cost_at(target: float, *, speed: Array, usd: Array) -> float:
    """Dollars at a speed per user, interpolated along the frontier; infinite past it."""
    order = np.argsort(-speed)
    fast, cheap = speed[order], np.minimum.accumulate(usd[order])
    if fast[0] < target:
        return float("inf")
    return float(np.exp(np.interp(np.log(target), np.log(fast[::-1]), np.log(cheap[::-1]))))


def _law_error(rows: MeasuredRows, *, law: str, count: int) -> float:
    """Mean error of physics alone on mixture-of-experts rows, fitted with one law."""
    times, error = ideal(rows.table, experts=law), np.full(len(rows.group), np.nan)
    for train, test in learn.folds(rows.group, count=5):
        few = np.random.default_rng(0).choice(
            np.flatnonzero(train), learn.PHYSICS_ROWS, replace=False
        )
        part = ideal(rows.table.take(few), experts=law)
        q = learn.fit_physics(
            functools.partial(step_seconds, part),
            start=STEP_START,
            seconds=rows.tpot_s[few],
            weight=rows.weight[few],
        )
        error[test] = (np.log(rows.tpot_s) - np.log(step_seconds(times, q)))[test]
    mixed = np.array([model.experts is not None for model in rows.table.models])[rows.table.model]
    return errors(error[:count][mixed[:count]])["mean"]


def report_lines(result: dict[str, Any]) -> str:
    return "\n".join(f"{key}: {value}" for key, value in result.items())


if __name__ == "__main__":
    main()
