"""RefineLoc's own sections of a configuration; defaults are those of its released code for THUMOS14."""

from dataclasses import dataclass, field
from typing import Literal

from haan.checked import AT_LEAST_ONE, NON_NEGATIVE, PROBABILITY, Checked, RuleError, added, redefault, section, setting
from haan.config import CODE, METHOD, OURS, Config, Optim
from haan.detectors.masks import MaskDetect


@dataclass(frozen=True, kw_only=True)
class Model(Checked):
    """Two stacks of linear layers, each half as wide as the one before: of the classes, and of attention."""

    layers: int = setting(2, AT_LEAST_ONE, what="linear layers of either stack", source=CODE)
    attention_outputs: Literal[1, 2] = setting(1, what="2: of background and foreground", source=CODE)


@dataclass(frozen=True, kw_only=True)
class Refine(MaskDetect):
    """Iterations: the detections of one in its own training videos, at these settings, are what the next one learns."""

    epochs_per_iteration: int = setting(
        10,
        AT_LEAST_ONE,
        what="epochs to new labels; pruners wait",
        source=f"{OURS}; {CODE}: 100, of 7 steps each",
    )
    reset: bool = setting(True, what="network and optimiser begin anew with them", source=CODE)
    pseudo_weight: float = setting(2.0, NON_NEGATIVE, what="weight of the loss of pseudo labels", source=CODE)
    weighted: bool = setting(True, what="its classes weigh by the background's share", source=CODE)
    pseudo_dropout: float = setting(0.3, PROBABILITY, what="share of a video's clips without one", source=CODE)
    class_threshold: float = redefault(MaskDetect, "class_threshold", 0.1, CODE)
    attention_threshold: float = redefault(MaskDetect, "attention_threshold", 0.92, CODE)


@dataclass(frozen=True, kw_only=True)
class RefineOptim(Optim):
    """Adam; where iterations begin anew, a schedule does, too."""

    lr: float = redefault(Optim, "lr", 1e-3, CODE)
    batch_videos: int = redefault(Optim, "batch_videos", 32, CODE, what="videos a step; a mean over them")
    schedule_epochs: int | None = added(None, AT_LEAST_ONE, what="its length without `reset`", source=OURS)


@dataclass(frozen=True, kw_only=True)
class RefineConfig(Config):
    """RefineLoc's configuration, complete."""

    implementation = "haan.methods.refineloc.method:RefineMethod"
    sizes = ("model.layers", "model.attention_outputs", "optim.batch_videos")

    method: Literal["refineloc"] = setting("refineloc", what=METHOD, source=OURS)
    model: Model = section(Model)
    refine: Refine = section(Refine)
    optim: RefineOptim = field(default_factory=RefineOptim)
    detect: MaskDetect = field(default_factory=MaskDetect)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.refine.reset and self.optim.warmup_epochs >= self.refine.epochs_per_iteration:
            rule = f"must be < refine.epochs_per_iteration ({self.refine.epochs_per_iteration}), where that begins anew"
            raise RuleError("optim.warmup_epochs", rule, self.optim.warmup_epochs)

    @property
    def period(self) -> int:
        return self.refine.epochs_per_iteration

    @property
    def restarts(self) -> bool:
        return self.refine.reset
