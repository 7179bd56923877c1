"""A tiny configuration of every method, on the same planted videos."""

from dataclasses import replace
from pathlib import Path

from haan.config import Config
from haan.methods.bmn.config import BmnConfig
from haan.methods.names import CONFIGS, HAAN
from tests.planted import tiny_config


def tiny_of(method: str, root: Path) -> Config:
    """HAAN's at tiny sizes; of another method its own defaults for a few epochs."""
    like = tiny_config(root)
    if method == HAAN:
        return like
    made = CONFIGS[method](data=like.data, eval=like.eval, device="cpu", threads=1)  # type: ignore[call-arg]
    made = replace(made, optim=replace(made.optim, lr=3e-3, epochs=like.optim.epochs))
    if isinstance(made, BmnConfig):
        small = replace(made, model=replace(made.model, width=16), bmn=replace(made.bmn, points=16, samples=4))
        return replace(small, optim=replace(made.optim, batch_videos=2))
    return made
