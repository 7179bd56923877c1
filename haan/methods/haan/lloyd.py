"""k-means where the clips are: faiss's, for clips on a GPU, by products that give the same sums at each call.

faiss itself would copy the sample to the GPU at each iteration and add the clips up on the host. This begins with the
same clips as faiss and refills clusters that run empty by faiss's own function, so centroids differ by rounding alone,
until one runs empty.
"""

from collections.abc import Iterable

import faiss
import numpy as np
import torch
from faiss.contrib.clustering import reassign_centroids
from jaxtyping import Float, Int
from torch import Tensor

from haan.losses import members
from haan.methods.haan.clustering import ITERATIONS, PseudoLabels, shares
from haan.methods.parts import exact_products

_SPLIT_SEED = 1234  # faiss's own
BLOCK = 8192  # clips whose distances to all centroids are held at once


def fit(
    sample: Float[Tensor, "clips width"], clusters: int, seed: int, start: Float[Tensor, "clusters width"] | None = None
) -> Float[Tensor, "clusters width"]:
    """Centroids of a sample with at least as many clips as clusters; as `clustering.fit_kmeans`."""
    centroids = sample[_first(len(sample), clusters, seed).to(sample.device)] if start is None else start
    rng = np.random.RandomState(_SPLIT_SEED)
    for _ in range(ITERATIONS):
        counts, sums = _sums(sample, centroids)
        centroids = sums / counts.clamp_min(1)
        reassign_centroids(counts.ravel().cpu().numpy().astype(np.int64), centroids, rng)
    return centroids


def _first(num_clips: int, clusters: int, seed: int) -> Int[Tensor, " clusters"]:
    """The clips that faiss begins with."""
    order = np.empty(num_clips, dtype=np.int32)
    faiss.rand_perm(faiss.swig_ptr(order), num_clips, seed + 1)  # type: ignore[attr-defined]  # not in its stubs
    return torch.from_numpy(order[:clusters].astype(np.int64))


def _sums(
    sample: Float[Tensor, "clips width"], centroids: Float[Tensor, "clusters width"]
) -> tuple[Float[Tensor, "clusters 1"], Float[Tensor, "clusters width"]]:
    """How many clips are nearest to each centroid, and their sum."""
    counts, sums = centroids.new_zeros(len(centroids), 1), torch.zeros_like(centroids)
    with exact_products():
        for block in sample.split(BLOCK):
            member = members(closest(block, centroids), len(centroids)).T
            counts += member.sum(dim=1, keepdim=True)
            sums += member @ block
    return counts, sums


def closest(clips: Float[Tensor, "clips width"], centroids: Float[Tensor, "clusters width"]) -> Int[Tensor, " clips"]:
    """The nearest centroid of each clip (Euclidean): one product and an argmin."""
    with exact_products():
        return (centroids.square().sum(dim=1) / 2).addmm(clips, centroids.T, alpha=-1).argmin(dim=1)


def assign(
    blocks: Iterable[Float[Tensor, "clips width"]], centroids: Float[Tensor, "clusters width"], num_clips: int
) -> PseudoLabels:
    """The nearest centroid of every clip, from blocks of clips in order; nothing comes to the host before the end."""
    labels = torch.cat([closest(block, centroids) for block in blocks])
    if len(labels) != num_clips:
        raise ValueError(f"{len(labels)} of {num_clips} clips were assigned")
    found = labels.cpu().numpy()
    return PseudoLabels(found, shares(found, len(centroids)), centroids.cpu().numpy())
