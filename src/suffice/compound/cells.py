"""Cells: cost and quality of every request of a workload, with some levers on."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from itertools import combinations
from typing import ClassVar

import numpy as np
from msgspec import Struct

from suffice.errors import CertificateError, InputError
from suffice.guarantee import Certificate, content_hash
from suffice.trials.table import Floats, Rows
from suffice.types import Vector

Levers = frozenset[str]

_LISTED = 3


class Grade(StrEnum):
    """How well the figures of a cell are known."""

    MEASURED = "measured"  # tokens counted and rates measured
    MODELLED = "modelled"  # a rate or a count behind them is predicted, assumed or estimated


class Lever(Struct, frozen=True, kw_only=True):
    """One thing that can be on or off, and the vector of cost that it moves."""

    name: str
    vector: Vector


def cluster_of(request_id: str) -> str:
    """Return the part of a request's id before its last `/`; the whole id if it has none."""
    return request_id.rpartition("/")[0] or request_id


@dataclass(frozen=True, kw_only=True, eq=False)
class Requests:
    """The requests that all cells of a workload answer, in one order.

    Requests whose ids are equal up to the last `/` are one cluster: a conversation or a stream.
    `parts` names the part of the workload that each request belongs to.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    parts: tuple[str, ...]

    def __len__(self) -> int:
        """How many requests there are."""
        return len(self.ids)

    @cached_property
    def clusters(self) -> tuple[str, ...]:
        """The cluster of each request."""
        return tuple(cluster_of(request_id) for request_id in self.ids)

    @cached_property
    def fingerprint(self) -> str:
        """The hash of ids and texts, in any order: the same work has the same fingerprint."""
        return content_hash(sorted(zip(self.ids, self.texts, strict=True)))[:16]

    def subset(self, rows: Rows) -> "Requests":
        """Return some of the requests, in the order of `rows`."""
        at = rows.tolist()
        return Requests(
            ids=tuple(self.ids[i] for i in at),
            texts=tuple(self.texts[i] for i in at),
            parts=tuple(self.parts[i] for i in at),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Cell:
    """Cost and quality of each request with `levers` on; arrays of shape (requests,).

    `answer_usd` pays for generated tokens, `prompt_usd` for reading prompts, and `other_usd` for
    rungs that decode nothing (an encoder). `answer_work` and `prompt_work` price the same tokens at
    rates that do not depend on the chip, in one unit for all cells: `replay` takes the geometric
    mean of the dollars on the chips compared. Silicon moves dollars over work, and architecture
    moves work over tokens. `as_reference` is True if all answers are the reference's own; then
    there is no loss to certify. Raises InputError naming the cell for an unknown charge, for zero
    tokens, and for shapes that do not fit.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = (
        "decodes",
        "output_tokens",
        "input_tokens",
        "answer_work",
        "prompt_work",
        "answer_usd",
        "prompt_usd",
        "other_usd",
    )

    levers: Levers
    requests: Requests
    decodes: Floats
    output_tokens: Floats
    input_tokens: Floats
    answer_work: Floats
    prompt_work: Floats
    answer_usd: Floats
    prompt_usd: Floats
    other_usd: Floats
    quality: Floats
    grade: Grade
    certificate: Certificate | None = None
    as_reference: bool = False

    def __post_init__(self) -> None:
        for name in (*self.COLUMNS, "quality"):
            array = np.array(getattr(self, name), dtype=np.float64)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
            _check_column(self, name)
        _check_tokens(self)
        if self.usd.sum() <= 0:
            raise InputError(f"{self.name} costs nothing", hint="check its prices and its charges")

    @property
    def name(self) -> str:
        """The name of the cell in messages and tables."""
        return " + ".join(sorted(self.levers)) or "no lever"

    @property
    def usd(self) -> Floats:
        """Dollars of each request, all parts together."""
        return np.asarray(self.answer_usd + self.prompt_usd + self.other_usd)

    @property
    def reportable(self) -> bool:
        """Whether its cost may be reported as a saving: no loss is possible, or it is certified."""
        return self.as_reference or self.certificate is not None

    def columns(self) -> Floats:
        """Return the `COLUMNS` side by side, shape (requests, columns)."""
        return np.stack([getattr(self, name) for name in self.COLUMNS], axis=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Factorial:
    """Every combination of levers on one workload; `cells` go from few levers to many.

    Raises InputError for cells of different workloads, for missing or repeated cells, and for
    levers that share a vector.
    """

    levers: tuple[Lever, ...]
    cells: tuple[Cell, ...]

    def __post_init__(self) -> None:
        _check_levers(self.levers)
        refuse_other_work(self.cells)
        by_levers: dict[Levers, Cell] = {}
        for cell in self.cells:
            if cell.levers in by_levers:
                raise InputError(f"cell {cell.name!r} is given twice", hint="give each cell once")
            by_levers[cell.levers] = cell
        needed = list(subsets(lever.name for lever in self.levers))
        _check_combinations(by_levers, needed)
        object.__setattr__(self, "cells", tuple(by_levers[levers] for levers in needed))

    @property
    def baseline(self) -> Cell:
        """The cell with every lever off."""
        return self.cells[0]

    @property
    def full(self) -> Cell:
        """The cell with every lever on."""
        return self.cells[-1]

    @cached_property
    def index(self) -> Mapping[Levers, int]:
        """The position in `cells` of each combination of levers."""
        return {cell.levers: at for at, cell in enumerate(self.cells)}

    def cell(self, *levers: str) -> Cell:
        """Return the cell with exactly these levers on."""
        return self.cells[self.index[frozenset(levers)]]

    def check(self, *, now: datetime) -> None:
        """Raise CertificateError naming the first cell whose certificate has lapsed."""
        for cell in self.cells:
            if cell.certificate is not None and now >= cell.certificate.terms.lapses_at:
                raise CertificateError(
                    f"cell {cell.name!r}: its certificate lapsed at "
                    f"{cell.certificate.terms.lapses_at}",
                    hint="replay fresh trials: a lapsed promise does not carry a saving",
                )


def subsets(levers: Collection[str] | Iterator[str]) -> Iterator[Levers]:
    """Yield every combination of levers, from none to all."""
    names = tuple(levers)
    for size in range(len(names) + 1):
        yield from map(frozenset, combinations(names, size))


def refuse_other_work(cells: Sequence[Cell]) -> None:
    """Raise InputError unless all cells answer the same requests in the same order."""
    for cell in cells:
        first, other = cells[0], cell.requests
        if other.fingerprint != first.requests.fingerprint:
            raise InputError(
                f"cells {first.name!r} and {cell.name!r} are of different workloads "
                f"({len(first.requests)} requests {first.requests.fingerprint}, "
                f"{len(other)} requests {other.fingerprint})",
                hint="factors multiply within one workload only: replay both on the same requests",
            )
        if other.ids != first.requests.ids:
            raise InputError(
                f"cells {first.name!r} and {cell.name!r} list their requests in different orders",
                hint="make all cells from the same `Requests`",
            )


def _check_column(cell: Cell, name: str) -> None:
    array = getattr(cell, name)
    if array.shape != (len(cell.requests),):
        raise InputError(
            f"{cell.name}: {name} has shape {array.shape} for {len(cell.requests)} requests"
        )
    unknown = np.flatnonzero(np.isnan(array))
    if len(unknown):
        raise InputError(
            f"{cell.name}: {name} is unknown for {len(unknown)} of {len(array)} requests, "
            f"first {cell.requests.ids[unknown[0]]!r}",
            hint="nothing is averaged over the others: price or score them all",
        )
    if not np.isfinite(array).all() or (array < 0).any():
        raise InputError(f"{cell.name}: {name} holds a negative or infinite value")


def _check_tokens(cell: Cell) -> None:
    """Refuse decodes of zero tokens: the engine gave no count, and unknown is not 0."""
    for name in ("output_tokens", "input_tokens"):
        empty = np.flatnonzero((cell.decodes > 0) & (getattr(cell, name) == 0))
        if len(empty):
            raise InputError(
                f"{cell.name}: zero {name.replace('_', ' ')} for {len(empty)} decoded requests, "
                f"first {cell.requests.ids[empty[0]]!r}",
                hint="count the tokens with the model's own tokenizer; no decode has 0 tokens",
            )


def _check_levers(levers: Sequence[Lever]) -> None:
    for attribute in ("name", "vector"):
        seen = [getattr(lever, attribute) for lever in levers]
        twice = next((value for value in seen if seen.count(value) > 1), None)
        if twice is not None:
            raise InputError(
                f"two levers have the {attribute} {str(twice)!r}",
                hint="one lever for each vector: join the levers that move the same factor",
            )
    if not levers:
        raise InputError("no lever is given", hint="name at least one thing that can be on or off")


def _check_combinations(by_levers: Mapping[Levers, Cell], needed: Sequence[Levers]) -> None:
    """Refuse missing combinations, and cells with a lever that is not among the levers."""
    absent = [levers for levers in needed if levers not in by_levers]
    missing = [" + ".join(sorted(levers)) or "no lever" for levers in absent]
    if missing:
        more = ", ..." if len(missing) > _LISTED else ""
        raise InputError(
            f"{len(missing)} of {len(needed)} cells are missing: "
            f"{', '.join(missing[:_LISTED])}{more}",
            hint="an interaction needs every combination: replay those too",
        )
    unknown = [cell.name for levers, cell in by_levers.items() if levers not in needed]
    if unknown:
        raise InputError(
            f"cell {unknown[0]!r} has a lever that is not among the levers",
            hint="name it among the levers, or leave the cell out",
        )
