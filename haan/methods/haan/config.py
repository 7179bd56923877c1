"""HAAN's own sections of a configuration."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from haan.checked import (
    AT_LEAST_ONE,
    NON_NEGATIVE,
    POSITIVE,
    PROBABILITY,
    SHARE,
    Checked,
    RuleError,
    added,
    section,
    setting,
)
from haan.config import CODE, METHOD, OURS, Config
from haan.detectors.runs import RunsDetect


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
class HaanConfig(Config):
    """HAAN's configuration, complete."""

    implementation = "haan.methods.haan.method:HaanMethod"
    sizes = (
        "model.width",
        "model.classifier_layers",
        "concepts.clusters",
        "concepts.sample_rate",
        "optim.batch_videos",
    )
    scarce: ClassVar[Mapping[str, Callable[..., Any]]] = {"concepts.clusters": max, "concepts.sample_rate": min}

    method: Literal["haan"] = added("haan", what=METHOD, source=OURS)
    model: Model = section(Model)
    concepts: Concepts = section(Concepts)
    loss: Loss = section(Loss)
    detect: RunsDetect = field(default_factory=RunsDetect)

    @property
    def period(self) -> int:
        return self.concepts.refresh_epochs
