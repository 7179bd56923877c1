"""What SSN says of proposals -> detections.

A proposal's score for a class is the softmax of its activity over the classes, times the exponential of its
completeness, times a power of the probability that it is no background; with power 1 the softmax is over background,
too. Proposals of one class suppress each other as they are, and what is left ends where regression says.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from haan.data.table import IntArray
from haan.detectors import proposals
from haan.detectors.proposals import Left
from haan.detectors.shared import alike
from haan.methods.ssn.config import SsnDetect
from haan.methods.ssn.network import OF_CLASS, OF_PROPOSAL
from haan.metrics import Detections


@dataclass(frozen=True)
class Pairs:
    """Each proposal with each of its classes. proposed: as it was. ends: [pairs, 2] as regressed. All in seconds."""

    proposed: Detections
    no_background: NDArray[np.float64]
    ends: NDArray[np.float64]


def makers(
    numbers: NDArray[np.float32], offsets: IntArray, clips_per_s: NDArray[np.float64], settings: Sequence[SsnDetect]
) -> Iterator[tuple[int, Callable[[], Detections]]]:
    """See haan.methods.base.Detector. numbers: as SSN.of_videos has them."""
    found = pairs(numbers, clips_per_s)
    for power, places in alike(settings, lambda one: one.background_power).items():
        scored = replace(found.proposed, score=found.proposed.score * found.no_background**power)
        for number, make in proposals.survivors(scored, [settings[place] for place in places]):
            yield places[number], partial(_detections, found, make)


def pairs(numbers: NDArray[np.float32], clips_per_s: NDArray[np.float64]) -> Pairs:
    """A proposal of a video without one is none."""
    first, real = numbers[:, 0] > 0, numbers[:, 2] > numbers[:, 1]
    said = numbers[real].astype(np.float64)
    of_class = said[:, OF_PROPOSAL:].reshape(len(said), -1, OF_CLASS)
    video = np.repeat((np.cumsum(first) - 1)[real], of_class.shape[1])
    _, start, end, no_background = np.repeat(said[:, :OF_PROPOSAL], of_class.shape[1], axis=0).T
    label, score, low, high = of_class.reshape(-1, OF_CLASS).T
    per_s = clips_per_s[video]
    found = Detections(video, label.astype(np.int64), start / per_s, end / per_s, score)
    return Pairs(found, no_background, np.stack([low / per_s, high / per_s], axis=1))


def _detections(found: Pairs, make: Callable[[], Left]) -> Detections:
    left = make()
    start_s, end_s = found.ends[left.place].T
    moved = replace(found.proposed.at(left.place), start_s=start_s, end_s=end_s, score=left.score)
    return moved.at(end_s > start_s)  # else it was moved out of the video
