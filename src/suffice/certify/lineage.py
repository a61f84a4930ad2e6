"""The looks that were taken at a folder's trials, in a file beside it."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from suffice.certify.target import Target
from suffice.errors import InputError, writing
from suffice.files import write_file
from suffice.guarantee import (
    Lineage,
    Per,
    RiskKind,
    content_hash,
    share_requests,
    sketch_of,
)
from suffice.scoring.labels import Pair
from suffice.types import Trial

LINEAGE = ".lineage.json"  # after the name of the folder


class Look(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One attempt to certify, of `planned` on these requests: how they were dealt, what was asked.

    `sketch` stands for the requests, as in `Lineage`. `content` is a hash of everything else that a
    result depends on: marks, answers and costs of the trials, and how groups are told. Files of
    before have none, which is like no other.
    """

    time: datetime
    seed: int
    alpha: float
    delta: float
    reference: str
    risk: RiskKind
    per: Per
    renewal: bool
    planned: int
    sketch: tuple[int, ...]
    content: str = ""

    def repeats(self, other: "Look") -> bool:
        """Whether both asked the same of the same requests, so that one of them spends nothing."""
        return msgspec.structs.replace(other, time=self.time) == self and self.content != ""


class LineageFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All looks that a folder knows of."""

    looks: tuple[Look, ...] = ()


def look_at(
    trials: Sequence[Trial],
    target: Target,
    *,
    planned: int,
    renewal: bool,
    labels: Mapping[Pair, float] | None = None,
) -> Look:
    """Describe the attempt to certify some trials; `labels` are those that mend a judge's."""
    return Look(
        time=datetime.now(UTC),
        seed=target.seed,
        alpha=target.alpha,
        delta=target.delta,
        reference=target.reference,
        risk=target.risk,
        per=target.per,
        renewal=renewal,
        planned=planned,
        sketch=sketch_of(trial.request_id for trial in trials),
        content=content_hash(
            (
                sorted(msgspec.json.encode(trial) for trial in trials),
                sorted((labels or {}).items()),
                target.label_source,
                target.groups,
                target.random_part,
            )
        ),
    )


def read_lineage(folder: str | os.PathLike[str]) -> LineageFile:
    """Read the looks of a folder, none where there is no file; InputError for a damaged one."""
    at = lineage_path(folder)
    try:
        return msgspec.json.decode(at.read_bytes(), type=LineageFile)
    except (FileNotFoundError, NotADirectoryError):
        return LineageFile()
    except OSError as error:
        raise InputError(
            f"cannot read {at}: {error.strerror}", hint="check its permissions"
        ) from error
    except msgspec.DecodeError as error:
        raise InputError(
            f"{at} is damaged: {error}", hint="certify fresh trials into a new folder"
        ) from error


def write_lineage(folder: str | os.PathLike[str], file: LineageFile) -> None:
    """Write the looks beside a folder, which a look that certified nothing does not make.

    Raises InputError where another command has added a look since `file` was read, or when the disk
    refuses.
    """
    at, known = lineage_path(folder), read_lineage(folder).looks
    if known != file.looks[: len(known)]:
        raise InputError(
            f"another command took a look meanwhile: {at}",
            hint="certify again, one command after another: looks at the same requests share delta",
        )
    with writing(at):
        at.parent.mkdir(parents=True, exist_ok=True)
    write_file(at, msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n")


def lineage_path(folder: str | os.PathLike[str]) -> Path:
    """Return where the looks of a folder are kept."""
    at = Path(folder)
    return at.with_name(at.name + LINEAGE)


def add_look(file: LineageFile, look: Look) -> tuple[LineageFile, Lineage]:
    """Add a look to those a folder knows, and say what it may spend.

    Only looks at the same requests share delta; others begin a plan of their own. Raises InputError
    where all planned looks were taken, or another number was planned before.
    """
    planned = look.planned
    same = [before for before in file.looks if share_requests(before.sketch, look.sketch)]
    if any(before.planned != planned for before in same):
        raise InputError(
            f"{same[0].planned} looks at these requests were planned, not {planned}",
            hint=f"use --looks {same[0].planned}, or certify fresh trials into a new folder",
        )
    repeated = next((at for at, before in enumerate(same) if before.repeats(look)), None)
    taken = same if repeated is not None else [*same, look]
    if len(taken) > planned:
        seeds = ", ".join(map(str, dict.fromkeys(before.seed for before in same)))
        alphas = ", ".join(f"{alpha:g}" for alpha in dict.fromkeys(one.alpha for one in same))
        raise InputError(
            f"delta is spent: {len(same)} of {planned} looks at these requests were taken "
            f"(seeds {seeds}; alphas {alphas}), and this one differs from them",
            hint="certify fresh trials, or plan for several looks from the start: --looks 10",
        )
    lineage = Lineage(
        looks=len(taken) if repeated is None else repeated + 1,
        planned=planned,
        seeds=tuple(dict.fromkeys(one.seed for one in taken)),
        alphas=tuple(dict.fromkeys(one.alpha for one in taken)),
        renewal=look.renewal,
        sketch=look.sketch,
    )
    looks = file.looks if repeated is not None else (*file.looks, look)
    return LineageFile(looks=looks), lineage
