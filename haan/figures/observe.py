"""What the paper's Figures 3 to 5 show, as numbers: which concepts belong to which class, which clips, and when.

Figure 5 is there for any method, with what its detector reads of clips, where it does; concepts are HAAN's alone.
A clip's concept is the one that training gave it in the best epoch: the centroid nearest to the clip as the encoder of
that clustering saw it. Both lie beside the best weights, for the network goes on learning between two clusterings, and
its later encoder would put many clips elsewhere. Everything else is what the best weights say. Where a clustering
method assigns by another rule than the nearest centroid, the nearest is shown all the same, and captions say so.

Nothing is drawn here (see haan.figures.draw), and times are in seconds.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from haan.cli import python
from haan.config import Config
from haan.data.table import Annotations, FeatureSource, IntArray, offsets_of
from haan.detectors import runs
from haan.detectors.curves import Curve, Curves
from haan.errors import InputError
from haan.methods.haan import clustering, concepts
from haan.methods.haan.config import HaanConfig
from haan.methods.haan.network import HAAN
from haan.methods.names import method_of
from haan.metrics import Detections, tiou
from haan.predict import clip_blocks, detected, load_weights, read_network, said
from haan.score import choose_device

RIGHT_TIOU = 0.5  # a detection is shown as right from this tIoU on
RELATED = 0.25  # a concept is one of a class's from this share of its videos on
_ROWS = 3  # of detections of a class that overlap
_FEWEST = 6  # of these are looked at, or twice as many as there are true segments


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What a trained network sees in some videos.

    videos: their rows in the annotations. offsets: [videos + 1] first clip of each. curves: what the detector reads of
    clips, or None. found: detections, video by video, whose `video` is the place among the videos.
    """

    annotations: Annotations
    videos: IntArray
    offsets: IntArray
    curves: Curves | None
    found: Detections

    @property
    def names(self) -> list[str]:
        """One a video."""
        return [self.annotations.names[video] for video in self.videos]

    def clips(self, place: int) -> slice:
        """Those of one video."""
        return slice(int(self.offsets[place]), int(self.offsets[place + 1]))

    def detections(self, place: int) -> slice:
        """Those in one video."""
        return slice(*np.searchsorted(self.found.video, [place, place + 1]).tolist())

    def concepts(self, place: int) -> IntArray | None:
        """Of one video's clips; None where there are none."""
        return None

    def nearest(self, place: int, fine: int) -> tuple[int, ...]:
        """The concepts of one video that are among the k nearest to a class of its labels."""
        return ()

    def segments(self, place: int) -> tuple[NDArray[np.float64], IntArray]:
        """Ground truth of one video: [segments, 2] times and [segments] fine classes."""
        video = int(self.videos[place])
        own = slice(self.annotations.segment_offsets[video], self.annotations.segment_offsets[video + 1])
        return self.annotations.segments[own], self.annotations.segment_fine[own]


@dataclass(frozen=True, kw_only=True)
class ObservedConcepts(Observed):
    """What a trained HAAN sees.

    concept: [clips] the concept of each clip. distance: [clips] Euclidean distance from its centroid.
    pair_video, pair_fine: [pairs] every class of every video's labels, by place among the videos.
    near: [pairs, clusters] which concepts of the video are among the k nearest to the class (Eq. 5).
    """

    concept: IntArray
    distance: NDArray[np.float32]
    pair_video: IntArray
    pair_fine: IntArray
    near: NDArray[np.bool_]

    @property
    def num_clusters(self) -> int:
        """How many concepts there are, those of no clip included."""
        return self.near.shape[1]

    def concepts(self, place: int) -> IntArray:
        return self.concept[self.clips(place)]

    def nearest(self, place: int, fine: int) -> tuple[int, ...]:
        pair = np.flatnonzero((self.pair_video == place) & (self.pair_fine == fine))
        return tuple(np.flatnonzero(self.near[pair].any(axis=0)).tolist())


@dataclass(frozen=True)
class ConceptMap:
    """Figure 3: of one coarse class's fine classes, in how many of their videos each concept is among the k nearest.

    fine: the classes. videos: [classes] how many have the class. concepts: those shown, in order: first `num_shared`
    that belong to several classes, those of most classes first, then those of one, class by class. share: [classes,
    concepts] of the class's videos, 0 where it has none. related: how many belong to a class at all; those of small
    shares are left out where they are too many to show. without: classes that have videos, but no concept of them near.
    """

    coarse: int
    fine: tuple[int, ...]
    videos: tuple[int, ...]
    concepts: tuple[int, ...]
    num_shared: int
    related: int
    without: int
    share: NDArray[np.float64]


@dataclass(frozen=True)
class NearClip:
    """One clip. video: place among the videos. annotated: fine classes whose segments hold the clip's middle."""

    video: int
    start_s: float
    end_s: float
    distance: float
    annotated: tuple[int, ...]


@dataclass(frozen=True)
class ConceptClips:
    """Figure 4: clips nearest to one concept's centroid, nearest first; how many clips and videos have it in all."""

    concept: int
    clips: tuple[NearClip, ...]
    num_clips: int
    num_videos: int


@dataclass(frozen=True)
class Track:
    """One class in one video. truth: [segments, 2]. found: [detections, 2], best score first; right: [detections].

    found_score: [detections], as in the predictions. row: [detections] that none overlaps another in. hidden: how many
    more there are, for which there is no room, hidden_right: how many of these are right. curve: what the detector
    reads of the clips, or None. near: the concepts among the k nearest to the class in this video.
    """

    fine: int
    truth: NDArray[np.float64]
    found: NDArray[np.float64]
    found_score: NDArray[np.float64]
    right: NDArray[np.bool_]
    row: IntArray
    hidden: int
    hidden_right: int
    curve: Curve | None
    near: tuple[int, ...]


@dataclass(frozen=True)
class Timeline:
    """Figure 5: one video. tracks: the classes shown. concept: [clips], or None.

    other_truth, other_found: segments and detections of classes that are not shown; other_classes: of how many.
    """

    video: int
    clips_per_s: float
    end_s: float
    tracks: tuple[Track, ...]
    concept: IntArray | None
    other_truth: int
    other_found: int
    other_classes: int


def observe(
    config: Config, source: FeatureSource, annotations: Annotations, videos: IntArray, weights: Path
) -> Observed:
    """Looks at some videos with trained weights, a block at a time; of HAAN's come `ObservedConcepts`.

    Raises InputError when the weights don't fit the configuration and the data, or, HAAN's, don't hold their concepts.
    """
    if isinstance(config, HaanConfig):
        return _with_concepts(config, source, annotations, videos, weights)
    offsets = offsets_of(source.num_clips[videos])
    numbers = said(config, source, annotations, videos, weights)
    found = detected(config, numbers, offsets, annotations.clips_per_s[videos])
    reading = method_of(config).curves
    curves = None if reading is None else reading(numbers, offsets, config.detect)
    return Observed(annotations=annotations, videos=videos, offsets=offsets, curves=curves, found=found)


def _with_concepts(
    config: HaanConfig, source: FeatureSource, annotations: Annotations, videos: IntArray, weights: Path
) -> ObservedConcepts:
    """The same, and the concepts, from one look at the clips."""
    device = choose_device(config.device)
    model, known = read_network(config, source.dim, annotations.fine_names, weights)
    assert isinstance(model, HAAN)
    model.to(device).eval()
    clusterer, centroids = _clusterer(config, source.dim, model, known, weights)
    clusterer.to(device)
    pair_video, pair_fine = np.nonzero(annotations.fine_labels[videos])
    offsets = offsets_of(source.num_clips[videos])
    cas = np.empty((int(offsets[-1]), len(annotations.fine_names)), dtype=np.float32)
    concept, distance = np.empty(len(cas), dtype=np.int64), np.empty(len(cas), dtype=np.float32)
    near = np.zeros((len(pair_video), config.concepts.clusters), dtype=bool)
    for first, last, block in clip_blocks(config.data, source, annotations, videos):
        here, own = slice(offsets[first], offsets[last]), slice(*np.searchsorted(pair_video, [first, last]))
        clips = torch.from_numpy(block).to(device)
        with torch.inference_mode():
            out, encoded = model(clips), clusterer.encode(clips).cpu().numpy()
        cas[here] = out.cas.cpu().numpy()
        concept[here], distance[here] = concepts_of(encoded, centroids)
        pairs = (pair_video[own] - first, pair_fine[own])
        near[own] = _near(config, out.hidden, model.classifier.weight, concept[here], offsets[first : last + 1], pairs)
    return ObservedConcepts(
        annotations=annotations,
        videos=videos,
        offsets=offsets,
        curves=runs.curves(cas, offsets, config.detect),
        found=detected(config, cas, offsets, annotations.clips_per_s[videos]),
        concept=concept,
        distance=distance,
        pair_video=pair_video,
        pair_fine=pair_fine,
        near=near,
    )


def _clusterer(
    config: HaanConfig, dim: int, model: HAAN, known: dict[str, Tensor], weights: Path
) -> tuple[HAAN, NDArray[np.float32]]:
    """A network that encodes as that of the clustering did, and its centroids. Raises InputError."""
    if not known:
        raise InputError(
            f"{weights}: must hold the concepts beside the weights, got a file of an older version; train it again "
            f"({python('-m', 'haan', 'train', weights.with_suffix('.yaml'), '--out', 'NEW')})"
        )
    centroids, most = known.pop("centroids", torch.zeros(0, 0)), config.concepts.clusters  # a method may find fewer
    fits = centroids.ndim == 2 and 0 < len(centroids) <= most and centroids.shape[1] == config.model.width
    if not fits or centroids.dtype != torch.float32 or not centroids.isfinite().all():
        rule = f"must be finite float32 of [1 to {most}, {config.model.width}]"
        got = f"{centroids.dtype} of {list(centroids.shape)}"
        raise InputError(f"{weights}: concepts.centroids: {rule}, got {got}")
    clusterer = HAAN(config.model, dim, model.classifier.out_features, config.concepts.clusters, config.precision)
    load_weights(clusterer.encoder, {name.removeprefix("encoder."): value for name, value in known.items()}, weights)
    return clusterer.eval(), centroids.numpy()


def concepts_of(encoded: NDArray[np.float32], centroids: NDArray[np.float32]) -> tuple[IntArray, NDArray[np.float32]]:
    """The concept of each encoded clip [clips, width] as training assigns it, and its distance from the centroid."""
    labels = clustering.assign([encoded], centroids, len(encoded)).labels
    return labels, np.linalg.norm(encoded - centroids[labels], axis=1)


def _near(
    config: HaanConfig,
    hidden: Tensor,
    prototypes: Tensor,
    labels: IntArray,
    offsets: IntArray,
    pairs: tuple[IntArray, IntArray],
) -> NDArray[np.bool_]:
    """`ObservedConcepts.near` of a block of videos; pairs: video, by place in the block, and class."""
    setting = config.concepts
    starts = offsets - offsets[0]
    groups = concepts.group(labels, starts, setting.clusters, hidden.device)
    formed = concepts.visual_concepts(hidden, groups)
    chosen, taken = concepts.nearest(formed, prototypes, groups, setting.clusters, setting.top_k, setting.distance)
    # A video's concepts stand in the order of their labels.
    keys = np.unique(np.repeat(np.arange(len(starts) - 1), np.diff(starts)) * setting.clusters + labels)
    first, label_of = np.searchsorted(keys, pairs[0] * setting.clusters), keys % setting.clusters
    rows, kept = chosen.cpu().numpy()[pairs[1], pairs[0]], taken.cpu().numpy()[pairs[1], pairs[0]]  # [pairs, k]
    near = np.zeros((len(rows), setting.clusters), dtype=bool)
    pair, rank = np.nonzero(kept)
    near[pair, label_of[first[pair] + rows[pair, rank]]] = True
    return near


def richest_coarse(seen: Observed) -> list[int]:
    """Coarse classes by their number of segments in the videos, most first; those without any are left out."""
    fine = np.concatenate([seen.segments(place)[1] for place in range(len(seen.videos))])
    counts = np.bincount(seen.annotations.coarse_of_fine[fine], minlength=len(seen.annotations.coarse_names))
    order = np.argsort(-counts, kind="stable")
    return [int(coarse) for coarse in order if counts[coarse] > 0]


def shares(seen: ObservedConcepts) -> tuple[NDArray[np.float64], IntArray]:
    """[fine, clusters] share of each class's videos in which a concept is among the k nearest; [fine] videos of it."""
    num_fine = len(seen.annotations.fine_names)
    count = np.zeros((num_fine, seen.num_clusters))
    np.add.at(count, seen.pair_fine, seen.near)
    videos = np.bincount(seen.pair_fine, minlength=num_fine)
    return count / np.maximum(videos, 1)[:, None], videos


def concept_map(seen: ObservedConcepts, coarse: int, most: int) -> ConceptMap:
    """The map of one coarse class with at most so many concepts, but one of each class in any case."""
    fine = np.flatnonzero(seen.annotations.coarse_of_fine == coarse)
    share, videos = shares(seen)
    share = share[fine]
    related = np.flatnonzero((share >= RELATED).any(axis=0))
    kept = _kept_concepts(share, related, most)
    belongs, total = share[:, kept] >= RELATED, share[:, kept].sum(axis=0)
    breadth, home = belongs.sum(axis=0), belongs.argmax(axis=0)  # home: the first class it belongs to
    shared = sorted(np.flatnonzero(breadth > 1).tolist(), key=lambda i: (-breadth[i], home[i], -total[i]))
    single = sorted(np.flatnonzero(breadth == 1).tolist(), key=lambda i: (home[i], -total[i]))
    order = [*shared, *single]
    return ConceptMap(
        coarse=coarse,
        fine=tuple(fine.tolist()),
        videos=tuple(videos[fine].tolist()),
        concepts=tuple(kept[order].tolist()),
        num_shared=len(shared),
        related=len(related),
        without=int(((videos[fine] > 0) & ~share.any(axis=1)).sum()),
        share=share[:, kept[order]],
    )


def _kept_concepts(share: NDArray[np.float64], related: IntArray, most: int) -> IntArray:
    """At most so many of the related concepts: the first of each class, then its second, then those of largest share.

    share: [classes, clusters].
    """
    if len(related) <= most:
        return related
    own = share[:, related]
    by_share = np.argsort(-own, axis=1, kind="stable")
    kept: dict[int, None] = {}
    for rank, limit in ((0, len(related)), (1, most)):
        for row, places in zip(own, by_share, strict=True):
            if row[places[rank]] >= RELATED and len(kept) < limit:
                kept[int(places[rank])] = None
    rest = (int(i) for i in np.argsort(-own.max(axis=0), kind="stable") if int(i) not in kept)
    chosen = [*kept, *(i for i, _ in zip(rest, range(most - len(kept)), strict=False))]
    return related[sorted(chosen)]


def most_used(seen: ObservedConcepts, coarse: int, count: int) -> list[int]:
    """The concepts that are among the k nearest most often, over the videos and fine classes of a coarse class."""
    inside = seen.annotations.coarse_of_fine[seen.pair_fine] == coarse
    uses = seen.near[inside].sum(axis=0)
    order = np.argsort(-uses, kind="stable")[:count]
    return [int(concept) for concept in order if uses[concept] > 0]


def nearest_clips(seen: ObservedConcepts, concept: int, count: int) -> ConceptClips:
    """The clips of a concept that are nearest to its centroid, at most one a video, so that no scene comes twice.

    Of equally near ones the first counts.
    """
    mine = np.flatnonzero(seen.concept == concept)
    video = np.searchsorted(seen.offsets, mine, side="right") - 1
    by_distance = np.argsort(seen.distance[mine], kind="stable")
    _, first = np.unique(video[by_distance], return_index=True)  # the nearest of each video
    chosen = by_distance[np.sort(first)[:count]]
    clips = tuple(_clip(seen, int(v), int(clip)) for v, clip in zip(video[chosen], mine[chosen], strict=True))
    return ConceptClips(concept, clips, len(mine), len(first))


def _clip(seen: ObservedConcepts, video: int, clip: int) -> NearClip:
    per_s = float(seen.annotations.clips_per_s[seen.videos[video]])
    number = clip - int(seen.offsets[video])
    times, fine = seen.segments(video)
    middle = (number + 0.5) / per_s
    holds = (times[:, 0] <= middle) & (middle < times[:, 1])
    annotated = tuple(dict.fromkeys(fine[holds].tolist()))
    return NearClip(video, number / per_s, (number + 1) / per_s, float(seen.distance[clip]), annotated)


def right_ones(found: NDArray[np.float64], truth: NDArray[np.float64], least: float = RIGHT_TIOU) -> NDArray[np.bool_]:
    """Which detections [n, 2] of one class and video, best score first, are true by the rule of haan.metrics."""
    overlap = tiou(found[:, None, 0], found[:, None, 1], truth[None, :, 0], truth[None, :, 1])
    free, right = np.ones(len(truth), dtype=bool), np.zeros(len(found), dtype=bool)
    for i, row in enumerate(overlap):
        fits = np.flatnonzero(free & (row >= least))
        if len(fits):
            free[fits[row[fits].argmax()]] = False
            right[i] = True
    return right


def rows_apart(found: NDArray[np.float64]) -> IntArray:
    """A row for each detection [n, 2], the best first choosing: the first in which it overlaps none."""
    row = np.zeros(len(found), dtype=np.int64)
    for i, (start_s, end_s) in enumerate(found):
        taken = set(row[:i][(found[:i, 0] < end_s) & (start_s < found[:i, 1])].tolist())
        row[i] = next(free for free in range(i + 1) if free not in taken)
    return row


def _rows_of_best(found: NDArray[np.float64], segments: int) -> IntArray:
    """The rows of a class's detections in a video, or of the best ones where some overlap.

    For then they are a ranking that goes on far below what would be called a detection.
    """
    ascending = found[np.argsort(found[:, 0], kind="stable")]
    overlap = bool((ascending[1:, 0] < np.maximum.accumulate(ascending[:, 1])[:-1]).any())
    most = max(_FEWEST, 2 * segments) if overlap else len(found)
    return rows_apart(found[:most])


def track(seen: Observed, place: int, fine: int) -> Track:
    """One class in one video."""
    times, labels = seen.segments(place)
    truth = times[labels == fine]
    here = seen.detections(place)
    mine = here.start + np.flatnonzero(seen.found.label[here] == fine)
    mine = mine[np.argsort(-seen.found.score[mine], kind="stable")]
    found = np.stack([seen.found.start_s[mine], seen.found.end_s[mine]], axis=1)
    right = right_ones(found, truth)
    row = _rows_of_best(found, len(truth))
    shown = np.flatnonzero(row < _ROWS)
    return Track(
        fine=fine,
        truth=truth,
        found=found[shown],
        found_score=seen.found.score[mine[shown]],
        right=right[shown],
        row=row[shown],
        hidden=len(found) - len(shown),
        hidden_right=int(right.sum() - right[shown].sum()),
        curve=None if seen.curves is None else seen.curves.of(place, seen.clips(place), fine),
        near=seen.nearest(place, fine),
    )


def timeline(seen: Observed, place: int, coarse: int, most: int) -> Timeline:
    """One video with the classes of its ground truth, or, without any, those detected; at most so many.

    First come those with something detected right, then those of the coarse class, then those with most segments.
    """
    _, labels = seen.segments(place)
    here, per_s = seen.detections(place), float(seen.annotations.clips_per_s[seen.videos[place]])
    classes = labels if len(labels) else seen.found.label[here]
    tracks = [track(seen, place, fine) for fine in dict.fromkeys(classes.tolist())]
    coarse_of = seen.annotations.coarse_of_fine
    tracks.sort(key=lambda one: (not one.right.any(), coarse_of[one.fine] != coarse, -len(one.truth), one.fine))
    shown = tuple(tracks[:most])
    others = set(seen.found.label[here].tolist()) | set(labels.tolist())
    others -= {one.fine for one in shown}
    return Timeline(
        video=place,
        clips_per_s=per_s,
        end_s=int(np.diff(seen.offsets)[place]) / per_s,
        tracks=shown,
        concept=seen.concepts(place),
        other_truth=int(np.isin(labels, list(others)).sum()),
        other_found=int(np.isin(seen.found.label[here], list(others)).sum()),
        other_classes=len(others),
    )


def with_right(seen: Observed, coarse: int, count: int) -> list[int]:
    """Videos that show a coarse class, by the share of its segments that are detected right, the largest first.

    Of equals the one comes first where more of all its segments are detected right, then the first.
    """
    scored = []
    for place in range(len(seen.videos)):
        _, labels = seen.segments(place)
        mine = seen.annotations.coarse_of_fine[labels] == coarse
        if not mine.any():
            continue
        right = {fine: int(track(seen, place, fine).right.sum()) for fine in set(labels.tolist())}
        of_class = sum(right[fine] for fine in set(labels[mine].tolist()))
        scored.append((-of_class / mine.sum(), -sum(right.values()) / len(labels), place))
    return [place for *_, place in sorted(scored)[:count]]
