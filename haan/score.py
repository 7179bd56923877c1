"""A network's activations, and its avg.mAP at every detection setting."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from haan.data.table import Annotations
from haan.errors import InputError
from haan.feed import join_blocks
from haan.methods.haan.network import HAAN
from haan.metrics import Score, Segments

COLLAPSED = 1e-5  # range of every class's logits over all clips, below which the network says the same of each clip


def truth(annotations: Annotations, videos: NDArray[np.int64]) -> Segments:
    """Ground-truth segments of some videos; `video` counts from 0 in the order given."""
    counts = np.diff(annotations.segment_offsets)[videos]
    first = annotations.segment_offsets[videos]
    index = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
    times = annotations.segments[index]
    return Segments(
        np.repeat(np.arange(len(videos)), counts), annotations.segment_fine[index], times[:, 0], times[:, 1]
    )


def choose_device(name: str) -> torch.device:
    """The device of `device: auto | cpu | cuda`. Raises InputError when CUDA is asked for and absent."""
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device: must be cpu or auto where PyTorch finds no CUDA device, got 'cuda'")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def activations(
    model: HAAN, blocks: Iterable[Float[Tensor, "clips d"]], num_clips: int
) -> Float[NDArray, "clips classes"]:
    """Class activation sequences of so many clips, which come block by block; dropout off."""
    model.eval()
    with torch.inference_mode():
        return join_blocks((model.activations(clips) for clips in blocks), num_clips)


def report(score: Score, thresholds: Sequence[float]) -> dict[float, float]:
    """mAP in percent at some of the thresholds of a score."""
    means = score.map
    return {t: float(means[int(np.flatnonzero(score.tiou == t)[0])]) for t in thresholds}
