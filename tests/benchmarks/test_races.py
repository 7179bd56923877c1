"""The races' yardstick where what is right is known."""

import numpy as np
import pytest

from search.study.algorithms import silent
from tests.benchmarks import pools, races
from tests.benchmarks.made_up import CONFIGS, made_up
from tests.benchmarks.pools import REDRAWN, Recorded
from tests.benchmarks.races import Repeated, Repeats, claims, confirm, figures, of_pool, permuted, repeated


@pytest.fixture(scope="module")
def pool() -> Recorded:
    return made_up()


def test_without_noise_the_best_wins_after_the_first_look(pool: Recorded) -> None:
    made = figures(of_pool(pool, np.random.default_rng(0)), 2, 6, 20)
    assert (made.right.share, made.below.share, made.num_runs.share, made.holds.share) == (1.0, 0.0, 12.0, 1.0)


def test_where_nobody_leaves_all_run_all_seeds() -> None:
    values = np.random.default_rng(0).normal(size=(6, 4)) + np.arange(6)[:, None] * 9
    assert confirm(values, 4).num_runs == 24 and confirm(values, 2).num_runs == 12
    assert confirm(values, 2).winner == 5


def test_permuted_pools_have_nothing_that_is_better(pool: Recorded) -> None:
    true, values = permuted(pool, np.random.default_rng(0))(50)
    assert set(true) == {0.0} and values.shape == (6, 50)
    assert np.ptp(values.mean(axis=1)) < 3 * CONFIGS / (12 * 50) ** 0.5 * 3, "means of draws from 0 to 29"
    assert claims(permuted(pool, np.random.default_rng(0)), 2, 4, 30)[0].share <= 0.1


def test_repeating_costs_runs_and_sees_through_one_flattering_holdout(pool: Recorded) -> None:
    """Configurations 1 to 5 score 30 more on the search's own holdout, which repeats aren't on."""
    scores = {kind: values.copy() for kind, values in pool.scores.items()}
    scores[REDRAWN][1:6, 0] += 30.0
    fooled = Recorded("made-up", pool.space, pool.params, scores)
    with silent():
        assert repeated(fooled, Repeats(), 30, seed=3) <= 5.0 < repeated(fooled, Repeats(5, 1), 30, seed=3)
        one = Repeated(fooled, 0, 5, 0)
        for _ in range(10):
            one.step(1)
        raced = Repeated(pool, 0, 1, 0)
        for _ in range(20):
            raced.step(0)
        assert raced.race(top=5, seeds=4) == raced.worth() and raced.raced == 12
    assert sum(one.counts) == 10 and max(one.counts) <= 5


def test_no_way_needs_more_runs_than_a_pool_has() -> None:
    there = pools.SEEDS[REDRAWN] + pools.SEEDS[pools.FIXED]
    assert all(max(way.most, 1 + way.seeds) <= there for way in races.REPLICATED.values())
