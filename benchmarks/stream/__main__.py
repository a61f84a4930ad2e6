"""Decodes at equal quality on dialogue streams, and what a push costs.

    python -m benchmarks.stream --data DATA --json

The model and the gate are fixed on the train split; the dev split only reports. The decoder counts
as perfect at the instant it is called. `saving` is the decode rate that uniform decoding needs for
the same held accuracy, over ours; the cost of the encoder is added to the rate, in decodes.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.inputs import benchmark_parser, data_file
from benchmarks.latent.encoders import minilm
from benchmarks.stream import offline
from benchmarks.stream.sgd import Dialogues, read_dialogues, streams, without_answers
from suffice.selective.change import (
    ChangeModel,
    ScoredStream,
    Turn,
    calibrate_threshold,
    fit_change_model,
    score_stream,
)
from suffice.selective.decoder import GateSettings, SelectiveDecoder

DELTA = 0.1
FOLDS = 5  # of answers; each calibration stream is scored by a model that never saw one fold
FIT_SHARE = 0.5  # of the train dialogues; the rest calibrates
GATES = tuple(GateSettings(threshold=float(h)) for h in np.linspace(0.02, 0.59, 58))
RATES = np.linspace(0.1, 1.0, 91)
DECODER_PARAMETERS = 1.2e9  # a small decoder; a larger one makes the encoder cheaper still
ENCODER_PARAMETERS = 10.6e6  # of MiniLM, without its embedding table
ENCODER_COST = ENCODER_PARAMETERS / DECODER_PARAMETERS  # of reading the same text, in decodes
Points = list[tuple[float, float]]  # (decodes per event, held accuracy)


def run(data: Path) -> dict[str, Any]:
    dialogues = read_dialogues(data_file(data, "text/sgd_dialogues.jsonl.gz"))
    model, calibration = _learn(dialogues)
    dev = streams(dialogues.dev)
    scores = [score_stream(model, stream) for stream in dev]
    rivals = _rivals(dev)
    report: dict[str, Any] = {"streams": len(dev), "events": sum(map(len, dev))}
    report["oracle"] = 1.0 / _change_rate(dev)
    for target in (0.95, 0.91):
        report |= _at(target, scores, calibration, rivals)
    return {"sgd": report, "events_per_s": events_per_s(), "delta": DELTA}


def _learn(dialogues: Dialogues) -> tuple[ChangeModel, list[ScoredStream]]:
    """Fit on one part of train; score the rest with models to which some answers are new."""
    cut = int(FIT_SHARE * len(dialogues.train))
    fit, held_out = dialogues.train[:cut], streams(dialogues.train[cut:])
    answers = sorted({turn.answer for dialogue in fit for turn in dialogue if turn.answer})
    np.random.default_rng(1).shuffle(answers)
    scores = []
    for fold in range(FOLDS):
        hidden = set(answers[fold::FOLDS])
        blind = fit_change_model(streams([list(d) for d in without_answers(fit, hidden)]))
        scores += [score_stream(blind, stream) for stream in held_out[fold::FOLDS]]
    return fit_change_model(streams(fit)), scores


def _at(
    target: float,
    dev: Sequence[ScoredStream],
    calibration: Sequence[ScoredStream],
    rivals: dict[str, Points],
) -> dict[str, Any]:
    """Report one target: the gate certified on train, and what the others need on dev itself."""
    calibrated = calibrate_threshold(calibration, settings=GATES, alpha=1.0 - target, delta=DELTA)
    gate = GATES[calibrated.index]
    rate, held = _pooled([stream.roll(gate) for stream in dev])
    uniform = rate_for(rivals["uniform"], target)
    missed = not calibrated.certified or held < target
    return {
        f"saving_at_{target}": None if missed else uniform / rate,
        f"cosine_at_{target}": uniform / (rate_for(rivals["cosine"], target) + ENCODER_COST),
        f"ward_at_{target}": uniform / (rate_for(rivals["ward"], target) + ENCODER_COST),
        f"detail_at_{target}": {
            "certified": calibrated.certified,
            "threshold": gate.threshold,
            "rate": rate,
            "held": held,
            "uniform_rate": uniform,
            "calibration_streams": calibrated.n,
            "calibration_wrong": calibrated.losses / max(calibrated.n, 1),
        },
    }


def _rivals(dev: Sequence[Sequence[Turn]]) -> dict[str, Points]:
    """Sweep uniform decoding, the input-distance rule and Ward, each at its best on dev."""
    encoder = minilm(threads=2)
    vectors = [encoder.embed([turn.text for turn in stream]) for stream in dev]
    answers = [np.array([turn.answer for turn in stream]) for stream in dev]
    phases = np.random.default_rng(0).random(len(dev))

    def sweep(decide: Callable[[int, float], Any], values: Any, *, nearest: bool = False) -> Points:
        carry = offline.held_nearest if nearest else offline.held_after
        points = []
        for value in values:
            places = [decide(i, float(value)) for i in range(len(dev))]
            right = sum(
                int((truth[carry(at, events=len(truth))] == truth).sum())
                for truth, at in zip(answers, places, strict=True)
            )
            events = sum(map(len, answers))
            points.append((sum(map(len, places)) / events, right / events))
        return points

    def ward(i: int, rate: float) -> NDArray[np.int64]:
        segments = max(1, round(rate * len(vectors[i])))
        return offline.ward_midpoints(vectors[i], segments=segments)

    return {
        "uniform": sweep(
            lambda i, rate: offline.uniform_decodes(
                len(answers[i]), rate=rate, phase=float(phases[i])
            ),
            RATES,
        ),
        "cosine": sweep(
            lambda i, at: offline.distance_decodes(vectors[i], threshold=at),
            np.linspace(0.0, 1.0, 41),
        ),
        "ward": sweep(ward, np.linspace(0.1, 1.0, 31), nearest=True),
    }


def rate_for(points: Points, target: float) -> float:
    """Return the decode rate at which a sweep reaches a held accuracy, between its points."""
    rates, held = np.array(sorted(points)).T
    return float(np.interp(target, np.maximum.accumulate(held), rates))


def _pooled(rolls: Sequence[Any]) -> tuple[float, float]:
    events = sum(roll.events for roll in rolls)
    wrong = sum(roll.wrong for roll in rolls)
    return sum(roll.decodes for roll in rolls) / events, 1.0 - wrong / events


def _change_rate(dev: Sequence[Sequence[Turn]]) -> float:
    changes = sum(1 + sum(a.answer != b.answer for a, b in pairwise(stream)) for stream in dev)
    return changes / sum(map(len, dev))


class _Scores:
    """A scorer that costs nothing: the event is the score."""

    def score(self, event: float) -> float:
        return event

    def decoded(self, event: float, answer: str) -> None: ...


def events_per_s(*, events: int = 200_000) -> float:
    """Return how many events a second pass through a selective decoder, the encoder left out."""

    async def answer(_: float) -> str:
        return "answer"

    async def push_all(scores: list[float]) -> float:
        decoder = SelectiveDecoder(_Scores(), answer, settings=GateSettings(threshold=0.5))
        start_s = time.perf_counter()
        for score in scores:
            await decoder.push(score)
        return len(scores) / (time.perf_counter() - start_s)

    return asyncio.run(push_all(np.random.default_rng(0).random(events).tolist()))


def main() -> None:
    parser = benchmark_parser(__package__, __doc__, data=True)
    options = parser.parse_args()
    report = run(options.data)
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
        return
    for name, value in {**report["sgd"], "events_per_s": report["events_per_s"]}.items():
        print(f"{name:20} {value}")


if __name__ == "__main__":
    main()
