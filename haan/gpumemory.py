"""What a training takes of a GPU's memory, counted beforehand: an estimate from above, for a plan."""

from dataclasses import dataclass

import torch

from haan.config import Config
from haan.feed import BLOCK_CLIPS
from haan.fixed import capacities
from haan.methods.base import Labelled
from haan.methods.names import method_of
from haan.words import byte_size

CUDA = 512 * 2**20  # a process's own: context, kernels, cuBLAS
_FLOAT, _HALF = 4, 2
# Of the weights: moments, what the epoch before left; in a graph's making two gradients, what is put back and compared.
_COPIES = 14
_AVERAGED = 3  # more: moving averages, what the epoch before left of them, and those put back
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


def gpu_need(config: Config, known: Labelled) -> GpuNeed:
    """Of one configuration, for the videos that it is trained on."""
    method = method_of(config)
    with torch.device("meta"):
        network = method.build(config, known.dim, known.fine.shape[1])
    weights = sum(parameter.numel() for parameter in network.parameters())
    copies = _COPIES + (_AVERAGED if config.optim.ema_epochs else 0)
    largest = capacities(known.num_clips, config.optim.batch_videos, repeats=method.repeats)[-1]
    numbers, of_clip = method.numbers(config, known, largest), known.dim * (_FLOAT + _HALF)  # before it is encoded
    return GpuNeed(
        weights=weights * copies * _FLOAT,
        steps=int(((2 * numbers.rows + numbers.step) * _FLOAT + largest.clips * of_clip) * _ALLOCATOR),
        between=int(((numbers.renew + numbers.block) * _FLOAT + BLOCK_CLIPS * of_clip) * _ALLOCATOR),
    )
