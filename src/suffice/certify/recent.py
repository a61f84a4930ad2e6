"""Which of a ledger's requests may stand for the traffic to come: those after the last change."""

from collections.abc import Iterable, Sequence

import numpy as np

from suffice.guarantee.worsening import LEVEL, worse_since
from suffice.types import Say, Trial


def since_change(trials: Sequence[Trial], *, reference: str, note: Say) -> Sequence[Trial]:
    """Keep the latest requests where some rung loses more on them than on those before.

    `trials` come in order of time; of each cluster the first request is compared. What is kept was
    chosen for its losses, so a certificate on it promises too little rather than too much.
    """
    requests: dict[str, dict[str, Trial]] = {}
    for trial in trials:
        requests.setdefault(trial.request_id, {})[trial.rung] = trial
    firsts: dict[str, dict[str, Trial]] = {}
    for request_id, answers in requests.items():
        cluster = next(iter(answers.values())).cluster
        firsts.setdefault(request_id if cluster is None else f"cluster {cluster}", answers)
    rungs = {trial.rung for trial in trials} - {reference}
    level = LEVEL / max(len(rungs), 1)
    starts = [_start(firsts.values(), rung, reference, level=level) for rung in rungs]
    order = {request_id: at for at, request_id in enumerate(requests)}
    first = max((order[start] for start in starts if start is not None), default=None)
    if first is None:
        return trials
    note(
        f"the latest {len(requests) - first:,} audited requests lose more than those before: "
        "only they count"
    )
    later = [trial for trial in trials if order[trial.request_id] >= first]
    return since_change(later, reference=reference, note=note)


def _start(
    rows: Iterable[dict[str, Trial]], rung: str, reference: str, *, level: float
) -> str | None:
    """Name the request from which a rung loses more often; an unscored answer is worth nothing."""
    names, lost = [], []
    for answers in rows:
        answer, right = answers.get(rung), answers.get(reference)
        if answer is not None and right is not None and right.quality is not None:
            names.append(answer.request_id)
            lost.append((answer.quality or 0.0) < right.quality)
    at = worse_since(np.array(lost, dtype=np.bool_), level=level)
    return None if at is None else names[at]
