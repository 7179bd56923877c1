"""SSN's own sections of a configuration; defaults are those of its released code for THUMOS14, on clips."""

from dataclasses import dataclass, field
from typing import Literal

from haan.checked import (
    AT_LEAST_ONE,
    NON_NEGATIVE,
    PART_OR_ALL,
    PROBABILITY,
    Checked,
    redefault,
    section,
    setting,
)
from haan.config import CODE, METHOD, OURS, Config, Optim
from haan.detectors.proposals import Proposals


@dataclass(frozen=True, kw_only=True)
class Model(Checked):
    """A hidden layer of clips, in whose stead the released network has its last ones, and linear classifiers."""

    width: int = setting(512, AT_LEAST_ONE, what="width of the hidden layer", source=OURS)
    dropout: float = setting(0.8, PROBABILITY, what="of a proposal's features; of actionness", source=CODE)


@dataclass(frozen=True, kw_only=True)
class Ssn(Checked):
    """Where proposals come from, and what is learnt of them."""

    proposals: Literal["watershed", "windows", "both"] = setting(
        "watershed", what="of actionness; of fixed lengths", source=CODE
    )
    most_proposals: int = setting(100, AT_LEAST_ONE, what="of the watershed, a video's best", source=OURS)
    smoothing: float = setting(
        1.0, NON_NEGATIVE, what="actionness by a Gaussian, in clips", source=f"{OURS}; {CODE}: 3"
    )
    folds: int = setting(2, AT_LEAST_ONE, what="actionness of a video is learnt of others; 1: of all", source=OURS)
    actionness_width: int = setting(128, AT_LEAST_ONE, what="hidden layer of a fold's actionness", source=OURS)
    draws: int = setting(10, AT_LEAST_ONE, what="times 1 action, 6 incomplete ones, 1 background", source=CODE)
    incomplete_overlap: float = setting(0.01, PART_OR_ALL, what="action's part of incomplete ones", source=CODE)
    completeness: float = setting(0.1, NON_NEGATIVE, what="weight of the loss of completeness", source=CODE)
    regression: float = setting(0.1, NON_NEGATIVE, what="weight of the loss of ends", source=CODE)


@dataclass(frozen=True, kw_only=True)
class SsnOptim(Optim):
    """Adam, on features; the released network is trained by SGD."""

    lr: float = redefault(Optim, "lr", 1e-3, OURS)
    batch_videos: int = redefault(Optim, "batch_videos", 16, CODE, what="videos a step; a mean over them")
    epochs: int = redefault(Optim, "epochs", 45, CODE)
    weight_decay: float = redefault(Optim, "weight_decay", 5e-4, CODE)
    schedule: Literal["constant", "cosine", "linear"] = redefault(Optim, "schedule", "cosine", OURS)


@dataclass(frozen=True, kw_only=True)
class SsnDetect(Proposals):
    """Proposals, each with its best classes, to detections; suppression is of what regression hasn't moved yet."""

    background_power: float = setting(
        0.0, NON_NEGATIVE, what="of being no background, in a score; 0: none", source=CODE
    )
    nms_tiou: float = redefault(Proposals, "nms_tiou", 0.2, CODE)


@dataclass(frozen=True, kw_only=True)
class SsnConfig(Config):
    """SSN's configuration, complete."""

    supervision = "full"
    implementation = "haan.methods.ssn.method:SsnMethod"
    sizes = (
        "model.width",
        "ssn.most_proposals",
        "ssn.folds",
        "ssn.actionness_width",
        "ssn.draws",
        "optim.batch_videos",
    )

    method: Literal["ssn"] = setting("ssn", what=METHOD, source=OURS)
    model: Model = section(Model)
    ssn: Ssn = section(Ssn)
    optim: SsnOptim = field(default_factory=SsnOptim)
    detect: SsnDetect = field(default_factory=SsnDetect)
