"""ASL's own sections of a configuration, and its detector's settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from haan.checked import AT_LEAST_ONE, PART_OR_ALL, SHARE, Checked, redefault, section, setting
from haan.config import CODE, METHOD, OURS, Config, Optim
from haan.detectors.grid import Grid

_CLIPS = f"{OURS}; {CODE}: 750"


@dataclass(frozen=True, kw_only=True)
class Model(Checked):
    """The classifier and the heads of actionness."""

    width: int = setting(512, AT_LEAST_ONE, what="width of all hidden layers", source=CODE)
    streams: Literal[1, 2] = setting(2, what="equal parts of a clip, an actionness each", source=f"{CODE}: 2")


@dataclass(frozen=True, kw_only=True)
class Asl(Checked):
    """Which clips are selected, and what actionness learns of them."""

    pool_share: float = setting(1 / 8, SHARE, what="share of clips that is selected for a class", source=CODE)
    class_share: float = setting(1 / 3, PART_OR_ALL, what="a class's part of evidence", source=CODE)
    q: float = setting(0.7, SHARE, what="of GCE: to 0 cross entropy, 1 absolute error", source=CODE)
    clips: int | None = setting(None, AT_LEAST_ONE, what="clips that a video is resampled to", source=_CLIPS)


@dataclass(frozen=True, kw_only=True)
class AslOptim(Optim):
    """Adam as released: weight decay is a part of the gradients."""

    lr: float = redefault(Optim, "lr", 1e-4, CODE)
    batch_videos: int = redefault(Optim, "batch_videos", 16, CODE, what="videos a step; a mean over them")
    epochs: int = redefault(Optim, "epochs", 100, CODE)
    weight_decay: float = redefault(Optim, "weight_decay", 5e-4, CODE)


@dataclass(frozen=True, kw_only=True)
class AslDetect(Grid):
    """Sequences of evidence to detections."""

    top_clips: float = setting(1 / 8, SHARE, what="share of clips for a class's probability", source=CODE)
    class_share: float = setting(1 / 3, PART_OR_ALL, what="a class's part of evidence", source=CODE)
    clips: int | None = setting(None, AT_LEAST_ONE, what="clips that a video is resampled to", source=_CLIPS)
    nms: Literal["hard", "half_soft", "soft"] = redefault(Grid, "nms", "half_soft", CODE)
    nms_tiou: float = redefault(Grid, "nms_tiou", 0.4, CODE)
    nms_sigma: float = redefault(Grid, "nms_sigma", 0.35, CODE)


@dataclass(frozen=True, kw_only=True)
class AslConfig(Config):
    """ASL's configuration, complete."""

    implementation = "haan.methods.asl.method:AslMethod"
    sizes = ("model.width", "model.streams", "asl.clips", "optim.batch_videos")
    scarce: ClassVar[Mapping[str, Callable[..., Any]]] = {"model.streams": max}

    method: Literal["asl"] = setting("asl", what=METHOD, source=OURS)
    model: Model = section(Model)
    asl: Asl = section(Asl)
    optim: AslOptim = field(default_factory=AslOptim)
    detect: AslDetect = field(default_factory=AslDetect)
