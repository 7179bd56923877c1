"""What is known of a trial after each of its epochs: the figures of the epoch that counts, and sums."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

FINGERPRINT, DATA = "haan.fingerprint", "haan.data"
SESSIONS = "sessions"


@dataclass
class Summary:
    """Grows by one epoch at a time; travels with a trial's checkpoints, so that it is right after any restart.

    objective: the epoch that counts is the `best` so far, or the `last`. avg_map: percent, -inf before a scored epoch.
    avg_map_by_detect: at each detection setting, map_by_tiou: at each tIoU and the chosen setting, both of the epoch
    that counts. best_avg_map_by_detect: the best of all epochs for each setting on its own. seconds: of training.
    empty_clusters: the most clusters of an epoch that held no clip.
    """

    objective: Literal["best", "last"] = "best"
    epochs: int = 0
    best_epoch: int = 0
    avg_map: float = float("-inf")
    avg_map_by_detect: list[float] = field(default_factory=list)
    best_avg_map_by_detect: list[float] = field(default_factory=list)
    map_by_tiou: list[float] = field(default_factory=list)
    losses: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    collapsed_epochs: int = 0
    empty_clusters: int = 0
    device: str = ""

    def add(self, result: dict[str, Any]) -> None:
        """Takes in one epoch's result, as search.trials.trial reports it."""
        self.epochs, self.device, self.losses = result["epoch"], result["device"], result["losses"]
        self.seconds += sum(result["seconds"].values())
        self.collapsed_epochs += bool(result["collapsed"])
        self.empty_clusters = max(self.empty_clusters, result["empty_clusters"])
        values = result["avg_map_by_detect"]
        if not values:
            return
        if result["avg_map"] > self.avg_map or self.objective == "last":
            self.best_epoch, self.avg_map = result["epoch"], result["avg_map"]
            self.avg_map_by_detect, self.map_by_tiou = values, result["map_by_tiou"]
        known = self.best_avg_map_by_detect or values
        self.best_avg_map_by_detect = [max(pair) for pair in zip(known, values, strict=True)]

    def attributes(self) -> dict[str, Any]:
        """What the study keeps of a trial that has ended."""
        return {key: value for key, value in vars(self).items() if key not in ("objective", "avg_map")}


def saved_s(attributes: Mapping[str, Any], epochs: int) -> float:
    """Seconds that a pruned trial would have trained on, had it gone on at its own pace to so many epochs."""
    done = attributes.get("epochs") or 0
    return (attributes.get("seconds") or 0.0) / done * max(epochs - done, 0) if done else 0.0
