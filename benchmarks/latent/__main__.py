"""Share of closed-set requests answered without decoding, certified, on official test splits.

    python -m benchmarks.latent --data DATA --json

Train and validation splits fit the predictor and fix the grid of thresholds; the test split is cut
at random into a half that certifies and a half that reports, `REPEATS` times. `small` has few
intents and rows, so that the choice of predictor and of the number of thresholds decides.
"""

import gzip
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.inputs import benchmark_parser, data_file
from benchmarks.latent.encoders import minilm
from suffice.encoders.base import CachedEncoder, Encoder, default_encoder
from suffice.guarantee import Evidence, Method, calibrate, least_abstention
from suffice.latent import fitting
from suffice.latent.predictor import Floats, JoinedEncoder, Predictor

ALPHA, DELTA, REPEATS = 0.02, 0.1, 100
OUT_OF_SCOPE = "oos"
TIMED = 300  # decisions
TIMED_ON = slice(None, None, 3)  # the rows behind the quick predictor set no speed
KINDS = (fitting.PredictorKind.HEAD, fitting.PredictorKind.JOINT)
SMALL_INTENTS, SMALL_ROWS, SMALL_SEED = 8, 1000, 0  # half of the rows certifies
CACHE_GRID = np.linspace(0.98, 0.7, 15)


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """The rows that fit, and the rows of the official test split."""

    fit: fitting.LabelledTexts
    test: fitting.LabelledTexts


@dataclass(frozen=True, kw_only=True, eq=False)
class MethodScores:
    """The test split seen by one method: trust, whether the prediction was right, the grid."""

    trust: Floats
    right: NDArray[np.bool_]
    inside: NDArray[np.bool_]
    grid: Floats


def run(data: Path) -> dict[str, Any]:
    clinc = data_file(data, "text/clinc150.jsonl.gz")
    banking = data_file(data, "text/banking77.jsonl.gz")
    static = default_encoder()
    both = CachedEncoder(JoinedEncoder(minilm(threads=2), static))
    report: dict[str, Any] = {"alpha": ALPHA, "delta": DELTA, "repeats": REPEATS}
    splits = {
        "clinc150": read(clinc, out_of_scope=False),
        "clinc150_oos": read(clinc, out_of_scope=True),
        "banking77": read(banking, out_of_scope=False),
    }
    for name, split in splits.items():
        fits = {kind: fitting.fit(split.fit, encoder=both, kind=kind) for kind in KINDS}
        report[name] = measure(split, fits, encoder=both)
    report["small"] = measure_small(small(clinc), encoder=both)
    head = replace(
        fits[fitting.PredictorKind.HEAD].predictor, encoder=JoinedEncoder(minilm(threads=1), static)
    )
    few = fitting.LabelledTexts(
        texts=split.fit.texts[TIMED_ON], answers=split.fit.answers[TIMED_ON]
    )
    quick = fitting.fit(few, encoder=static, kind=fitting.PredictorKind.EMBEDDING).predictor
    texts = split.test.texts[:TIMED]
    report["decision_ms"] = {
        "wordllama": decision_ms(quick, texts),
        "minilm_int8": decision_ms(head, texts),
    }
    return report


def read(path: Path, *, out_of_scope: bool) -> Split:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [msgspec.json.decode(line) for line in lines]
    if not out_of_scope:
        rows = [row for row in rows if row["label"] != OUT_OF_SCOPE]
    fit = [row for row in rows if row["split"] != "test"]
    test = [row for row in rows if row["split"] == "test"]
    return Split(fit=_rows(fit), test=_rows(test))


def _rows(raw: list[dict[str, Any]]) -> fitting.LabelledTexts:
    return fitting.LabelledTexts(
        texts=[row["text"] for row in raw],
        answers=[None if row["label"] == OUT_OF_SCOPE else row["label"] for row in raw],
    )


def measure(
    split: Split, fits: dict[fitting.PredictorKind, fitting.FittedPredictor], *, encoder: Encoder
) -> dict[str, Any]:
    """Report the predictor that looks better out of fold, the other one, and a semantic cache."""
    scores = {kind: see(split, fitted) for kind, fitted in fits.items()}
    best = choose(fits, rows=len(split.test.texts) // 2)
    figures = {kind.value: repeat(seen) for kind, seen in scores.items()}
    best_scores = scores[best]
    return {
        **figures[best.value],
        "predictor": best.value,
        "accuracy": float(best_scores.right[best_scores.inside].mean()),
        "abstain_at_least": least_abstention(1.0 - float(best_scores.right.mean()), alpha=ALPHA),
        "joint_share": figures[fitting.PredictorKind.JOINT.value]["share"],
        "cache_share": repeat(cache(split, encoder))["share"],
    }


def choose(
    fits: dict[fitting.PredictorKind, fitting.FittedPredictor], *, rows: int
) -> fitting.PredictorKind:
    """Return the predictor that would certify most, as `suffice latent fit` chooses."""
    grids = {kind: fit.grid(rows, alpha=ALPHA, delta=DELTA) for kind, fit in fits.items()}
    return max(grids, key=lambda kind: grids[kind].expected_share)


def small(path: Path) -> Split:
    """Cut CLINC150 down to a few intents: all rows but the last `SMALL_ROWS` fit."""
    whole = read(path, out_of_scope=False)
    rows = [
        *zip(whole.fit.texts, whole.fit.answers, strict=True),
        *zip(whole.test.texts, whole.test.answers, strict=True),
    ]
    rng = np.random.default_rng(SMALL_SEED)
    intents = sorted({str(answer) for _, answer in rows})
    chosen = {intents[i] for i in rng.choice(len(intents), SMALL_INTENTS, replace=False)}
    kept = [row for row in rows if row[1] in chosen]
    shuffled = [kept[i] for i in rng.permutation(len(kept))]
    parts = (shuffled[:-SMALL_ROWS], shuffled[-SMALL_ROWS:])
    fit, test = (
        fitting.LabelledTexts(texts=[t for t, _ in part], answers=[a for _, a in part])
        for part in parts
    )
    return Split(fit=fit, test=test)


def measure_small(split: Split, *, encoder: Encoder) -> dict[str, Any]:
    """Report the predictor that was chosen, and the certified share of each."""
    fits = {kind: fitting.fit(split.fit, encoder=encoder, kind=kind) for kind in KINDS}
    figures = {kind.value: repeat(see(split, fit)) for kind, fit in fits.items()}
    chosen = choose(fits, rows=SMALL_ROWS // 2).value
    best = max(row["share"] for row in figures.values())
    return {
        **figures[chosen],
        "predictor": chosen,
        "head_share": figures["head"]["share"],
        "joint_share": figures["joint"]["share"],
        "share_of_better": figures[chosen]["share"] / best if best else None,
        "fitting_rows": len(split.fit.texts),
        "certifying_rows": SMALL_ROWS // 2,
    }


def see(split: Split, fit: fitting.FittedPredictor) -> MethodScores:
    predictions = fit.predictor.predict(split.test.texts)
    return MethodScores(
        trust=predictions.trust,
        right=fitting.is_right(predictions, split.test.answers, fit.predictor.answers),
        inside=np.array([answer is not None for answer in split.test.answers]),
        grid=fit.grid(len(split.test.texts) // 2, alpha=ALPHA, delta=DELTA).thresholds,
    )


def cache(split: Split, encoder: Encoder) -> MethodScores:
    """Answer with the nearest known prompt's answer; the cosine is the trust."""
    known_vectors = encoder.embed(split.fit.texts)
    answers = np.array(split.fit.answers, dtype=object)
    nearest, cosine = [], []
    for start in range(0, len(split.test.texts), 500):
        likeness = encoder.embed(split.test.texts[start : start + 500]) @ known_vectors.T / 2.0
        nearest.append(likeness.argmax(axis=1))
        cosine.append(likeness.max(axis=1))
    predictions = answers[np.concatenate(nearest)]
    truth = np.array(split.test.answers, dtype=object)
    trust = np.where(predictions == None, -np.inf, np.concatenate(cosine))  # noqa: E711 (elementwise)
    inside = np.array([answer is not None for answer in truth])
    return MethodScores(
        trust=trust,
        right=(predictions == truth) & inside,
        inside=inside,
        grid=CACHE_GRID,
    )


def repeat(scores: MethodScores) -> dict[str, Any]:
    """Certify on a random half and report on the other, `REPEATS` times."""
    rng = np.random.default_rng(0)
    outcomes = np.array(
        [certified_share(scores, rng.permutation(len(scores.trust))) for _ in range(REPEATS)]
    )
    share, risk, outside = outcomes.mean(axis=0)
    report = {
        "share": float(share),
        "risk": float(risk),
        "violations": float((outcomes[:, 1] > ALPHA).mean()),
    }
    return report if scores.inside.all() else {**report, "oos_answered": float(outside)}


def certified_share(scores: MethodScores, order: NDArray[np.int64]) -> tuple[float, float, float]:
    """Return the share of in-scope rows answered, the error among answered, the rest's share."""
    half, rest = order[: len(order) // 2], order[len(order) // 2 :]
    answered = scores.trust[half, None] >= scores.grid
    losses = (answered & ~scores.right[half, None]).astype(np.float64)
    evidence = Evidence(losses=losses, answered=answered)
    calibration = calibrate(evidence, alpha=ALPHA, delta=DELTA, method=Method.BINOMIAL)
    if not calibration.certified:
        return 0.0, 0.0, 0.0
    in_use = scores.trust[rest] >= scores.grid[calibration.index]
    inside = scores.inside[rest]
    wrong = float((in_use & ~scores.right[rest]).sum()) / max(int(in_use.sum()), 1)
    outside = float(in_use[~inside].mean()) if not inside.all() else 0.0
    return float(in_use[inside].mean()), wrong, outside


def decision_ms(predictor: Predictor, texts: Sequence[str]) -> float:
    """Return the median time from a text to a prediction, one text at a time."""
    times = []
    for text in texts:
        start_s = time.perf_counter()
        predictor.predict([text])
        times.append(time.perf_counter() - start_s)
    return 1000.0 * statistics.median(times)


def main() -> None:
    parser = benchmark_parser(__package__, __doc__, data=True)
    options = parser.parse_args()
    report = run(options.data)
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
        return
    for name, value in report.items():
        print(f"{name:14} {value}")


if __name__ == "__main__":
    main()
