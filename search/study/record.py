"""What the study keeps of a search and of each of its trials: every key once, and one typed reader.

The search writes what a trial came to as attributes of Optuna's trial, a key a fact, and they are read here alone:
`TrialRecord` is what stands there, `Scores` says which setting and which tIoU a figure is of.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from operator import itemgetter
from statistics import fmean
from typing import Any, Literal, NamedTuple, TypeVar

from optuna.trial import FrozenTrial

from haan.config import Detect

_Key = TypeVar("_Key")

FINGERPRINT, DATA = "haan.fingerprint", "haan.data"  # of the study, as are the next two
SESSIONS, FEATURES = "sessions", "features"
RECENT = 5  # scored epochs of which objective `recent` takes the mean
Objective = Literal["best", "last", "recent"]
NODE, RUNS, RETRIES, FAILURE = "node", "runs", "retries", "failure"  # of a trial, beside a Summary's
WINNER_OF = "winner_of"  # of a trial, too


@dataclass
class Summary:
    """Grows by one epoch at a time; travels with a trial's checkpoints, so that it is right after any restart.

    objective: the epoch that counts is the `best` so far, or the `last`; `recent`: the last, whose avg.mAP is the mean
    of the last few scored ones. avg_map: percent, -inf before a scored epoch. avg_map_by_detect: at each detection
    setting, map_by_tiou: at each tIoU and the chosen setting, both of the epoch that counts. best_avg_map_by_detect:
    the best of all epochs for each setting on its own. last_avg_map_by_detect, recent: with `recent`, of the last epoch
    alone, and of the last few. seconds: of training.
    empty_clusters: the most clusters of an epoch that held no clip. detections: the most of an epoch. by_epoch: of each
    scored epoch, its number and avg.mAP at each detection setting; None where that is not kept.
    """

    objective: Objective = "best"
    epochs: int = 0
    best_epoch: int = 0
    avg_map: float = float("-inf")
    avg_map_by_detect: list[float] = field(default_factory=list)
    best_avg_map_by_detect: list[float] = field(default_factory=list)
    last_avg_map_by_detect: list[float] = field(default_factory=list)
    recent: list[list[float]] = field(default_factory=list)
    map_by_tiou: list[float] = field(default_factory=list)
    losses: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    collapsed_epochs: int = 0
    empty_clusters: int = 0
    detections: int = 0
    device: str = ""
    by_epoch: list[tuple[int, list[float]]] | None = None

    def add(self, result: dict[str, Any]) -> None:
        """Takes in one epoch's result, as search.trials.trial reports it."""
        self.epochs, self.device, self.losses = result["epoch"], result["device"], result["losses"]
        self.seconds += sum(result["seconds"].values())
        self.collapsed_epochs += bool(result["collapsed"])
        self.empty_clusters = max(self.empty_clusters, result["empty_clusters"])
        self.detections = max(self.detections, result["detections"])
        values = result["avg_map_by_detect"]
        if not values:
            return
        if self.by_epoch is not None:  # a new list, for summaries of epochs before this one hold the old one
            self.by_epoch = [*self.by_epoch, (result["epoch"], values)]
        avg_map = result["avg_map"]
        if self.objective == "recent":
            self.recent, self.last_avg_map_by_detect = [*self.recent, values][-RECENT:], values
            values = [fmean(of_setting) for of_setting in zip(*self.recent, strict=True)]
            avg_map = max(values)
        if avg_map > self.avg_map or self.objective != "best":
            self.best_epoch, self.avg_map = result["epoch"], avg_map
            self.avg_map_by_detect, self.map_by_tiou = values, result["map_by_tiou"]
        known = self.best_avg_map_by_detect or values
        self.best_avg_map_by_detect = [max(pair) for pair in zip(known, values, strict=True)]

    def attributes(self) -> dict[str, Any]:
        """What the study keeps of a trial that has ended."""
        left_out = {"objective", "avg_map", "recent"}
        left_out |= {"by_epoch"} if self.by_epoch is None else set()
        left_out |= {"last_avg_map_by_detect"} if self.objective != "recent" else set()
        return {key: value for key, value in vars(self).items() if key not in left_out}


class Ran(NamedTuple):
    """A stretch in which a trial ran: Unix seconds, no end while it lasts, and the node."""

    start_s: float
    end_s: float | None
    node: str


@dataclass(frozen=True)
class Scores:
    """A trial's figures in percent, by what they are of; empty where no epoch was scored.

    by_detect: avg.mAP at each detection setting, by_tiou: mAP at each tIoU and the chosen setting, both of the epoch
    that counts. best_by_detect: avg.mAP in the best of all epochs for each setting on its own. last_by_detect: avg.mAP
    in the last epoch alone, where by_detect is a mean over several.
    """

    by_detect: tuple[tuple[Detect, float], ...]
    best_by_detect: tuple[tuple[Detect, float], ...]
    by_tiou: Mapping[float, float]
    last_by_detect: tuple[tuple[Detect, float], ...] = ()

    @property
    def chosen(self) -> Detect | None:
        """The detection setting that scored best, the first of equals."""
        return max(self.by_detect, key=itemgetter(1))[0] if self.by_detect else None

    @property
    def avg_map(self) -> float | None:
        """At the chosen setting, in the epoch that counts."""
        return max(self.by_detect, key=itemgetter(1))[1] if self.by_detect else None

    @property
    def at_seed(self) -> float | None:
        """What training it again reports: the epoch's own, where avg_map is a mean."""
        return dict(self.last_by_detect).get(self.chosen, self.avg_map) if self.chosen else None

    def best_at(self, detect: Detect) -> float | None:
        """avg.mAP in the best of all epochs for this setting."""
        return dict(self.best_by_detect).get(detect)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _numbers(value: object) -> tuple[float, ...]:
    """All of them, or none where one is not a finite number. In one go, for 10,000 trials with 40 are read at once."""
    if not isinstance(value, list) or not {*map(type, value)} <= {int, float} or not math.isfinite(sum(value)):
        return ()
    return tuple(map(float, value))


def _curve(value: object) -> tuple[tuple[int, tuple[float, ...]], ...]:
    """None at all where one epoch is not whole."""
    points = [(_count(epoch), _numbers(values)) for epoch, values in value] if isinstance(value, list) else []
    whole = tuple((epoch, values) for epoch, values in points if epoch is not None and values)
    return whole if len(whole) == len(points) else ()


def _stretches(value: object) -> tuple[Ran, ...] | None:
    return tuple(Ran(start, end, str(node)) for start, end, node in value) if isinstance(value, list) else None


def _read(convert: Callable[[object], Any]) -> Any:
    """A field that is read from the attribute of its name."""
    return field(default=convert(None), metadata={"convert": convert})


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """What the study keeps of a trial, a field a key; None or empty where it doesn't know.

    epochs: that it trained. best_epoch: the one that counts; 0 where none was scored. seconds: of training.
    empty_clusters: the most clusters of an epoch that held no clip. detections: the most of an epoch. node: where it
    ended. retries: why it was taken up again, each time. failure: why it FAILed. winner_of: earlier searches that its
    parameters won. The figures are in the order in which they were scored: see `scores`.
    """

    epochs: int | None = _read(_count)
    best_epoch: int | None = _read(_count)
    seconds: float | None = _read(_number)
    empty_clusters: int | None = _read(_count)
    detections: int | None = _read(_count)
    device: str | None = _read(_text)
    node: str | None = _read(_text)
    runs: tuple[Ran, ...] | None = _read(_stretches)
    retries: tuple[str, ...] = _read(_texts)
    failure: str | None = _read(_text)
    winner_of: tuple[str, ...] = _read(_texts)
    avg_map_by_detect: tuple[float, ...] = _read(_numbers)
    best_avg_map_by_detect: tuple[float, ...] = _read(_numbers)
    last_avg_map_by_detect: tuple[float, ...] = _read(_numbers)
    map_by_tiou: tuple[float, ...] = _read(_numbers)
    by_epoch: tuple[tuple[int, tuple[float, ...]], ...] = _read(_curve)

    @classmethod
    def of(cls, trial: FrozenTrial) -> "TrialRecord":
        """Of a trial of a study."""
        return cls.read(trial.user_attrs)

    @classmethod
    def read(cls, attributes: Mapping[str, Any]) -> "TrialRecord":
        """Of a trial's attributes."""
        return cls(**{key: convert(attributes.get(key)) for key, convert in _CONVERTERS.items()})

    def scores(self, detects: Sequence[Detect], tiou: Sequence[float]) -> Scores:
        """The figures by what they are of. detects, tiou: what was scored, in the order in which it was."""
        return Scores(
            by_detect=_pairs(detects, self.avg_map_by_detect),
            best_by_detect=_pairs(detects, self.best_avg_map_by_detect),
            by_tiou=dict(_pairs(tiou, self.map_by_tiou)),
            last_by_detect=_pairs(detects, self.last_avg_map_by_detect),
        )

    @property
    def last_node(self) -> str:
        """Where it ran last; empty where that is not known."""
        return self.node or (self.runs[-1].node if self.runs else "")

    @property
    def ran_s(self) -> float:
        """Seconds from start to end, of the stretches that have one; of training alone where that says more."""
        ended = sum(run.end_s - run.start_s for run in self.runs or () if run.end_s is not None)
        return max(ended, self.seconds or 0.0)

    def saved_s(self, epochs: int) -> float:
        """Seconds that it, pruned, would have trained on, had it gone on at its own pace to so many epochs."""
        return (self.seconds or 0.0) / self.epochs * max(epochs - self.epochs, 0) if self.epochs else 0.0


_CONVERTERS = {one.name: one.metadata["convert"] for one in fields(TrialRecord)}


def _pairs(keys: Sequence[_Key], values: Sequence[float]) -> tuple[tuple[_Key, float], ...]:
    """None at all where they are not as many as what was scored."""
    return tuple(zip(keys, values, strict=True)) if len(keys) == len(values) else ()
