"""What every method shares with the trainer."""

import numpy as np


def mix_seed(seed: int, epoch: int) -> int:
    """A seed below 2**31 that differs between epochs and runs."""
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0] >> 1)
