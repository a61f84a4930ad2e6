"""The file of API keys: who may call, how often, and for how much; never the keys themselves."""

import fcntl
import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta, Struct, structs
from msgspec.structs import replace

from suffice.errors import ConfigError, InputError, writing

PREFIX = "sk-suffice-"
_SECRET_BYTES = 32
_OPEN_TO_OTHERS = stat.S_IWGRP | stat.S_IXGRP | stat.S_IRWXO

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Hex = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


Scope = Literal["chat", "feedback", "outcomes", "metrics", "dashboard", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
USUAL_SCOPES: tuple[Scope, ...] = ("chat", "feedback")


class FormerDigest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a rotated key was before, and until when that one opens too."""

    digest: Hex
    until: datetime


class Key(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One API key by its `name`, which is also the `key_id` of the books; None sets no limit.

    `scopes` say what it opens, `admin` everything; `models` what may be asked for by it. Its
    requests count for its `team`, and have its `tag` where they name none: one, or a list with
    commas between.
    """

    name: Name
    digest: Hex
    created: datetime
    revoked: datetime | None = None
    expires: datetime | None = None
    former: tuple[FormerDigest, ...] = ()
    scopes: tuple[Scope, ...] = USUAL_SCOPES
    models: tuple[str, ...] | None = None
    team: str | None = None
    tag: str | None = None
    budget_usd_per_day: Decimal | None = None
    requests_per_minute: Annotated[int, Meta(gt=0)] | None = None
    tokens_per_minute: Annotated[int, Meta(gt=0)] | None = None
    parallel_requests: Annotated[int, Meta(gt=0)] | None = None

    @property
    def limited(self) -> bool:
        """Whether there is any limit, so that what the key uses has to be counted."""
        return any(getattr(self, name) is not None for name in KeyLimits.__struct_fields__)

    def opens(self, scope: Scope) -> bool:
        """Whether the key may be used for something."""
        return scope in self.scopes or "admin" in self.scopes

    def may_ask(self, model: str) -> bool:
        """Whether a model's name is among those that the key may ask for."""
        return self.models is None or model in self.models


class KeyFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the file holds; `salt` keeps one table of digests from serving against several files."""

    salt: Hex
    keys: tuple[Key, ...] = ()


class KeyLimits(Struct, frozen=True, kw_only=True):
    """What a key may use; None sets no limit."""

    budget_usd_per_day: Decimal | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    parallel_requests: int | None = None


class KeyRights(Struct, frozen=True, kw_only=True):
    """What a key opens and for how long; None for `models` allows all, for `lasts` is forever.

    `team` and `tag` say whose money it spends.
    """

    scopes: tuple[Scope, ...] = USUAL_SCOPES
    models: tuple[str, ...] | None = None
    team: str | None = None
    tag: str | None = None
    lasts: timedelta | None = None


_USUAL_RIGHTS = KeyRights()


class KeyRing:
    """The keys in force, found by what a client presents in a few microseconds."""

    def __init__(self, file: KeyFile) -> None:
        self._salt = bytes.fromhex(file.salt)
        self.keys = {key.name: key for key in file.keys if key.revoked is None}
        self.names = tuple(dict.fromkeys(key.name for key in file.keys))  # revoked ones, too
        self._by_digest: dict[bytes, tuple[Key, datetime | None]] = {}
        for key in self.keys.values():
            for former in key.former:
                until = former.until if key.expires is None else min(former.until, key.expires)
                self._by_digest[bytes.fromhex(former.digest)] = key, until
            self._by_digest[bytes.fromhex(key.digest)] = key, key.expires

    def find(self, presented: str | None) -> Key | None:
        """Return the key that was presented; None for none, a wrong, revoked or expired one.

        Time tells nothing: which digest a guess has cannot be steered without the salt.
        """
        if presented is None:
            return None
        key, until = self._by_digest.get(_digest(presented, salt=self._salt), (None, None))
        return None if until is not None and datetime.now(UTC) >= until else key


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


def add_key(
    path: str | os.PathLike[str],
    name: str,
    *,
    limits: KeyLimits,
    rights: KeyRights = _USUAL_RIGHTS,
) -> str:
    """Make a key, keep its digest, and return it: it cannot be shown again.

    The first key makes the file. Raises InputError for a name that is taken or odd, for a limit
    that is not above 0, and for an unknown scope.
    """
    secret = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)

    def add(file: KeyFile) -> KeyFile:
        if any(key.name == name for key in file.keys):
            raise InputError(
                f"there is, or was, a key {name!r}", hint="give each its own name, for the books"
            )
        now = datetime.now(UTC)
        key = Key(
            name=name,
            digest=_digest(secret, salt=bytes.fromhex(file.salt)).hex(),
            created=now,
            expires=None if rights.lasts is None else now + rights.lasts,
            scopes=rights.scopes,
            models=rights.models,
            team=rights.team,
            tag=rights.tag,
            **structs.asdict(limits),
        )
        return replace(file, keys=(*file.keys, key))

    _change(Path(path), add)
    return secret


def rotate_key(path: str | os.PathLike[str], name: str, *, overlap: timedelta) -> str:
    """Replace a key and return the new one; the old one opens too until `overlap` is over.

    Limits and what was used belong to the name, and stay. Raises InputError for no such key.
    """
    secret = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)

    def rotate(file: KeyFile) -> KeyFile:
        _check_in_force(file, name)
        now, salt = datetime.now(UTC), bytes.fromhex(file.salt)
        keys = (
            replace(
                key,
                digest=_digest(secret, salt=salt).hex(),
                former=(
                    *(former for former in key.former if former.until > now),
                    FormerDigest(digest=key.digest, until=now + overlap),
                ),
            )
            if key.name == name
            else key
            for key in file.keys
        )
        return replace(file, keys=tuple(keys))

    _change(Path(path), rotate)
    return secret


def revoke_key(path: str | os.PathLike[str], name: str) -> None:
    """End a key for good, keeping its name for the books; raises InputError for no such key."""

    def revoke(file: KeyFile) -> KeyFile:
        _check_in_force(file, name)
        now = datetime.now(UTC)
        keys = (replace(key, revoked=now) if key.name == name else key for key in file.keys)
        return replace(file, keys=tuple(keys))

    _change(Path(path), revoke)


def _check_in_force(file: KeyFile, name: str) -> None:
    if not any(key.name == name and key.revoked is None for key in file.keys):
        raise InputError(f"there is no key {name!r} in force", hint="suffice key list")


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
            f"{at}: {error}",
            hint="names are letters, digits, `.`, `_`, `-`; limits are above 0; scopes are "
            + ", ".join(SCOPES),
        ) from error
    names = [key.name for key in file.keys]
    for key in file.keys:
        budget = key.budget_usd_per_day
        if budget is not None and not (budget.is_finite() and budget > 0):
            raise InputError(f"{at}: {key.name}: {budget} is not a budget", hint="write it as 2.50")
        if names.count(key.name) > 1:
            raise InputError(f"{at}: two keys are named {key.name!r}", hint="rename one of them")
