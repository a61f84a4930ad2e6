"""The file of API keys: who may call, how often, and for how much; never the keys themselves."""

import fcntl
import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from suffice.errors import ConfigError, InputError, writing

PREFIX = "sk-suffice-"
_SECRET_BYTES = 32
_OPEN_TO_OTHERS = stat.S_IWGRP | stat.S_IXGRP | stat.S_IRWXO

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Hex = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class Key(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One API key by its `name`, which is also the `key_id` of the books; None sets no limit."""

    name: Name
    digest: Hex
    created: datetime
    revoked: datetime | None = None
    budget_usd_per_day: Decimal | None = None
    requests_per_minute: Annotated[int, Meta(gt=0)] | None = None


class KeyFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the file holds; `salt` keeps one table of digests from serving against several files."""

    salt: Hex
    keys: tuple[Key, ...] = ()


class KeyLimits(Struct, frozen=True, kw_only=True):
    """What a key may use; None sets no limit."""

    budget_usd_per_day: Decimal | None = None
    requests_per_minute: int | None = None


class KeyRing:
    """The keys in force, found by what a client presents in a few microseconds."""

    def __init__(self, file: KeyFile) -> None:
        self._salt = bytes.fromhex(file.salt)
        valid = [key for key in file.keys if key.revoked is None]
        self._by_digest = {bytes.fromhex(key.digest): key for key in valid}
        self.names = frozenset(key.name for key in valid)

    def find(self, presented: str | None) -> Key | None:
        """Return the key that was presented, or None for none, a wrong or a revoked one.

        Time tells nothing: which digest a guess has cannot be steered without the salt, and the
        last comparison takes equally long for all.
        """
        if presented is None:
            return None
        digest = _digest(presented, salt=self._salt)
        key = self._by_digest.get(digest)
        if key is None or not hmac.compare_digest(bytes.fromhex(key.digest), digest):
            return None
        return key


def read_keys(path: str | os.PathLike[str]) -> KeyFile:
    """Read a key file; raises ConfigError if it is damaged or open to other users."""
    at = Path(path)
    try:
        with at.open("rb") as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            text = stream.read()
    except OSError as error:
        raise ConfigError(
            f"cannot read {at}: {error.strerror}", hint="make one with: suffice key add NAME"
        ) from error
    if mode & _OPEN_TO_OTHERS:
        raise ConfigError(f"{at} is open to other users", hint=f"chmod 600 {at}")
    try:
        file = msgspec.json.decode(text, type=KeyFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{at}: {error}", hint="restore it, or start another one") from error
    _check(file, at=at)
    return file


def add_key(path: str | os.PathLike[str], name: str, *, limits: KeyLimits) -> str:
    """Make a key, keep its digest, and return it: it cannot be shown again.

    The first key makes the file. Raises InputError for a name that is taken or odd, and for a
    limit that is not above 0.
    """
    secret = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)

    def add(file: KeyFile) -> KeyFile:
        if any(key.name == name for key in file.keys):
            raise InputError(
                f"there is, or was, a key {name!r}", hint="give each its own name, for the books"
            )
        key = Key(
            name=name,
            digest=_digest(secret, salt=bytes.fromhex(file.salt)).hex(),
            created=datetime.now(UTC),
            budget_usd_per_day=limits.budget_usd_per_day,
            requests_per_minute=limits.requests_per_minute,
        )
        return replace(file, keys=(*file.keys, key))

    _change(Path(path), add)
    return secret


def revoke_key(path: str | os.PathLike[str], name: str) -> None:
    """End a key for good, keeping its name for the books; raises InputError for no such key."""

    def revoke(file: KeyFile) -> KeyFile:
        if not any(key.name == name and key.revoked is None for key in file.keys):
            raise InputError(f"there is no key {name!r} in force", hint="suffice key list")
        now = datetime.now(UTC)
        keys = (replace(key, revoked=now) if key.name == name else key for key in file.keys)
        return replace(file, keys=tuple(keys))

    _change(Path(path), revoke)


def _digest(key: str, *, salt: bytes) -> bytes:
    """Hash a key: one round of SHA-256 is enough, and scrypt would cost each request its time.

    Slow hashes make guessing a person's password dear. A key of 256 random bits cannot be guessed
    at any price, so all that is asked here is that the digest does not give it away.
    """
    return hmac.digest(salt, key.encode("utf-8", "replace"), hashlib.sha256)


def _change(path: Path, change: Callable[[KeyFile], KeyFile]) -> None:
    """Replace the file as a whole, so that a crash or another writer never leaves half of one."""
    with _alone_in(path.absolute().parent):
        before = read_keys(path) if path.exists() else KeyFile(salt=secrets.token_hex(32))
        after = change(before)
        _check(after, at=path)
        draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        with writing(path), _removed_if_it_fails(draft):
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as to:
                to.write(msgspec.json.format(msgspec.json.encode(after), indent=2) + b"\n")
                to.flush()
                os.fsync(to.fileno())
            draft.replace(path)


@contextmanager
def _removed_if_it_fails(draft: Path) -> Iterator[None]:
    try:
        yield
    except OSError:
        draft.unlink(missing_ok=True)
        raise


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder, so that two commands at once do not lose a key."""
    try:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise InputError(f"cannot open {folder}: {error.strerror}", hint="make it first") from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _check(file: KeyFile, *, at: Path) -> None:
    """Refuse what the file's types cannot: odd names made by hand, amounts, names twice."""
    try:
        msgspec.convert(msgspec.to_builtins(file), KeyFile)
    except msgspec.ValidationError as error:
        raise InputError(
            f"{at}: {error}", hint="names are letters, digits, `.`, `_`, `-`; limits are above 0"
        ) from error
    names = [key.name for key in file.keys]
    for key in file.keys:
        budget = key.budget_usd_per_day
        if budget is not None and not (budget.is_finite() and budget > 0):
            raise InputError(f"{at}: {key.name}: {budget} is not a budget", hint="write it as 2.50")
        if names.count(key.name) > 1:
            raise InputError(f"{at}: two keys are named {key.name!r}", hint="rename one of them")
