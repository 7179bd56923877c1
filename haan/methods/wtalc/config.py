"""W-TALC's own sections of a configuration; defaults are those of its released code for THUMOS14."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from haan.checked import (
    NON_NEGATIVE,
    PART_OR_ALL,
    PROBABILITY,
    SHARE,
    Checked,
    RuleError,
    redefault,
    section,
    setting,
)
from haan.config import CODE, METHOD, OURS, Config, Optim
from haan.detectors.runs import RunsDetect


@dataclass(frozen=True, kw_only=True)
class WtalcModel(Checked):
    """One hidden layer as wide as the features, and the classifier."""

    dropout: float = setting(0.7, PROBABILITY, what="dropout behind the hidden layer", source=CODE)


@dataclass(frozen=True, kw_only=True)
class Wtalc(Checked):
    """The two losses, and the pairs of a batch that share a class."""

    balance: float = setting(0.5, PART_OR_ALL, what="weight of the MIL loss; the other's is the rest", source=CODE)
    pool_share: float = setting(0.125, SHARE, what="share of clips that a class's score is of", source=CODE)
    margin: float = setting(0.5, NON_NEGATIVE, what="of the co-activity loss's hinges", source=CODE)
    pairs: int = setting(3, NON_NEGATIVE, what="pairs of videos of one class in a batch", source=CODE)


@dataclass(frozen=True, kw_only=True)
class WtalcOptim(Optim):
    """Adam as W-TALC has it: weight decay is a part of the gradients."""

    lr: float = redefault(Optim, "lr", 1e-4, CODE)
    batch_videos: int = redefault(Optim, "batch_videos", 10, CODE, what="videos a step; a mean over them")
    weight_decay: float = redefault(Optim, "weight_decay", 5e-4, CODE)


@dataclass(frozen=True, kw_only=True)
class WtalcDetect(RunsDetect):
    """Runs of clips above a threshold between a class's least and largest score."""

    alpha: float = redefault(RunsDetect, "alpha", 0.5, CODE)
    top_clips: float = redefault(RunsDetect, "top_clips", 0.125, CODE)
    class_score_weight: float = redefault(RunsDetect, "class_score_weight", 0.7, CODE)
    threshold_from: Literal["mean", "min"] = redefault(RunsDetect, "threshold_from", "min", CODE)
    min_clips: int = redefault(RunsDetect, "min_clips", 2, CODE)


@dataclass(frozen=True, kw_only=True)
class WtalcConfig(Config):
    """W-TALC's configuration, complete."""

    implementation = "haan.methods.wtalc.method:WtalcMethod"
    sizes = ("wtalc.pairs", "optim.batch_videos")
    scarce: ClassVar[Mapping[str, Callable[..., Any]]] = {"wtalc.pairs": max}

    method: Literal["wtalc"] = setting("wtalc", what=METHOD, source=OURS)
    model: WtalcModel = section(WtalcModel)
    wtalc: Wtalc = section(Wtalc)
    optim: WtalcOptim = field(default_factory=WtalcOptim)
    detect: WtalcDetect = field(default_factory=WtalcDetect)

    def __post_init__(self) -> None:
        super().__post_init__()
        if 2 * self.wtalc.pairs > self.optim.batch_videos:
            rule = f"must be >= {2 * self.wtalc.pairs}, for wtalc.pairs ({self.wtalc.pairs}) are of a batch"
            raise RuleError("optim.batch_videos", rule, self.optim.batch_videos)
