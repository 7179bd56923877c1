"""Memory given back to the machine that other processes share."""

import ctypes
import mmap
import sys
from typing import Any

import numpy as np
import torch
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


def trim_gpu() -> None:
    """Gives back what PyTorch keeps of a GPU's memory for later: the next training's is of other sizes."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def cap_gpu(part: float) -> None:
    """Keeps PyTorch in this process to a part of a GPU's memory, where several share it; without a GPU nothing."""
    if 0 < part < 1 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(part)
