"""Which epoch is to count, on made-up pools."""

from itertools import combinations
from statistics import fmean

import numpy as np
import pytest

from tests.benchmarks import pools
from tests.benchmarks.objectives import OBJECTIVES, expected, flattery, seen, table
from tests.benchmarks.pools import OFFICIAL, REDRAWN, Recorded, space_of


@pytest.fixture(scope="module")
def pool() -> Recorded:
    """Four configurations, noise alone, but official values that tell epoch (tens) and setting (ones)."""
    space = space_of("planted-easy")
    shape = (4, 3, space.base.optim.epochs, len(space.detects))
    random = np.random.default_rng(0)
    scores = {kind: random.random((4, count, *shape[2:])) for kind, count in pools.SEEDS.items()}
    scores[OFFICIAL][:] = 10 * np.arange(shape[2])[:, None] + np.arange(shape[3])
    return Recorded("noise", space, tuple({} for _ in range(4)), scores)


@pytest.mark.parametrize("trials", [1, 2, 3, 5])
def test_the_expected_worth_is_the_mean_over_all_searches(trials: int) -> None:
    random = np.random.default_rng(1)
    values, worth = random.random(6), random.random(6)
    searches = [(0, *others) for others in combinations(range(1, 6), trials - 1)]
    mean = fmean(worth[max(one, key=lambda config: values[config])] for one in searches)
    assert expected(values, worth, trials) == pytest.approx(mean)


@pytest.mark.parametrize(("name", "last"), OBJECTIVES.items())
def test_what_is_seen_is_where_it_leaves(pool: Recorded, name: str, last: int) -> None:
    values, worth = seen(pool, last)
    epochs = pool.space.base.optim.epochs
    for draw, config in ((0, 3), (2, 1)):
        scores = pool.scores[REDRAWN][config, draw]
        if last:
            mean = scores[-last:].mean(axis=0)
            epoch, setting = epochs - 1, int(mean.argmax())
            assert values[draw, config] == pytest.approx(mean.max())
        else:
            epoch, setting = np.unravel_index(scores.argmax(), scores.shape)
            assert values[draw, config] == scores.max()
        assert worth[draw, config] == pytest.approx(10 * epoch + setting), name


def test_a_table_has_a_row_for_each_that_chooses_and_a_column_for_each_that_leaves(pool: Recorded) -> None:
    head, *rows = table(pool, 2)
    assert [row[0] for row in rows] == list(OBJECTIVES) and {len(row) for row in (head, *rows)} == {5}
    assert ["(" in cell for row in rows for cell in row[1:]] == [False, *[True] * 15]


def test_noise_flatters_and_where_there_is_none_nothing_does(pool: Recorded) -> None:
    best, last = flattery(pool).values()
    assert best > last > 0.1
    calm = {kind: np.repeat(one[:, :1], one.shape[1], axis=1) for kind, one in pool.scores.items()}
    assert list(flattery(Recorded(pool.name, pool.space, pool.params, calm)).values()) == [0.0, 0.0]
