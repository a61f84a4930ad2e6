"""The state of a run on disk: `run.json` names the state that counts, and is replaced at once."""

import shutil
from pathlib import Path
from typing import Any

import msgspec
from accelerate import Accelerator
from msgspec import Struct

from suffice.errors import InputError
from suffice.jepa.settings import TrainingRecipe


class RunIdentity(Struct, frozen=True, kw_only=True):
    """What decides a run's course; a checkpoint continues only the run that it comes from."""

    recipe: TrainingRecipe
    examples: int
    data_sha256: str
    processes: int


class _Mark(Struct, frozen=True, kw_only=True):
    step: int
    origin: RunIdentity


def save(folder: Path, *, accelerator: Accelerator, step: int, origin: RunIdentity) -> None:
    """Write weights, optimiser and the number of steps done; every process must call this."""
    accelerator.save_state(str(_state(folder, step)), safe_serialization=False)  # weights are tied
    if accelerator.is_main_process:
        new = folder / "run.json.new"
        new.write_bytes(msgspec.json.encode(_Mark(step=step, origin=origin)))
        new.replace(folder / "run.json")
        for old in set(folder.glob("step-*")) - {_state(folder, step)}:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def load(folder: Path, *, accelerator: Accelerator, origin: RunIdentity) -> int:
    """Restore a run and return the number of steps done.

    Raises InputError when there is no checkpoint, or when it belongs to another recipe or data.
    """
    mark = _read(folder)
    _refuse_other(mark.origin, origin, folder=folder)
    accelerator.load_state(str(_state(folder, mark.step)))
    return mark.step


def _state(folder: Path, step: int) -> Path:
    return folder / f"step-{step}"


def _read(folder: Path) -> _Mark:
    try:
        return msgspec.json.decode((folder / "run.json").read_bytes(), type=_Mark)
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(
            f"no checkpoint to resume from in {folder}", hint="start without --resume"
        ) from error


def _refuse_other(saved: RunIdentity, wanted: RunIdentity, *, folder: Path) -> None:
    was, now = _flat(saved), _flat(wanted)
    changed = [f"{key}: {was[key]} there, {now[key]} now" for key in was if was[key] != now[key]]
    if changed:
        raise InputError(
            f"the checkpoint in {folder} belongs to another run ({'; '.join(changed)})",
            hint="resume with the values it was started with, or start anew in another folder",
        )


def _flat(origin: RunIdentity) -> dict[str, Any]:
    tree: dict[str, Any] = msgspec.to_builtins(origin)
    recipe: dict[str, Any] = tree.pop("recipe")
    objective: dict[str, Any] = recipe.pop("objective")
    return tree | recipe | objective
