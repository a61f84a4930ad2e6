"""Recorded trials as an engine: the same answers again, at no cost and in no time."""

from collections.abc import AsyncGenerator, Iterable
from pathlib import Path

import msgspec

from suffice.engines.base import Engine
from suffice.engines.chunk import Chunk
from suffice.errors import Abstained, EngineError, InputError
from suffice.types import Completion, Finish, Request, Rung, Trial, TrialStatus


class ReplayEngine(Engine):
    """Answers each request on each rung as its recorded trial did; no latency is simulated.

    Of several recorded runs the first one answers. Raises Abstained where the recorded call had,
    and EngineError where no trial or no answer was recorded, or the recorded call had failed.
    """

    def __init__(self, trials: Iterable[Trial]) -> None:
        self._trials: dict[tuple[str, str], Trial] = {}
        for trial in trials:
            first = self._trials.setdefault((trial.request_id, trial.rung), trial)
            if first.run == trial.run:  # a later row of the same run replaces it
                self._trials[trial.request_id, trial.rung] = trial

    async def complete(self, request: Request, rung: Rung) -> Completion:
        """Return the recorded answer."""
        trial = self._trials.get((request.request_id, rung.name))
        if trial is None:
            rungs = sorted({name for _, name in self._trials})
            raise EngineError(
                f"no trial of request {request.request_id!r} on rung {rung.name!r} was recorded",
                hint=f"rungs on record: {', '.join(rungs) or 'none'}",
            )
        if trial.finish is Finish.ABSTAINED:
            raise Abstained(trial.error or "the recorded call had abstained")
        if trial.status is TrialStatus.FAILED:
            raise EngineError(
                f"the recorded call had failed: {trial.error or 'no reason was kept'}",
                hint="record this trial again with `suffice bench`",
            )
        if trial.answer is None:
            raise EngineError(
                f"the trial of request {request.request_id!r} on rung {rung.name!r} kept no answer",
                hint="replay trials that `suffice bench` recorded: those hold the answers",
            )
        return recorded(trial)

    async def stream(
        self, request: Request, rung: Rung
    ) -> AsyncGenerator[Chunk | Completion, None]:
        """Yield the recorded answer as one chunk, then the Completion."""
        completion = await self.complete(request, rung)
        if completion.text:
            yield Chunk(text=completion.text)
        yield completion

    async def close(self) -> None:
        """Do nothing: there is nothing to give back."""


def recorded(trial: Trial) -> Completion:
    """Turn a trial back into the Completion that it came from, as far as it was kept.

    Of the log-probabilities the mean is left, which stands for all; a finish that was not kept
    reads as `stop`, and a duration that was not kept as 0, for replaying takes no time.
    """
    kept = {
        name: value
        for name, value in trial.generation_fields.items()
        if name in Completion.__struct_fields__
    }
    kept |= {"finish": trial.finish or Finish.STOP, "duration_s": trial.duration_s or 0.0}
    logprobs = None if trial.mean_logprob is None else (trial.mean_logprob,)
    return Completion(text=trial.answer or "", logprobs=logprobs, **kept)


def read_trials(path: str) -> list[Trial]:
    """Read trials, one JSON object a line; raises InputError with the number of a bad line."""
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror}", hint="give the trials file of a bench"
        ) from error
    return [_trial(line, at=f"{path}:{i}") for i, line in enumerate(lines, 1) if line.strip()]


def _trial(line: bytes, *, at: str) -> Trial:
    try:
        return msgspec.json.decode(line, type=Trial)
    except msgspec.DecodeError as error:
        raise InputError(f"{at}: no trial: {error}", hint="mend or remove this line") from error
