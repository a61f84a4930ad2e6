"""The workload file: strict TOML, written before anything is measured."""

import tomllib
from datetime import date
from decimal import Decimal
from itertools import product
from pathlib import Path

from msgspec import Struct

from suffice.compound.cells import Grade, Lever
from suffice.config import PriceConfig, named_structs, nearest, to_struct
from suffice.errors import ConfigError
from suffice.meter import Price, price_for
from suffice.types import Vector
from suffice.units import seconds

Deployed = tuple[str, str]  # a model on a chip

ANSWERING = (Vector.PARADIGM, Vector.OUTPUT)  # levers of these vectors choose the answering rung
_CLOSE = 1e-3


class PartConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One part of the workload: its request groups, and its share of the baseline's cost.

    No closed answer set covers requests of the groups in `out_of_scope`, nor requests that the
    reference answers with one of `out_of_scope_answers` (a JSON string is read as its text).
    """

    groups: tuple[str, ...]
    share: float
    out_of_scope: tuple[str, ...] = ()
    out_of_scope_answers: tuple[str, ...] = ()


class LeverConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One lever: the `rungs` that it adds, or the model or chip that it replaces.

    A `paradigm` lever adds rungs that decode nothing and decide by themselves whether to answer;
    each call of one costs `ask_usd`. An `output` lever adds cheaper rungs of the same model. An
    `architecture` or `silicon` lever replaces `before` by `after`.
    """

    vector: Vector
    rungs: tuple[str, ...] = ()
    ask_usd: Decimal | None = None
    before: str | None = None
    after: str | None = None


class DeploymentConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model on a chip, the price of its tokens, and whether that was measured or modelled.

    The competent baseline rents the cheapest chip, also one that no lever names.
    """

    model: str
    chip: str
    grade: Grade
    price: PriceConfig


class CompoundWorkload(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file: the parts of the workload, the promise, the levers, and the prices.

    `fixed` is the day of its last change; it should be earlier than the trials.
    """

    name: str
    fixed: date
    reference: str
    part: dict[str, PartConfig]
    lever: dict[str, LeverConfig]
    deployment: dict[str, DeploymentConfig]
    alpha: float = 0.02
    delta: float = 0.1
    lapses_after: str = "30d"

    @property
    def levers(self) -> tuple[Lever, ...]:
        """The levers, in the order of the vectors of cost."""
        levers = [Lever(name=name, vector=lever.vector) for name, lever in self.lever.items()]
        return tuple(sorted(levers, key=lambda lever: list(Vector).index(lever.vector)))

    def lever_of(self, vector: Vector) -> str | None:
        """Return the name of the lever that moves a vector, if there is one."""
        return next((name for name, lever in self.lever.items() if lever.vector is vector), None)

    def rungs_of(self, vector: Vector) -> tuple[str, ...]:
        """Return the rungs that the lever of a vector adds."""
        name = self.lever_of(vector)
        return () if name is None else self.lever[name].rungs

    def sides(self, vector: Vector) -> tuple[str, str]:
        """Return the model or chip before and after its lever; the same one without a lever."""
        name = self.lever_of(vector)
        if name is not None:
            lever = self.lever[name]
            return str(lever.before), str(lever.after)
        key = "model" if vector is Vector.ARCHITECTURE else "chip"
        only = getattr(next(iter(self.deployment.values())), key)
        return only, only

    def prices(self) -> dict[Deployed, Price]:
        """Return the price of tokens in each deployment; raises ConfigError or PriceError."""
        return {
            (deployment.model, deployment.chip): price_for(name, deployment.price)
            for name, deployment in self.deployment.items()
        }

    def grades(self) -> dict[Deployed, Grade]:
        """Return the grade of the rates of each deployment."""
        return {
            (deployment.model, deployment.chip): deployment.grade
            for deployment in self.deployment.values()
        }


def read_workload(path: Path) -> CompoundWorkload:
    """Read and check a workload file; raises ConfigError naming the key."""
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}", hint="docs/compound.md shows such a file"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} is not TOML: {error}", hint="check quotes and brackets there"
        ) from error
    kinds: dict[str, type[Struct]] = {
        "part": PartConfig,
        "lever": LeverConfig,
        "deployment": DeploymentConfig,
    }
    tables = {
        key: named_structs(tree.get(key, {}), kind, at=f"{path}: {key}")
        for key, kind in kinds.items()
    }
    workload = to_struct({**tree, **tables}, CompoundWorkload, at=f"{path}:")
    _check(workload, at=str(path))
    return workload


def _check(workload: CompoundWorkload, *, at: str) -> None:
    """Raise ConfigError for a workload that contradicts itself."""
    _check_promise(workload, at=at)
    _check_parts(workload, at=at)
    vectors = [lever.vector for lever in workload.lever.values()]
    if not vectors or len(set(vectors)) < len(vectors) or Vector.NONE in vectors:
        raise ConfigError(
            f"{at}: lever: needs one lever or more, each of another vector",
            hint="vectors: paradigm, output, architecture, silicon",
        )
    for name, lever in workload.lever.items():
        _check_lever(lever, at=f"{at}: lever.{name}")
    rungs = [rung for lever in workload.lever.values() for rung in lever.rungs]
    if workload.reference in rungs or len(set(rungs)) < len(rungs):
        raise ConfigError(
            f"{at}: lever: a rung is named twice, or is the reference",
            hint="the reference answers when every lever is off; other rungs belong to one lever",
        )
    _check_deployments(workload, at=at)


def _check_promise(workload: CompoundWorkload, *, at: str) -> None:
    for key in ("alpha", "delta"):
        if not 0 < getattr(workload, key) < 1:
            raise ConfigError(
                f"{at}: {key} must lie between 0 and 1", hint="0.02 and 0.1 are usual"
            )
    try:
        seconds(workload.lapses_after)
    except ValueError as error:
        raise ConfigError(f"{at}: lapses_after: {error}", hint="`30d` is a usual value") from error


def _check_parts(workload: CompoundWorkload, *, at: str) -> None:
    groups = [group for part in workload.part.values() for group in part.groups]
    if len(set(groups)) < len(groups):
        raise ConfigError(
            f"{at}: part: a group stands in two parts", hint="put each group into one part"
        )
    shares = sum(part.share for part in workload.part.values())
    if abs(shares - 1) > _CLOSE or any(part.share <= 0 for part in workload.part.values()):
        raise ConfigError(
            f"{at}: part: the shares of the baseline's cost sum to {shares:g}, not 1",
            hint="give each part a share above 0, to four digits (0.3333)",
        )
    for name, part in workload.part.items():
        for group in part.out_of_scope:
            if group not in part.groups:
                raise ConfigError(
                    f"{at}: part.{name}.out_of_scope: no group {group!r} in that part",
                    hint=nearest(group, part.groups),
                )


def _check_lever(lever: LeverConfig, *, at: str) -> None:
    """Refuse missing keys, and keys that belong to another vector."""
    answering = lever.vector in ANSWERING
    for key in ("rungs", "ask_usd", "before", "after"):
        needs_cost = key == "ask_usd" and lever.vector is Vector.PARADIGM
        needed = needs_cost or (key == "rungs" and answering)
        needed = needed or (key in ("before", "after") and not answering)
        present = getattr(lever, key) not in (None, ())
        if present != needed:
            raise ConfigError(
                f"{at}.{key}: {'missing' if needed else 'unknown'} for a {lever.vector} lever",
                hint="paradigm: rungs, ask_usd; output: rungs; the others: before, after",
            )
    if lever.ask_usd is not None and not (lever.ask_usd.is_finite() and lever.ask_usd > 0):
        raise ConfigError(
            f"{at}.ask_usd: {lever.ask_usd} is no cost",
            hint="a call takes time on some chip: write dollars above 0",
        )


def _check_deployments(workload: CompoundWorkload, *, at: str) -> None:
    """Refuse a missing, repeated or unused price of a model on a chip."""
    if not workload.deployment:
        raise ConfigError(f"{at}: no deployment", hint="write [deployment.NAME] tables")
    pairs = [(pair.model, pair.chip) for pair in workload.deployment.values()]
    models, chips = workload.sides(Vector.ARCHITECTURE), workload.sides(Vector.SILICON)
    twice = next((pair for pair in pairs if pairs.count(pair) > 1), None)
    if twice is not None:
        raise ConfigError(
            f"{at}: deployment: {twice[0]!r} on {twice[1]!r} is priced twice", hint="keep one price"
        )
    for model, chip in product(models, chips):
        if (model, chip) not in pairs:
            raise ConfigError(
                f"{at}: deployment: no price of {model!r} on {chip!r}",
                hint="the interaction of model and chip needs all their combinations",
            )
    for model, _ in pairs:
        if model not in models:
            raise ConfigError(
                f"{at}: deployment: model {model!r} is in no lever", hint=nearest(model, models)
            )
