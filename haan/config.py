"""What one training run needs to know: frozen dataclasses that check themselves.

Here is what all methods share; haan/methods/NAME/config.py adds the sections of one. Defaults are those of HAAN's
released code for FineAction. A key whose source names the paper beside the code holds one point where the two part, so
that either can be chosen. haan.keys makes a table of all keys.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from haan.checked import (
    AT_LEAST_ONE,
    NON_NEGATIVE,
    NOT_EMPTY,
    PART,
    POSITIVE,
    PROBABILITY,
    SEED,
    TIOU,
    Checked,
    Rule,
    RuleError,
    added,
    required,
    setting,
)

CODE, OURS = "code", "ours"  # sources beside the paper: its authors' released code, and this project
METHOD = "what is trained, with its own sections"
Precision = Literal["auto", "float32", "tf32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Holdout(Checked):
    """A part of the training videos that is kept for validation."""

    holdout: float = required(PART, what="share of the training videos that validates", source=OURS)
    seed: int = setting(0, SEED, what="which videos these are", source=OURS)
    classes: Literal["train", "both"] = added("train", what="which side has a video of every class", source=OURS)


@dataclass(frozen=True, kw_only=True)
class Plant(Checked):
    """Planted features to write at `data.root` when nothing is there (see haan.data.plant)."""

    train_videos: int = setting(120, AT_LEAST_ONE, what="training videos", source=OURS)
    validation_videos: int = setting(40, AT_LEAST_ONE, what="validation videos", source=OURS)
    dim: int = setting(64, Rule("must be >= 8", lambda v: v >= 8), what="size of a feature", source=OURS)
    fine_classes: int = setting(12, Rule("must be >= 2", lambda v: v >= 2), what="fine classes", source=OURS)
    coarse_classes: int = setting(3, AT_LEAST_ONE, what="coarse classes, <= `fine_classes`", source=OURS)
    noise: float = setting(0.7, NON_NEGATIVE, what="noise of a clip; an atom is 1", source=OURS)
    seed: int = setting(0, SEED, what="the same seed plants the same bytes", source=OURS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.coarse_classes > self.fine_classes:
            rule = f"must be <= fine_classes ({self.fine_classes})"
            raise RuleError("coarse_classes", rule, self.coarse_classes)


@dataclass(frozen=True, kw_only=True)
class Data(Checked):
    """Where the clips are and which videos train."""

    root: str = required(NOT_EMPTY, path=True, what="folder of the data set", source=OURS)
    features: str = required(NOT_EMPTY, path=True, what="clips: a file or folder in `root`", source=OURS)
    train_videos: int | None = setting(
        None, AT_LEAST_ONE, what="`haan` needs it: so many first rows train", source=CODE
    )
    format: Literal["haan", "activitynet"] = setting("haan", what="layout: the authors', ActivityNet's", source=CODE)
    annotations: str | None = setting(
        None, NOT_EMPTY, path=True, what="`activitynet` needs it: ground truth", source=OURS
    )
    hierarchy: str | None = setting(
        None, NOT_EMPTY, path=True, what="`activitynet` needs it: coarse classes", source=OURS
    )
    validation: Holdout | Literal["official"] = setting(
        "official", what="validation videos, or part of training's", source=OURS
    )
    dtype: Literal["float16", "float32"] = setting("float16", what="how clips are kept in memory", source=OURS)
    plant: Plant | None = setting(None, what="planted features where no `root` is", source=OURS)
    skip: str | None = added(None, NOT_EMPTY, what="what to leave out: a list, or `missing`", source=OURS)

    def __post_init__(self) -> None:
        super().__post_init__()
        needed = {"haan": ("train_videos",), "activitynet": ("annotations", "hierarchy")}[self.format]
        for key in ("train_videos", "annotations", "hierarchy"):
            value = getattr(self, key)
            if (value is not None) != (key in needed):
                verb = "is required" if value is None else "must not be given"
                raise RuleError(key, f"{verb} with format {self.format}", value)
        if self.plant is not None and self.format != "haan":
            raise RuleError("plant", "must be null unless the format is haan, which is what is planted", "a mapping")


@dataclass(frozen=True, kw_only=True)
class Optim(Checked):
    """How weights are moved, and how long."""

    lr: float = setting(3e-5, POSITIVE, what="learning rate, the highest of a schedule", source="Sec. 4.2")
    batch_videos: int = setting(2, AT_LEAST_ONE, what="videos a step; their losses are added", source=CODE)
    epochs: int = setting(50, AT_LEAST_ONE, what="how often over the training videos", source=CODE)
    kind: Literal["adam", "adamw", "sgd"] = added("adam", what="optimiser", source="Sec. 4.2")
    momentum: float = added(0.9, PROBABILITY, what="of `sgd`", source=OURS)
    weight_decay: float = added(0.0, NON_NEGATIVE, what="`adamw`: decoupled; else L2", source=OURS)
    clip_norm: float | None = added(None, POSITIVE, what="longest that all gradients may be", source=OURS)
    schedule: Literal["constant", "cosine", "linear"] = added("constant", what="of `lr`, falling to 0", source=OURS)
    warmup_epochs: int = added(0, NON_NEGATIVE, what="`lr` rises so long from 0, step by step", source=OURS)
    schedule_epochs: int | None = added(None, AT_LEAST_ONE, what="its length; `null`: all", source=OURS)
    ema_epochs: float = added(0.0, NON_NEGATIVE, what="scored: weights' mean over so many; 0: the last", source=OURS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedule_epochs is not None and self.schedule_epochs < self.epochs:
            raise RuleError("schedule_epochs", f"must be >= optim.epochs ({self.epochs})", self.schedule_epochs)
        key = "epochs" if self.schedule_epochs is None else "schedule_epochs"
        if self.warmup_epochs >= getattr(self, key):
            raise RuleError("warmup_epochs", f"must be < optim.{key} ({getattr(self, key)})", self.warmup_epochs)

    @property
    def varies(self) -> bool:
        """Whether the learning rate does, from step to step."""
        return self.schedule != "constant" or self.warmup_epochs > 0


@dataclass(frozen=True, kw_only=True)
class Detect(Checked):
    """Settings of a detector, which makes detections of what a method says of clips; they need no training."""


@dataclass(frozen=True, kw_only=True)
class Eval(Checked):
    """What scores an epoch, and which epoch counts.

    With the last one, which alone is scored, the validation videos choose nothing.
    """

    tiou: tuple[float, ...] = setting(
        tuple(round(0.5 + 0.05 * i, 10) for i in range(10)), TIOU, what="averaged into avg.mAP", source="Sec. 4.1"
    )
    report: tuple[float, ...] = setting(
        (0.5, 0.75, 0.95), TIOU, what="shown one by one, among `tiou`", source="Sec. 4.1"
    )
    epoch: Literal["best", "last"] = setting("best", what="whose weights count; `last` alone is scored", source=CODE)
    every: int = added(1, AT_LEAST_ONE, what="score one epoch in so many, and the last", source=OURS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not set(self.report) <= set(self.tiou):
            raise RuleError("report", "must be among eval.tiou", list(self.report))


_TOLD = {"weak": "video-level labels", "full": "segments"}


@dataclass(frozen=True, kw_only=True)
class Config(Checked):
    """What the configurations of all methods share; each method's own has its sections behind `data`.

    supervision: what the method is told of the training videos: labels alone, or segments as well. implementation: its
    `haan.methods.base.Method`, imported where it is wanted, for it brings PyTorch. sizes: dotted keys that the sizes of
    its files and of a step depend on. scarce: keys by which training videos can be too few, the highest or the lowest
    value of each asking for most.
    """

    supervision: ClassVar[Literal["weak", "full"]] = "weak"
    implementation: ClassVar[str]
    sizes: ClassVar[tuple[str, ...]] = ()
    scarce: ClassVar[Mapping[str, Callable[..., Any]]] = {}

    method: str = added("haan", what=METHOD, source=OURS)
    data: Data
    optim: Optim = field(default_factory=Optim)
    detect: Detect
    eval: Eval = field(default_factory=Eval)
    seed: int = setting(1, SEED, what="of weights, order, dropout and clustering", source=OURS)
    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", what="where it trains; `auto`: on CUDA, if there", source=OURS
    )
    precision: Precision = setting("auto", what="rounding of matrix products", source=OURS)
    threads: int | None = setting(None, AT_LEAST_ONE, what="CPU threads; rounding depends on them", source=OURS)

    @property
    def in_words(self) -> str:
        """The method, and what it is told of the training videos."""
        return f"{self.method}, {self.supervision} supervision: {_TOLD[self.supervision]}"

    @property
    def period(self) -> int:
        """In epochs, from one `renew` of the method to the next."""
        return 1

    @property
    def restarts(self) -> bool:
        """Whether network and optimiser begin anew after each `renew` but the first."""
        return False
