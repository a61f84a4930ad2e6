"""Gates for text streams: a change model and its settings, fitted to labelled streams."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from suffice.errors import InputError
from suffice.files import reading_folder, write_folder
from suffice.guarantee import Calibration, content_hash
from suffice.guarantee.clusters import number_clusters
from suffice.guarantee.folder_watch import FolderWatch, record_audits, refuse_alarmed
from suffice.selective.change import (
    ChangeModel,
    Turn,
    calibrate_threshold,
    fit_change_model,
    score_stream,
)
from suffice.selective.decoder import GateSettings
from suffice.selective.events import read_lines
from suffice.trials.table import split_rows

MODEL, GATE = "change.npz", "gate.json"
THRESHOLDS = np.linspace(0.02, 0.59, 58)


class LabelledLine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of labelled streams; the lines of one stream are in the order of their events."""

    stream: str
    text: str
    answer: str
    context: str = ""


class GateFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A gate and its promise: the mean share of wrong events in a stream is at most `alpha`.

    Each stream counts once, however long it is, so the share among all events may be larger. The
    promise holds except with probability `delta`, for streams like those that certified it. It
    takes decoded answers as right. `held_per_stream` and `held_per_event` are the shares of right
    answers in the reporting streams, and `decodes_per_event` is their decodes per event.
    """

    settings: GateSettings
    alpha: float
    delta: float
    bound: float
    streams: dict[str, int]
    held_per_stream: float
    held_per_event: float
    decodes_per_event: float


@dataclass(frozen=True, kw_only=True, eq=False)
class CertifiedGate:
    """A change model, its file, and its calibration."""

    model: ChangeModel
    file: GateFile
    calibration: Calibration


def fit_gate(
    streams: list[list[Turn]],
    *,
    alpha: float,
    delta: float,
    settings: GateSettings,
    seed: int = 0,
) -> CertifiedGate:
    """Fit a change model on half of the streams, certify a threshold on four tenths, then report.

    Equal streams go into one split, where only the first counts. `settings` holds all settings but
    the threshold. Raises InputError for too few streams, and for streams without a change.
    """
    codes = number_clusters([tuple((t.text, t.context) for t in stream) for stream in streams])
    fit, test, report = split_rows(codes, seed=seed)
    model = fit_change_model([streams[i] for i in fit])
    ladder = [replace(settings, threshold=float(h)) for h in THRESHOLDS]
    certifying = [score_stream(model, streams[i]) for i in test]
    calibration = calibrate_threshold(
        certifying, settings=ladder, alpha=alpha, delta=delta, copies=codes[test]
    )
    gate = ladder[calibration.index]
    rolls = [score_stream(model, streams[i]).roll(gate) for i in report]
    events = sum(roll.events for roll in rolls)
    file = GateFile(
        settings=gate,
        alpha=alpha,
        delta=delta,
        bound=calibration.bound,
        streams={"fit": len(fit), "certify": len(test), "report": len(report)},
        held_per_stream=sum(roll.held for roll in rolls) / len(rolls),
        held_per_event=1.0 - sum(roll.wrong for roll in rolls) / events,
        decodes_per_event=sum(roll.decodes for roll in rolls) / events,
    )
    return CertifiedGate(model=model, file=file, calibration=calibration)


def read_streams(lines: Iterable[bytes]) -> list[list[Turn]]:
    """Read labelled streams (see `LabelledLine`); raises InputError naming a bad line."""
    streams: dict[str, list[Turn]] = {}
    example = '{"stream": "s1", "text": "...", "answer": "..."}'
    problem = "is not a labelled event"
    for line in read_lines(lines, LabelledLine, problem=problem, example=example):
        turn = Turn(text=line.text, context=line.context, answer=line.answer)
        streams.setdefault(line.stream, []).append(turn)
    if not streams:
        raise InputError("there is no event in the file", hint="write one JSON object a line")
    return list(streams.values())


def save_gate(folder: Path, gate: CertifiedGate) -> None:
    """Write a gate into a folder; raises InputError if the disk refuses."""
    write_folder(
        folder, {MODEL: gate.model.to_bytes(), GATE: msgspec.json.encode(gate.file) + b"\n"}
    )


def load_gate(folder: Path) -> tuple[ChangeModel, GateFile]:
    """Read a gate, ready to use.

    Raises InputError if the folder holds none, or a damaged one, and CertificateError if an alarm
    ended its promise.
    """
    model, file = read_gate(folder)
    refuse_alarmed(folder, content_hash([file]))
    return model, file


def watch_gate(folder: Path, streams: Iterable[list[Turn]]) -> FolderWatch:
    """Audit a gate on fresh labelled streams, and return the state of its watch.

    The streams must be a random part of the traffic. A stream's loss is its share of wrong events.
    """
    model, file = read_gate(folder)
    losses = {
        content_hash([stream]): 1.0 - score_stream(model, stream).roll(file.settings).held
        for stream in streams
    }
    return record_audits(folder, content_hash([file]), losses, alpha=file.alpha, delta=file.delta)


def read_gate(folder: Path) -> tuple[ChangeModel, GateFile]:
    """Read a gate, whether or not its promise still holds; raises InputError as `load_gate`."""
    with reading_folder(
        folder,
        "gate",
        file=GATE,
        make="suffice latent gate STREAMS --out FOLDER",
        again="fit it again",
    ):
        file = msgspec.json.decode((folder / GATE).read_bytes(), type=GateFile)
    return ChangeModel.load(folder / MODEL), file
