"""The floor under ours: the matrix products alone, in plain PyTorch and faiss, on float32 clips that lie ready.

Nothing here reads a table, pools, forms concepts or computes a loss.
"""

from collections.abc import Callable

import faiss
import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from haan.methods.haan.clustering import ITERATIONS
from haan.train import Trainer
from tests.benchmarks.sizes import Size

Step = Callable[[Float[Tensor, "clips d"]], None]


def _hidden(width_in: int, width: int, dropout: float) -> nn.Sequential:
    drop = [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(nn.Linear(width_in, width), nn.ReLU(), *drop)


class Heads(nn.Module):
    """The encoder and the four heads of haan.methods.haan.network."""

    def __init__(self, size: Size, dropout: float):
        super().__init__()
        width = size.width
        self.coarse_rows = 2 * size.coarse  # rows that S' reads in a step of two videos
        self.encoder = nn.Sequential(_hidden(size.dim, width, dropout), nn.Linear(width, width))
        self.classifier_hidden = _hidden(width, width, dropout)
        self.classifier = nn.Linear(width, size.fine)
        self.concept_classifier = nn.Sequential(_hidden(width, width, dropout), nn.Linear(width, size.clusters))
        self.coarse_classifier = nn.Sequential(_hidden(width, width, dropout), nn.Linear(width, 1))

    def forward(self, clips: Float[Tensor, "clips d"]) -> Float[Tensor, ""]:
        """The sum of all that the heads say."""
        encoded = self.encoder(clips)
        hidden = self.classifier_hidden(encoded)
        coarse = self.coarse_classifier(hidden[: self.coarse_rows])
        return self.classifier(hidden).sum() + self.concept_classifier(encoded).sum() + coarse.sum()

    def activations(self, clips: Float[Tensor, "clips d"]) -> Float[Tensor, "clips fine"]:
        """The class activation sequence."""
        return self.classifier(self.classifier_hidden(self.encoder(clips)))


def stepper(size: Size, dropout: float, device: torch.device) -> Step:
    """A function that takes one step on some clips: forward, backward and fused Adam of the heads."""
    heads = Heads(size, dropout).to(device)
    adam = torch.optim.Adam(heads.parameters(), lr=3e-5, fused=True, capturable=device.type == "cuda")

    def step(clips: Float[Tensor, "clips d"]) -> None:
        adam.zero_grad(set_to_none=True)
        heads(clips).backward()
        adam.step()

    return step


def clips_of(trainer: Trainer, videos: NDArray[np.int64]) -> Float[Tensor, "clips d"]:
    """The clips of some videos of the table, in float32."""
    table = trainer.table
    return table.gather(videos, torch.empty(int(table.num_clips[videos].sum()), table.dim)).to(trainer.device)


def encode(encoder: nn.Module, clips: Float[Tensor, "clips d"]) -> Float[Tensor, "clips width"]:
    """All clips in one block."""
    encoder.eval()
    with torch.inference_mode():
        return encoder(clips)


def kmeans(sample: Float[NDArray, "clips width"], clusters: int, seed: int) -> Float[NDArray, "clusters width"]:
    """Centroids by faiss's own objects: from the same start as our clustering, so after as many iterations."""
    width = sample.shape[1]
    clustering = faiss.Clustering(width, clusters)
    clustering.niter, clustering.seed = ITERATIONS, seed
    clustering.min_points_per_centroid, clustering.max_points_per_centroid = 1, len(sample)
    index = faiss.IndexFlatL2(width)
    clustering.train(sample, index)
    return faiss.vector_to_array(clustering.centroids).reshape(clusters, width)


def assign(encoded: Float[Tensor, "clips width"], centroids: Float[Tensor, "clusters width"]) -> Int[Tensor, " clips"]:
    """The nearest centroid of each clip: one product and an argmin."""
    return (centroids.square().sum(dim=1) / 2).addmm(encoded, centroids.T, alpha=-1).argmin(dim=1)
