"""Reasoning traces of one rung on tasks: recorded once, scored by program, and kept in a file."""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from suffice.bench.outcome import mark_by_program
from suffice.bench.tasks import Task
from suffice.bench.trials_file import Fingerprint, fingerprint
from suffice.early_stop.engine import record_trace
from suffice.early_stop.rule import ReasoningTags, Trace
from suffice.engines.base import Engine
from suffice.errors import InputError
from suffice.guarantee import LabelSource
from suffice.scoring.labels import WITH_TARGETS
from suffice.scoring.scorers import JUDGED, exact, tagged_answer
from suffice.types import Rung, Say


class Recording(Struct, frozen=True, kw_only=True):
    """The tasks to record on a rung, `parallel` at once, into the file `path` if given."""

    tasks: tuple[Task, ...]
    rung: Rung
    tags: ReasoningTags
    parallel: int
    path: Path | None = None

    @property
    def made_from(self) -> Fingerprint:
        """The hashes that a file of earlier traces must hold."""
        return fingerprint(self.tasks, (self.rung, self.tags))


def trace_label_source(tasks: Sequence[Task]) -> LabelSource:
    """Return the label source of traces of these tasks; raises InputError if a judge scores one.

    Tasks without a scorer are scored by agreement with the uncut answer.
    """
    scorers = {task.scorer for task in tasks}
    judged = sorted(name for name in scorers if name in JUDGED)
    if judged:
        raise InputError(
            f"scorer {judged[0]!r} needs a judge, and every probe would have to be judged",
            hint="score by a program, or leave the scorer out to score by agreement",
        )
    if None in scorers:
        return LabelSource.AGREEMENT
    return LabelSource.TARGET if scorers <= WITH_TARGETS else LabelSource.SCORER


async def record_traces(recording: Recording, engine: Engine, *, say: Say) -> tuple[Trace, ...]:
    """Record the missing traces, and return those of all tasks in their order.

    Raises an EngineError if a call fails for good; the file keeps all traces so far. Raises
    InputError if the file holds traces of other tasks, other tags or another rung.
    """
    with ExitStack() as stack:
        traces, file = _open(recording, stack)
        missing = [task for task in recording.tasks if task.request.request_id not in traces]
        slot = asyncio.Semaphore(recording.parallel)

        async def record_task(task: Task) -> None:
            async with slot:
                recorded = await record_trace(
                    engine, task.request, recording.rung, tags=recording.tags
                )
            trace = await asyncio.to_thread(mark_trace, recorded, task)
            traces[trace.request_id] = trace
            if file is not None:
                file.write(msgspec.json.encode(trace) + b"\n")
                file.flush()
            if len(traces) % max(1, len(recording.tasks) // 10) == 0:
                say(f"{len(traces):,} of {len(recording.tasks):,} traces")

        try:
            async with asyncio.TaskGroup() as group:
                for task in missing:
                    group.create_task(record_task(task))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors
    return tuple(traces[task.request.request_id] for task in recording.tasks)


def read_traces(path: Path) -> tuple[Trace, ...]:
    """Read a file of traces that `record_traces` kept; raises InputError for any other file."""
    try:
        lines = path.read_bytes().splitlines()
        msgspec.json.decode(lines[0] if lines else b"", type=Fingerprint)
        return tuple(msgspec.json.decode(line, type=Trace) for line in lines[1:])
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(
            f"{path} holds no traces: {error}",
            hint="record them: suffice latent stop --traces FILE",
        ) from error


def mark_trace(trace: Trace, task: Task) -> Trace:
    """Score the uncut answer and every probe, by the scorer of the task or by agreement.

    Two answers agree if they are equal except for spacing (the scorer `exact`).
    """
    uncut = tagged_answer(trace.answer)

    def quality(answer: str) -> float | None:
        if task.scorer is None:
            return exact(answer, uncut, {})
        return mark_by_program(task, answer).quality

    probes = tuple(replace(probe, quality=quality(probe.answer)) for probe in trace.probes)
    return replace(trace, quality=quality(trace.answer), probes=probes)


def _open(recording: Recording, stack: ExitStack) -> tuple[dict[str, Trace], BinaryIO | None]:
    """Read the traces in the file and open it for more; drop an unfinished last line."""
    path = recording.path
    if path is None:
        return {}, None
    try:
        text = path.read_bytes() if path.exists() else b""
        whole = text[: text.rfind(b"\n") + 1]
        lines = whole.splitlines()
        traces = _read(lines, recording, path) if lines else {}
        file = stack.enter_context(path.open("ab"))
        file.truncate(len(whole))
        if not whole:
            file.write(msgspec.json.encode(recording.made_from) + b"\n")
    except OSError as error:
        raise InputError(
            f"cannot use {path}: {error.strerror}", hint="check the folder and the disk"
        ) from error
    return traces, file


def _read(lines: list[bytes], recording: Recording, path: Path) -> dict[str, Trace]:
    try:
        made_from = msgspec.json.decode(lines[0], type=Fingerprint)
        traces = [msgspec.json.decode(line, type=Trace) for line in lines[1:]]
    except msgspec.DecodeError as error:
        raise InputError(f"{path} holds no traces: {error}", hint="name another file") from error
    if made_from != recording.made_from:
        raise InputError(
            f"{path} holds traces of other tasks, other tags or another rung",
            hint="name another file",
        )
    return {trace.request_id: trace for trace in traces}
