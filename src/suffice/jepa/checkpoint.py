"""Checkpoints of a run; `run.json` names the valid state and is replaced atomically."""

import shutil
from pathlib import Path
from typing import Any

import msgspec
from accelerate import Accelerator
from msgspec import Struct

from suffice.errors import InputError
from suffice.jepa.settings import TrainingRecipe


class RunIdentity(Struct, frozen=True, kw_only=True):
    """What determines a run; a checkpoint resumes only the run that wrote it."""

    recipe: TrainingRecipe
    examples: int
    data_sha256: str
    processes: int


class _SavedState(Struct, frozen=True, kw_only=True):
    step: int
    origin: RunIdentity


def save(folder: Path, *, accelerator: Accelerator, step: int, origin: RunIdentity) -> None:
    """Write weights, optimiser and the number of finished steps; every process must call this."""
    accelerator.save_state(str(_state(folder, step)), safe_serialization=False)  # weights are tied
    if accelerator.is_main_process:
        new = folder / "run.json.new"
        new.write_bytes(msgspec.json.encode(_SavedState(step=step, origin=origin)))
        new.replace(folder / "run.json")
        for old in set(folder.glob("step-*")) - {_state(folder, step)}:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def load(folder: Path, *, accelerator: Accelerator, origin: RunIdentity) -> int:
    """Restore a run and return the number of finished steps.

    Raises InputError if there is no checkpoint, or if it belongs to another recipe or other data.
    """
    try:
        state = msgspec.json.decode((folder / "run.json").read_bytes(), type=_SavedState)
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(
            f"no checkpoint to resume from in {folder}", hint="start without --resume"
        ) from error
    old, new = _flat(state.origin), _flat(origin)
    changes = [f"{key}: {old[key]} there, {new[key]} now" for key in old if old[key] != new[key]]
    if changes:
        raise InputError(
            f"the checkpoint in {folder} belongs to another run ({'; '.join(changes)})",
            hint="resume with the values of its start, or start again in another folder",
        )
    accelerator.load_state(str(_state(folder, state.step)))
    return state.step


def _state(folder: Path, step: int) -> Path:
    return folder / f"step-{step}"


def _flat(origin: RunIdentity) -> dict[str, Any]:
    tree: dict[str, Any] = msgspec.to_builtins(origin)
    recipe: dict[str, Any] = tree.pop("recipe")
    objective: dict[str, Any] = recipe.pop("objective")
    return tree | recipe | objective
