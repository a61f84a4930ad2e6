"""Find files that hold what another one holds too: copies, packed ones, and earlier states."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from suffice.logs.files import BROKEN, CHUNK_BYTES, packing_of, unpacked

_HEAD_BYTES = 4096


class _State(Struct, frozen=True):
    """A file up to a size: its digest, and whether a line ends right there or right after."""

    digest: bytes
    ended: bool
    ends: bool


def find_copies(paths: Sequence[Path]) -> dict[Path, str]:
    """Map each file whose whole content another one has, too, to the words that say so.

    An earlier state of a log that grew since is the beginning of it, up to the end of a line. A
    file that cannot be read to its end is no copy.
    """
    groups: dict[bytes, list[Path]] = defaultdict(list)
    for path in paths:
        if head := _head(path):
            groups[head].append(path)
    copies: dict[Path, str] = {}
    for group in groups.values():
        if len(group) > 1:
            copies |= _copies_of(group)
    return copies


def _copies_of(group: Sequence[Path]) -> dict[Path, str]:
    """Compare files that begin alike: the first of equal ones, and the longest state, is kept."""
    sizes = {path: size for path in group if (size := _unpacked_bytes(path)) is not None}
    states = {path: _states(path, sorted(set(sizes.values()))) for path in sizes}
    copies: dict[Path, str] = {}
    for number, (path, size) in enumerate(sizes.items()):
        whole = states[path][size]
        for at, (other, longer) in enumerate(sizes.items()):
            state = states[other].get(size)
            if other == path or other in copies or state is None or state.digest != whole.digest:
                continue
            if longer == size and at < number:
                copies[path] = f"the same file as {other}"
                break
            if longer > size and (whole.ended or state.ends):
                copies[path] = f"the beginning of {other}"
                break
    return copies


def _unpacked_bytes(path: Path) -> int | None:
    """Return how long a file's content is; None where it cannot be read to its end."""
    if packing_of(path) == "none":
        return path.stat().st_size
    try:
        with unpacked(path, packing_of(path)) as content:
            return sum(len(chunk) for chunk in iter(lambda: content.read(CHUNK_BYTES), b""))
    except BROKEN:
        return None


def _states(path: Path, sizes: Sequence[int]) -> dict[int, _State]:
    """Return the states of a file at these sizes, as far as it is that long."""
    hashed, done, last = hashlib.sha256(), 0, b""
    states: dict[int, _State] = {}
    with unpacked(path, packing_of(path)) as content:
        for size in sizes:
            while done < size and (chunk := content.read(min(CHUNK_BYTES, size - done))):
                hashed.update(chunk)
                done, last = done + len(chunk), chunk[-1:]
            if done < size:
                break
            following = content.read(1)
            states[size] = _State(hashed.digest(), last == b"\n", following == b"\n")
            hashed.update(following)
            done, last = done + len(following), following or last
    return states


def _head(path: Path) -> bytes:
    try:
        with unpacked(path, packing_of(path)) as content:
            return content.read(_HEAD_BYTES)
    except BROKEN:
        return b""
