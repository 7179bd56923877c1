"""BMN's own sections of a configuration; defaults are those of its released code for ActivityNet."""

from dataclasses import dataclass, field
from typing import Literal

from haan.checked import (
    AT_LEAST_ONE,
    NON_NEGATIVE,
    PROBABILITY,
    SHARE,
    Checked,
    Rule,
    RuleError,
    redefault,
    section,
    setting,
)
from haan.config import CODE, METHOD, OURS, Config, Optim
from haan.detectors.proposals import Proposals

_AT_LEAST_TWO = Rule("must be >= 2", lambda v: v >= 2)
_MOST = 1 << 31  # numbers of the table of samples, 8 GiB: it grows with the third power of the points


@dataclass(frozen=True, kw_only=True)
class Model(Checked):
    """Convolutions over time and over the map of segments, and the classifier's hidden layer."""

    width: int = setting(256, _AT_LEAST_TWO, what="over time; twice it in segments, half in the map", source=CODE)
    dropout: float = setting(0.5, PROBABILITY, what="dropout behind the classifier's hidden layer", source=OURS)


@dataclass(frozen=True, kw_only=True)
class Bmn(Checked):
    """The map of all segments between points of a video, and what tells their classes."""

    points: int = setting(100, _AT_LEAST_TWO, what="points that a video is resampled to", source=CODE)
    samples: int = setting(32, AT_LEAST_ONE, what="samples of a segment and what is around it", source=CODE)
    positive: float = setting(0.9, SHARE, what="tIoU above which a segment is an action", source=CODE)
    regression: float = setting(10.0, NON_NEGATIVE, what="weight of the loss of tIoUs", source=CODE)
    classes: Literal["video", "segment"] = setting("segment", what="whose mean logits give the class", source=OURS)
    pool_share: float = setting(0.125, SHARE, what="`video`: share of points for a class", source=OURS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples * self.points**2 * (self.points + 1) // 2 > _MOST:
            rule = f"must have bmn.samples ({self.samples}) x points^2 x (points + 1) / 2 numbers in 8 GiB at most"
            raise RuleError("points", rule, self.points)


@dataclass(frozen=True, kw_only=True)
class BmnOptim(Optim):
    """Adam as released, but for its schedule: it takes a tenth of the learning rate in the last two epochs."""

    lr: float = redefault(Optim, "lr", 1e-3, CODE)
    batch_videos: int = redefault(Optim, "batch_videos", 16, CODE, what="videos a step; a mean over them")
    epochs: int = redefault(Optim, "epochs", 9, CODE)
    weight_decay: float = redefault(Optim, "weight_decay", 1e-4, CODE)
    schedule: Literal["constant", "cosine", "linear"] = redefault(Optim, "schedule", "cosine", OURS)


@dataclass(frozen=True, kw_only=True)
class BmnDetect(Proposals):
    """Segments of the map to detections: suppression among all of a video, then the classes of what is left."""

    edge_power: float = setting(1.0, NON_NEGATIVE, what="of its ends' probabilities in a score; 0: none", source=CODE)
    top_classes: int = setting(2, AT_LEAST_ONE, what="detections of a segment, one a class", source=OURS)
    nms: Literal["hard", "half_soft", "soft"] = redefault(Proposals, "nms", "soft", CODE)
    nms_sigma: float = redefault(Proposals, "nms_sigma", 0.4, CODE)
    nms_above: float = setting(0.5, NON_NEGATIVE, what="`soft`: scores fall above this tIoU", source=CODE)
    nms_above_width: float = setting(
        0.4, NON_NEGATIVE, what="added to it, times the better one's length (0 to 1)", source=CODE
    )
    most_proposals: int = redefault(Proposals, "most_proposals", 500, OURS)
    most_detections: int = redefault(Proposals, "most_detections", 100, CODE, what="segments kept, the best ones")


@dataclass(frozen=True, kw_only=True)
class BmnConfig(Config):
    """BMN's configuration, complete."""

    supervision = "full"
    implementation = "haan.methods.bmn.method:BmnMethod"
    sizes = ("model.width", "bmn.points", "bmn.samples", "optim.batch_videos")

    method: Literal["bmn"] = setting("bmn", what=METHOD, source=OURS)
    model: Model = section(Model)
    bmn: Bmn = section(Bmn)
    optim: BmnOptim = field(default_factory=BmnOptim)
    detect: BmnDetect = field(default_factory=BmnDetect)
