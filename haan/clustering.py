"""Clips -> pseudo labels: k-means on a sample of encoded clips, then an assignment of every clip (Sec. 3.2)."""

from collections.abc import Iterable
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from haan.errors import InputError

_ITERATIONS = 25


@dataclass(frozen=True)
class PseudoLabels:
    """labels: [clips] int64 cluster of each clip. frequency: [clusters] float32 share of the clips in each.

    centroids: [clusters, width] float32 the clusters' centres.
    """

    labels: NDArray[np.int64]
    frequency: NDArray[np.float32]
    centroids: NDArray[np.float32]


def sample_size(num_clips: int, sample_rate: float) -> int:
    """How many clips k-means is fitted on."""
    return int(sample_rate * num_clips)


def check_sample(num_clips: int, sample_rate: float, clusters: int) -> None:
    """Raises InputError when the sample holds fewer clips than there are clusters."""
    size = sample_size(num_clips, sample_rate)
    if size < clusters:
        raise InputError(
            f"concepts.clusters: must be <= the number of sampled clips (concepts.sample_rate {sample_rate} of "
            f"{num_clips} training clips = {size}), got {clusters}"
        )


def draw_sample(num_clips: int, sample_rate: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of the sampled clips, ascending, without repetition."""
    return np.sort(rng.choice(num_clips, sample_size(num_clips, sample_rate), replace=False))


def fit_kmeans(
    sample: NDArray[np.float32], clusters: int, seed: int, gpu: bool, start: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Centroids [clusters, width] of a sample [clips, width] with at least as many clips as clusters.

    start: centroids [clusters, width] to begin with; by default clips of the sample, drawn with the seed.
    A cluster that runs empty while fitting is refilled by splitting a large one (faiss does this); where the sample
    holds fewer distinct clips than clusters, some stay empty and get no clip.
    """
    kmeans = faiss.Kmeans(
        sample.shape[1],
        clusters,
        niter=_ITERATIONS,
        seed=seed,
        gpu=gpu and faiss.get_num_gpus() > 0,
        min_points_per_centroid=1,
        max_points_per_centroid=len(sample),
        verbose=False,
    )
    kmeans.train(np.ascontiguousarray(sample, dtype=np.float32), init_centroids=start)
    return np.asarray(kmeans.centroids)


def assign(
    blocks: Iterable[NDArray[np.float32]], centroids: NDArray[np.float32], num_clips: int, gpu: bool
) -> PseudoLabels:
    """The nearest centroid (Euclidean) of every clip, from blocks of clips [clips, width] in order."""
    index = faiss.IndexFlatL2(centroids.shape[1])
    if gpu and faiss.get_num_gpus() > 0:
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    index.add(centroids)
    labels = np.empty(num_clips, dtype=np.int64)
    done = 0
    for block in blocks:
        labels[done : done + len(block)] = index.search(np.ascontiguousarray(block), 1)[1].ravel()
        done += len(block)
    if done != num_clips or labels.min() < 0:
        raise ValueError(f"{done} of {num_clips} clips were assigned, the lowest label is {labels.min()}")
    counts = np.bincount(labels, minlength=len(centroids))
    return PseudoLabels(labels, (counts / num_clips).astype(np.float32), centroids)
