"""D2-Net's own sections of a configuration; defaults are those of its released code for THUMOS14."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from haan.checked import (
    AT_LEAST_ONE,
    NON_NEGATIVE,
    PART_OR_ALL,
    PROBABILITY,
    SHARE,
    Checked,
    redefault,
    section,
    setting,
)
from haan.config import CODE, METHOD, OURS, Config, Optim
from haan.detectors.grid import SidedGrid


@dataclass(frozen=True, kw_only=True)
class Model(Checked):
    """Two convolutions over time, as wide as the features, and the classifier; the streams never mix."""

    dropout: float = setting(0.7, PROBABILITY, what="dropout before the classifier", source=CODE)
    streams: Literal[1, 2] = setting(2, what="equal parts of a clip, a classifier each", source=f"{CODE}: 2")


@dataclass(frozen=True, kw_only=True)
class D2(Checked):
    """The discriminative loss, and the denoising ones, which come later."""

    pool_share: float = setting(1 / 8, SHARE, what="share of clips that a class's probability is of", source=CODE)
    foreground: float = setting(0.5, PART_OR_ALL, what="a clip is foreground from this probability", source=CODE)
    background: float = setting(0.5, PART_OR_ALL, what="background from this one of no class", source=CODE)
    grouping: float = setting(
        0.01, NON_NEGATIVE, what="weight of likeness of foregrounds, and of backgrounds", source=CODE
    )
    clip_weight: float = setting(0.1, NON_NEGATIVE, what="weight of the denoising of clips", source=CODE)
    video_weight: float = setting(0.1, NON_NEGATIVE, what="weight of the denoising of videos", source=CODE)
    start_epoch: int = setting(4, AT_LEAST_ONE, what="the first with denoising", source=f"{OURS}; {CODE}: step 1001")


@dataclass(frozen=True, kw_only=True)
class D2NetOptim(Optim):
    """Adam as released: weight decay is a part of the gradients."""

    lr: float = redefault(Optim, "lr", 1e-4, CODE)
    batch_videos: int = redefault(Optim, "batch_videos", 20, CODE, what="videos a step; a mean over them")
    weight_decay: float = redefault(Optim, "weight_decay", 5e-4, CODE)


@dataclass(frozen=True, kw_only=True)
class D2NetDetect(SidedGrid):
    """Probabilities of classes, less where clips look like background, to detections."""

    top_clips: float = setting(1 / 8, SHARE, what="share of clips for a class's probability", source=CODE)
    class_threshold: float = redefault(SidedGrid, "class_threshold", 0.5, CODE, what="of the most probable class's")
    class_score_weight: float = redefault(SidedGrid, "class_score_weight", 0.0, CODE)
    thresholds: tuple[float, ...] = redefault(
        SidedGrid, "thresholds", tuple(round(0.025 * i, 10) for i in range(1, 20)), CODE
    )
    upsampling: int = redefault(SidedGrid, "upsampling", 1, CODE)
    min_positions: int = redefault(SidedGrid, "min_positions", 2, CODE)
    nms_tiou: float = redefault(SidedGrid, "nms_tiou", 0.3, CODE)


@dataclass(frozen=True, kw_only=True)
class D2NetConfig(Config):
    """D2-Net's configuration, complete."""

    implementation = "haan.methods.d2net.method:D2NetMethod"
    sizes = ("model.streams", "optim.batch_videos")
    scarce: ClassVar[Mapping[str, Callable[..., Any]]] = {"model.streams": max}

    method: Literal["d2net"] = setting("d2net", what=METHOD, source=OURS)
    model: Model = section(Model)
    d2: D2 = section(D2)
    optim: D2NetOptim = field(default_factory=D2NetOptim)
    detect: D2NetDetect = field(default_factory=D2NetDetect)
