"""What won an earlier run beside the winner and the base: who is trained again, once each, and what is said of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from optuna.trial import FrozenTrial

from search.results import beside, confirm, export, retraining
from search.results.confirm import Confirmation
from search.results.folder import RunFolder
from search.space.model import Space
from search.study.earlier import Source, Winner
from tests.search.results.repetitions import FAIL, PRUNED, run, scored, searched, space

Scores = Mapping[int, tuple[float, ...]]  # by trial, seed by seed
# Trial 1 was found, trial 2 won an earlier run, trial 0 is the base.
VALUES: Scores = {1: (12.0, 15.0, 12.0), 2: (10.0, 14.0, 12.0), 0: (10.0, 12.0, 11.0)}
WON = {2: ("runs/old",)}


def of_three(folder: Path, **confirm: object) -> Space:
    return space(folder, confirm={"top": 1, "seeds": 3} | confirm)


def again(of: Space, trials: list[FrozenTrial], values: Scores) -> list[FrozenTrial]:
    """All that the confirmation asks for."""
    first = of.base.seed + 1
    return [scored(of, a, {2: values[a["trial"]][a["seed"] - first]}) for a in retraining.repeats(of, trials)]


def finished(of: Space, trials: list[FrozenTrial], values: Scores = VALUES) -> Confirmation:
    """With the same scores on the official videos."""
    runs = again(of, trials, values)
    for a in confirm.finals(of, trials, confirm.summarise(of, trials, runs), has_official=True):
        value = values[a["trial"]][a["seed"] - of.base.seed - 1 - 3]
        runs.append(run(a, value, best_avg_map_by_detect=[value, value / 2], epochs=a["epochs"]))
    return confirm.summarise(of, trials, runs)


@pytest.mark.parametrize(
    ("won", "numbers"),
    [
        ({2: ("a",)}, [1, 2, 0]),
        ({2: ("a", "b")}, [1, 2, 0]),
        ({1: ("a",)}, [1, 0]),
        ({0: ("a",)}, [1, 0]),
        ({0: ("a",), 2: ("b",), 3: ("c",)}, [1, 2, 0]),
        ({2: ("a",), 4: ("b",)}, [1, 2, 0]),
        ({}, [1, 0]),
    ],
    ids=["beside", "of two", "the best", "the base", "failed", "pruned", "none"],
)
def test_what_won_an_earlier_run_is_trained_again_once(
    won: Mapping[int, tuple[str, ...]], numbers: list[int], tmp_path: Path
) -> None:
    of = of_three(tmp_path)
    trials = searched(of, 3.0, 9.0, 1.0, None, 5.0, states={3: FAIL, 4: PRUNED}, won=won)
    assert sorted(trial.number for trial in retraining.candidates(of, trials)) == sorted(numbers)
    repeats = retraining.repeats(of, trials)
    assert len(repeats) == 3 * len(numbers) and {a["trial"] for a in repeats} == set(numbers)
    finals = confirm.finals(of, trials, finished(of, trials), has_official=True)
    assert {a["trial"] for a in finals[: len(numbers)]} == set(numbers) and len(finals) == 3 * len(numbers)


@pytest.mark.parametrize(
    ("won", "numbers"),
    [
        ({}, [4, 3, 2, 0]),
        ({1: ("a",)}, [4, 3, 1, 0]),
        ({1: ("a",), 5: ("b",)}, [4, 1, 5, 0]),
        ({1: ("a",), 5: ("b",), 6: ("c",)}, [4, 1, 5, 6, 0]),
        ({3: ("a",), 1: ("b",)}, [4, 3, 1, 0]),
        ({4: ("a",), 0: ("b",)}, [4, 3, 2, 0]),
    ],
    ids=["none", "last", "both last", "never for the best", "one among the best", "the best, the base"],
)
def test_what_won_earlier_runs_stands_in_place_of_the_last_of_the_best(
    won: Mapping[int, tuple[str, ...]], numbers: list[int], tmp_path: Path
) -> None:
    of = of_three(tmp_path, top=3)
    trials = searched(of, 1.0, 2.0, 6.0, 7.0, 8.0, 1.5, 1.2, won=won)
    assert sorted(trial.number for trial in retraining.candidates(of, trials)) == sorted(numbers)


@pytest.mark.parametrize(("count", "most"), [(0, 4), (1, 4), (2, 4), (3, 5)])
def test_the_plan_counts_them_among_the_best_too(count: int, most: int, tmp_path: Path) -> None:
    points = [{"concepts.clusters": 4 + n} for n in range(count)]
    sources = [Source(f"runs/{n}", 1, [], [], Winner(0, point)) for n, point in enumerate(points)]
    rounds, finals = retraining.num_runs(of_three(tmp_path, top=3), True, sources)
    assert (rounds, finals) == ((3 * most,), 3 * (2 + count))


@pytest.mark.parametrize(
    ("points", "more"),
    [([], 0), ([{"concepts.clusters": 5}], 1), ([{"concepts.clusters": 8}], 0), ([None], 0)]
    + [([{"concepts.clusters": 5}, {"concepts.clusters": 5}, {"concepts.clusters": 6}], 2)],
)
def test_the_plan_counts_each_other_winner_once(points: list[dict[str, Any] | None], more: int, tmp_path: Path) -> None:
    """The base has 8 clusters."""
    of = of_three(tmp_path, seeds=4, race=True)
    sources = [Source(f"runs/{n}", 1, [], [], Winner(0, point)) for n, point in enumerate(points)]
    first, later = 2 + more, 2 + more
    assert retraining.num_runs(of, True, sources) == ((2 * first, later, later), 4 * (2 + more))
    assert retraining.num_runs(of, False, sources)[1] == 0


def test_a_confirmation_that_was_cut_short_goes_on_with_what_is_left(tmp_path: Path) -> None:
    of = of_three(tmp_path)
    trials = searched(of, 3.0, 9.0, 1.0, won=WON)
    runs = again(of, trials, VALUES)
    for count in range(len(runs)):
        known = confirm.summarise(of, trials, runs[:count])
        assert known.ranking is None and len(known.wanted) == len(runs) and beside.beside(known, 1) == []
    assert confirm.summarise(of, trials, runs).ranking is not None


def test_the_winner_stands_beside_it_and_the_base_with_the_interval_of_each_gain(tmp_path: Path) -> None:
    """Differences 2, 1, 0 and 2, 3, 1. Of all three: s2 = 2 / 4, t(0.9875; 4) = 3.495, 3.495 x sqrt(2 s2 / 3) = 2.018.

    Of two on the official videos, sd 1: t(0.975; 2) / sqrt(3) = 2.484.
    """
    of = of_three(tmp_path)
    known = finished(of, searched(of, 3.0, 9.0, 1.0, won=WON))
    found, other, base = beside.beside(known, 1)
    assert [(one.number, one.base, one.sources) for one in (found, other, base)] == [
        (1, False, ()), (2, False, ("runs/old",)), (0, True, ()),
    ]  # fmt: skip
    assert found.confirmed is not None and found.confirmed.gain is None and found.confirmed.seeds.mean == 13.0
    assert other.confirmed is not None and other.confirmed.gain is not None
    assert (other.confirmed.gain.gain, other.confirmed.seeds.mean) == (1.0, 12.0)
    assert other.confirmed.gain.interval == pytest.approx((1 - 2.018, 1 + 2.018), abs=1e-3)
    assert base.confirmed is not None and known.ranking is not None
    assert base.confirmed.gain == known.ranking.winner, "as the headline has it"
    assert other.official is not None and other.official.gain is not None
    assert other.official.gain.interval == pytest.approx((1 - 2.484, 1 + 2.484), abs=1e-3)
    gain = "trial 1 over it (95 %)"
    assert beside.table([found, other, base]) == [
        ["the same seeds, side by side", "official videos", gain, "confirmed", gain],
        ["trial 1", "13.00 ± 1.73 (3)", "–", "13.00 ± 1.73 (3)", "–"],
        ["trial 2 (winner of runs/old)", "12.00 ± 2.00 (3)", "+1.00 (-1.48 to +3.48) noise",
         "12.00 ± 2.00 (3)", "+1.00 (-1.02 to +3.02) noise"],
        ["trial 0 (base)", "11.00 ± 1.00 (3)", "+2.00 (-0.48 to +4.48) noise",
         "11.00 ± 1.00 (3)", "+2.00 (-0.02 to +4.02) noise"],
    ]  # fmt: skip


def test_what_is_not_known_is_not_in_the_table(tmp_path: Path) -> None:
    """Without a confirmation: the official videos alone, of one seed; before the winner has run there, nothing."""
    of = space(tmp_path, confirm=None)
    trials = searched(of, 3.0, 9.0, 1.0, won=WON)
    wanted = confirm.finals(of, trials, Confirmation(), has_official=True)
    runs = [run(a, 10.0 + a["trial"], best_avg_map_by_detect=[1.0, 0.5]) for a in wanted]
    assert [a["trial"] for a in wanted] == [1, 2, 0]
    assert beside.beside(confirm.summarise(of, trials, runs[1:]), 1) == []
    assert beside.table(beside.beside(confirm.summarise(of, trials, runs), 1)) == [
        ["the same seeds, side by side", "official videos", "trial 1 over it (95 %)"],
        ["trial 1", "11.00 (1)", "–"],
        ["trial 2 (winner of runs/old)", "12.00 (1)", "-1.00"],
        ["trial 0 (base)", "10.00 (1)", "+1.00"],
    ]


def test_a_run_without_sources_has_no_such_table(tmp_path: Path) -> None:
    of = of_three(tmp_path)
    known = finished(of, searched(of, 3.0, 9.0, 1.0))
    assert beside.beside(known, 1) == [] and beside.table([]) == []


def test_an_earlier_winner_that_wins_again_and_a_base_that_does(tmp_path: Path) -> None:
    of = of_three(tmp_path)
    trials = searched(of, 3.0, 9.0, 1.0, won=WON)
    won, base = beside.beside(finished(of, trials, {**VALUES, 2: VALUES[1], 1: VALUES[2]}), 2)
    assert (won.number, won.sources, base.number) == (2, ("runs/old",), 0)
    assert base.confirmed is not None and base.confirmed.gain is not None and base.confirmed.gain.gain == 2.0
    trials = searched(of, 3.0, 9.0, 1.0, won={0: ("runs/old",)})
    (only,) = beside.beside(finished(of, trials, {**VALUES, 0: (20.0, 20.0, 20.0)}), 0)
    assert beside.table([only])[1][0] == "trial 0 (base, winner of runs/old)"


def test_the_exported_file_and_the_table_of_runs_say_whose_winner_it_was(tmp_path: Path) -> None:
    of = of_three(tmp_path)
    trials = searched(of, 3.0, 9.0, 1.0, won=WON)
    known = finished(of, trials)
    folder = RunFolder(tmp_path)
    confirm.write_csv(folder, of, known)
    table = pd.read_csv(folder.confirm_csv)
    assert table.columns[-1] == "source"
    assert set(table["source"].dropna()) == {"runs/old"} and set(table[table["source"].notna()]["number"]) == {2}
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    said = export.about("new", study, of, trials[1], known, known.finals[1])
    assert said["confirmed_gain_over_sources"] == (
        "+1.00 avg.mAP over trial 2 (winner of runs/old), not distinguishable from noise "
        "(95 % interval -1.02 to +3.02, 3 seeds each), whose mean is 12.000 ± 2.000"
    )
    assert said["official_gain_over_sources"].startswith("+1.00 avg.mAP over trial 2 (winner of runs/old), not ")
    assert "source" not in said
    assert export.about("new", study, of, trials[2], known, None)["source"] == "the winner of runs/old"
