"""Reads `.npy` files without trusting them: an object array is a pickle, and a pickle can run anything.

Only the globals that NumPy's own arrays need are admitted; any other is refused by name before it is imported.
"""

import math
import pickle
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


_ADMITTED: dict[str, Callable[..., Any]] = {
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "_codecs.encode": _encode,
}
# Found by what NumPy itself writes, for the modules that hold them are private.
_RECONSTRUCT = np.zeros(1, dtype=object).__reduce__()[0]
_SCALAR = np.float64(0).__reduce__()[0]
_FROMBUFFER = np.zeros(2).__reduce_ex__(5)[0]
for _core in ("numpy.core", "numpy._core"):
    _ADMITTED[f"{_core}.multiarray._reconstruct"] = _RECONSTRUCT  # type: ignore[assignment]  # a function
    _ADMITTED[f"{_core}.multiarray.scalar"] = _SCALAR  # type: ignore[assignment]  # a function
    _ADMITTED[f"{_core}.numeric._frombuffer"] = _FROMBUFFER  # type: ignore[assignment]  # a function


class _ForeignGlobal(pickle.UnpicklingError):
    """The pickle names a global that is not admitted."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        name = f"{module_name}.{global_name}"
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
    read_header(path, key)
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: {key}: must be a whole regular .npy array, got {error}") from None


def read_array(path: Path, key: str) -> NDArray[Any]:
    """A regular array. Raises InputError."""
    return np.array(map_array(path, key))


def read_objects(path: Path, key: str) -> list[Any]:
    """The items of an object array, or the rows of a regular one. Raises InputError."""
    shape, dtype = read_header(path, key)
    if not dtype.hasobject:
        return list(read_array(path, key))
    if dtype != np.dtype(object) or len(shape) != 1:
        raise InputError(f"{path}: {key}: must hold one object a video, got shape {shape} of {dtype}")
    with _opened(path, key) as file:
        _header(file, path, key)
        try:
            # Everything a hostile pickle can still do with these globals is to fail, or to ask for memory.
            found = _Unpickler(file, encoding="latin1").load()
        except _ForeignGlobal as error:
            rule = "must need no pickled global but NumPy's own"
            raise InputError(f"{path}: {key}: {rule}, got {error}") from None
        except Exception as error:  # whatever garbage bytes make of the unpickler is bad input
            raise InputError(
                f"{path}: {key}: must be a whole object array, got {type(error).__name__}: {error}"
            ) from None
    if not isinstance(found, np.ndarray) or found.shape != shape:
        raise InputError(f"{path}: {key}: must hold an array of shape {shape}, got {type(found).__name__}")
    return list(found)


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
