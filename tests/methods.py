"""A tiny configuration of every method, on the same planted videos."""

from dataclasses import replace
from pathlib import Path

from haan.config import Config
from haan.methods.names import CONFIGS, HAAN
from tests.planted import tiny_config


def tiny_of(method: str, root: Path) -> Config:
    """HAAN's at tiny sizes; of another method its own defaults for a few epochs."""
    like = tiny_config(root)
    if method == HAAN:
        return like
    made = CONFIGS[method](data=like.data, eval=like.eval, device="cpu", threads=1)  # type: ignore[call-arg]
    return replace(made, optim=replace(made.optim, lr=3e-3, epochs=like.optim.epochs))
