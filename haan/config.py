"""What one training run needs to know: frozen dataclasses that check themselves.

Defaults are those of the released code for FineAction; keys marked "paper differs" hold one point where the paper's
text and the released code part, so that either can be chosen.
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

Precision = Literal["auto", "float32", "tf32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Holdout(Checked):
    """A part of the training videos that is kept for validation."""

    holdout: float = required(PART)
    seed: int = setting(0, SEED)


@dataclass(frozen=True, kw_only=True)
class Plant(Checked):
    """Planted features to write at `data.root` when nothing is there (see haan.data.plant)."""

    train_videos: int = setting(120, AT_LEAST_ONE)
    validation_videos: int = setting(40, AT_LEAST_ONE)
    dim: int = setting(64, Rule("must be >= 8", lambda v: v >= 8))
    fine_classes: int = setting(12, Rule("must be >= 2", lambda v: v >= 2))
    coarse_classes: int = setting(3, AT_LEAST_ONE)
    noise: float = setting(0.7, NON_NEGATIVE)
    seed: int = setting(0, SEED)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.coarse_classes > self.fine_classes:
            rule = f"must be <= fine_classes ({self.fine_classes})"
            raise RuleError("coarse_classes", rule, self.coarse_classes)


@dataclass(frozen=True, kw_only=True)
class Data(Checked):
    """Where the clips are and which videos train.

    train_videos: the first so many rows of a `haan` data set. annotations, hierarchy: file names below `root` of an
    `activitynet` one, whose ground truth says itself which videos train. skip: videos to leave out; a file below `root`
    that names them one a line, or `missing`: those without a feature file.
    """

    root: str = required(NOT_EMPTY, path=True)
    features: str = required(NOT_EMPTY, path=True)
    train_videos: int | None = setting(None, AT_LEAST_ONE)
    format: Literal["haan", "activitynet"] = "haan"
    annotations: str | None = setting(None, NOT_EMPTY, path=True)
    hierarchy: str | None = setting(None, NOT_EMPTY, path=True)
    validation: Holdout | Literal["official"] = "official"
    dtype: Literal["float16", "float32"] = "float16"
    plant: Plant | None = None
    skip: str | None = added(None, NOT_EMPTY)

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

    width: int = setting(1024, AT_LEAST_ONE)
    dropout: float = setting(0.3, PROBABILITY)
    classifier_layers: Literal[1, 2] = 2  # paper differs: S is one layer


@dataclass(frozen=True, kw_only=True)
class Concepts(Checked):
    """Clustering of clips into visual concepts, and their choice per class."""

    clusters: int = setting(500, AT_LEAST_ONE)
    top_k: int = setting(5, AT_LEAST_ONE)
    method: Literal["kmeans", "gmm", "birch"] = "kmeans"
    distance: Literal["cosine", "euclidean"] = "cosine"
    refresh_epochs: int = setting(5, AT_LEAST_ONE)  # paper differs: before each epoch
    sample_rate: float = setting(0.03, SHARE)  # paper differs: all clips
    warm_start: bool = False  # k-means goes on from the last centroids, so that clusters keep their numbers
    fit_limit_s: float = setting(1800.0, POSITIVE)  # a gmm or birch that takes longer ends the training

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

    mil: float = setting(1.0, NON_NEGATIVE)
    pseudo: float = setting(0.001, NON_NEGATIVE)
    concept: float = setting(0.01, NON_NEGATIVE)
    coarse: float = setting(1.0, NON_NEGATIVE)
    coarse_pooling: Literal["max", "mean"] = "max"
    class_weights: Literal["balanced", "none"] = "balanced"  # paper differs: plain BCE in Eq. 2 and 9
    pseudo_weights: Literal["frequency", "none"] = "frequency"  # paper differs: plain cross entropy in Eq. 3
    pseudo_per_clip: bool = True  # paper differs: the mean of Eq. 3 is not divided by the number of clips again
    concept_reduction: Literal["mean", "sum"] = "mean"  # paper differs: a sum over the video's classes in Eq. 7
    detach_prototypes: bool = True  # the paper does not say; False lets gradients of Eq. 7 reach w

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mil == self.pseudo == self.concept == self.coarse == 0:
            raise RuleError("mil", "must be > 0 when the other three weights are 0", self.mil)


@dataclass(frozen=True, kw_only=True)
class Optim(Checked):
    """Adam, and how long."""

    lr: float = setting(3e-5, POSITIVE)
    batch_videos: int = setting(2, AT_LEAST_ONE)
    epochs: int = setting(50, AT_LEAST_ONE)


@dataclass(frozen=True, kw_only=True)
class Detect(Checked):
    """Class activation sequences to detections (Sec. 3.4)."""

    alpha: float = -0.8
    top_clips: float = setting(0.25, SHARE)
    class_threshold: float = 0.0
    class_score_weight: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Eval(Checked):
    """tIoU thresholds: `tiou` are averaged into avg.mAP, `report` are shown one by one.

    epoch: whose weights and figure count. best: the one that scores best on the validation videos; last: the last,
    which alone is scored, so that the validation videos choose nothing.
    """

    tiou: tuple[float, ...] = setting(tuple(round(0.5 + 0.05 * i, 10) for i in range(10)), TIOU)
    report: tuple[float, ...] = setting((0.5, 0.75, 0.95), TIOU)
    epoch: Literal["best", "last"] = "best"

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
    seed: int = setting(1, SEED)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Precision = "auto"  # of the matrix products; losses and weights stay float32. auto: tf32 on CUDA
    threads: int | None = setting(
        None, AT_LEAST_ONE
    )  # CPU threads; rounding depends on them, so exports fix the number
