"""Temporal detection metrics, in NumPy alone.

Goal: ActivityNet's mean average precision, exact and fast at every tIoU threshold at once.

Conventions: times in seconds; scores of any scale, higher is better; average precision as a share (0 to 1), avg.mAP in
percent. A detection is true when, in order of falling score within its class, its tIoU with a ground-truth segment of
its video and class reaches the threshold and that segment is not taken yet; it takes the one of largest tIoU that is
free. Ties in score are broken by input order, ties in tIoU by ground-truth order. Precision is interpolated: at each
recall the best precision at that recall or above. A class without ground truth is left out of the mean.
"""

from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Segments:
    """Labelled segments, one entry each: video and label as indices, start and end in seconds."""

    video: NDArray[np.int64]
    label: NDArray[np.int64]
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.video)

    def at(self, which: NDArray) -> Self:
        """Some of them, by place or by a mask."""
        return replace(self, **{one.name: getattr(self, one.name)[which] for one in fields(self)})


@dataclass(frozen=True)
class Detections(Segments):
    """Segments with a score each."""

    score: NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """What an evaluation gives.

    tiou: [thresholds]. ap: [thresholds, classes] average precision as a share, NaN for a class without ground truth.
    """

    tiou: NDArray[np.float64]
    ap: NDArray[np.float64]

    @property
    def map(self) -> NDArray[np.float64]:
        """[thresholds] mean over the classes with ground truth, in percent; 0 when no class has any."""
        scored = ~np.isnan(self.ap[0])
        if not scored.any():
            return np.zeros(len(self.tiou))
        return 100 * self.ap[:, scored].mean(axis=1)

    @property
    def by_class(self) -> NDArray[np.float64]:
        """[classes] mean over the thresholds, in percent, NaN for a class without ground truth; its mean is avg.mAP."""
        return 100 * self.ap.mean(axis=0)

    @property
    def avg_map(self) -> float:
        """Mean of `map` over the thresholds, in percent."""
        return float(self.map.mean())


def tiou(
    start_s: NDArray[np.float64],
    end_s: NDArray[np.float64],
    other_start_s: NDArray[np.float64],
    other_end_s: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Intersection over union of paired segments; 0 where the union is empty. Broadcasts."""
    overlap = np.maximum(np.minimum(end_s, other_end_s) - np.maximum(start_s, other_start_s), 0)
    union = (end_s - start_s) + (other_end_s - other_start_s) - overlap
    return np.divide(overlap, union, out=np.zeros(np.broadcast(overlap, union).shape), where=union > 0)


class Evaluator:
    """Scores detections against one ground truth; what depends on the ground truth alone is done once."""

    def __init__(self, truth: Segments, num_classes: int, thresholds: tuple[float, ...]):
        self.num_classes = num_classes
        self.tiou = np.asarray(thresholds, dtype=np.float64)
        self.positives = np.bincount(truth.label, minlength=num_classes)  # [classes]
        key = truth.video * num_classes + truth.label
        order = np.argsort(key, kind="stable")
        self._truth = Segments(truth.video[order], truth.label[order], truth.start_s[order], truth.end_s[order])
        pairs, self._pair_start, self._pair_size = np.unique(key[order], return_index=True, return_counts=True)
        self._num_videos = int(truth.video.max(initial=-1)) + 1
        self._pair_of_key = np.full(self._num_videos * num_classes + 1, -1, dtype=np.int64)  # the last: no such video
        self._pair_of_key[pairs] = np.arange(len(pairs))

    def score(self, detections: Detections) -> Score:
        """Average precision of every class at every threshold."""
        found, hits = self._match(detections, *self._candidates(detections))
        true = hits.any(axis=1)
        found, hits = found[true], hits[true]
        rank = _ranks(detections.label, detections.score, found, self.num_classes)
        order = np.lexsort((rank, detections.label[found]))
        label, rank, hits = detections.label[found][order], rank[order], hits[order]
        ap = np.full((len(self.tiou), self.num_classes), np.nan)
        ap[:, self.positives > 0] = 0
        for t in range(len(self.tiou)):
            self._add_precision(ap[t], label[hits[:, t]], rank[hits[:, t]])
        return Score(self.tiou, ap)

    def _candidates(self, detections: Detections) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Detections whose video and class have ground truth, in input order, and the (video, class) pair of each."""
        key = detections.video * self.num_classes
        key += detections.label
        if detections.video.max(initial=-1) >= self._num_videos:
            key = np.where(detections.video < self._num_videos, key, len(self._pair_of_key) - 1)
        pair = self._pair_of_key.take(key)
        inside = np.flatnonzero(pair >= 0)
        return inside, pair.take(inside)

    def _match(
        self, detections: Detections, candidates: NDArray[np.int64], pair: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Greedy matching of detections that lie in a pair with ground truth.

        Returns the matchable ones, whose tIoU with some ground truth of their pair reaches the lowest threshold, by
        falling score, and whether each is true: hits [matchable, thresholds].
        """
        # Every candidate with every ground truth of its pair.
        size = self._pair_size[pair]
        edge = np.repeat(np.arange(len(pair)), size)
        edge_truth = np.arange(len(edge)) + np.repeat(self._pair_start[pair] - np.cumsum(size) + size, size)
        overlap = tiou(
            np.repeat(detections.start_s[candidates], size),
            np.repeat(detections.end_s[candidates], size),
            self._truth.start_s[edge_truth],
            self._truth.end_s[edge_truth],
        )
        kept = np.flatnonzero(overlap >= self.tiou.min())
        edge, edge_truth, overlap = edge[kept], edge_truth[kept], overlap[kept]
        # Number the matchable candidates by falling score, ties by input order.
        matchable = np.flatnonzero(np.bincount(edge, minlength=len(candidates)))
        by_score = np.argsort(-detections.score[candidates[matchable]], kind="stable")
        found, pair = candidates[matchable[by_score]], pair[matchable[by_score]]
        number = np.empty(len(candidates), dtype=np.int64)
        number[matchable[by_score]] = np.arange(len(found))
        # Each candidate's ground truths by falling tIoU; ties by ground-truth order.
        order = np.lexsort((edge_truth, -overlap, number[edge]))
        edge, edge_truth, overlap = number[edge][order], edge_truth[order], overlap[order]
        degree = np.bincount(edge, minlength=len(found))
        first = np.cumsum(degree) - degree
        hits = np.zeros((len(found), len(self.tiou)), dtype=bool)
        taken = np.zeros((len(self._truth), len(self.tiou)), dtype=bool)
        # Pairs are independent: the r-th candidates of all pairs are matched at once.
        rounds = _rank_within(pair)
        by_round = np.argsort(rounds, kind="stable")
        bounds = np.searchsorted(rounds[by_round], np.arange(rounds.max(initial=-1) + 2))
        for r in range(len(bounds) - 1):
            now = by_round[bounds[r] : bounds[r + 1]]
            for choice in range(int(degree[now].max())):
                now = now[degree[now] > choice]
                at = first[now] + choice
                free = (overlap[at, None] >= self.tiou) & ~taken[edge_truth[at]] & ~hits[now]
                hits[now] |= free
                taken[edge_truth[at]] |= free
        return found, hits

    def _add_precision(self, ap: NDArray[np.float64], label: NDArray[np.int64], rank: NDArray[np.int64]) -> None:
        """Sums interpolated precision over the true detections, given by class and rank (1 is the best), ascending."""
        if not len(label):
            return
        first = np.flatnonzero(np.concatenate([[True], label[1:] != label[:-1]]))
        size = np.diff(np.concatenate([first, [len(label)]]))
        nth = np.arange(len(label)) - np.repeat(first, size) + 1
        precision = nth / rank
        # Running maximum from the right within each class: classes are lifted apart by 2, precision is at most 1.
        lift = 2.0 * np.repeat(np.arange(len(first))[::-1], size)
        best = np.maximum.accumulate((precision + lift)[::-1])[::-1] - lift
        ap[label[first]] = np.add.reduceat(best, first) / self.positives[label[first]]


def _ranks(
    label: NDArray[np.int64], score: NDArray[np.float64], chosen: NDArray[np.int64], num_classes: int
) -> NDArray[np.int64]:
    """Place, from 1, of the chosen detections among all of their class: by falling score, ties by input order.

    Only the places of true detections matter for precision. So whole numbers that order detections by class and score
    are sorted by themselves and searched, which is faster than ordering the detections. A number has no room for the
    last bits of the score: equal ones are told apart after.
    """
    if not len(chosen):
        return np.zeros(0, dtype=np.int64)
    bits = num_classes.bit_length()
    number = _falling(score)
    number >>= np.uint64(bits)
    number |= label.astype(np.uint64) << np.uint64(64 - bits)
    ascending = np.sort(number)
    by_number = np.argsort(number[chosen])  # neighbours are found faster
    asked = number[chosen[by_number]]
    first, last = (np.searchsorted(ascending, asked, side=side) for side in ("left", "right"))
    start = np.searchsorted(ascending, np.arange(num_classes, dtype=np.uint64) << np.uint64(64 - bits))
    rank = np.empty(len(chosen), dtype=np.int64)
    rank[by_number] = first - start[label[chosen[by_number]]] + 1
    tied = by_number[last - first > 1]
    if len(tied):
        rank[tied] += _places_among_equals(number, score, chosen[tied])
    return rank


def _falling(score: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Whole numbers that rise as the scores fall: the bits of a float rise with it, of a negative one they fall."""
    number = (score + 0.0).view(np.int64)  # -0.0 becomes 0.0, its equal
    falls = number >> 63  # all ones where negative
    falls |= np.int64(-(2**63))
    number ^= falls
    return np.invert(number, out=number).view(np.uint64)


def _places_among_equals(
    number: NDArray[np.uint64], score: NDArray[np.float64], chosen: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Place, from 0, of the chosen detections among those of the same number: by falling score, then by input order."""
    wanted = np.unique(number[chosen])
    equal = np.flatnonzero(wanted[np.searchsorted(wanted[:-1], number)] == number)
    order = np.lexsort((-score[equal], number[equal]))
    place = np.empty(len(equal), dtype=np.int64)
    place[order] = _rank_within(number[equal][order].view(np.int64))
    return place[np.searchsorted(equal, chosen)]


def _rank_within(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each element how many earlier elements share its group."""
    if not len(group):
        return group
    order = np.argsort(group, kind="stable")
    sorted_group = group[order]
    start = np.flatnonzero(np.concatenate([[True], sorted_group[1:] != sorted_group[:-1]]))
    size = np.diff(np.concatenate([start, [len(group)]]))
    rank = np.empty(len(group), dtype=np.int64)
    rank[order] = np.arange(len(group)) - np.repeat(start, size)
    return rank
