"""A tiny configuration of every method, on the same planted videos."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from haan.config import Config
from haan.methods.names import CONFIGS, HAAN
from tests.planted import tiny_config

# What is too slow, or learns too little in a few epochs, at a method's own sizes.
SMALLER: dict[str, dict[str, dict[str, Any]]] = {
    "bmn": {"model": {"width": 16}, "bmn": {"points": 16, "samples": 4}, "optim": {"batch_videos": 2}}
}


def tiny_of(method: str, root: Path) -> Config:
    """HAAN's at tiny sizes; of another method its own defaults for a few epochs."""
    like = tiny_config(root)
    if method == HAAN:
        return like
    made = CONFIGS[method](data=like.data, eval=like.eval, device="cpu", threads=1)  # type: ignore[call-arg]
    made = replace(made, optim=replace(made.optim, lr=3e-3, epochs=like.optim.epochs))
    smaller = {name: replace(getattr(made, name), **values) for name, values in SMALLER.get(method, {}).items()}
    return replace(made, **smaller)
