"""Whether one of the files that a gateway was made from has changed."""

import os
from pathlib import Path

from suffice.certify.bundle import CERTIFICATE
from suffice.gateway.serving import Settings

Stamp = tuple[tuple[int, int, int] | None, ...]


class WatchedFiles:
    """The files behind some settings; `changed` tells once of each change, or of a `poke`.

    A bundle is known by its certificate, which is written last.
    """

    def __init__(self, settings: Settings) -> None:
        self._paths = [settings.ladder]
        if settings.policy is not None:
            self._paths.append(settings.policy / CERTIFICATE)
        self._poked = False
        self._seen = self._stamp()

    def poke(self) -> None:
        """Ask for a reload without a change, as SIGHUP does."""
        self._poked = True

    def also(self, path: Path) -> None:
        """Watch one file more."""
        if path not in self._paths:
            self._paths.append(path)
            self._seen = self._stamp()

    def changed(self) -> bool:
        """Say whether anything changed since the last time."""
        before, self._seen = self._seen, self._stamp()
        poked, self._poked = self._poked, False
        return poked or before != self._seen

    def _stamp(self) -> Stamp:
        return tuple(_stamp(path) for path in self._paths)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 (all three numbers at once)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
