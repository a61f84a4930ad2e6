"""Questions about state changes: a state before, a state after, and four actions.

States and actions are texts, or clips of videos. The readers know our own JSONL and the annotations
of WorldPrediction-WM (github.com/facebookresearch/WorldPrediction, arXiv 2506.04363), which name
parts of videos; captions stand for the videos where only a text encoder is at hand.
"""

from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from suffice.encoders.clips import Clip
from suffice.errors import InputError
from suffice.trials.jsonl import convert_row, decode_object, read_bytes, read_lines

View = str | Clip  # how a state or an action is shown

PACKAGED = "transitions.jsonl.gz"


class Transition(Struct, frozen=True, kw_only=True):
    """One question: which of `actions` led from `before` to `after`; `answer` is its index.

    `source` is the collection that it comes from. Questions of one `cluster`, such as a video, are
    no independent draws.
    """

    id: str
    before: View
    after: View
    actions: tuple[View, ...]
    answer: int
    source: str
    cluster: str

    @property
    def right_action(self) -> View:
        """The action that happened."""
        return self.actions[self.answer]


class _TransitionRow(Struct, frozen=True, kw_only=True):
    id: str
    before: str
    after: str
    actions: tuple[str, ...]
    answer: int
    source: str = "questions"
    cluster: str | None = None


class _Segment(Struct, frozen=True, kw_only=True):
    """A part of a video as WorldPrediction annotates it, times in seconds."""

    segment_uid: str
    video: str
    segment_start_time: float
    segment_end_time: float
    action_label: str | None = None


class _Sample(Struct, frozen=True, kw_only=True):
    states: _Segment
    candidates: tuple[_Segment, ...]
    ground_truth: str


class _Caption(Struct, frozen=True, kw_only=True):
    """Texts for one segment: of its first and its last moment, or of the action in it."""

    segment_uid: str
    before: str | None = None
    after: str | None = None
    action: str | None = None


def packaged_transitions() -> tuple[Transition, ...]:
    """Return the questions that suffice ships: 960 in English text, drawn by a program."""
    with resources.as_file(resources.files("suffice.data").joinpath(PACKAGED)) as path:
        return read_transitions(path)


def read_transitions(
    path: Path, *, videos: Path | None = None, captions: Path | None = None
) -> tuple[Transition, ...]:
    """Read questions as JSONL, or the annotations `WorldPrediction-WM.json`.

    `videos` is the folder of the videos, with a folder for each collection; `captions` is JSONL of
    texts by `segment_uid`, for text encoders. The annotations need one of them. Raises InputError.
    """
    if path.suffix == ".json":
        annotations = decode_object(read_bytes(path), at=str(path))
        questions = tuple(_annotated(annotations, path, videos=videos, captions=captions))
    else:
        questions = tuple(_question(line, at=f"{path}, line {n}") for n, line in read_lines(path))
    if not questions:
        raise InputError(f"{path} holds no question", hint="docs/latent.md shows both layouts")
    sizes = {len(question.actions) for question in questions}
    if len(sizes) > 1 or min(sizes) < 2:
        raise InputError(
            f"{path} has questions of {', '.join(map(str, sorted(sizes)))} actions",
            hint="every question needs the same number of actions, two or more",
        )
    return questions


def _question(line: bytes, *, at: str) -> Transition:
    row = convert_row(decode_object(line, at=at), _TransitionRow, at=at)
    if not 0 <= row.answer < len(row.actions):
        raise InputError(
            f"{at}: field 'answer' is {row.answer}, with {len(row.actions)} actions",
            hint="it is the index of the right action, from 0",
        )
    return Transition(**msgspec.structs.asdict(row) | {"cluster": row.cluster or row.id})


def _annotated(
    annotations: Mapping[str, Any], path: Path, *, videos: Path | None, captions: Path | None
) -> Iterator[Transition]:
    if (videos is None) == (captions is None):
        raise InputError(
            f"{path} names parts of videos, and {'no' if videos is None else 'more than one'} way "
            "to show them is given",
            hint="give --videos FOLDER, or --captions FILE for a text encoder",
        )
    texts = {} if captions is None else _captions(captions)
    for source, samples in annotations.items():
        for name, row in (samples if isinstance(samples, dict) else {}).items():
            at = f"{path}, {name}"
            sample = convert_row(row, _Sample, at=at)
            uids = [candidate.segment_uid for candidate in sample.candidates]
            if sample.ground_truth not in uids:
                raise InputError(
                    f"{at}: the ground truth {sample.ground_truth!r} is no candidate",
                    hint="take the annotations as they are published",
                )
            if videos is None:
                before, after, *actions = _in_words(sample, texts, at=at)
            else:
                before, after, *actions = _in_clips(sample, videos / source)
            yield Transition(
                id=name,
                before=before,
                after=after,
                actions=tuple(actions),
                answer=uids.index(sample.ground_truth),
                source=source,
                cluster=sample.states.video,
            )


def _in_clips(sample: _Sample, folder: Path) -> list[View]:
    states = sample.states
    moments = (states.segment_start_time, states.segment_end_time)
    return [
        *(Clip(video=str(folder / states.video), start_s=at, end_s=at) for at in moments),
        *(
            Clip(
                video=str(folder / candidate.video),
                start_s=candidate.segment_start_time,
                end_s=candidate.segment_end_time,
            )
            for candidate in sample.candidates
        ),
    ]


def _in_words(sample: _Sample, texts: Mapping[str, _Caption], *, at: str) -> list[View]:
    """Take captions of the states, and those of the actions or else their labels."""
    states = texts.get(sample.states.segment_uid)
    views = [states and states.before, states and states.after]
    for candidate in sample.candidates:
        caption = texts.get(candidate.segment_uid)
        views.append((caption and caption.action) or candidate.action_label)
    if None in views:
        raise InputError(
            f"{at}: a state or an action has no caption",
            hint="each line of the captions has a segment_uid, and before and after, or action",
        )
    return [str(view) for view in views]


def _captions(path: Path) -> dict[str, _Caption]:
    rows = (
        convert_row(decode_object(line, at=at), _Caption, at=at)
        for n, line in read_lines(path)
        for at in [f"{path}, line {n}"]
    )
    return {row.segment_uid: row for row in rows}
