"""Speed as ratios of two times taken in one process: they hold on a slow or busy machine, where seconds do not.

CPU time of one thread. `python -m tests.benchmarks` says how far below these limits a quiet machine stays.
"""

from collections.abc import Iterator
from itertools import islice

import pytest

from tests.benchmarks import detection, step, turnover
from tests.benchmarks.measure import Row, threads
from tests.benchmarks.sizes import SIZES

RIVALS = 3  # of a step in float32, which come first; a step in bfloat16 has no limit on a CPU


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threads(1):
        yield


@pytest.fixture(scope="module")
def steps() -> dict[str, Row]:
    """The middle size's step by rival."""
    with threads(1):
        return {row.rival: row for row in islice(step.rows(SIZES["middle"], repeats=2), RIVALS)}


@pytest.mark.slow
def test_a_step_takes_at_most_one_and_a_half_times_the_bare_heads_time(steps: dict[str, Row]) -> None:
    assert steps[step.HEADS].ratio <= 1.5, steps[step.HEADS]


@pytest.mark.slow
def test_a_step_takes_at_most_a_fifth_of_the_plain_padded_oracles_time(steps: dict[str, Row]) -> None:
    assert steps[step.ORACLE].ratio <= 1 / 5, steps[step.ORACLE]


def test_41_alphas_take_at_most_five_times_the_time_of_one() -> None:
    (row,) = detection.detection(SIZES["finegym"], repeats=5)
    assert row.ratio <= 5, row


@pytest.mark.slow
def test_a_score_takes_half_the_numpy_scorers_time_and_a_hundredth_of_the_plain_oracles() -> None:
    rows = {row.rival: row for row in detection.metrics(SIZES["finegym"], repeats=1)}  # which checks that all agree
    assert rows[detection.SCORER].ratio <= 1 / 2, rows[detection.SCORER]
    assert rows[detection.ORACLE].ratio <= 1 / 100, rows[detection.ORACLE]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_an_empty_trial_takes_at_most_twice_the_time_of_ray_tunes_own_loop() -> None:
    # Wall time, for it is Ray's processes that work, and other tests run beside it: one round of three may be quiet.
    rounds = (next(iter(turnover.rows(repeats=1, trials=30))).ratio for _ in range(3))
    assert any(ratio <= 2 for ratio in rounds)
