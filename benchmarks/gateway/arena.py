"""Where attacks take place: gateways that each starts itself, keys, and requests that count."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from benchmarks.gateway import ours
from benchmarks.gateway.bed import Bed
from benchmarks.gateway.ours import Policies, Setup
from benchmarks.gateway.processes import Running, free_port, running
from benchmarks.gateway.stub import TAG_DIGITS
from suffice.gateway.keys import KeyLimits, KeyRights, add_key

LAG_MS = 250.0  # at most, at the 99th percentile, while a gateway is attacked
Figures = dict[str, Any]


class Finding(Struct, frozen=True, kw_only=True):
    """What an attack achieved, and whether that is within the promise."""

    right: bool
    figures: Figures


class Arena:
    """Where attacks take place: the bed's stub, and gateways that an attack starts itself."""

    def __init__(self, ready: Bed, policies: Policies) -> None:
        self.ready, self.policies = ready, policies
        self.secrets: dict[str, str] = {}

    @contextmanager
    def gateways(
        self,
        name: str,
        *,
        number: int = 1,
        lines: str = "",
        arguments: tuple[str, ...] = (),
        **setup: Any,
    ) -> Iterator[list[Running]]:
        """Serve from gateways of one configuration; they share a ledger where it has a URL.

        `lines` are further ones of `[gateway]`, `arguments` of the command, `setup` fields of it.
        """
        with ExitStack() as stack:
            servers = []
            for i in range(number):
                how = Setup(
                    name=f"{name}{i}", upstream=self.ready.stub.port, gateway=lines, **setup
                )
                command = ours.serve(how, folder=self.ready.folder, port=free_port())
                command = replace(command, arguments=(*command.arguments, *arguments))
                servers.append(stack.enter_context(running(command, core=self.ready.cores.proxy)))
            yield servers

    def keys(self, name: str, limits: Mapping[str, KeyLimits]) -> tuple[Path, dict[str, str]]:
        """Make a key file; returns it, and the keys by name."""
        path = self.ready.folder / f"{name}.json"
        return path, {key: add_key(path, key, limits=limit) for key, limit in limits.items()}

    def watcher(self, path: Path) -> str:
        """Return a key of a file that reads metrics and the dashboard, made the first time."""
        if path.name not in self.secrets:
            rights = KeyRights(scopes=("metrics", "dashboard"))
            self.secrets[path.name] = add_key(path, "eyes", limits=KeyLimits(), rights=rights)
        return self.secrets[path.name]

    def question(self, *, model: str = "cot", **fields: Any) -> dict[str, Any]:
        """Write a request that the stub counts."""
        text = f"2 + 2 = ? #{next(self.ready.tags):0{TAG_DIGITS}d}"
        return {"model": model, "messages": [{"role": "user", "content": text}], **fields}
