"""Cells: what one workload costs and is worth with some levers on, request by request."""

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
    """One thing that can be on or off, and the factor of cost that it is meant to move."""

    name: str
    vector: Vector


def cluster_of(request_id: str) -> str:
    """Return what stands before the last `/` of a request's id; all of it where there is none."""
    return request_id.rpartition("/")[0] or request_id


@dataclass(frozen=True, kw_only=True, eq=False)
class Requests:
    """The requests that all cells of a workload answer, in one order.

    Requests whose ids share what stands before the last `/` are one cluster: a conversation, a
    stream. `parts` says which part of the workload each belongs to.
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
        """The hash of ids and texts, whatever their order: the same work has the same one."""
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
    """What each request costs and is worth with `levers` on; arrays of shape (requests,).

    `answer_usd` pays for generated tokens, `prompt_usd` for reading prompts, `other_usd` for what
    decodes nothing (an encoder). `answer_work` and `prompt_work` are the same tokens at rates that
    do not depend on the chip, in one unit for all cells (`replay` takes the geometric mean of the
    dollars on the chips compared): dollars over work is what silicon moves, work over tokens what
    architecture moves. `as_reference` says that the answers are the reference's own, so that there
    is no loss to certify. Raises InputError naming the cell for an unknown charge, zero tokens, or
    shapes that do not fit.
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
        """What the cell is called in messages and tables."""
        return " + ".join(sorted(self.levers)) or "no lever"

    @property
    def usd(self) -> Floats:
        """Dollars of each request, all parts together."""
        return np.asarray(self.answer_usd + self.prompt_usd + self.other_usd)

    @property
    def reportable(self) -> bool:
        """Whether its cost may be reported as a saving: nothing lost, or the loss certified."""
        return self.as_reference or self.certificate is not None

    def columns(self) -> Floats:
        """Return the `COLUMNS` side by side, shape (requests, columns)."""
        return np.stack([getattr(self, name) for name in self.COLUMNS], axis=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Factorial:
    """Every combination of levers on one workload, checked; `cells` go from few levers to many.

    Raises InputError for cells of different workloads, for missing or repeated ones, and for levers
    that share a vector.
    """

    levers: tuple[Lever, ...]
    cells: tuple[Cell, ...]

    def __post_init__(self) -> None:
        _check_levers(self.levers)
        refuse_other_work(self.cells)
        found = _by_levers(self.cells)
        wanted = list(subsets(lever.name for lever in self.levers))
        _refuse_missing(found, wanted)
        object.__setattr__(self, "cells", tuple(found[levers] for levers in wanted))

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
        """Where the cell of some levers stands in `cells`."""
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
                hint="give every cell the same `Requests`",
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
    """Refuse decodes that read or wrote nothing: an engine did not say, and 0 is not unknown."""
    for name in ("output_tokens", "input_tokens"):
        empty = np.flatnonzero((cell.decodes > 0) & (getattr(cell, name) == 0))
        if len(empty):
            raise InputError(
                f"{cell.name}: zero {name.replace('_', ' ')} for {len(empty)} decoded requests, "
                f"first {cell.requests.ids[empty[0]]!r}",
                hint="count the tokens with the model's own tokenizer; 0 is no count of a decode",
            )


def _check_levers(levers: Sequence[Lever]) -> None:
    for attribute in ("name", "vector"):
        seen = [getattr(lever, attribute) for lever in levers]
        twice = next((value for value in seen if seen.count(value) > 1), None)
        if twice is not None:
            raise InputError(
                f"two levers have the {attribute} {str(twice)!r}",
                hint="one lever a vector: put what moves the same factor together",
            )
    if not levers:
        raise InputError("no lever is given", hint="name at least one thing that can be on or off")


def _by_levers(cells: Sequence[Cell]) -> dict[Levers, Cell]:
    found: dict[Levers, Cell] = {}
    for cell in cells:
        if cell.levers in found:
            raise InputError(f"cell {cell.name!r} is given twice", hint="give each cell once")
        found[cell.levers] = cell
    return found


def _refuse_missing(found: Mapping[Levers, Cell], wanted: Sequence[Levers]) -> None:
    missing = [" + ".join(sorted(levers)) or "no lever" for levers in wanted if levers not in found]
    if missing:
        more = ", ..." if len(missing) > _LISTED else ""
        raise InputError(
            f"{len(missing)} of {len(wanted)} cells are missing: "
            f"{', '.join(missing[:_LISTED])}{more}",
            hint="an interaction needs every combination: replay those too",
        )
    unknown = [cell.name for levers, cell in found.items() if levers not in wanted]
    if unknown:
        raise InputError(
            f"cell {unknown[0]!r} has a lever that is not among the levers",
            hint="name it among the levers, or leave the cell out",
        )
