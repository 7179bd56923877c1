"""A network's activations, its detections at every setting, and their avg.mAP."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from haan.config import Detect
from haan.data.table import Annotations, IntArray, offsets_of, truth
from haan.errors import InputError
from haan.feed import join_blocks
from haan.methods.base import Detector, Network
from haan.metrics import Detections, Evaluator, Score

Numbers = Float[NDArray, "rows numbers"]

_MOST_THREADS = 8  # each holds the detections of a setting
_COLLAPSED = 1e-5  # range of every number over all clips, below which the network says the same of each clip


@dataclass(frozen=True)
class Scored:
    """What some videos say of a network.

    avg_map: percent, one for each setting and then for each scored beside them. chosen: index of the best setting, the
    first of equals. score, detections: of that setting, and how many it found. collapsed: every clip gets the same
    numbers, so nothing can be detected. seconds: by phase.
    """

    avg_map: tuple[float, ...]
    chosen: int
    score: Score
    detections: int
    collapsed: bool
    seconds: dict[str, float]


class Dropped(Exception):  # no error
    """Nobody wants the scores any more."""


@dataclass(frozen=True)
class _One:
    """One setting's score, how many detections it found, and the seconds that both took."""

    score: Score
    detections: int
    detect_s: float
    score_s: float


class Scorer:
    """Scores a network on some videos at many detection settings.

    detects: those of which the best is chosen. beside: those that are scored as well and never chosen.
    """

    def __init__(
        self,
        annotations: Annotations,
        videos: IntArray,
        num_clips: IntArray,
        tiou: tuple[float, ...],
        detector: Detector,
        detects: Sequence[Detect],
        beside: Sequence[Detect] = (),
        threads: int = 1,
    ):
        """num_clips: [videos] of each. tiou: thresholds that are averaged. detector: of the method that is scored.

        threads: settings scored at once.
        """
        self.detects, self.beside, self._threads = tuple(detects), tuple(beside), min(threads, _MOST_THREADS)
        self._detector = detector
        self._offsets, self._ratios = offsets_of(num_clips), annotations.clips_per_s[videos]
        self._evaluator = Evaluator(truth(annotations, videos), len(annotations.fine_names), tiou)

    def activations(self, network: Network, blocks: Iterable[Float[Tensor, "clips d"]]) -> Numbers:
        """What `score` needs of a network, which may change then. blocks: the videos' clips, one after the other."""
        return activations(network, blocks, np.diff(self._offsets))

    def score(self, numbers: Numbers, dropped: Callable[[], bool] = lambda: False) -> Scored:
        """dropped: whether nobody wants it any more. Raises Dropped then, after the settings that are under way."""
        start = time.perf_counter()
        # One setting's detections a thread at a time: all would fill the memory.
        settings = (*self.detects, *self.beside)
        places, ways = zip(*self._detector(numbers, self._offsets, self._ratios, settings), strict=True)
        begun = time.perf_counter()
        if self._threads == 1:
            found = [self._one(way, dropped) for way in ways]
        else:
            with ThreadPoolExecutor(self._threads) as pool:
                found = list(pool.map(self._one, ways, repeat(dropped)))
        end = time.perf_counter()
        scores = dict(zip(places, found, strict=True))
        avg_map = tuple(scores[place].score.avg_map for place in range(len(scores)))
        chosen = int(np.argmax(avg_map[: len(self.detects)]))
        collapsed = bool(np.ptp(numbers, axis=0).max() <= _COLLAPSED)
        made, scored = sum(one.detect_s for one in found), sum(one.score_s for one in found)
        scoring = (end - begun) * scored / (made + scored)  # of the time that passed: threads' times overlap
        seconds = {"detect": end - start - scoring, "score": scoring}
        return Scored(avg_map, chosen, scores[chosen].score, scores[chosen].detections, collapsed, seconds)

    def _one(self, make: Callable[[], Detections], dropped: Callable[[], bool]) -> _One:
        if dropped():
            raise Dropped
        marks = [time.perf_counter()]
        found = make()
        marks.append(time.perf_counter())
        score = self._evaluator.score(found)
        marks.append(time.perf_counter())
        return _One(score, len(found), marks[1] - marks[0], marks[2] - marks[1])


def choose_device(name: str) -> torch.device:
    """The device of `device: auto | cpu | cuda`. Raises InputError when CUDA is asked for and absent."""
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device: must be cpu or auto where PyTorch finds no CUDA device, got 'cuda'")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def activations(network: Network, blocks: Iterable[Float[Tensor, "clips d"]], num_clips: IntArray) -> Numbers:
    """What a network says of videos of so many clips each, which come in blocks of whole videos; dropout off."""
    network.eval()
    with torch.inference_mode():
        return join_blocks(_said(network, blocks, num_clips), int(network.rows(num_clips).sum())).numpy()


def _said(
    network: Network, blocks: Iterable[Float[Tensor, "clips d"]], num_clips: IntArray
) -> Iterator[Float[Tensor, "rows numbers"]]:
    offsets, first = offsets_of(num_clips), 0
    for clips in blocks:
        last = int(np.searchsorted(offsets, offsets[first] + len(clips)))
        yield network.of_videos(clips, num_clips[first:last])
        first = last


def report(score: Score, thresholds: Sequence[float]) -> dict[float, float]:
    """mAP in percent at some of the thresholds of a score."""
    means = score.map
    return {t: float(means[int(np.flatnonzero(score.tiou == t)[0])]) for t in thresholds}
