"""What a configuration's runs over several seeds choose together: for how many epochs it trains, and how it detects.

One run's best epoch at its best detection setting is partly luck of that run. So both are read off the mean curve over
the seeds, and a run's value is what it scored at that epoch and setting: at those that are exported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from jaxtyping import Float

from haan.config import Detect
from search.study.record import RECENT, TrialRecord


@dataclass(frozen=True)
class Choice:
    """How a configuration leaves: trained for so many epochs, detecting so.

    over: its value is the mean over so many scored epochs, those up to there.
    """

    epochs: int
    detect: Detect
    over: int = 1


@dataclass(frozen=True, eq=False)
class MeanCurve:
    """Scores of runs of one configuration, avg.mAP in percent; epochs: those that all of them scored."""

    seeds: tuple[int, ...]
    epochs: tuple[int, ...]
    detects: tuple[Detect, ...]
    values: Float[np.ndarray, "seeds epochs detects"]

    def choice(self, objective: str, detect: Detect | None = None) -> Choice:
        """The best point of the mean, the first of equals. objective: as a space has it.

        detect: the setting, where that is given.
        """
        mean = self.values.mean(axis=0)
        over = min(RECENT, len(self.epochs)) if objective == "recent" else 1
        if over > 1:
            mean = mean[-over:].mean(axis=0, keepdims=True)
        first_epoch = 0 if objective == "best" else len(mean) - 1
        first = 0 if detect is None else self.detects.index(detect)
        part = mean[first_epoch:, first : len(self.detects) if detect is None else first + 1]
        epoch, setting = np.unravel_index(int(part.argmax()), part.shape)
        epochs = self.epochs[-len(mean) :]
        return Choice(epochs[first_epoch + int(epoch)], self.detects[first + int(setting)], over)


def mean_curve(records: Mapping[int, TrialRecord], detects: Sequence[Detect]) -> MeanCurve | None:
    """Of runs by their seed; None where none of them kept its scores by epoch."""
    known = {seed: dict(record.by_epoch) for seed, record in records.items() if record.by_epoch}
    if not known:
        return None
    epochs = sorted(set.intersection(*(set(one) for one in known.values())))
    values = np.array([[one[epoch] for epoch in epochs] for one in known.values()])
    return MeanCurve(tuple(known), tuple(epochs), tuple(detects), values)


def value_at(record: TrialRecord, choice: Choice, detects: Sequence[Detect]) -> float | None:
    """What a run scored at such an epoch and setting, or over some epochs; None where that is not known."""
    values = [values for epoch, values in record.by_epoch if epoch <= choice.epochs]
    if choice.epochs not in dict(record.by_epoch):
        return None
    setting = list(detects).index(choice.detect)
    return fmean(one[setting] for one in values[-choice.over :])
