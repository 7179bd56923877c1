"""A tiny configuration of every method, on the same planted videos."""

from dataclasses import replace
from pathlib import Path

from haan.config import Config
from haan.detectors.masks import MaskDetect
from haan.methods.names import CONFIGS, HAAN
from haan.methods.refineloc.config import Refine, RefineConfig
from tests.planted import tiny_config


def tiny_of(method: str, root: Path) -> Config:
    """HAAN's at tiny sizes; of another method its own defaults for a few epochs."""
    like = tiny_config(root)
    if method == HAAN:
        return like
    made = CONFIGS[method](data=like.data, eval=like.eval, device="cpu", threads=1)  # type: ignore[call-arg]
    made = replace(made, optim=replace(made.optim, lr=3e-3, epochs=like.optim.epochs))
    return tiny_refineloc(made) if isinstance(made, RefineConfig) else made


def tiny_refineloc(config: RefineConfig) -> RefineConfig:
    """Steps enough to learn something before it begins anew, and thresholds that a part of the clips is above."""
    refine = Refine(epochs_per_iteration=2, class_threshold=0.3, attention_threshold=0.4, dilation=0, padding=1)
    detect = MaskDetect(class_threshold=0.2, attention_threshold=0.3, top_classes=4)
    return replace(config, refine=refine, detect=detect, optim=replace(config.optim, lr=0.01, batch_videos=2))
