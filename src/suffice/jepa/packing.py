"""Packing of several examples into a row, with predictor tokens and the answer's own view.

An example is a trunk with two branches, followed by a second trunk:

    [prompt | answer and end | predictor tokens]   [answer]
     trunk    branch 1         branch 2             trunk of the view, positions from 0

The positions of both branches continue those of the prompt. Trunk and branch alone determine the
mask (`mask.py`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct

from suffice.errors import InputError
from suffice.jepa.settings import Labels
from suffice.jepa.views import TokenizedChat

if TYPE_CHECKING:
    import torch

TRUNK, ANSWER, PREDICTOR = 0, 1, 2
PADDING = -1
_SLACK = 1.05


class PackingLayout(Struct, frozen=True, kw_only=True):
    """The layout of examples in rows.

    `predictors` is the number of predictor tokens; None without a second view. `tube` draws three
    places of each example for Semantic Tube Prediction. `pad_token` fills the end of a row. Only
    the labels REFERENCE depend on it: they leave it out.
    """

    predictors: int | None = None
    tube: bool = False
    labels: Labels = Labels.ANSWER
    row_tokens: int = 256
    pad_token: int = 0


@dataclass(frozen=True)
class PackedExample:
    """One example: arrays with one entry for each token; places count from its start.

    `sources[i]` is the place whose output predicts token `targets[i]`. `slots` are the places of
    the predictor tokens, `predicted` and `actual` those of the two views; both are empty for plain
    fine-tuning.
    """

    ids: np.ndarray
    positions: np.ndarray
    views: np.ndarray
    branches: np.ndarray
    sources: np.ndarray
    targets: np.ndarray
    slots: np.ndarray
    predicted: np.ndarray
    actual: np.ndarray

    @property
    def tokens(self) -> int:
        """The tokens that the example takes in its row."""
        return len(self.ids)


@dataclass(frozen=True)
class PackedBatch:
    """Rows of packed examples, as tensors.

    `ids`, `positions`, `segments` (the trunk of a token, -1 for padding) and `branches` are
    (rows, width). The rest are places in the flattened rows: `sources` with their `targets`
    (labels,), `slots` (examples x k,) example by example, `predicted` and `actual` (examples,).
    `triples` (examples, 3) are places s < r < t of one conversation, empty unless the layout has a
    tube.
    """

    ids: "torch.Tensor"
    positions: "torch.Tensor"
    segments: "torch.Tensor"
    branches: "torch.Tensor"
    sources: "torch.Tensor"
    targets: "torch.Tensor"
    slots: "torch.Tensor"
    predicted: "torch.Tensor"
    actual: "torch.Tensor"
    triples: "torch.Tensor"

    def to(self, device: "torch.device | str", *, non_blocking: bool = False) -> "PackedBatch":
        """Copy the batch to a device."""
        moved = {
            field.name: getattr(self, field.name).to(device, non_blocking=non_blocking)
            for field in fields(self)
        }
        return replace(self, **moved)

    @property
    def tokens(self) -> int:
        """The number of tokens that are not padding."""
        return int((self.segments != PADDING).sum())


def lay_out(example: TokenizedChat, layout: PackingLayout) -> PackedExample:
    """Lay out the tokens of one example."""
    rest = example.rest if layout.labels is Labels.REFERENCE else ()
    prompt, text = len(example.prompt), (*example.prompt, *example.answer, example.end, *rest)
    k, view = (0, ()) if layout.predictors is None else (layout.predictors, example.answer)
    start = len(text) + k
    if layout.labels is Labels.ANSWER:
        sources = np.arange(prompt - 1, len(text) - 1)
    else:
        sources = np.flatnonzero(np.array(text[1:]) != layout.pad_token)
    pairs = layout.predictors is not None
    return PackedExample(
        ids=np.array([*text, *[layout.pad_token] * k, *view]),
        positions=np.concatenate(
            [np.arange(len(text)), prompt + np.arange(k), np.arange(len(view))]
        ),
        views=np.repeat([0, 1], [start, len(view)]),
        branches=np.repeat(
            [TRUNK, ANSWER, PREDICTOR, TRUNK], [prompt, len(text) - prompt, k, len(view)]
        ),
        sources=sources,
        targets=np.array(text)[sources + 1],
        slots=len(text) + np.arange(k),
        predicted=np.array([start - 1 if k else prompt - 1] if pairs else [], dtype=int),
        actual=np.array([start + len(view) - 1] if pairs else [], dtype=int),
    )


def plan_rows(lengths: Sequence[int], *, row_tokens: int) -> list[list[int]]:
    """Distribute examples over rows of nearly equal width; each row is a list of indices.

    No row is wider than `row_tokens` or the longest example, whichever is more. Of the possible
    numbers of rows, the one with least padding is best; more and narrower rows are taken if they
    have hardly more padding, because attention costs the square of the width.
    """
    room = max(row_tokens, *lengths)
    fewest = math.ceil(sum(lengths) / room)
    plans = [_spread(lengths, count) for count in range(fewest, len(lengths) + 1)]
    widths = [max(sum(lengths[i] for i in row) for row in plan) for plan in plans]
    areas = {i: width * len(plans[i]) for i, width in enumerate(widths) if width <= room}
    least = min(areas.values())
    return plans[max(i for i, area in areas.items() if area <= _SLACK * least)]


def pack(examples: Sequence[TokenizedChat], layout: PackingLayout) -> PackedBatch:
    """Pack examples into rows; labels, views and triples keep the order of the examples.

    Triples are drawn uniformly from all tokens of a conversation, by torch's generator; raises
    InputError for one with fewer than three.
    """
    import torch

    parts = [lay_out(example, layout) for example in examples]
    if layout.tube and min(part.tokens for part in parts) < 3:
        raise InputError(
            "a conversation of fewer than three tokens has no tube",
            hint="leave it out, or train with another distance",
        )
    rows = plan_rows([part.tokens for part in parts], row_tokens=layout.row_tokens)
    width = max(sum(parts[i].tokens for i in row) for row in rows)
    starts = [0] * len(parts)  # the place of each example in the flattened rows
    for number, row in enumerate(rows):
        place = number * width
        for i in row:
            starts[i] = place
            place += parts[i].tokens
    grids = {
        name: _fill(values, starts, size=len(rows) * width, blank=blank).reshape(len(rows), width)
        for name, values, blank in (
            ("ids", [p.ids for p in parts], layout.pad_token),
            ("positions", [p.positions for p in parts], 0),
            ("segments", [2 * i + p.views for i, p in enumerate(parts)], PADDING),
            ("branches", [p.branches for p in parts], TRUNK),
        )
    }
    places = {
        name: np.concatenate(
            [start + getattr(p, name) for start, p in zip(starts, parts, strict=True)]
        )
        for name in ("sources", "slots", "predicted", "actual")
    }
    drawn = [
        start + torch.randperm(part.tokens)[:3].sort().values.numpy()
        for start, part in zip(starts, parts, strict=True)
        if layout.tube
    ]
    places["triples"] = np.stack(drawn) if drawn else np.empty((0, 3))
    arrays = grids | places | {"targets": np.concatenate([p.targets for p in parts])}
    return PackedBatch(**{name: torch.from_numpy(a).long() for name, a in arrays.items()})


def _spread(lengths: Sequence[int], count: int) -> list[list[int]]:
    """Put each example, longest first, into the row that is shortest so far."""
    rows: list[list[int]] = [[] for _ in range(count)]
    widths = [0] * count
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        row = widths.index(min(widths))
        rows[row].append(i)
        widths[row] += lengths[i]
    return rows


def _fill(
    values: Sequence[np.ndarray], starts: Sequence[int], *, size: int, blank: int
) -> np.ndarray:
    filled = np.full(size, blank)
    for value, start in zip(values, starts, strict=True):
        filled[start : start + len(value)] = value
    return filled
