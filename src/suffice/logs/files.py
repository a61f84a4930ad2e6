"""The files behind what a user names: folders, globs, gzip and zstd, and the start of each."""

import glob  # Path.glob takes no absolute pattern
import gzip
import io
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Literal

from msgspec import Struct

from suffice.errors import InputError

HEAD_BYTES = 1 << 20
CHUNK_BYTES = 1 << 22
ENDINGS = (".jsonl", ".json", ".ndjson", ".csv", ".log", ".txt", ".parquet", ".pb", ".binpb")
_DATABASES = (".db", ".sqlite")
_PACKED = (".gz", ".zst")
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"

Packing = Literal["none", "gzip", "zstd"]
_PIECE_BYTES = 1 << 16
BROKEN = (EOFError, OSError, zlib.error)  # of a packed file that is cut off or damaged


class LogFile(Struct, frozen=True, kw_only=True):
    """One file: how it is packed, and the first bytes of what is in it."""

    path: Path
    packing: Packing
    head: bytes
    size: int


def find_files(names: Iterable[str]) -> list[Path]:
    """Return the files behind names, globs and folders, each once; raises InputError for none.

    Of a folder, with all below it, the files with the endings of logs are taken.
    """
    paths: dict[Path, Path] = {}
    for name in names:
        path = Path(name).expanduser()
        matches = [path] if path.exists() else _glob(path)
        if not matches:
            raise InputError(f"{name}: no such file", hint="name a file, a folder or a glob")
        for match in matches:
            files = sorted(_logs_below(match)) if match.is_dir() else [match]
            if match.is_dir() and not files:
                raise InputError(
                    f"{match} holds no log", hint=f"logs end in {', '.join(ENDINGS)}, .gz or .zst"
                )
            paths.update({Path(os.path.realpath(file)): file for file in files})
    return list(paths.values())


def _glob(path: Path) -> list[Path]:
    return sorted(map(Path, glob.glob(str(path), recursive=True)))  # noqa: PTH207


def _logs_below(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        name = path.name.lower()
        for packed in _PACKED:
            name = name.removesuffix(packed)
        if name.endswith((*ENDINGS, *_DATABASES)) and path.is_file():
            yield path


def open_log(path: Path) -> LogFile:
    """Look at the start of a file; raises InputError for one that cannot be read."""
    try:
        packing = packing_of(path)
        with unpacked(path, packing) as content:
            head = _read_some(content)
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror or error}", hint="check the path"
        ) from error
    return LogFile(path=path, packing=packing, head=head, size=path.stat().st_size)


def packing_of(path: Path) -> Packing:
    """Tell from its first bytes how a file is packed; raises OSError where it cannot be read."""
    with path.open("rb") as file:
        magic = file.read(4)
    if magic[:2] == _GZIP:
        return "gzip"
    return "zstd" if magic == _ZSTD else "none"


def unpacked(path: Path, packing: Packing) -> IO[bytes]:
    """Open what is in a file; reading raises one of BROKEN where it is cut off or damaged."""
    if packing == "gzip":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    if packing == "zstd":
        return io.BufferedReader(_ZstdContent(path))
    return path.open("rb")


class _ZstdContent(io.RawIOBase):
    """What is in a zstd file; a damaged one raises OSError, as one of gzip does.

    It reads in small pieces, for the library gives nothing of a piece with damage in it.
    """

    def __init__(self, path: Path) -> None:
        import zstandard

        self._damage = zstandard.ZstdError
        self._frames = zstandard.ZstdDecompressor().stream_reader(
            path.open("rb"), read_across_frames=True, closefd=True
        )

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            return int(self._frames.readinto(memoryview(buffer)[:_PIECE_BYTES]))
        except self._damage as error:
            raise OSError(str(error)) from error

    def close(self) -> None:
        self._frames.close()  # type: ignore[no-untyped-call]
        super().close()


def salvage(log: LogFile, target: Path) -> bool:
    """Copy the whole lines of a file that may be cut off; returns whether it was whole."""
    whole = True
    with unpacked(log.path, log.packing) as content, target.open("wb") as out:
        while True:
            try:
                chunk = content.read1(CHUNK_BYTES)  # type: ignore[attr-defined]
            except BROKEN:
                whole = False
                break
            if not chunk:
                break
            out.write(chunk)
    return whole


def _read_some(content: IO[bytes]) -> bytes:
    """Read the first bytes; a file that is cut off gives what there is."""
    parts: list[bytes] = []
    size = 0
    while size < HEAD_BYTES:
        try:
            part = content.read1(min(1 << 16, HEAD_BYTES - size))  # type: ignore[attr-defined]
        except BROKEN:
            break
        if not part:
            break
        parts.append(part)
        size += len(part)
    return b"".join(parts)
