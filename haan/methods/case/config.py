"""CASE's own sections of a configuration, and its detector's settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from haan.checked import NON_NEGATIVE, Rule, redefault, section, setting
from haan.config import CODE, METHOD, OURS, Config
from haan.methods.asl.config import Asl, AslDetect, AslOptim, Model


@dataclass(frozen=True, kw_only=True)
class Case(Asl):
    """ASL's selection, and the clusters of the clips of a batch."""

    clusters: int = setting(16, Rule("must be >= 2", lambda v: v >= 2), what="prototypes of each stream", source=CODE)
    cluster_weight: float = setting(1.0, NON_NEGATIVE, what="weight of the loss of clusters", source=CODE)
    foreground_weight: float = setting(0.3, NON_NEGATIVE, what="weight of that of clusters' foreground", source=CODE)


@dataclass(frozen=True, kw_only=True)
class CaseOptim(AslOptim):
    """With the released settings as defaults."""

    epochs: int = redefault(AslOptim, "epochs", 300, CODE)


@dataclass(frozen=True, kw_only=True)
class CaseDetect(AslDetect):
    """The same sequences, of which actionness is half the foreground share of a clip's clusters."""

    class_share: float = redefault(AslDetect, "class_share", 0.2, CODE)
    class_score_weight: float = redefault(AslDetect, "class_score_weight", 0.15, CODE)


@dataclass(frozen=True, kw_only=True)
class CaseConfig(Config):
    """CASE's configuration, complete."""

    implementation = "haan.methods.case.method:CaseMethod"
    sizes = ("model.width", "model.streams", "case.clips", "case.clusters", "optim.batch_videos")
    scarce: ClassVar[Mapping[str, Callable[..., Any]]] = {"model.streams": max}

    method: Literal["case"] = setting("case", what=METHOD, source=OURS)
    model: Model = section(Model)
    case: Case = section(Case)
    optim: CaseOptim = field(default_factory=CaseOptim)
    detect: CaseDetect = field(default_factory=CaseDetect)
