"""What a bundle's folder holds, by hashes, and who vouches for it by an Ed25519 signature.

A bundle whose files do not fit its manifest is half copied, or was changed. The signature covers
the manifest, and so all files.
"""

import base64
import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from msgspec import Struct

from suffice.errors import CertificateError, InputError

MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
_OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_MAKE_KEY = "openssl genpkey -algorithm ed25519 -out sign.pem"


class Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The SHA-256 of each file, by its name."""

    files: dict[str, str]


def manifest_files(files: Mapping[str, bytes], *, sign: Path | None) -> dict[str, bytes]:
    """Return the manifest of files and, with a private key, its signature, to be written last.

    Raises InputError for a key that cannot be used.
    """
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    manifest = msgspec.json.encode(Manifest(files=hashes), order="sorted") + b"\n"
    if sign is None:
        return {MANIFEST: manifest}
    signature = base64.b64encode(_private_key(sign).sign(manifest)) + b"\n"
    return {SIGNATURE: signature, MANIFEST: manifest}


def check_manifest(folder: Path, files: Mapping[str, bytes], *, trust: Sequence[Path]) -> None:
    """Check files against the manifest, and the manifest against public keys where any are given.

    Raises CertificateError where something does not fit.
    """
    data = (folder / MANIFEST).read_bytes()
    expected = msgspec.json.decode(data, type=Manifest).files
    for name, contents in files.items():
        if hashlib.sha256(contents).hexdigest() != expected.get(name):
            raise CertificateError(
                f"{folder / name} is not the file that {MANIFEST} speaks of",
                hint="copy the folder as a whole, and rename it into place",
                retryable=True,
            )
    if trust:
        _check_signature(folder, data, trust=trust)


def _check_signature(folder: Path, manifest: bytes, *, trust: Sequence[Path]) -> None:
    try:
        signature = base64.b64decode((folder / SIGNATURE).read_bytes(), validate=False)
    except FileNotFoundError:
        raise CertificateError(
            f"the certificate in {folder} is not signed", hint="certify with --sign KEY"
        ) from None
    except ValueError as error:
        raise CertificateError(f"{folder / SIGNATURE} is damaged", hint="sign again") from error
    for path in trust:
        try:
            _public_key(path).verify(signature, manifest)
        except InvalidSignature:
            continue
        return
    raise CertificateError(
        f"nobody who is trusted has signed the certificate in {folder}",
        hint="sign it with a key whose public half is given by --trust",
    )


def _private_key(path: Path) -> Ed25519PrivateKey:
    data = _read(path)
    if stat.S_IMODE(os.stat(path).st_mode) & _OPEN_TO_OTHERS:  # noqa: PTH116
        raise InputError(f"{path} is open to other users", hint=f"chmod 600 {path}")
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is no private key: {error}", hint=_MAKE_KEY) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{path} is no Ed25519 key", hint=_MAKE_KEY)
    return key


def _public_key(path: Path) -> Ed25519PublicKey:
    hint = "openssl pkey -in sign.pem -pubout -out trust.pem"
    try:
        key = load_pem_public_key(_read(path))
    except ValueError as error:
        raise InputError(f"{path} is no public key: {error}", hint=hint) from error
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"{path} is no Ed25519 key", hint=hint)
    return key


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", hint=_MAKE_KEY) from error
