"""The yardstick on a made-up pool whose better configurations are known."""

import re
from pathlib import Path

import numpy as np
import pytest

from search.study.algorithms import silent
from tests.benchmarks import efficiency, pools
from tests.benchmarks.efficiency import before, confirmed, differing, found, now
from tests.benchmarks.made_up import CONFIGS, made_up
from tests.benchmarks.pools import FIXED, OFFICIAL, REDRAWN, Recorded, nearest_of
from tests.benchmarks.rivals import RIVALS, Moment, exported, search


@pytest.fixture(scope="module")
def pool() -> Recorded:
    return made_up()


def test_a_configuration_stands_for_itself(pool: Recorded) -> None:
    nearest = nearest_of(pool)
    assert [nearest(one) for one in pool.params] == list(range(CONFIGS))


@pytest.mark.parametrize("name", RIVALS)
@pytest.mark.parametrize("workers", [1, 8])
def test_every_rival_spends_its_budget_and_exports_better_ones_in_the_end(
    pool: Recorded, name: str, workers: int
) -> None:
    epochs = pool.space.base.optim.epochs
    curves = pool.scores[REDRAWN][:, 0].max(axis=2)
    with silent():
        moments = list(search(RIVALS[name](pool.space, 3), nearest_of(pool), curves, workers, 20 * epochs))
    lacks = epochs if "a fifth" in name else 0
    assert 15 * epochs <= moments[-1].spent <= 20 * epochs + workers + lacks
    assert [one.spent for one in moments] == sorted(one.spent for one in moments)
    assert moments[-1].config >= 0.8 * CONFIGS > 0 and moments[-1].config >= moments[0].config


def test_the_worth_of_a_pick_is_at_its_epoch_and_the_setting_that_it_had_there(pool: Recorded) -> None:
    assert exported(pool, 0, Moment(99, 20, None)) == pytest.approx(20.0)
    assert exported(pool, 0, Moment(99, 20, 1)) == pytest.approx(2.0)


def test_marks_before_a_first_trial_has_ended_are_empty(pool: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficiency, "TRIALS", (1, 40))
    with silent():
        assert found(pool, "random", 8, 0)[0] is None
        assert found(pool, "random", 1, 0)[0] == 0.0, "the base, which is tried first"


def test_rivals_by_name_are_all_that_is_printed_and_who_is_not_installed_is_said(
    pool: Recorded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(efficiency, "TRIALS", (1, 2))
    monkeypatch.setattr(efficiency, "LEFT_OUT", {"Another's": ["another"]})
    monkeypatch.setattr(pools, "read", lambda name: pool)
    command = ["efficiency", "made-up", "--repeats", "2", "--workers", "1", "--rivals", "random", "TPE, recent"]
    monkeypatch.setattr("sys.argv", command)
    efficiency.main()
    said, about, _, *table = capsys.readouterr().out.rstrip().split("\n")
    assert said == "Another's is left out: another not installed" and about.startswith("made-up: 30 configurations")
    assert [re.split("  +", row)[0] for row in table] == ["1 worker(s)", "random", "TPE, recent"]


def test_without_noise_both_ways_to_confirm_are_right(pool: Recorded) -> None:
    for way in (before, now):
        made = confirmed(pool, way, 10)
        assert (made.ordered, made.above) == (1.0, pytest.approx(0.0)) and made.winner > 20


def test_a_flattering_holdout_is_seen_through_by_other_holdouts_alone(pool: Recorded) -> None:
    """Configurations 1 to 5 score 50 more on the search's own holdout, whatever the seed."""
    scores = {kind: values.copy() for kind, values in pool.scores.items()}
    scores[REDRAWN][1:6, 0] += 50.0
    scores[FIXED][1:6] += 50.0
    fooled = Recorded("made-up", pool.space, pool.params, scores)
    chosen = [1, 3, 25, 29, 0]
    assert before(fooled, chosen).values.mean(axis=1).argmax() == 1
    assert now(fooled, chosen).values.mean(axis=1).argmax() == 3
    assert now(fooled, chosen).worth.tolist() == pytest.approx([1.0, 3.0, 25.0, 29.0, 0.0])


def test_the_last_epoch_is_not_where_a_curve_was_best(pool: Recorded) -> None:
    """All fall to a tenth in their last epoch, so that is what they are worth there."""
    scores = {kind: values.copy() for kind, values in pool.scores.items()}
    for values in scores.values():
        values[:, :, -1] /= 10
    falling = Recorded("made-up", pool.space, pool.params, scores)
    (best,), (last,) = now(falling, [29]).worth, now(falling, [29], objective="last").worth
    assert last == pytest.approx(2.9) and best == pytest.approx(29 * (0.1 + 0.9 * 13 / 14))


def test_a_pool_is_read_back(pool: Recorded, tmp_path: Path) -> None:
    values = [{kind: pool.scores[kind][i] for kind in pools.SEEDS} for i in range(CONFIGS)]
    pools.write("planted-easy", list(pool.params), values, tmp_path)
    again = pools.read("planted-easy", tmp_path)
    assert again.params == pool.params and again.space == pool.space
    np.testing.assert_allclose(again.scores[OFFICIAL], pool.scores[OFFICIAL], atol=0.006)


def test_what_configurations_differ_in_is_told_from_noise(pool: Recorded) -> None:
    calm = differing(pool)
    assert (calm.true, calm.noise, calm.rank) == (pytest.approx(np.arange(CONFIGS).std(ddof=1)), 0.0, 1.0)
    random = np.random.default_rng(0)
    noise = {kind: 3 * random.standard_normal(values.shape) for kind, values in pool.scores.items()}
    nothing = differing(Recorded("noise", pool.space, pool.params, noise))
    assert nothing.true < 1.5 and nothing.noise == pytest.approx(3.0, rel=0.2) and abs(nothing.rank) < 0.5
    noisy = {kind: values + noise[kind] for kind, values in pool.scores.items()}
    both = differing(Recorded("both", pool.space, pool.params, noisy))
    assert both.true == pytest.approx(calm.true, rel=0.2) and both.noise == pytest.approx(3.0, rel=0.2)
