"""Trials in a row without a gain, counted by hand."""

import math
import random
from datetime import datetime, timedelta

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.space.model import Stop
from search.study.stagnation import Expectation, FirstOf, Spent, Stagnation


def ended(number: int, value: float | None, minute: int) -> FrozenTrial:
    """A trial of that value; a pruned one of None."""
    state = TrialState.PRUNED if value is None else TrialState.COMPLETE
    trial = create_trial(state=state, value=value)
    trial.number, trial.datetime_complete = number, datetime(2026, 1, 1) + timedelta(minutes=minute)
    return trial


VALUES = [10.0, 10.4, None, 10.8, 9.0, 11.0, None]


@pytest.mark.parametrize(
    ("gain", "counts"),
    [
        # Above 0: 10, 10.4, 10.8 and 11 are each better than all before.
        (0.0, [0, 0, 1, 0, 1, 0, 1]),
        # Above 0.5: 10 is the mark, 10.4 is too near, 10.8 is 0.8 above it, and 11 only 0.2 above that.
        (0.5, [0, 1, 2, 0, 1, 2, 3]),
        (5.0, [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_trials_count_from_the_last_gain(gain: float, counts: list[int]) -> None:
    stagnation, seen = Stagnation(4, gain), []
    for number, value in enumerate(VALUES):
        stagnation.add(ended(number, value, number))
        seen.append(stagnation.since)
        assert stagnation.is_enough == any(since >= 4 for since in seen)
    assert seen == counts


def test_a_later_driver_counts_as_the_one_before_whatever_the_trials_numbers() -> None:
    # Trial 5 ended before trial 4, so that the gain of trial 5 is the last but one.
    trials = [ended(0, 10.0, 0), ended(5, 11.0, 1), ended(4, 10.5, 2), ended(1, 10.9, 3)]
    first = Stagnation(4, 0.0)
    for trial in trials:
        first.add(trial)
    random.Random(0).shuffle(trials)
    assert Stagnation(4, 0.0, trials).since == first.since == 2


def test_enough_is_enough_whatever_those_under_way_bring() -> None:
    trials = [ended(number, value, number) for number, value in enumerate((10.0, 9.0, 9.0, 12.0))]
    rule = Stagnation(2, 0.0, trials)
    assert (rule.is_enough, rule.since) == (True, 0)


def test_it_says_what_it_waits_for() -> None:
    assert str(Stagnation(40, 0.0)) == "ends after 40 trials in a row without a better one, 0 so far"
    assert Stagnation(40, 0.5).rule == "40 trials in a row without +0.5 avg.mAP"


def whole(value: float, jumps: float = 0.0) -> FrozenTrial:
    """A COMPLETE trial whose last epochs go up and down by so much."""
    epochs = [value - jumps * (number % 2) for number in range(9)]
    return create_trial(value=value, intermediate_values=dict(enumerate(epochs, start=1)))


def test_a_later_driver_expects_what_the_one_before_did_whatever_the_trials_numbers() -> None:
    """The first ten to end lie near together, and all else is seen only after they were enough."""
    trials = []
    for number in range(20):
        trial = whole(10.0 + 0.01 * number if number >= 10 else 50.0 - 5 * number, jumps=3.0)
        trial.number, trial.datetime_complete = number, datetime(2026, 1, 1) + timedelta(minutes=(number + 10) % 20)
        trials.append(trial)
    first = Expectation(20, 4, 1)
    for trial in sorted(trials, key=lambda one: one.number < 10):
        first.add(trial)
    alone = Expectation(20, 4, 1)
    for trial in trials:
        alone.add(trial)
    assert first.is_enough and not alone.is_enough
    assert Expectation(20, 4, 1, trials).is_enough


def test_an_expected_gain_worked_by_hand() -> None:
    """Of 20 trials 16 are pruned; the best three lie 3, 2 and 1 above the fourth, 2 on average; 20 more: 2 ln 2."""
    rule = Expectation(20, 4, 1, [ended(number, None, number) for number in range(16)])
    assert rule.gain is None and "too few are complete" in str(rule)
    for value in (12.0, 10.0, 13.0, 11.0):
        rule.add(whole(value))
    assert rule.gain == pytest.approx(2 * math.log(2))


def test_noise_worked_by_hand() -> None:
    """Jumps of +1, -1, +1, -1 (the last four of nine epochs' eight): their sd is sqrt(4 / 3); four seeds halve it."""
    rule = Expectation(20, 4, 1, [whole(10.0, jumps=1.0)])
    assert rule.noise == pytest.approx(math.sqrt(4 / 3) / 2)
    mean = Expectation(20, 4, 4, [whole(10.0, jumps=1.0)])
    assert mean.noise == pytest.approx(math.sqrt(4 / 3)), "means over four epochs jump less than they vary"
    assert Expectation(20, 4, 1, [whole(10.0)]).noise == 0.0


def test_a_search_has_enough_once_what_is_ahead_is_less_than_the_noise_and_stays_so() -> None:
    values = [10.0, 11.0, 12.0, 13.0] * 5
    rule, quiet = (Expectation(20, 3, 1) for _ in range(2))
    for number, value in enumerate(values, start=1):
        rule.add(whole(value, jumps=3.0))
        quiet.add(whole(value))
        assert rule.is_enough == (number >= 10) and not quiet.is_enough
    rule.add(whole(100.0))
    assert rule.gain is not None and rule.noise is not None and rule.gain > rule.noise and rule.is_enough
    assert str(quiet).startswith("ends once 20 more trials are expected to gain less than the confirmation's noise, +")


def trained(number: int, epochs: int | None) -> FrozenTrial:
    """A trial that has ended, after so many epochs; one that failed before its first knows of none."""
    state = TrialState.COMPLETE if epochs else TrialState.FAIL
    known = {} if epochs is None else {"epochs": epochs}
    trial = create_trial(state=state, value=float(number) if epochs else None, user_attrs=known)
    trial.number, trial.datetime_complete = number, datetime(2026, 1, 1) + timedelta(minutes=number)
    return trial


def test_a_budget_of_epochs_counts_those_of_every_trial_that_ended() -> None:
    rule, seen = Spent(20), []
    for number, epochs in enumerate((8, None, 3, 8, 8)):
        rule.add(trained(number, epochs))
        seen.append((rule.spent, rule.is_enough))
    assert seen == [(8, False), (8, False), (11, False), (19, False), (27, True)]
    assert str(Spent(20, [trained(0, 8)])) == "ends after 20 epochs in trials that ended, 8 so far"
    assert Spent(8, [trained(0, 8)]).is_enough


def test_of_several_rules_the_first_ends_it_and_is_named() -> None:
    rule = FirstOf([Stagnation(2, 0.0), Spent(20)])
    assert rule.when == "after 2 trials in a row without a better one or after 20 epochs in trials that ended"
    rule.add(trained(0, 19))
    assert not rule.is_enough
    assert str(rule).endswith("better one, 0 so far; ends after 20 epochs in trials that ended, 19 so far")
    rule.add(trained(1, 8))
    assert rule.is_enough and rule.rule == "20 epochs in trials that ended"


@pytest.mark.parametrize(
    ("keys", "waits"),
    [({}, 40), ({"gain": 0.5}, 40), ({"patience": 7}, 7), ({"epochs": 9}, None), ({"epochs": 9, "gain": 0.5}, 40),
     ({"epochs": 9, "patience": 7}, 7)],
)  # fmt: skip
def test_a_budget_of_epochs_alone_waits_for_no_gain(keys: dict[str, float], waits: int | None) -> None:
    assert Stop(**keys).waits == waits  # type: ignore[arg-type]  # floats and whole numbers
