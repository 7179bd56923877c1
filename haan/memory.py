"""Memory given back to the machine that other processes share."""

import ctypes
import mmap
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray


def drop_pages(array: NDArray[Any]) -> None:
    """Takes what was read of a mapped file out of this process's memory; the system goes on to keep it."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, mmap.mmap):
        owner.madvise(mmap.MADV_DONTNEED)


def trim() -> None:
    """Gives back what was freed: glibc keeps pieces of a matrix's size for later, more or fewer by chance."""
    if sys.platform == "linux":
        malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if malloc_trim is not None:
            malloc_trim(0)
