"""A tiny configuration of every method, on the same planted videos; and what changes them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from haan import __version__
from haan.activitynet import write_predictions
from haan.config import Config
from haan.data.table import Annotations, IntArray, truth
from haan.detectors.masks import MaskDetect
from haan.methods.names import CONFIGS, HAAN
from haan.methods.refineloc.config import Refine, RefineConfig
from haan.metrics import Detections
from tests.planted import tiny_config, tiny_table

# What is too slow, or learns too little in a few epochs, at a method's own sizes.
_SMALLER = {"model": {"width": 16, "levels": 2, "blocks": 1, "heads": 2}}
SMALLER: dict[str, dict[str, dict[str, Any]]] = {
    "actionformer": _SMALLER,
    "student": _SMALLER,
    "bmn": {"model": {"width": 16}, "bmn": {"points": 16, "samples": 4}, "optim": {"batch_videos": 2}},
    "ssn": {"model": {"width": 32}, "ssn": {"actionness_width": 16}, "optim": {"batch_videos": 2}},
}


def tiny_of(method: str, root: Path) -> Config:
    """HAAN's at tiny sizes; of another method its own defaults for a few epochs.

    A student's teacher stands beside the data, where `write_teacher` puts it.
    """
    like = tiny_config(root)
    if method == HAAN:
        return like
    made = CONFIGS[method](data=like.data, eval=like.eval, device="cpu", threads=1)  # type: ignore[call-arg]
    changes = dict(SMALLER.get(method, {}))
    if method == "student":
        changes["student"] = {"teacher": str(teacher_of(root))}
    made = replace(made, optim=replace(made.optim, lr=3e-3, epochs=like.optim.epochs, warmup_epochs=0))
    made = replace(made, **{name: replace(getattr(made, name), **values) for name, values in changes.items()})
    return tiny_refineloc(made) if isinstance(made, RefineConfig) else made


def tiny_refineloc(config: RefineConfig) -> RefineConfig:
    """Steps enough to learn something before it begins anew, and thresholds that a part of the clips is above."""
    refine = Refine(epochs_per_iteration=2, class_threshold=0.3, attention_threshold=0.4, dilation=0, padding=1)
    detect = MaskDetect(class_threshold=0.2, attention_threshold=0.3, top_classes=4)
    return replace(config, refine=refine, detect=detect, optim=replace(config.optim, lr=0.01, batch_videos=2))


def teacher_of(root: Path) -> Path:
    """Where a student is told that its teacher is."""
    return root.with_name("teacher.json")


def write_teacher(root: Path, planted: Path) -> None:
    """A teacher who is nearly always right, as if HAAN's; planted: where the same videos are, or are planted."""
    table, _ = tiny_table(tiny_config(planted))
    annotations, rng = table.annotations, np.random.default_rng(0)
    true = truth(annotations, np.arange(annotations.num_train))
    end_s = true.end_s + rng.uniform(0, 0.1, len(true))
    found = Detections(true.video, true.label, true.start_s, end_s, rng.uniform(size=len(true)))
    names = annotations.names[: annotations.num_train]
    write_predictions(teacher_of(root), names, annotations.fine_names, found, f"haan {__version__}")


def without_segments(annotations: Annotations, videos: IntArray) -> Annotations:
    """The same, but these videos have a segment less, or none."""
    counts = np.diff(annotations.segment_offsets)
    owner = np.repeat(np.arange(len(counts)), counts)
    kept = ~np.isin(owner, videos)
    counts[videos] = 0
    return replace(
        annotations,
        segment_offsets=np.concatenate([[0], np.cumsum(counts)]),
        segments=annotations.segments[kept],
        segment_fine=annotations.segment_fine[kept],
    )
