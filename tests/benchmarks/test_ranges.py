"""What a space searches beside what it holds fixed, and the trials that are trained for it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from tests.benchmarks import ranges
from tests.benchmarks.ranges import WAYS, rows, space_of, spend, worth
from tests.benchmarks.rivals import Pick

FIRST = next(iter(WAYS))


class Every:
    """Stops trial 1 after its second epoch; exports the last that ended."""

    def __init__(self) -> None:
        self.ended: list[tuple[int, int, float, bool]] = []
        self._asked = 0

    def ask(self) -> Mapping[str, Any]:
        self._asked += 1
        return {"n": self._asked - 1}

    def report(self, trial: int, epoch: int, value: float) -> bool:
        return (trial, epoch) == (1, 2)

    def end(self, trial: int, epoch: int, value: float, stopped: bool) -> None:
        self.ended.append((trial, epoch, value, stopped))

    def pick(self) -> Pick:
        return Pick(self.ended[-1][0])


def test_trials_train_until_they_are_stopped_or_whole_and_the_budget_is_spent() -> None:
    def epochs(params: Mapping[str, Any]) -> Iterator[tuple[float, float]]:
        return ((10.0 * params["n"] + epoch, 0.0) for epoch in range(1, 4))

    rival = Every()
    pick, params, scores = spend(rival, epochs, whole=3, budget=6)
    assert rival.ended == [(0, 3, 3.0, False), (1, 2, 12.0, True), (2, 3, 23.0, False)], "3 + 2 epochs are below 6"
    assert (pick, params) == (Pick(2), [{"n": 0}, {"n": 1}, {"n": 2}])
    assert scores[1] == [(11.0, 0.0), (12.0, 0.0)]


def test_what_is_fixed_is_searched_around_its_value() -> None:
    plain, rate, both, every = (space_of("planted-hard", "data", way) for way in WAYS)
    assert set(rate.parameters) - set(plain.parameters) == {"optim.lr"}
    assert set(both.parameters) - set(rate.parameters) == {"model.dropout"}
    assert set(every.parameters) - set(both.parameters) == {"model.width"}
    assert rate.parameters["optim.lr"] == FloatDistribution(0.0005, 0.008, log=True), "2e-3 is the base's"
    assert every.parameters["model.width"] == CategoricalDistribution((24, 48, 96))


def test_a_worth_is_of_new_seeds_and_other_ways_find_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "TRIALS", 2)
    monkeypatch.setattr(ranges, "NEW_SEEDS", (100,))
    first, again = (worth("planted-easy", str(tmp_path / "data"), FIRST, 0) for _ in range(2))
    assert first == again and 5 < first < 60


def test_the_table_pairs_repeats() -> None:
    """1 and 3 more: 2, and t(1) = 12.706 times sqrt(2) / sqrt(2)."""
    _, first, second = rows({"a": {0: 10.0, 1: 20.0}, "b": {0: 11.0, 1: 23.0}})
    assert first == ["a", "15.00 ± 7.07", ""]
    assert second == ["b", "17.00 ± 8.49", "+2.00 (-10.71 to +14.71)"]
