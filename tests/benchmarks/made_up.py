"""A pool whose better configurations are known."""

import numpy as np

from tests.benchmarks import pools
from tests.benchmarks.pools import Recorded, configurations, space_of

CONFIGS = 30


def made_up() -> Recorded:
    """Configuration i rises to i at the second setting, everywhere, and to half of that at the others; no noise."""
    space = space_of("planted-easy")
    epochs, detects = space.base.optim.epochs, len(space.detects)
    rise = np.linspace(0.1, 1.0, epochs)[:, None] * np.where(np.arange(detects) == 1, 1.0, 0.5)
    one = np.arange(CONFIGS)[:, None, None] * rise
    scores = {kind: np.repeat(one[:, None], count, axis=1) for kind, count in pools.SEEDS.items()}
    return Recorded("made-up", space, tuple(configurations(space, CONFIGS)), scores)
