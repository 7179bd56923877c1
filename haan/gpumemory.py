"""What a training takes of a GPU's memory, counted beforehand: an estimate from above, for a plan."""

from dataclasses import dataclass

import torch

from haan.config import Config
from haan.data.table import IntArray
from haan.feed import BLOCK_CLIPS
from haan.fixed import capacities
from haan.methods.haan.clustering import sample_size
from haan.methods.haan.lloyd import BLOCK as KMEANS_CLIPS
from haan.methods.names import METHODS
from haan.words import byte_size

CUDA = 512 * 2**20  # a process's own: context, kernels, cuBLAS
_FLOAT, _HALF = 4, 2
_HEADS = 4  # of two layers each: what they keep of a clip
_KEPT = 6  # numbers a clip and unit of a hidden layer: product, relu, dropout's mask and product, and gradients of two
# Of the weights: moments, what the epoch before left; in a graph's making two gradients, what is put back and compared.
_COPIES = 14
_ALLOCATOR = 1.25  # PyTorch's: blocks are rounded up, and holes remain


def may_stay(size: int, free: int) -> bool:
    """Whether all clips, so many bytes, stay on a GPU with so many free: they take half of these at most."""
    return 2 * size <= free


def has_room(device: torch.device, size: int) -> bool:
    """Whether all clips may stay on a device; False on a CPU."""
    return device.type == "cuda" and may_stay(size, torch.cuda.mem_get_info(device)[0])


@dataclass(frozen=True)
class GpuNeed:
    """Bytes.

    weights: with gradients and moments, and their copies while a graph is made. steps: an epoch's table, and one step
    of the largest batch. between: a clustering's sample and products, and a block of clips. cuda: what a process takes
    by being there.
    """

    weights: int
    steps: int
    between: int
    cuda: int = CUDA

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.steps + self.between + self.cuda

    def __str__(self) -> str:
        parts = {"weights and moments": self.weights, "steps": self.steps, "between them": self.between}
        return ", ".join(f"{name} {byte_size(size)}" for name, size in parts.items()) + f", CUDA {byte_size(self.cuda)}"


def gpu_need(config: Config, dim: int, num_fine: int, num_coarse: int, num_clips: IntArray) -> GpuNeed:
    """Of one configuration, for training videos of so many clips [clips, dim] each."""
    with torch.device("meta"):
        network = METHODS["haan"].build(config, dim, num_fine)
    number = sum(parameter.numel() for parameter in network.parameters())
    shape, videos = capacities(num_clips, config.optim.batch_videos)[-1], config.optim.batch_videos
    clusters, width = config.concepts.clusters, config.model.width
    ranks = videos * min(shape.longest, clusters)
    of_clip = dim * (_FLOAT + _HALF) + _HEADS * _KEPT * width * _FLOAT + 3 * (num_fine + clusters) * _FLOAT
    of_concepts = ranks * (2 * shape.clips + 4 * width + 6 * num_fine) * _FLOAT
    step = shape.clips * of_clip + of_concepts + 4 * videos * (num_fine + num_coarse) * width * _FLOAT
    rows = int(num_clips.sum()) * (4 + 2 * videos) + len(num_clips) * (2 + 3 * num_fine + 2 * num_coarse)
    block = BLOCK_CLIPS * (dim * (_FLOAT + _HALF) + 4 * width * _FLOAT + num_fine * _FLOAT)
    sample = sample_size(int(num_clips.sum()), config.concepts.sample_rate)
    kmeans = (sample * width + 2 * KMEANS_CLIPS * clusters + 3 * clusters * width) * _FLOAT
    return GpuNeed(
        weights=number * _COPIES * _FLOAT,
        steps=int((2 * rows * _FLOAT + step) * _ALLOCATOR),
        between=int((kmeans + block) * _ALLOCATOR),
    )
