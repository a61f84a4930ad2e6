"""The ladder: the rungs of a configuration, checked against what their models can do."""

import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from suffice.config import Config, nearest
from suffice.errors import ConfigError, EffortRefused
from suffice.types import Effort, Rung


class ModelEfforts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which efforts a model takes; `match` are shell patterns for its name in lower case."""

    name: str
    match: tuple[str, ...]
    efforts: tuple[Effort, ...]
    source: str
    date: str
    remark: str | None = None


class Ladder(Struct, frozen=True, kw_only=True):
    """Rungs, cheapest first, with the one whose quality is promised.

    `notes` are what a person should know before the first request; show them.
    """

    rungs: tuple[Rung, ...]
    reference: Rung
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Rung]:
        return iter(self.rungs)

    def __len__(self) -> int:
        return len(self.rungs)

    @property
    def below_reference(self) -> tuple[Rung, ...]:
        """The rungs that are cheaper than the reference."""
        return self.rungs[: self.rungs.index(self.reference)]

    def above(self, rung: Rung) -> Rung | None:
        """Return the next rung up, or None from the top one."""
        return next(iter(self.rungs[self.rungs.index(rung) + 1 :]), None)

    def rung(self, name: str) -> Rung:
        """Return the rung of this name; raises ConfigError naming the nearest one."""
        for rung in self.rungs:
            if rung.name == name:
                return rung
        raise ConfigError(
            f"no rung {name!r}", hint=nearest(name, tuple(rung.name for rung in self.rungs))
        )


def build_ladder(config: Config) -> Ladder:
    """Check every rung of a configuration and return its ladder.

    Raises EffortRefused where a model does not take the effort of a rung, and ConfigError for a
    budget that cannot hold. A model that nothing is known about is let through with a note.
    """
    rungs = config.ladder
    for rung in rungs:
        _check_effort(rung)
        _check_limits(rung)
    reference = next(rung for rung in rungs if rung.name == config.reference)
    notes = tuple(
        f"rung {rung.name!r}: which efforts {rung.model!r} takes is not known to suffice; "
        "bench it and look at effort_seen"
        for rung in rungs
        if rung.effort is not None and efforts_of(rung.model) is None
    )
    return Ladder(rungs=rungs, reference=reference, notes=notes)


def single_rung(config: Config, rung: Rung) -> Config:
    """Return the configuration with one rung as its whole ladder, and with its engine alone."""
    return replace(
        config,
        reference=rung.name,
        ladder=(rung,),
        engine={rung.engine: config.engine[rung.engine]},
    )


def efforts_of(model: str) -> ModelEfforts | None:
    """Return what is known of the efforts that a model takes, or None."""
    name = model.lower().rpartition("/")[2]
    for known in known_efforts():
        if any(fnmatchcase(name, pattern) for pattern in known.match):
            return known
    return None


@cache
def known_efforts() -> tuple[ModelEfforts, ...]:
    """Read the shipped table of models and efforts."""
    text = (files("suffice") / "models" / "efforts.toml").read_text("utf-8")
    return msgspec.convert(
        [{**row, "date": row["date"].isoformat()} for row in tomllib.loads(text)["model"]],
        tuple[ModelEfforts, ...],
    )


def example_ladders() -> tuple[str, ...]:
    """Name the example configurations that ship with suffice."""
    names = (entry.name for entry in (files("suffice") / "ladders").iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def example_text(name: str) -> str:
    """Return an example configuration as TOML; raises ConfigError for a name that is none."""
    if name not in example_ladders():
        raise ConfigError(f"no example ladder {name!r}", hint=nearest(name, example_ladders()))
    return (files("suffice") / "ladders" / f"{name}.toml").read_text("utf-8")


def _check_effort(rung: Rung) -> None:
    known = efforts_of(rung.model)
    if known is None or rung.effort is None or rung.effort in known.efforts:
        return
    taken = ", ".join(known.efforts)
    raise EffortRefused(
        f"rung {rung.name!r}: {known.name} does not take the effort {rung.effort.value!r}"
        + (f": {known.remark}" if known.remark else ""),
        hint=f"choose one of: {taken}; or leave effort out for the model's default",
    )


def _check_limits(rung: Rung) -> None:
    limit, budget = rung.max_output_tokens, rung.thinking_budget_tokens
    if limit is not None and limit < 1:
        raise ConfigError(
            f"rung {rung.name!r}: max_output_tokens must be 1 or more", hint="or leave it out"
        )
    if budget is None:
        return
    if budget < 1 or rung.effort is Effort.NONE:
        raise ConfigError(
            f"rung {rung.name!r}: a thinking budget of {budget} at effort {rung.effort} "
            "asks for two things at once",
            hint='for no thinking write effort = "none" and no thinking_budget_tokens',
        )
    if limit is not None and budget >= limit:
        raise ConfigError(
            f"rung {rung.name!r}: a thinking budget of {budget} leaves no room for an answer "
            f"within max_output_tokens = {limit}, which covers both",
            hint="raise max_output_tokens, or lower thinking_budget_tokens",
        )
