"""WTAL-UM's own sections of a configuration; defaults are those of its released code for THUMOS14."""

from dataclasses import dataclass, field
from typing import Literal

from haan.checked import AT_LEAST_ONE, NON_NEGATIVE, POSITIVE, PROBABILITY, Checked, redefault, section, setting
from haan.config import CODE, METHOD, OURS, Config, Optim
from haan.detectors.grid import ActionnessGrid

_CLIPS = f"{OURS}; {CODE}: 750"
_ACT, _BKG = "of an action: 1 clip in so many", "of the background: 1 clip in so many"


@dataclass(frozen=True, kw_only=True)
class Model(Checked):
    """One convolution over time, and the classifier."""

    width: int = setting(2048, AT_LEAST_ONE, what="width of the hidden layer", source=CODE)
    dropout: float = setting(0.7, PROBABILITY, what="dropout behind it", source=CODE)


@dataclass(frozen=True, kw_only=True)
class Um(Checked):
    """Features that are long where there is action, and short where there is none."""

    alpha: float = setting(5e-4, NON_NEGATIVE, what="weight of the loss of magnitudes", source=CODE)
    beta: float = setting(1.0, NON_NEGATIVE, what="weight of the loss of the background's classes", source=CODE)
    margin: float = setting(100.0, POSITIVE, what="length from which an action's mean feature is long", source=CODE)
    r_act: int = setting(9, AT_LEAST_ONE, what=_ACT, source=CODE)
    r_bkg: int = setting(4, AT_LEAST_ONE, what=_BKG, source=CODE)
    clip_dropout: float = setting(0.7, PROBABILITY, what="share of clips that a step passes over", source=CODE)
    clips: int | None = setting(None, AT_LEAST_ONE, what="clips that a video is resampled to", source=_CLIPS)


@dataclass(frozen=True, kw_only=True)
class UmOptim(Optim):
    """Adam as released: weight decay is a part of the gradients."""

    lr: float = redefault(Optim, "lr", 1e-4, CODE)
    batch_videos: int = redefault(Optim, "batch_videos", 16, CODE, what="videos a step; a mean over them")
    weight_decay: float = redefault(Optim, "weight_decay", 5e-4, CODE)


@dataclass(frozen=True, kw_only=True)
class UmDetect(ActionnessGrid):
    """Sequences of classes, weighed by magnitudes, and magnitudes themselves, to detections."""

    r_act: int = setting(9, AT_LEAST_ONE, what=_ACT, source=CODE)
    r_bkg: int = setting(4, AT_LEAST_ONE, what=_BKG, source=CODE)
    class_threshold: float = redefault(ActionnessGrid, "class_threshold", 0.2, CODE)
    thresholds: tuple[float, ...] = redefault(
        ActionnessGrid, "thresholds", tuple(round(0.025 * i, 10) for i in range(10)), CODE
    )
    min_positions: int = redefault(ActionnessGrid, "min_positions", 2, CODE)
    nms_tiou: float = redefault(ActionnessGrid, "nms_tiou", 0.6, CODE)


@dataclass(frozen=True, kw_only=True)
class UmConfig(Config):
    """WTAL-UM's configuration, complete."""

    implementation = "haan.methods.wtalum.method:UmMethod"
    sizes = ("model.width", "um.clips", "optim.batch_videos")

    method: Literal["wtalum"] = setting("wtalum", what=METHOD, source=OURS)
    model: Model = section(Model)
    um: Um = section(Um)
    optim: UmOptim = field(default_factory=UmOptim)
    detect: UmDetect = field(default_factory=UmDetect)
