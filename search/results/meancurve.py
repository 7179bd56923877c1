"""What a configuration's runs over several seeds choose together: for how many epochs it trains, and how it detects.

One run's best epoch at its best detection setting is partly luck of that run. So both are read off the mean curve over
the seeds, and a run's value is what it scored at that epoch and setting: at those that are exported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from haan.config import Detect
from search.study.record import TrialRecord


@dataclass(frozen=True)
class Choice:
    """How a configuration leaves: trained for so many epochs, detecting so."""

    epochs: int
    detect: Detect


@dataclass(frozen=True, eq=False)
class MeanCurve:
    """Scores of runs of one configuration, avg.mAP in percent; epochs: those that all of them scored."""

    seeds: tuple[int, ...]
    epochs: tuple[int, ...]
    detects: tuple[Detect, ...]
    values: Float[np.ndarray, "seeds epochs detects"]

    def choice(self, objective: str, detect: Detect | None = None) -> Choice:
        """The best point of the mean, the first of equals. objective: of all epochs, or at the `last`.

        detect: the setting, where that is given.
        """
        mean = self.values.mean(axis=0)
        first_epoch = len(self.epochs) - 1 if objective == "last" else 0
        first = 0 if detect is None else self.detects.index(detect)
        part = mean[first_epoch:, first : len(self.detects) if detect is None else first + 1]
        epoch, setting = np.unravel_index(int(part.argmax()), part.shape)
        return Choice(self.epochs[first_epoch + int(epoch)], self.detects[first + int(setting)])


def mean_curve(records: Mapping[int, TrialRecord], detects: Sequence[Detect]) -> MeanCurve | None:
    """Of runs by their seed; None where none of them kept its scores by epoch."""
    known = {seed: dict(record.by_epoch) for seed, record in records.items() if record.by_epoch}
    if not known:
        return None
    epochs = sorted(set.intersection(*(set(one) for one in known.values())))
    values = np.array([[one[epoch] for epoch in epochs] for one in known.values()])
    return MeanCurve(tuple(known), tuple(epochs), tuple(detects), values)


def value_at(record: TrialRecord, choice: Choice, detects: Sequence[Detect]) -> float | None:
    """What a run scored at such an epoch and setting; None where that is not known."""
    values = dict(record.by_epoch).get(choice.epochs)
    return None if values is None else values[list(detects).index(choice.detect)]
