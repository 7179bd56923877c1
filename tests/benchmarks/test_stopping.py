"""The rule that ends a search, on a recorded pool."""

import numpy as np
import pytest

from search.study.algorithms import silent
from tests.benchmarks import pools, stopping
from tests.benchmarks.pools import REDRAWN, Recorded
from tests.benchmarks.stopping import ended, noises


def test_looking_further_ahead_ends_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "TRIALS", 25)
    monkeypatch.setattr(stopping, "AHEAD", (1, 1000))
    with silent():
        by_ahead, worth = ended(pools.read("planted-hard"), 1)
    assert 10 <= by_ahead[1][0] < by_ahead[1000][0] == 25 and by_ahead[1000][1] == worth > 5


def test_noise_is_of_seeds_and_of_epochs() -> None:
    pool = pools.read("planted-hard")
    shape = pool.scores[REDRAWN].shape
    random = np.random.default_rng(0)
    seeds = np.broadcast_to(3.0 * random.standard_normal((*shape[:2], 1, 1)), shape)
    of_seeds = noises(Recorded(pool.name, pool.space, pool.params, {**pool.scores, REDRAWN: seeds}))
    assert of_seeds == (pytest.approx(3.0, rel=0.1), 0.0)
    epochs = np.broadcast_to(2.0 * random.standard_normal((*shape[:3], 1)), shape)
    assert noises(Recorded(pool.name, pool.space, pool.params, {REDRAWN: epochs}))[1] == pytest.approx(2.0, rel=0.1)
