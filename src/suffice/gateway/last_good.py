"""The last settings that worked, kept beside the workers while the files on disk may be bad.

A worker that dies is started again by its parent, whatever the files hold by then: a bad file must
not turn one dead worker into a dead gateway. The copies lie in the folder that the workers share.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from suffice.certify.bundle import FILES
from suffice.config import Config
from suffice.gateway.serving import Settings

_FOLDER, _LADDER, _KEYS, _POLICY = "last-good", "suffice.toml", "keys.json", "certificate"


def keep_settings(settings: Settings, config: Config) -> None:
    """Copy the files that a worker has just taken over."""
    copies = {_LADDER: settings.ladder}
    if settings.policy is not None:
        copies |= {f"{_POLICY}/{name}": settings.policy / name for name in FILES}
    _copy(copies, settings)
    keep_keys(settings, config)


def keep_keys(settings: Settings, config: Config) -> None:
    """Copy the key file alone: it is taken over while the other files may be bad."""
    if config.gateway.keys is not None:
        _copy({_KEYS: Path(config.gateway.keys)}, settings)


def _copy(files: Mapping[str, Path], settings: Settings) -> None:
    if settings.shared is None:
        return
    folder = settings.shared / _FOLDER
    (folder / _POLICY).mkdir(parents=True, exist_ok=True)
    for name, file in files.items():
        if file.is_file():
            copy = folder / name
            draft = copy.with_name(f".{copy.name}")
            shutil.copy(file, draft)
            draft.replace(copy)


def last_settings(settings: Settings) -> Settings | None:
    """Return settings that name the copies; None where there are none."""
    if settings.shared is None or not (settings.shared / _FOLDER / _LADDER).is_file():
        return None
    folder = settings.shared / _FOLDER
    policy = None if settings.policy is None else folder / _POLICY
    return replace(settings, ladder=folder / _LADDER, policy=policy)


def with_last_keys(config: Config, settings: Settings) -> Config:
    """Name the copy of the key file in place of the file itself, where there is one."""
    if settings.shared is None or not (settings.shared / _FOLDER / _KEYS).is_file():
        return config
    keys = str(settings.shared / _FOLDER / _KEYS)
    return replace(config, gateway=replace(config.gateway, keys=keys))
