"""What a certified policy saves: how surely, with the calls that failed, and on whose dollars."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from msgspec import Struct

from suffice.certify.certifying import RequestSplit
from suffice.certify.evidence import MarkedRequests
from suffice.policy import PathOutcomes
from suffice.trials.resample import cluster_sums, drawn_sums, estimate
from suffice.trials.table import TrialTable

_DRAW_SEED = 0


class DearestCluster(Struct, frozen=True, kw_only=True):
    """The request, or cluster of requests, that the reference costs most on, and its share."""

    name: str
    share: float


def saving_interval(report: RequestSplit, plays: PathOutcomes) -> tuple[float, float] | None:
    """Draw the clusters of the reporting split again, and read the saving of each draw."""
    known = report.known
    costs = np.column_stack([plays.costs(known.cost)[:, 0], known.cost[:, -1]])
    sums = cluster_sums(costs, _cluster_names(report.table))
    spent, whole = drawn_sums(sums, seed=_DRAW_SEED).T
    with np.errstate(divide="ignore", invalid="ignore"):
        found = estimate(1.0 - spent / whole, clusters=len(sums))
    if found is None or found.interval is None:
        return None
    low, high = found.interval
    return None if low is None or high is None else (low, high)


def beside_saving(
    found: float | None, share: Mapping[str, float], kept: MarkedRequests, *, reference: str
) -> dict[str, Any]:
    """Return the fields of a result that say what a saving leaves out, and what it rests on."""
    return {
        "failed": _failed_calls(kept.failed),
        "saving_with_failed": _saving_with_failed(
            found, kept.table, kept.failed, cheap=1.0 - share[reference]
        ),
        "dearest": _dearest_cluster(kept.table, reference=reference),
    }


def _dearest_cluster(table: TrialTable, *, reference: str) -> DearestCluster | None:
    """Find where the reference costs most; None where its costs are unknown, or 0."""
    cost = table.cost[:, table.rung_index(reference)]
    whole = float(cost.sum())
    if not np.isfinite(whole) or whole <= 0:
        return None
    sums = np.bincount(table.clusters, weights=cost)
    most = int(sums.argmax())
    return DearestCluster(name=table.cluster_names[most], share=float(sums[most]) / whole)


def _saving_with_failed(
    found: float | None, kept: TrialTable, failed: TrialTable | None, *, cheap: float
) -> float | None:
    """Extend a saving to the requests left out because calls of cheaper rungs failed on them.

    Each goes to a cheaper rung as often as others do (`cheap`), pays for the calls that failed, and
    is then answered by the reference. A failed call of unknown cost is taken to cost the mean of
    its rung. None where no call failed, or costs are unknown. The last rung is the reference.
    """
    if found is None or failed is None:
        return None
    mean = kept.cost[:, :-1].mean(axis=0)
    paid = np.where(np.isnan(failed.cost[:, :-1]), mean, failed.cost[:, :-1])
    wasted = cheap * float(paid[np.isnan(failed.quality[:, :-1])].sum())
    whole, beside = float(kept.cost[:, -1].sum()), float(failed.cost[:, -1].sum())
    extended = (found * whole - wasted) / (whole + beside)
    return extended if np.isfinite(extended) else None


def _failed_calls(failed: TrialTable | None) -> dict[str, int]:
    """Count the calls of each cheaper rung that failed."""
    if failed is None:
        return {}
    lacking = np.isnan(failed.quality).sum(axis=0).tolist()
    return {rung: int(count) for rung, count in zip(failed.rungs, lacking, strict=True) if count}


def _cluster_names(table: TrialTable) -> list[str]:
    return [table.cluster_names[code] for code in table.clusters.tolist()]
