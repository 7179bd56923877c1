"""Reads `.npy` files without trusting them: an object array is a pickle, and a pickle can run anything.

Only the globals that NumPy's own arrays need are admitted; any other is refused by name before it is imported.
"""

import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from haan.errors import InputError, MissingDataError


def _encode(text: object, encoding: object) -> bytes:
    """`_codecs.encode` as NumPy's pickles use it, for bytes written by Python 2's protocol, and nothing more."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError(f"_codecs.encode must take text and 'latin1', got {encoding!r}")
    return text.encode("latin1")


class _Dtype:
    """A pickled dtype: plain numbers, text, bytes or objects. Its state is NumPy's to read only after it is checked."""

    def __init__(self, text: object, align: object = False, copy: object = False):
        if not isinstance(text, str) or not _PLAIN_DTYPE.fullmatch(text):
            raise pickle.UnpicklingError(f"a dtype must be a plain one, got {text!r:.80}")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: Any) -> None:
        _, order, base, names, fields = state[:5]
        if order not in ("<", ">", "=", "|") or (base, names, fields) != (None, None, None):
            raise pickle.UnpicklingError(f"a dtype must be a plain one, got {state!r:.80}")
        self.dtype = self.dtype.newbyteorder("=" if order == "|" else order)


class _Array(np.ndarray):
    """A pickled array whose state is checked, for NumPy believes it: a wrong length reads memory past the file's."""

    def __setstate__(self, state: Any, /) -> None:
        _, shape, dtype, fortran, payload = state
        kind = _checked_dtype(dtype)
        count = _count(shape)
        if self.shape != (0,) or not isinstance(payload, list if kind.hasobject else bytes | str):
            raise pickle.UnpicklingError(f"an array must be filled once, by a list or bytes, got {type(payload)}")
        if len(payload) != count * (1 if kind.hasobject else kind.itemsize):
            raise pickle.UnpicklingError(f"an array of shape {shape} and {kind} must be filled, got {len(payload)}")
        # NumPy's stubs know neither bool nor the text of Python 2's pickles.
        super().__setstate__((1, shape, kind, bool(fortran), payload))  # type: ignore[arg-type]


# Stands for `numpy.ndarray`, which pickles only ever hand to `_reconstruct`: calling it would give any memory.
_NDARRAY: Any = object()


def _reconstruct(kind: object, shape: object, typecode: object) -> _Array:
    if kind is not _NDARRAY or shape != (0,):
        raise pickle.UnpicklingError(f"an array must begin empty, got {shape!r:.80}")
    return _Array((0,), dtype=np.int8)


def _scalar(dtype: object, payload: object) -> Any:
    kind = _checked_dtype(dtype)
    raw = payload.encode("latin1") if isinstance(payload, str) else payload
    if kind.hasobject or not isinstance(raw, bytes) or len(raw) != kind.itemsize:
        raise pickle.UnpicklingError(f"a scalar of {kind} must be its bytes, got {payload!r:.80}")
    return np.frombuffer(raw, kind, 1)[0]


def _frombuffer(buffer: object, dtype: object, shape: Any, order: object, axis_order: object = None) -> Any:
    kind = _checked_dtype(dtype)
    if kind.hasobject or not isinstance(buffer, bytes | bytearray) or order not in ("C", "F") or axis_order is not None:
        raise pickle.UnpicklingError(f"an array of {kind} must be bytes in order C or F, got {type(buffer)}, {order!r}")
    if len(buffer) != _count(shape) * kind.itemsize:
        raise pickle.UnpicklingError(f"an array of shape {shape} and {kind} must be filled, got {len(buffer)} bytes")
    return np.frombuffer(bytes(buffer), kind).reshape(shape, order=order)  # type: ignore[call-overload]  # C or F


def _checked_dtype(dtype: object) -> np.dtype[Any]:
    if not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError(f"an array must have a dtype, got {type(dtype)}")
    return dtype.dtype


def _count(shape: object) -> int:
    """Number of items of a shape."""
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
        raise pickle.UnpicklingError(f"a shape must be whole numbers >= 0, got {shape!r:.80}")
    return math.prod(shape)


class _Admitted:
    """A function that a pickle may call but not change: BUILD sets attributes of whatever it is given."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]):
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a function must not be given a state")


_PLAIN_DTYPE = re.compile(r"[biufcSUO][0-9]{0,6}")
# Our own functions under NumPy's names. NumPy's trust what they are given: a pickle that calls `numpy.ndarray` with a
# buffer, or changes a dtype below its array, makes bytes of the file into pointers.
_ADMITTED: dict[str, Any] = {
    "numpy.ndarray": _NDARRAY,
    "numpy.dtype": _Admitted(_Dtype),
    "_codecs.encode": _Admitted(_encode),
}


for _core in ("numpy.core", "numpy._core"):
    _ADMITTED[f"{_core}.multiarray._reconstruct"] = _Admitted(_reconstruct)
    _ADMITTED[f"{_core}.multiarray.scalar"] = _Admitted(_scalar)
    _ADMITTED[f"{_core}.numeric._frombuffer"] = _Admitted(_frombuffer)


class _ForeignGlobal(pickle.UnpicklingError):
    """The pickle names a global that is not admitted."""


class _Unpickler(pickle._Unpickler):
    """The one written in Python: the one in C fills a memo up to any index that a pickle names, 64 GiB at the worst."""

    def find_class(self, module: str, name: str) -> Any:
        name = f"{module}.{name}"
        if name not in _ADMITTED:
            raise _ForeignGlobal(name)
        return _ADMITTED[name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("persistent ids are not admitted")


def read_header(path: Path, key: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of a `.npy` file; no data is read. Raises InputError."""
    with _opened(path, key) as file:
        return _header(file, path, key)


def map_array(path: Path, key: str) -> NDArray[Any]:
    """A regular array, mapped from disk and not read. Raises InputError."""
    shape, dtype = read_header(path, key)
    needed, found = math.prod(shape) * dtype.itemsize, path.stat().st_size
    if needed > found:
        got = f"a file of {found} bytes for {needed} bytes of data"
        raise InputError(f"{path}: {key}: must be a whole regular .npy array, got {got}")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # whatever the header's numbers make of the mapping is bad input
        raise InputError(f"{path}: {key}: must be a whole regular .npy array, got {error}") from None


def read_array(path: Path, key: str) -> NDArray[Any]:
    """A regular array. Raises InputError."""
    return np.array(map_array(path, key))


def read_objects(path: Path, key: str) -> list[Any]:
    """The items of an object array, or the rows of a regular one. Raises InputError."""
    shape, dtype = read_header(path, key)
    if not dtype.hasobject:
        array = read_array(path, key)
        try:
            return list(array)
        except SystemError as error:  # text whose bytes are no Unicode
            raise InputError(f"{path}: {key}: must be sound {dtype}, got {error}") from None
    if dtype != np.dtype(object) or len(shape) != 1:
        raise InputError(f"{path}: {key}: must hold one object a video, got shape {shape} of {dtype}")
    with _opened(path, key) as file:
        _header(file, path, key)
        try:
            found = _Unpickler(file, encoding="latin1").load()
        except _ForeignGlobal as error:
            rule = "must need no pickled global but NumPy's own"
            raise InputError(f"{path}: {key}: {rule}, got {error}") from None
        except Exception as error:  # whatever garbage bytes make of the unpickler is bad input
            raise InputError(
                f"{path}: {key}: must be a whole object array, got {type(error).__name__}: {error}"
            ) from None
    found = _plain(found)
    if not isinstance(found, np.ndarray) or found.shape != shape:
        raise InputError(f"{path}: {key}: must hold an array of shape {shape}, got {type(found).__name__}")
    return [_plain(item) for item in found]


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, _Array) else value


def _opened(path: Path, key: str) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise MissingDataError(f"{path}: {key}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: {key}: must be readable, got {error}") from None


def _header(file: BinaryIO, path: Path, key: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    try:
        version = npy_format.read_magic(file)
        read = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
        shape, _, dtype = read[version](file)
    except Exception as error:  # NumPy evaluates the header's text, which may hold anything
        raise InputError(f"{path}: {key}: must be a .npy file, got {type(error).__name__}: {error}") from None
    if any(size < 0 for size in shape) or math.prod(shape) > 2**48:
        raise InputError(f"{path}: {key}: must have a sensible shape, got {shape}")
    return shape, dtype
