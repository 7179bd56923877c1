"""A fixed number of clips of each video, as released code takes them; a short video's clips repeat."""

import numpy as np
from numpy.typing import NDArray


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
