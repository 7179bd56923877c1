"""A fixed number of clips of each video, as released code takes them; a short video's clips repeat."""

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

_PLACES = 3  # of a part, whose mean its point is


def stratified(num_clips: NDArray[np.int64], many: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Places of clips in their video, for training: [videos, many], each drawn from its part of the video, ascending.

    Part j reaches from floor(j T / many) to the beginning of the next one, that included, the last to the last clip;
    so a clip may be drawn twice. Of exactly so many clips each is taken once.
    """
    low = uniform(num_clips, many)
    high = np.append(low[:, 1:], num_clips[:, None] - 1, axis=1)
    drawn = rng.integers(low, high, endpoint=True)
    return np.where(num_clips[:, None] == many, low, drawn)


def uniform(num_clips: NDArray[np.int64], many: int) -> NDArray[np.int64]:
    """Places of clips in their video, for inference: [videos, many], floor(j T / many)."""
    return np.arange(many) * num_clips[:, None] // many


def to_points(num_clips: Int[Tensor, " videos"], points: int, longest: int) -> Float[Tensor, "videos points longest"]:
    """What each clip adds to each of so many points, equal parts of a video, that stand for it.

    The mean of three places of the part, interpolated linearly between the middles of clips; beyond these the nearest.
    A video of just so many clips is as it is.
    """
    size = num_clips[:, None, None]
    within = (torch.arange(_PLACES, device=size.device) + 0.5) / _PLACES
    part = torch.arange(points, device=size.device)[:, None] + torch.where(size == points, 0.5, within)
    place = (part * (size / points) - 0.5).clamp_min(0).minimum((size - 1).clamp_min(0))
    near = 1 - (place[..., None] - torch.arange(longest, device=size.device)).abs()
    return near.clamp_min(0).mean(dim=2)
