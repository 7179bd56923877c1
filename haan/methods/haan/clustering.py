"""Clips -> pseudo labels: clusters of a sample of encoded clips, then an assignment of every clip (Sec. 3.2, Tab. 3).

kmeans: faiss, float32; where the clips lie on a GPU, haan.methods.haan.lloyd. gmm: scikit-learn's GaussianMixture with
diagonal covariances. birch: scikit-learn's Birch. These two run on the CPU in float64, for both subtract squares from
each other, and a clip's label is what their own `predict` says.

None of them may hang a training: iterations, passes over the sample and, for gmm and birch, the sample itself are
bounded, so that the work, and with it every number, is the same on a slow machine. `concepts.fit_limit_s` bounds the
time as well; a fit that takes longer changes no number, it ends the training.
"""

import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from haan.errors import InputError
from haan.methods.haan.config import Concepts

ITERATIONS = 25  # of k-means
_EM_ITERATIONS, _EM_STRETCH = 100, 5  # of gmm: scikit-learn's own number; the time is looked at after so many
_MOST_CLIPS = 32_768  # that gmm and birch are fitted on, unless there are more clusters; what the paper's sets need
_PASSES = 16  # of birch over the sample, in search of a threshold
_MOST_SUBCLUSTERS = 4  # times N: what birch may hand to its last step, whose memory grows with the square
_SLICE = 1024  # clips between two looks at the time and at the number of sub-clusters

Clips = NDArray[np.float32]


class FitError(RuntimeError):
    """A sample could not be clustered."""


@dataclass(frozen=True)
class PseudoLabels:
    """labels: [clips] int64 cluster of each clip. frequency: [clusters] float32 share of the clips in each.

    centroids: [found, width] float32 the clusters' centres; `found` is below `clusters` where birch finds fewer. The
    clusters behind it get no clip.
    """

    labels: NDArray[np.int64]
    frequency: NDArray[np.float32]
    centroids: NDArray[np.float32]

    @property
    def empty(self) -> int:
        """How many of the N clusters hold no clip."""
        return int((self.frequency == 0).sum())


@dataclass(frozen=True)
class Fitted:
    """Clusters of a sample.

    centroids: [found, width] float32 centroids of kmeans, means of gmm, means of birch's sub-clusters by cluster.
    label: [clips, width] float32 -> [clips] the cluster of each clip, < found. clusters: N.
    """

    centroids: Clips
    label: Callable[[Clips], NDArray[np.int64]]
    clusters: int

    def assign(self, blocks: Iterable[Clips], num_clips: int) -> PseudoLabels:
        """The cluster of every clip, from blocks of clips [clips, width] in order."""
        labels = np.empty(num_clips, dtype=np.int64)
        done = 0
        for block in blocks:
            labels[done : done + len(block)] = self.label(block)
            done += len(block)
        if done != num_clips or labels.min() < 0:
            raise ValueError(f"{done} of {num_clips} clips were assigned, the lowest label is {labels.min()}")
        return PseudoLabels(labels, shares(labels, self.clusters), self.centroids)


def shares(labels: NDArray[np.int64], clusters: int) -> NDArray[np.float32]:
    """The share of the clips in each cluster."""
    return (np.bincount(labels, minlength=clusters) / len(labels)).astype(np.float32)


def sample_size(num_clips: int, sample_rate: float) -> int:
    """How many clips the clusters are fitted on."""
    return int(sample_rate * num_clips)


def check_sample(num_clips: int, sample_rate: float, clusters: int) -> None:
    """Raises InputError when the sample holds fewer clips than there are clusters."""
    size = sample_size(num_clips, sample_rate)
    if size < clusters:
        raise InputError(
            f"concepts.clusters: must be <= the number of sampled clips (concepts.sample_rate {sample_rate} of "
            f"{num_clips} training clips = {size}), got {clusters}"
        )


def draw_sample(
    num_clips: int, sample_rate: float, rng: np.random.Generator, most: int | None = None
) -> NDArray[np.int64]:
    """Indices of the sampled clips, ascending, without repetition; at most so many."""
    size = sample_size(num_clips, sample_rate)
    return np.sort(rng.choice(num_clips, size if most is None else min(size, most), replace=False))


def most_clips(setting: Concepts) -> int | None:
    """The largest sample that a method may be fitted on; None for kmeans, which is quick on any."""
    return None if setting.method == "kmeans" else max(_MOST_CLIPS, setting.clusters)


def fit(sample: Clips, setting: Concepts, seed: int, start: Clips | None = None, threads: int | None = None) -> Fitted:
    """Clusters of a sample [clips, width] by `concepts.method`; `start` as in `fit_kmeans`, and for kmeans alone.

    threads: of scikit-learn; None: as many as it likes. Raises FitError where a fit takes longer than
    `concepts.fit_limit_s`, or where scikit-learn finds no clusters in such numbers.
    """
    if setting.method == "kmeans":
        return nearest(fit_kmeans(sample, setting.clusters, seed, start))
    if start is not None:
        raise ValueError(f"{setting.method} can't begin with the last centroids")
    clock = _Clock(setting.method, setting.fit_limit_s)
    with _scikit_learn(threads):
        if setting.method == "gmm":
            return fit_gmm(sample, setting.clusters, seed, clock.look, threads)
        return fit_birch(sample, setting.clusters, clock.look, threads)


class _Clock:
    """Ends a fit that takes too long."""

    def __init__(self, method: str, limit_s: float):
        self._method, self._limit_s, self._start = method, limit_s, time.monotonic()

    def look(self) -> None:
        """Raises FitError once the limit is passed."""
        taken = time.monotonic() - self._start
        if taken > self._limit_s:
            rule = f"concepts.fit_limit_s: a fit of {self._method} must take <= {self._limit_s:g} s"
            raise FitError(f"{rule}, got {taken:.1f} s so far; fewer clusters or a smaller concepts.sample_rate help")


@contextmanager
def _scikit_learn(threads: int | None) -> Iterator[None]:
    """So many threads, for rounding depends on them; what it warns of is told by `PseudoLabels.empty`."""
    from sklearn.exceptions import ConvergenceWarning  # slow to import, and k-means does without
    from threadpoolctl import threadpool_limits

    with warnings.catch_warnings(), threadpool_limits(threads):
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def fit_kmeans(sample: Clips, clusters: int, seed: int, start: Clips | None = None) -> NDArray[np.float32]:
    """Centroids [clusters, width] of a sample [clips, width] with at least as many clips as clusters.

    start: centroids [clusters, width] to begin with; by default clips of the sample, drawn with the seed.
    A cluster that runs empty while fitting is refilled by splitting a large one (faiss does this); where the sample
    holds fewer distinct clips than clusters, some stay empty and get no clip.
    """
    kmeans = faiss.Kmeans(
        sample.shape[1],
        clusters,
        niter=ITERATIONS,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(sample),
        verbose=False,
    )
    kmeans.train(np.ascontiguousarray(sample, dtype=np.float32), init_centroids=start)
    return np.asarray(kmeans.centroids)


def nearest(centroids: Clips) -> Fitted:
    """Clusters of which each clip belongs to the nearest centroid (Euclidean)."""
    index = faiss.IndexFlatL2(centroids.shape[1])
    index.add(centroids)
    return Fitted(centroids, lambda block: index.search(np.ascontiguousarray(block), 1)[1].ravel(), len(centroids))


def assign(blocks: Iterable[Clips], centroids: Clips, num_clips: int) -> PseudoLabels:
    """The nearest centroid (Euclidean) of every clip, from blocks of clips [clips, width] in order."""
    return nearest(centroids).assign(blocks, num_clips)


def fit_gmm(sample: Clips, clusters: int, seed: int, look: Callable[[], None], threads: int | None = None) -> Fitted:
    """A mixture of Gaussians with diagonal covariances; a clip belongs to the component it is most probably of.

    It is `GaussianMixture(clusters, covariance_type="diag", random_state=seed)`, in stretches of a few EM iterations
    after each of which `look` may end it: `warm_start` goes on where the last one stopped.
    """
    from sklearn.mixture import GaussianMixture

    values = sample.astype(np.float64)
    model: Any = GaussianMixture(
        clusters, covariance_type="diag", max_iter=_EM_STRETCH, warm_start=True, random_state=seed
    )
    for _ in range(_EM_ITERATIONS // _EM_STRETCH):
        try:
            model.fit(values)
        except ValueError as error:
            raise FitError(f"gmm found no {clusters} components: {error}") from None
        if model.converged_:
            break
        look()
    return Fitted(model.means_.astype(np.float32), _predicting(model.predict, threads), clusters)


def fit_birch(sample: Clips, clusters: int, look: Callable[[], None], threads: int | None = None) -> Fitted:
    """Birch: sub-clusters of bounded radius, the clips taken in their order, joined into `clusters` (Ward).

    A clip belongs to the cluster of the nearest sub-cluster. scikit-learn's threshold, the largest radius of a
    sub-cluster, is in the features' own unit (0.5 means nothing here), and decides how many sub-clusters there are. So
    it is found by bisection between 0 and the radius of the whole sample (root mean square distance to the mean, at
    which there is one, unless many clips lie far out): the first of at most 16 that gives N to 4 N sub-clusters. Where
    all give more, it is sought between there and the largest distance to the mean, which no group of clips exceeds.
    Where none does, as with many equal clips, it is the one that gives the most below N, each sub-cluster is a cluster,
    and so fewer than N are found.
    """
    values = sample.astype(np.float64)
    squared = np.square(values - values.mean(axis=0)).sum(axis=1)
    radius, largest = float(np.sqrt(squared.mean())), float(np.sqrt(squared.max()))
    most = _bisected(values, clusters, 0.0, radius, look)
    if most is None:
        most = _bisected(values, clusters, radius, largest, look)
    if most is None:
        raise FitError(f"birch found no threshold below which its sub-clusters are few enough for {clusters} clusters")
    most.set_params(n_clusters=clusters)
    most.partial_fit()  # its last step alone: joins the sub-clusters
    centres, of = most.subcluster_centers_, np.asarray(most.subcluster_labels_)
    found = int(of.max()) + 1
    means = np.stack([centres[of == cluster].mean(axis=0) for cluster in range(found)])
    return Fitted(means.astype(np.float32), _predicting(most.predict, threads), clusters)


def _bisected(values: NDArray[np.float64], clusters: int, low: float, high: float, look: Callable[[], None]) -> Any:
    """The tree of `fit_birch` for a threshold between two; None where all give more than 4 N sub-clusters."""
    most: Any = None
    for _ in range(_PASSES):
        threshold = (low + high) / 2 or np.finfo(np.float64).tiny
        tree = _tree(values, threshold, _MOST_SUBCLUSTERS * clusters, look)
        if tree is None:
            low = threshold
            continue
        high, found = threshold, len(tree.subcluster_centers_)
        if most is None or found > len(most.subcluster_centers_):
            most = tree
        if found >= clusters:
            break
    return most


def _tree(values: NDArray[np.float64], threshold: float, most: int, look: Callable[[], None]) -> Any:
    """A Birch that knows the sub-clusters of all clips; None once there are more than `most`."""
    from sklearn.cluster import Birch

    tree: Any = Birch(threshold=threshold, n_clusters=None, compute_labels=False)  # type: ignore[arg-type]  # or None
    for first in range(0, len(values), _SLICE):
        tree.partial_fit(values[first : first + _SLICE])
        if len(tree.subcluster_centers_) > most:
            return None
        look()
    return tree


def _predicting(
    predict: Callable[[NDArray[np.float64]], Any], threads: int | None
) -> Callable[[Clips], NDArray[np.int64]]:
    """scikit-learn's own labels of a block."""

    def label(block: Clips) -> NDArray[np.int64]:
        with _scikit_learn(threads):
            return np.asarray(predict(block.astype(np.float64)), dtype=np.int64)

    return label
