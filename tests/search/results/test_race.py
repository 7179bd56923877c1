"""Who runs on in a racing confirmation, when it is over, and whether its intervals hold."""

from collections.abc import Container, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from search.results.race import BEHIND, FIRST, Race, follow
from search.results.ranking import lags, rank
from tests.benchmarks import races

SEEDS = (11, 12, 13, 14)
# By hand: after two seeds the row means are 20.5, 25 and 11, the column means 18 and 19.667, the mean 18.833.
#            11  12   residuals
#   base 0   20  21    1/3  -1/3
#        1   24  26   -1/6   1/6
#        2   10  12   -1/6   1/6     s2 = 2 (1/9 + 1/36 + 1/36) / ((3 - 1)(2 - 1)) = 1/6
# A difference over two seeds has a standard error of sqrt(2 / 6 / 2) = 0.40825 with 2 degrees of freedom.
CLEAR = {0: (20, 21, 0, 0), 1: (24, 26, 0, 0), 2: (10, 12, 0, 0)}
ERROR = (1 / 6) ** 0.5


class All:
    """Every run has ended."""

    def __contains__(self, run: object) -> bool:
        return True


def race(
    scores: Mapping[int, Sequence[float | None]],
    ended: Container[tuple[int, int]] | None = None,
    base: int | None = 0,
    first: int = FIRST,
) -> Race:
    """scores: of each configuration, seed by seed; None: failed."""
    seeds = SEEDS[: len(next(iter(scores.values())))]

    def values(some: Sequence[int]) -> dict[int, dict[int, float]]:
        assert list(some) == list(seeds[: len(some)]), "nothing of what comes later is looked at"
        every = {n: dict(zip(some, row, strict=False)) for n, row in scores.items()}
        return {n: {seed: one for seed, one in row.items() if one is not None} for n, row in every.items()}

    return follow(list(scores), base, seeds, first, All() if ended is None else ended, values)


def order(done: Race) -> list[int]:
    assert done.ranking is not None
    return [one.number for one in done.ranking.order]


def test_the_share_of_a_lag_worked_by_hand() -> None:
    values = {number: {11: float(row[0]), 12: float(row[1])} for number, row in CLEAR.items()}
    found = lags(values, leader=1)
    assert found == pytest.approx({0: stats.t.cdf(-4.5 / ERROR, 2), 2: stats.t.cdf(-14 / ERROR, 2)})
    assert found[0] == pytest.approx(0.0041, abs=1e-4)


def test_a_race_whose_order_is_clear_ends_after_two_seeds() -> None:
    done = race(CLEAR)
    assert done.wanted == tuple((number, seed) for seed in (11, 12) for number in (0, 1, 2))
    assert order(done) == [1, 0, 2] and done.rounds == ()
    assert done.ranking is not None and done.ranking.most == 4 and done.ranking.interval is not None
    half = stats.t.isf(0.03 / 2 / 2, 2) * ERROR  # two candidates, two sides
    assert done.ranking.interval == pytest.approx((4.5 - half, 4.5 + half))
    assert "2 seeds each, in a race of up to 4" in done.ranking.sentence()


def test_one_that_is_behind_runs_no_more_and_the_base_runs_on() -> None:
    """Trials 1 and 2 take turns in leading; 3 and the base lie far behind."""
    scores = {0: (5, 5, 5, 5), 1: (20, 22, 20, 23), 2: (22, 20, 22, 20), 3: (9, 8, 0, 0)}
    done = race(scores)
    assert {seed: [number for number, at in done.wanted if at == seed] for seed in SEEDS} == {
        11: [0, 1, 2, 3],
        12: [0, 1, 2, 3],
        13: [0, 1, 2],
        14: [0, 1, 2],
    }
    assert order(done) == [1, 2, 0, 3] and done.ranking is not None
    assert [one.n for one in done.ranking.order] == [4, 4, 4, 2]
    assert done.ranking.order[3].mean == 8.5 and done.ranking.order[3].gain == 3.5, "of the seeds that it ran with"


def test_who_left_last_stands_above_who_left_before() -> None:
    scores = {0: (10, 14, 10, 14), 1: (14, 10, 14, 11), 2: (11, 11.5, 0, 9), 3: (2, 1, 99, 99)}
    done = race(scores)
    assert [[n for n, at in done.wanted if at == seed] for seed in SEEDS[2:]] == [[0, 1, 2], [0, 1]]
    assert order(done) == [1, 0, 2, 3], "though trial 3 would be first with what it never ran"


def test_a_round_is_judged_once_all_of_it_has_ended_failed_runs_too() -> None:
    rest = race(CLEAR, ended={(0, 11), (1, 11), (2, 11), (0, 12), (2, 12)})
    assert rest.ranking is None and len(rest.wanted) == 6 and rest.rounds == (3, 3)
    failed = {**CLEAR, 2: (10, None, 0, 0)}
    assert len(race(failed, ended={*rest.wanted}).wanted) == 9, "one seed shows no spread, so it may run on"
    assert order(race({**CLEAR, 2: (None, None, 0, 0)})) == [1, 0], "one without any value is out"


def test_nothing_but_failures_ends_without_a_winner() -> None:
    done = race({0: (None, None, None), 1: (None, None, None)})
    assert done.ranking is None and len(done.wanted) == 4 and done.rounds == ()


def test_equal_ones_race_to_the_last_seed() -> None:
    done = race({0: (20, 21, 20), 1: (20, 21, 20), 2: (20, 21, 20)})
    assert len(done.wanted) == 9 and order(done) == [0, 1, 2]


def test_a_leading_base_ends_it_too() -> None:
    done = race({**CLEAR, 0: (30, 31, 0, 0)})
    assert order(done)[0] == 0 and len(done.wanted) == 6
    assert done.ranking is not None and "the base itself" in done.ranking.sentence()


def test_without_a_base_they_race_with_each_other() -> None:
    done = race(CLEAR, base=None)
    assert order(done) == [1, 0, 2] and len(done.wanted) == 6
    goes_on = race({1: (20, 22, 20), 2: (22, 20, 22), 3: (9, 8, 0)}, base=None)
    assert [number for number, seed in goes_on.wanted if seed == 13] == [1, 2]


@given(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=2, max_size=4))
def test_where_nobody_may_leave_it_is_the_confirmation_as_it_was(rows: list[list[int]]) -> None:
    scores = dict(enumerate(rows))
    done = race(scores, first=3)
    assert len(done.wanted) == 3 * len(rows)
    assert done.ranking == rank({n: dict(zip(SEEDS, map(float, row), strict=False)) for n, row in scores.items()}, 0)


def test_its_intervals_hold_and_nothing_is_said_to_be_better_where_nothing_is() -> None:
    """So far within three standard errors of what is promised: 95 %, and half of 5 % on the side that is told."""
    random = np.random.default_rng(1)
    held = races.figures(races.best_of(1.0, random), FIRST, 6, 200).holds
    assert held.share > 0.95 - 3 * (0.95 * 0.05 / 200) ** 0.5
    claimed, _ = races.claims(races.equal(random), FIRST, 6, 200)
    assert claimed.share < 0.025 + 3 * (0.025 * 0.975 / 200) ** 0.5


def test_it_finds_the_better_of_two_as_often_with_half_of_the_runs() -> None:
    random = np.random.default_rng(2)
    raced, fixed = (races.figures(races.two(1.0, random), *seeds, 300) for seeds in ((FIRST, 10), (7, 7)))
    assert raced.num_runs.share < 0.6 * fixed.num_runs.share
    assert raced.right.share > fixed.right.share - 3 * (raced.right.error**2 + fixed.right.error**2) ** 0.5


def test_a_lag_counts_from_one_in_five() -> None:
    """Two configurations with two seeds: differences d and 1 + d with d < 0 have t = (1 + 2 d), one degree."""
    assert stats.t.cdf(-1.3, 1) > BEHIND > stats.t.cdf(-1.5, 1)
    for d, runs in ((-1.15, 6), (-1.25, 4)):
        done = race({0: (20, 20, 20), 1: (20 + d, 21 + d, 20)})
        assert len(done.wanted) == runs
