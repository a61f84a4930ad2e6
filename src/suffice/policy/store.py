"""A policy as one file of plain numbers and names (MessagePack): nothing in it is ever executed."""

import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from suffice.errors import InputError
from suffice.files import write_file
from suffice.policy.path import Policy

VERSION = 5  # 5: rungs whose answers are checked; 4: a threshold a rung, groups by text
_KINDS = frozenset({"<f8", "<f4", "<i4"})


class _PolicyVersion(Struct, frozen=True, kw_only=True):
    version: int


class _PolicyFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: int
    policy: Policy


def policy_bytes(policy: Policy) -> bytes:
    """Return a policy in the form in which it is stored."""
    return msgspec.msgpack.encode(_PolicyFile(version=VERSION, policy=policy), enc_hook=_encode)


def policy_hash(policy: Policy) -> str:
    """Return the SHA-256 of a policy's stored form, its point on the path included."""
    return hashlib.sha256(policy_bytes(policy)).hexdigest()


def save_policy(path: str | os.PathLike[str], policy: Policy) -> None:
    """Write a policy to one file; raises `InputError` when the disk refuses."""
    write_file(Path(path), policy_bytes(policy))


def load_policy(path: str | os.PathLike[str]) -> Policy:
    """Read a policy back, to identical decisions; raises `InputError` for anything else."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", hint="check the path") from error
    return decode_policy(content, where=path)


def decode_policy(content: bytes, *, where: str | os.PathLike[str]) -> Policy:
    """Read a policy from its stored form; raises `InputError`, which names `where`, for others."""
    try:
        version = msgspec.msgpack.decode(content, type=_PolicyVersion).version
        if version != VERSION:
            raise InputError(
                f"{where} holds a policy of format {version}, this is format {VERSION}",
                hint="fit and certify again; the old file is left as it is",
            )
        stored = msgspec.msgpack.decode(content, type=_PolicyFile, dec_hook=_decode)
    except (msgspec.DecodeError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{where} is not a policy: {error}", hint="fit and certify again"
        ) from error
    return stored.policy


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        little = value.astype(value.dtype.newbyteorder("<"), order="C", copy=False)
        return {"kind": little.dtype.str, "shape": value.shape, "data": little.tobytes()}
    raise NotImplementedError(f"no stored form for {type(value)}")


def _decode(wanted: type, value: Any) -> Any:  # noqa: ARG001
    if value["kind"] not in _KINDS:
        raise ValueError(f"unexpected kind of array {value['kind']!r}")
    return np.frombuffer(value["data"], value["kind"]).reshape(value["shape"])
