"""What one training run needs to know: frozen dataclasses that check themselves.

Defaults are those of the released code for FineAction. A key whose source names the paper beside the code holds one
point where the two part, so that either can be chosen. haan.keys makes a table of all keys.
"""

from dataclasses import dataclass, field
from typing import Literal

from haan.checked import (
    AT_LEAST_ONE,
    NON_NEGATIVE,
    NOT_EMPTY,
    PART,
    POSITIVE,
    PROBABILITY,
    SEED,
    SHARE,
    TIOU,
    Checked,
    Rule,
    RuleError,
    added,
    required,
    setting,
)

CODE, OURS = "code", "ours"  # sources beside the paper: its authors' released code, and this project
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
class Model(Checked):
    """The encoder and the heads."""

    width: int = setting(1024, AT_LEAST_ONE, what="width of all hidden layers", source=CODE)
    dropout: float = setting(0.3, PROBABILITY, what="dropout behind all hidden layers", source=CODE)
    classifier_layers: Literal[1, 2] = setting(2, what="layers of S", source=f"{CODE}; paper: 1")


@dataclass(frozen=True, kw_only=True)
class Concepts(Checked):
    """Clustering of clips into visual concepts, and their choice per class."""

    clusters: int = setting(500, AT_LEAST_ONE, what="N, clusters of all clips", source="Sec. 4.2")
    top_k: int = setting(5, AT_LEAST_ONE, what="k, concepts of a class, <= `clusters`", source="Eq. 6")
    method: Literal["kmeans", "gmm", "birch"] = setting("kmeans", what="how clips are clustered", source="Table 3")
    distance: Literal["cosine", "euclidean"] = setting("cosine", what="D of Eq. 5 and 7", source="Table 4")
    refresh_epochs: int = setting(5, AT_LEAST_ONE, what="epochs to the next clustering", source=f"{CODE}; paper: 1")
    sample_rate: float = setting(0.03, SHARE, what="share of clips that it is fitted on", source=f"{CODE}; paper: 1")
    warm_start: bool = setting(False, what="k-means goes on from its last centroids", source=OURS)
    fit_limit_s: float = setting(1800.0, POSITIVE, what="longest fit of a `gmm` or `birch`, in seconds", source=OURS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warm_start and self.method != "kmeans":
            rule = f"must be false where concepts.method is {self.method}, for only kmeans goes on from centroids"
            raise RuleError("warm_start", rule, self.warm_start)
        if self.top_k > self.clusters:
            raise RuleError("top_k", f"must be <= concepts.clusters ({self.clusters})", self.top_k)


@dataclass(frozen=True, kw_only=True)
class Loss(Checked):
    """Weights (lambda 1 to 4 of Eq. 10) and forms of the four losses."""

    mil: float = setting(1.0, NON_NEGATIVE, what="weight of L_mil, lambda 1", source="Eq. 10")
    pseudo: float = setting(0.001, NON_NEGATIVE, what="weight of L_pseudo, lambda 2", source="Eq. 10")
    concept: float = setting(0.01, NON_NEGATIVE, what="weight of L_concept, lambda 3", source="Eq. 10")
    coarse: float = setting(1.0, NON_NEGATIVE, what="weight of L_coarse, lambda 4", source="Eq. 10")
    coarse_pooling: Literal["max", "mean"] = setting(
        "max", what="C' of Eq. 8, fine to coarse classes", source="Sec. 4.2"
    )
    class_weights: Literal["balanced", "none"] = setting(
        "balanced", what="of classes in Eq. 2 and 9", source=f"{CODE}; paper: none"
    )
    pseudo_weights: Literal["frequency", "none"] = setting(
        "frequency", what="of clusters in Eq. 3", source=f"{CODE}; paper: none"
    )
    pseudo_per_clip: bool = setting(True, what="Eq. 3 over the clips once more", source=f"{CODE}; paper: false")
    concept_reduction: Literal["mean", "sum"] = setting(
        "mean", what="Eq. 7 over a video's classes", source=f"{CODE}; paper: sum"
    )
    detach_prototypes: bool = setting(True, what="no gradient of Eq. 7 to w", source=f"{CODE}; paper: not said")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mil == self.pseudo == self.concept == self.coarse == 0:
            raise RuleError("mil", "must be > 0 when the other three weights are 0", self.mil)


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
    """Class activation sequences to detections (Sec. 3.4)."""

    alpha: float = setting(-0.8, what="places the threshold of clips", source="Eq. 11")
    top_clips: float = setting(0.25, SHARE, what="share of clips that make a class's score", source=CODE)
    class_threshold: float = setting(0.0, what="a class is kept above this score", source=CODE)
    class_score_weight: float = setting(0.5, what="weight of its score in a detection's", source=CODE)


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


@dataclass(frozen=True, kw_only=True)
class Config(Checked):
    """One configuration, complete."""

    data: Data
    model: Model = field(default_factory=Model)
    concepts: Concepts = field(default_factory=Concepts)
    loss: Loss = field(default_factory=Loss)
    optim: Optim = field(default_factory=Optim)
    detect: Detect = field(default_factory=Detect)
    eval: Eval = field(default_factory=Eval)
    seed: int = setting(1, SEED, what="of weights, order, dropout and clustering", source=OURS)
    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", what="where it trains; `auto`: on CUDA, if there", source=OURS
    )
    precision: Precision = setting("auto", what="rounding of matrix products", source=OURS)
    threads: int | None = setting(None, AT_LEAST_ONE, what="CPU threads; rounding depends on them", source=OURS)
