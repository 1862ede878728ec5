"""Models: safetensors bytes to NumPy arrays and back, without a copy on the way in.

Arrays lie in a private mapping of what was received: code may change them in place, and only the pages that it
changes are copied.
"""

from __future__ import annotations

import json
import mmap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    import numpy as np

    Model = dict[str, np.ndarray]

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
           "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1"}
_NAMES = {text: name for name, text in _DTYPES.items()}
HEADER_MAX = 16 << 20


class Noted(dict):
    """A model with notes, which are in its file, too."""

    notes: dict[str, str]


class BadModel(ValueError):
    """Bytes that are no model, or arrays that cannot be one."""


def _array(entry: dict, name: str, data: memoryview) -> np.ndarray:
    import numpy as np

    dtype = _DTYPES.get(entry["dtype"])
    if dtype is None:
        raise BadModel(f"tensor {name}: NumPy has no type {entry['dtype']}")
    begin, end = entry["data_offsets"]
    shape = [int(size) for size in entry["shape"]]
    array: np.ndarray = np.frombuffer(data[begin:end], dtype=dtype)
    if not 0 <= begin <= end <= len(data) or array.size != int(np.prod(shape, dtype=np.int64)):
        raise BadModel(f"tensor {name}: its bytes are not what its shape needs")
    array = array.reshape(shape)
    return array if array.flags.aligned else array.copy()


def read(data: memoryview) -> tuple[Model, dict[str, str]]:
    """The tensors in the order of their bytes, and the notes."""
    try:
        size = int.from_bytes(data[:8], "little")
        if len(data) < 8 or size > HEADER_MAX or size > len(data) - 8:
            raise BadModel("it has no header")
        header = json.loads(bytes(data[8:8 + size]))
        notes = header.pop("__metadata__", {})
        order = sorted(header, key=lambda name: (header[name]["data_offsets"][0], name))
        return {name: _array(header[name], name, data[8 + size:]) for name in order}, notes
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, BadModel):
            raise
        raise BadModel(f"it is no safetensors file: {error}") from error


def map_fd(fd: int, size: int) -> memoryview:
    """A private mapping, which lives as long as its arrays."""
    return memoryview(mmap.mmap(fd, size, access=mmap.ACCESS_COPY))


def open_file(path: str) -> tuple[Model, dict[str, str]]:
    with open(path, "rb", buffering=0) as file:
        return read(map_fd(file.fileno(), 0))


def write(model: Model) -> list:
    """The parts of a safetensors file: a header (with the model's notes, where it has some), and the arrays as they
    lie."""
    import numpy as np

    # As the learner itself writes them: large alignment first, then by name.
    order = sorted(model, key=lambda name: (-model[name].dtype.itemsize, name))
    header: dict[str, Any] = {}
    at, parts = 0, []
    if getattr(model, "notes", None):
        header["__metadata__"] = model.notes  # type: ignore[attr-defined]
    for name in order:
        array = model[name]
        kind = _NAMES.get(array.dtype.newbyteorder("<").str)
        if kind is None:
            raise BadModel(f"tensor {name}: a model cannot have numbers of type {array.dtype}")
        if array.dtype.str[0] == ">":
            array = array.astype(array.dtype.newbyteorder("<"))
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
        parts.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return [len(text).to_bytes(8, "little") + text, *parts]
