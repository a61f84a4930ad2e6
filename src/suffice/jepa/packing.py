"""Several examples in a row, each with its predictor tokens and the answer's own view.

An example lies in its row as a trunk with branches, followed by a trunk of its own:

    [prompt | answer and end | predictor tokens]   [answer]
     trunk    branch 1         branch 2             trunk of the view, positions from 0

Both branches continue the prompt, so both count their positions on from it. What may attend to
what follows from these marks alone (`mask.py`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct

from suffice.jepa.settings import Labels
from suffice.jepa.views import TokenizedChat

if TYPE_CHECKING:
    import torch

TRUNK, ANSWER, PREDICTOR = 0, 1, 2
PADDING = -1
_SLACK = 1.05


class PackingLayout(Struct, frozen=True, kw_only=True):
    """How examples are laid out.

    `predictors` is None for plain fine-tuning, else k. `pad_token` is only what fills a row's end
    and what the reference's labels leave out; no other label depends on it.
    """

    predictors: int | None = None
    labels: Labels = Labels.ANSWER
    row_tokens: int = 256
    pad_token: int = 0


@dataclass(frozen=True)
class PackedExample:
    """One example laid out: arrays of one entry a token; places count from the piece's start.

    `sources[i]` is the place whose output predicts token `targets[i]`; `slots` are the places of
    the predictor tokens; `predicted` and `actual` the places of the two views, none when plain.
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
        """The tokens that the piece takes in its row."""
        return len(self.ids)


@dataclass(frozen=True)
class PackedBatch:
    """Rows of packed examples, as tensors.

    `ids`, `positions`, `segments` (which trunk a token hangs on, -1 for padding) and `branches` are
    (rows, width). The rest are places in the flattened rows: `sources` with their `targets`
    (labels,), `slots` (examples x k,) example by example, `predicted` and `actual` (examples,).
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

    def to(self, device: "torch.device | str", *, non_blocking: bool = False) -> "PackedBatch":
        """Copy the batch to a device."""
        moved = {
            field.name: getattr(self, field.name).to(device, non_blocking=non_blocking)
            for field in fields(self)
        }
        return replace(self, **moved)

    @property
    def tokens(self) -> int:
        """The tokens that are not padding."""
        return int((self.segments != PADDING).sum())


def lay_out(example: TokenizedChat, layout: PackingLayout) -> PackedExample:
    """Lay one example out."""
    rest = example.rest if layout.labels is Labels.REFERENCE else ()
    prompt, text = len(example.prompt), (*example.prompt, *example.answer, example.end, *rest)
    k, view = (0, ()) if layout.predictors is None else (layout.predictors, example.answer)
    start = len(text) + k
    sources = _sources(text, prompt=prompt, layout=layout)
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
    """Spread pieces over rows of nearly one width; each row is a list of indices.

    No row is wider than `row_tokens` or, if that is more, the longest piece. Among the numbers of
    rows that allow this, take the one with least padding, or more and narrower rows (attention
    costs their square) where that pads hardly more.
    """
    room = max(row_tokens, *lengths)
    fewest = math.ceil(sum(lengths) / room)
    plans = [_spread(lengths, count) for count in range(fewest, len(lengths) + 1)]
    sizes = {i: _widest(plan, lengths) for i, plan in enumerate(plans)}
    areas = {i: width * len(plans[i]) for i, width in sizes.items() if width <= room}
    least = min(areas.values())
    return plans[max(i for i, area in areas.items() if area <= _SLACK * least)]


def pack(examples: Sequence[TokenizedChat], layout: PackingLayout) -> PackedBatch:
    """Lay examples out and pack them into rows; labels and views keep the order of the examples."""
    pieces = [lay_out(example, layout) for example in examples]
    rows = plan_rows([piece.tokens for piece in pieces], row_tokens=layout.row_tokens)
    width = max(sum(pieces[i].tokens for i in row) for row in rows)
    starts = _starts(pieces, rows, width=width)
    grids = {
        name: _fill(values, starts, size=len(rows) * width, blank=blank).reshape(len(rows), width)
        for name, values, blank in (
            ("ids", [p.ids for p in pieces], layout.pad_token),
            ("positions", [p.positions for p in pieces], 0),
            ("segments", [2 * i + p.views for i, p in enumerate(pieces)], PADDING),
            ("branches", [p.branches for p in pieces], TRUNK),
        )
    }
    places = {
        name: np.concatenate(
            [start + getattr(p, name) for start, p in zip(starts, pieces, strict=True)]
        )
        for name in ("sources", "slots", "predicted", "actual")
    }
    return _tensors(grids | places | {"targets": np.concatenate([p.targets for p in pieces])})


def _widest(rows: list[list[int]], lengths: Sequence[int]) -> int:
    return max(sum(lengths[i] for i in row) for row in rows)


def _spread(lengths: Sequence[int], count: int) -> list[list[int]]:
    """Put each piece, longest first, into the row that is shortest by then."""
    rows: list[list[int]] = [[] for _ in range(count)]
    widths = [0] * count
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        row = widths.index(min(widths))
        rows[row].append(i)
        widths[row] += lengths[i]
    return rows


def _sources(text: tuple[int, ...], *, prompt: int, layout: PackingLayout) -> np.ndarray:
    """Name the places whose next token is trained."""
    if layout.labels is Labels.ANSWER:
        return np.arange(prompt - 1, len(text) - 1)
    return np.flatnonzero(np.array(text[1:]) != layout.pad_token)


def _starts(pieces: Sequence[PackedExample], rows: list[list[int]], *, width: int) -> list[int]:
    """Name the place in the flattened rows where each piece starts."""
    starts = [0] * len(pieces)
    for r, row in enumerate(rows):
        place = r * width
        for i in row:
            starts[i] = place
            place += pieces[i].tokens
    return starts


def _fill(
    values: Sequence[np.ndarray], starts: Sequence[int], *, size: int, blank: int
) -> np.ndarray:
    filled = np.full(size, blank)
    for value, start in zip(values, starts, strict=True):
        filled[start : start + len(value)] = value
    return filled


def _tensors(arrays: dict[str, np.ndarray]) -> PackedBatch:
    import torch

    return PackedBatch(**{name: torch.from_numpy(a).long() for name, a in arrays.items()})
