"""Whether one of the files that a gateway was made from has changed."""

import os
from collections.abc import Iterable
from pathlib import Path

from suffice.certify.bundle import FILES
from suffice.config import Config, GatewayConfig
from suffice.gateway.serving import Settings

Stamp = tuple[int, int, int] | None


class WatchedFiles:
    """Files with their stamps; `changed` tells once of each change, or of a `request_reload`."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._stamps = {path: _stamp(path) for path in paths}
        self._requested = False

    def request_reload(self) -> None:
        """Count the files as changed, as SIGHUP does."""
        self._requested = True

    def watch(self, paths: Iterable[Path]) -> None:
        """Watch these files instead; those that were watched already keep their stamps."""
        self._stamps = {path: self._stamps.get(path, _stamp(path)) for path in paths}

    def changed(self) -> bool:
        """Say whether anything changed since the last time."""
        before, self._stamps = self._stamps, {path: _stamp(path) for path in self._stamps}
        requested, self._requested = self._requested, False
        return requested or before != self._stamps


def files_behind(settings: Settings, config: Config) -> list[Path]:
    """List the files whose change makes a new configuration; keys are taken over without one."""
    policy = [] if settings.policy is None else [settings.policy / name for name in FILES]
    named = (
        config.gateway.id_key_file,
        *(engine.api_key_file for engine in config.engine.values()),
    )
    return [settings.ladder, *policy, *(Path(name) for name in named if name is not None)]


def key_files(config: GatewayConfig) -> list[Path]:
    """List the file of keys, if there is one."""
    return [] if config.keys is None else [Path(config.keys)]


def _stamp(path: Path) -> Stamp:
    try:
        status = os.stat(path)  # noqa: PTH116 (all three numbers at once)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
