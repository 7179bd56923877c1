"""What a detector reads of clips, class by class, to be looked at beside what it detects (haan.figures)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Curve:
    """Of one class in one video: `scores` [clips], `thresholds` [n], `positive` [clips] and `kept` of `Curves`."""

    scores: NDArray[np.float32]
    thresholds: NDArray[np.float64]
    positive: NDArray[np.bool_] | None
    kept: bool


@dataclass(frozen=True)
class Curves:
    """Of some videos, at one setting.

    scores: [clips, classes], of the clips of all videos, one after the other. thresholds: [videos, classes, n], at each
    of which runs of clips begin and end. positive: [clips, classes] which clips are in runs, where there is one
    threshold. kept: [videos, classes] whether a class is looked for. score, curve: in words, what a detection's score
    is of; and, in sentences, what the scores of clips are and which of them become detections.
    """

    scores: NDArray[np.float32]
    thresholds: NDArray[np.float64]
    positive: NDArray[np.bool_] | None
    kept: NDArray[np.bool_]
    score: str
    curve: str

    def of(self, video: int, clips: slice, label: int) -> Curve:
        """Of one class in one video of these clips."""
        positive = None if self.positive is None else self.positive[clips, label]
        return Curve(self.scores[clips, label], self.thresholds[video, label], positive, bool(self.kept[video, label]))
