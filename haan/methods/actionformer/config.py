"""ActionFormer's own sections of a configuration; defaults are those of its released code for THUMOS14."""

from dataclasses import dataclass, field
from typing import Literal

from haan.checked import (
    AT_LEAST_ONE,
    NON_NEGATIVE,
    PART,
    POSITIVE,
    PROBABILITY,
    Checked,
    Rule,
    redefault,
    section,
    setting,
)
from haan.config import CODE, METHOD, OURS, Config, Optim
from haan.detectors.proposals import Proposals

_LEVELS = Rule("must be >= 1 and <= 12", lambda v: 1 <= v <= 12)  # the last one's points are 2048 clips apart then
_POINTS = f"{OURS}; {CODE}: 192 on FineAction"


@dataclass(frozen=True, kw_only=True)
class Model(Checked):
    """A pyramid of transformer blocks, each level with half the points of the one before."""

    width: int = setting(512, AT_LEAST_ONE, what="width of all layers", source=CODE)
    levels: int = setting(6, _LEVELS, what="each with half the points", source=CODE)
    blocks: int = setting(2, AT_LEAST_ONE, what="transformer blocks of the first level", source=CODE)
    heads: int = setting(4, AT_LEAST_ONE, what="of an attention", source=CODE)
    window: int | None = setting(19, AT_LEAST_ONE, what="points attended to; `null`: all", source=CODE)
    dropout: float = setting(0.2, PROBABILITY, what="share of a video's feature dimensions", source=CODE)
    drop_path: float = setting(0.1, PROBABILITY, what="how often a branch is left out", source=CODE)
    points: int | None = setting(None, AT_LEAST_ONE, what="`null`: its clips; else rescaled", source=_POINTS)


@dataclass(frozen=True, kw_only=True)
class Actionformer(Checked):
    """Which points are to find a segment, and what they learn."""

    radius: float = setting(1.5, POSITIVE, what="from a segment's centre, in steps of the level", source=CODE)
    first_range: float = setting(4.0, POSITIVE, what="first level's farthest end, in clips", source=CODE)
    segment_weight: float = setting(1.0, NON_NEGATIVE, what="weight of the loss of segments' ends", source=CODE)
    focal_alpha: float = setting(0.25, PART, what="weight of a class that is there", source=CODE)
    focal_gamma: float = setting(2.0, NON_NEGATIVE, what="0: cross entropy", source=CODE)


@dataclass(frozen=True, kw_only=True)
class ActionformerOptim(Optim):
    """AdamW as released: a warm-up, a cosine, and the weights' mean is what is scored."""

    lr: float = redefault(Optim, "lr", 1e-4, CODE)
    batch_videos: int = redefault(Optim, "batch_videos", 2, CODE, what="videos a step; over the segments in them")
    epochs: int = redefault(Optim, "epochs", 35, CODE)
    kind: Literal["adam", "adamw", "sgd"] = redefault(Optim, "kind", "adamw", CODE)
    weight_decay: float = redefault(Optim, "weight_decay", 0.05, CODE)
    clip_norm: float | None = redefault(Optim, "clip_norm", 1.0, CODE)
    schedule: Literal["constant", "cosine", "linear"] = redefault(Optim, "schedule", "cosine", CODE)
    warmup_epochs: int = redefault(Optim, "warmup_epochs", 5, CODE)
    ema_epochs: float = redefault(Optim, "ema_epochs", 10.0, CODE)


@dataclass(frozen=True, kw_only=True)
class ActionformerDetect(Proposals):
    """Each point's segment, with each class, to detections."""

    nms: Literal["hard", "half_soft", "soft"] = redefault(Proposals, "nms", "soft", CODE)
    least_score: float = redefault(Proposals, "least_score", 0.001, CODE)


@dataclass(frozen=True, kw_only=True)
class ActionformerConfig(Config):
    """ActionFormer's configuration, complete."""

    supervision = "full"
    implementation = "haan.methods.actionformer.method:ActionformerMethod"
    sizes = ("model.width", "model.levels", "model.blocks", "model.heads", "model.points", "optim.batch_videos")

    method: Literal["actionformer"] = setting("actionformer", what=METHOD, source=OURS)
    model: Model = section(Model)
    actionformer: Actionformer = section(Actionformer)
    optim: ActionformerOptim = field(default_factory=ActionformerOptim)
    detect: ActionformerDetect = field(default_factory=ActionformerDetect)
