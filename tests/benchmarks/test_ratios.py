"""Speed as ratios of two times taken in one process: they hold on a slow or busy machine, where seconds do not."""

import pytest

from tests.benchmarks import evaluation, step, turnover


@pytest.mark.timeout(300)
def test_evaluation_takes_at_most_a_hundredth_of_the_plain_oracles_time() -> None:
    got = evaluation.run()  # checks that both agree
    assert got["oracle/fast"] >= 100, got


@pytest.mark.timeout(300)
def test_a_step_takes_at_most_a_fifth_of_the_plain_padded_oracles_time() -> None:
    got = step.run()
    assert got["oracle/fast"] >= 5, got


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_an_empty_trial_takes_at_most_twice_the_time_of_ray_tunes_own_loop() -> None:
    got = turnover.run(100)
    assert got.ours <= 2 * got.rays, got
