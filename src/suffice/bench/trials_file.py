"""The files of a bench: trials in one append-only file, and a journal of all calls beside it.

A trial is on disk before the next one is counted, so a kill loses at most the calls in flight. The
journal holds hashes of the tasks and the ladder, and the cost of every call. A resumed run compares
the hashes and adds up the cost; a call without an end counts as the most that it can have cost.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from suffice.bench.tasks import Task
from suffice.errors import InputError
from suffice.meter import total
from suffice.types import Charge, Spend, Trial

Pair = tuple[str, str]


class Fingerprint(Struct, frozen=True, kw_only=True, tag="bench"):
    """Hashes of the tasks and ladder of a trials file; a resumed run must have the same."""

    tasks: str
    ladder: str


class StartedCall(Struct, frozen=True, kw_only=True, tag="start"):
    """The start of a call, and the most that it can cost; None if its cost has no bound."""

    call: int
    most_usd: Decimal | None


class FinishedCall(Struct, frozen=True, kw_only=True, tag="end"):
    """The end of a call, and its charge; `usd` is None if the charge is unknown."""

    call: int
    usd: Decimal | None
    estimated: bool = False


_TRIALS = msgspec.json.Decoder(Trial)
_JOURNAL = msgspec.json.Decoder(Fingerprint | StartedCall | FinishedCall)


def fingerprint(tasks: Sequence[Task], ladder: object) -> Fingerprint:
    """Hash the tasks with their targets, and the ladder with all its settings."""
    return Fingerprint(tasks=_hash(tasks), ladder=_hash(ladder))


class TrialsFile:
    """An open trials file and its journal; see `open_trials_file`.

    `trials` holds the latest trial of each pair. `most_usd` is the most that each call can have
    cost, or its charge once that is known. `spend` adds up the charges of all calls.
    """

    def __init__(self, trials: "_AppendOnlyFile", journal: "_AppendOnlyFile") -> None:
        self._trials, self._journal = trials, journal
        self.trials: dict[Pair, Trial] = {}
        self.most_usd: list[Decimal | None] = []
        self.spend = Spend()

    def append(self, trial: Trial) -> None:
        """Put a trial on disk; it replaces an earlier trial of its pair."""
        self._trials.append(trial, sync=True)
        self.trials[trial.request_id, trial.rung] = trial

    def start(self, most_usd: Decimal | None) -> int:
        """Record the start of a call, and return its number."""
        call = len(self.most_usd)
        self._journal.append(StartedCall(call=call, most_usd=most_usd), sync=False)
        self.most_usd.append(most_usd)
        return call

    def settle(self, call: int, charge: Charge) -> None:
        """Record the charge of a call; an unknown charge leaves `most_usd` as it is."""
        line = FinishedCall(call=call, usd=charge.usd, estimated=charge.estimated)
        self._journal.append(line, sync=False)
        self._count(line)

    def replay(self, lines: Iterable[StartedCall | FinishedCall]) -> None:
        """Take over the calls of earlier runs; a call without an end has an unknown charge."""
        unsettled = set()
        for line in lines:
            if isinstance(line, StartedCall):
                self.most_usd.append(line.most_usd)
                unsettled.add(line.call)
            else:
                unsettled.discard(line.call)
                self._count(line)
        self.spend += total(Charge(usd=None) for _ in unsettled)

    def _count(self, line: FinishedCall) -> None:
        self.spend += total([Charge(usd=line.usd, estimated=line.estimated)])
        if line.usd is not None:
            self.most_usd[line.call] = line.usd


@contextlib.contextmanager
def open_trials_file(path: Path, made_from: Fingerprint) -> Iterator[TrialsFile]:
    """Open or create a trials file and its journal (`path` with `.journal` added).

    Repairs an unfinished last line. Raises InputError if the file holds trials of other tasks or
    another ladder, if another process writes it, or if the disk refuses.
    """
    with contextlib.ExitStack() as stack:
        trials = stack.enter_context(contextlib.closing(_AppendOnlyFile(path)))
        beside = path.with_name(f"{path.name}.journal")
        journal = stack.enter_context(contextlib.closing(_AppendOnlyFile(beside)))
        file = TrialsFile(trials, journal)
        for trial in trials.recover(_TRIALS):
            file.trials[trial.request_id, trial.rung] = trial
        _replay(file, journal, path=path, made_from=made_from)
        yield file


def _replay(
    file: TrialsFile, journal: "_AppendOnlyFile", *, path: Path, made_from: Fingerprint
) -> None:
    """Read what was spent, or begin a journal; refuse trials of other tasks or another ladder."""
    lines = journal.recover(_JOURNAL)
    first = lines[0] if lines else None
    if first == made_from:
        file.replay(lines[1:])
    elif not file.trials:
        journal.clear()
        journal.append(made_from, sync=True)
    else:
        origin = "that no bench made: no journal stands beside it"
        if first is not None:
            parts = ("tasks", "ladder")
            others = [name for name in parts if getattr(first, name) != getattr(made_from, name)]
            origin = f"made from other {' and another '.join(others)}"
        raise InputError(
            f"{path} holds {len(file.trials)} trials {origin}",
            hint="name another output file, or go back to the tasks and ladder it was made from",
        )


class _AppendOnlyFile:
    """A file of JSON lines that one process at a time adds to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise self._write_error(error) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.close()
            raise InputError(
                f"{path} is being written by another process",
                hint="wait for that bench to end, or name another output file",
            ) from error

    def recover(self, decoder: msgspec.json.Decoder[Any]) -> list[Any]:
        """Read every line; cut off an unfinished last line."""
        *lines, last = self.path.read_bytes().split(b"\n")
        values = [self._decode(line, decoder, number=i) for i, line in enumerate(lines, start=1)]
        if last:
            try:
                values.append(decoder.decode(last))
                os.write(self._file, b"\n")
            except msgspec.DecodeError:
                os.ftruncate(self._file, os.fstat(self._file).st_size - len(last))
        return values

    def append(self, value: Struct, *, sync: bool) -> None:
        """Add one line, whole or not at all; `sync` waits until the disk has it."""
        line = msgspec.json.encode(value) + b"\n"
        size = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, line)
            while written < len(line):
                written += os.write(self._file, line[written:])
            if sync:
                os.fsync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, size)
            raise self._write_error(error) from error

    def clear(self) -> None:
        os.ftruncate(self._file, 0)

    def close(self) -> None:
        os.close(self._file)

    def _decode(self, line: bytes, decoder: msgspec.json.Decoder[Any], *, number: int) -> Any:
        try:
            return decoder.decode(line)
        except msgspec.DecodeError as error:
            raise InputError(
                f"{self.path}, line {number}: {error}",
                hint="take that line out, or name another output file",
            ) from error

    def _write_error(self, error: OSError) -> InputError:
        return InputError(
            f"cannot write {self.path}: {error.strerror}",
            hint="mend the disk or its permissions, then run the same command to go on",
        )


def _hash(value: object) -> str:
    return sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()
