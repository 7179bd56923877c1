"""What the official videos say of the winner and the base, over several seeds and with one."""

from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial

from search.results import confirm, retraining, winner
from search.results.confirm import Confirmation
from search.results.unseen import Unseen, unseen
from search.space.model import Space
from tests.search.results.repetitions import COMPLETE, FAIL, run, scored, searched, space

# Differences 2, 3, 1: mean 2, sd 1, so 2 +- t(0.975; 2) / sqrt(3) = 2 +- 4.303 x 0.577.
WON, LOST = (12.0, 15.0, 12.0), (10.0, 12.0, 11.0)


def finished(of: Space, won: tuple[float, ...] = WON, lost: tuple[float, ...] = LOST, failed: int = 0) -> Confirmation:
    """Trial 1 wins on the held-out videos. failed: so many of its last runs."""
    trials = searched(of, 3.0, 9.0)
    runs = [scored(of, again, {2: 5.0 + again["trial"]}) for again in retraining.repeats(of, trials)]
    wanted = confirm.finals(of, trials, confirm.summarise(of, trials, runs), has_official=True)
    values = {1: iter(won), 0: iter(lost)}
    for again in wanted:
        value = next(values[again["trial"]])
        fails = again["trial"] == 1 and again in [one for one in wanted if one["trial"] == 1][len(won) - failed :]
        known = {"best_avg_map_by_detect": [value, value / 2], "epochs": again["epochs"]}
        runs.append(run(again, None if fails else value, FAIL if fails else COMPLETE, **known))
    return confirm.summarise(of, trials, runs)


def of_three(folder: Path, **confirm: object) -> Space:
    return space(folder, confirm={"top": 1, "seeds": 3} | confirm)


def said(known: Confirmation) -> Unseen:
    found = unseen(known, 1)
    assert found is not None
    return found


def told(of: Space, known: Confirmation) -> list[str]:
    """The last words of a search."""
    study = optuna.create_study(direction="maximize")
    study.add_trials(searched(of, 3.0, 9.0))
    return winner.comparison(of, study, study.get_trials()[1], known)


def test_means_and_the_paired_interval_of_the_gain(tmp_path: Path) -> None:
    of = of_three(tmp_path)
    found = said(finished(of))
    assert found.base is not None and found.own is not None and found.gain is not None
    assert (found.winner.mean, found.base.mean, found.own.mean) == (13.0, 11.0, 5.5)
    assert found.gain.gain == 2.0 and found.gain.interval == pytest.approx((2 - 2.484, 2 + 2.484), abs=1e-3)
    assert found.sentence == (
        "+2.00 avg.mAP over the base, not distinguishable from noise (95 % interval -0.48 to +4.48, 3 seeds each)"
    )


def test_a_winner_that_loses_there_is_said_to_lose(tmp_path: Path) -> None:
    of = of_three(tmp_path)
    found = said(finished(of, won=LOST, lost=(12.0, 14.0, 13.0)))
    assert found.sentence == "-2.00 avg.mAP over the base (95 % interval -2.00 to -2.00, 3 seeds each)"


def test_runs_that_failed_leave_the_seeds_that_both_have(tmp_path: Path) -> None:
    of = of_three(tmp_path)
    assert said(finished(of, failed=1)).sentence.endswith("the 2 seeds that both have)")
    assert said(finished(of, failed=2)).sentence == "", "one seed, of which the figures say all"


def test_the_figures_stand_in_the_order_of_how_far_they_are_to_be_trusted(tmp_path: Path) -> None:
    of = of_three(tmp_path)
    heads = [line.split(":")[0] for line in told(of, finished(of))]
    assert heads == [
        "On the official videos, which chose nothing, after training on all training videos",
        "Gain on the official videos", "Confirmed", "Confirmed gain", "In the search, which chose by it",
    ]  # fmt: skip


def test_one_seed_says_the_difference_and_no_interval(tmp_path: Path) -> None:
    of = of_three(tmp_path, official_seeds=1)
    known = finished(of)
    assert len(known.official) == 2 and said(known).sentence == ""
    first, second, *_ = told(of, known)
    assert first.endswith(
        "avg.mAP 12.000, the base 10.000 at its best detection setting, 5.000 at its own: +2.000 on one seed"
    )
    assert second.startswith("Confirmed: ")


def test_the_weights_that_leave_are_of_the_first_seed_that_was_trained_to_its_end(tmp_path: Path) -> None:
    of = of_three(tmp_path)
    assert finished(of).finals[1].params["seed"] == of.base.seed + 4
    assert finished(of, failed=1).finals[1].params["seed"] == of.base.seed + 4


def test_runs_of_another_choice_count_until_there_are_those_of_this_one(tmp_path: Path) -> None:
    """The mean curve may choose otherwise once there are more seeds; the configuration is then trained again."""
    of = of_three(tmp_path)
    trials, known = searched(of, 3.0, 9.0), finished(of)
    runs = [scored(of, again, {2: 5.0 + again["trial"]}) for again in retraining.repeats(of, trials)]
    wanted = confirm.finals(of, trials, known, has_official=True)
    before: list[FrozenTrial] = [run({**again, "epochs": 9}, 1.0) for again in wanted]
    old = confirm.summarise(of, trials, [*runs, *before])
    assert old.finals[1].params["epochs"] == 9 and said(old).winner.mean == 1.0
    new = confirm.summarise(of, trials, [*runs, *before, run(wanted[0], 7.0)])
    assert new.finals[1].params == wanted[0] and said(new).winner.scores == (7.0,)


def test_a_base_that_wins_gains_nothing_over_itself(tmp_path: Path) -> None:
    of = of_three(tmp_path)
    found = unseen(finished(of), 0)
    assert found is not None and found.base is None and found.gain is None and found.sentence == ""
    assert unseen(Confirmation(), 1) is None
