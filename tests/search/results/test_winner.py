"""What a winner won over the base, in a grid over seeds between equal seeds or not at all; and when nothing won."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import optuna
import pytest
from optuna.distributions import IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.driver.progress import totals
from search.page.facts import read_findings
from search.results import confirm, retraining, winner
from search.results.confirm import Confirmation
from search.results.folder import RunFolder
from search.results.unseen import unseen
from search.space.model import Space, grid_points, is_base
from search.space.read import read_space
from search.study.record import Objective
from search.study.study import ranked
from tests.search.results import repetitions
from tests.search.results.repetitions import run

SPACE = """\
base:
  data: {root: data/Toys, features: f.npy, train_videos: 4, validation: VIDEOS}
  optim: {epochs: 2}
  seed: SEED
search:
  sampler: {name: grid}
  rows:
    one: {loss.pseudo: 0}
    all: {}
  parameters:
    seed: [1, 2]
"""
NOTHING = Confirmation()


def grid(
    folder: Path, *values: float | None, seed: int = 1, validation: str = "official"
) -> tuple[Space, optuna.Study]:
    """A study of the grid: the base with seeds 1 and 2, then `one`; None failed. seed: the base's own."""
    (folder / "space.yaml").write_text(SPACE.replace("SEED", str(seed)).replace("VIDEOS", validation))
    space, study = read_space(folder / "space.yaml"), optuna.create_study(direction="maximize")
    points = sorted(grid_points(space), key=lambda point: (not is_base(space, 9, point), point["seed"]))
    for point, value in zip(points, values, strict=True):
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        known = {} if value is None else {"avg_map_by_detect": [value], "best_avg_map_by_detect": [value]}
        made = create_trial(
            state=state, value=value, params=point, distributions=dict(space.parameters), user_attrs=known
        )
        study.add_trial(made)
    return space, study


@pytest.mark.parametrize("seed", [1, 2, 7])
def test_a_gain_in_a_grid_over_seeds_is_between_equal_seeds(tmp_path: Path, seed: int) -> None:
    space, study = grid(tmp_path, 1.0, 7.0, 3.0, 8.0, seed=seed)
    (best, *_), trials = ranked(study.get_trials()), study.get_trials()
    assert (best.value, best.params["seed"]) == (8.0, 2)
    gain = winner.gain_over_base(space, trials, best, NOTHING)
    assert gain is not None and (gain.avg_map, gain.over_seeds) == (1.0, False)
    gained, searched = winner.comparison(space, study, best, NOTHING)
    assert gained == "Gain: +1.000 on one seed, not confirmed over seeds, on the validation videos"
    assert searched.startswith("In the search, which chose by it: avg.mAP 8.000; the base 7.000 at its best")
    assert totals(trials, 2, 1.0, partial(is_base, space)).base == 7.0
    found = read_findings(RunFolder(tmp_path), space, study)
    assert found.base is not None and found.base.value == 7.0 and found.gain == gain
    assert [found.is_base(trial) for trial in trials] == [True, True, False, False]


def test_a_base_of_another_seed_gains_nothing_over_itself(tmp_path: Path) -> None:
    """It did: on all training videos it stood against the base of the grid's first seed."""
    space, study = grid(tmp_path, 1.0, 7.0, 3.0, 5.0, validation="{holdout: 0.25}")
    best, trials = ranked(study.get_trials())[0], study.get_trials()
    assert is_base(space, best.number, best.params) and best.number == 1 == retraining.base_trial(space, trials)
    finals = confirm.finals(space, trials, NOTHING, has_official=True)
    assert [again["trial"] for again in finals] == [1]
    known = confirm.summarise(space, trials, [run(again, 4.0) for again in finals])
    assert winner.comparison(space, study, best, known)[:2] == [
        "On the official videos, which chose nothing, after training on all training videos: avg.mAP 4.000",
        "Gain: the base itself scored highest; nothing found is better, on one seed, on the holdout videos",
    ]


def test_a_winner_of_a_grid_over_seeds_stands_beside_the_base_of_the_best_seed(tmp_path: Path) -> None:
    space, study = grid(tmp_path, 1.0, 7.0, 9.0, None, validation="{holdout: 0.25}")
    trials = study.get_trials()
    finals = confirm.finals(space, trials, NOTHING, has_official=True)
    assert [again["trial"] for again in finals] == [2, 1]
    known = confirm.summarise(space, trials, [run(again, again["trial"] + 3.0) for again in finals])
    assert [(one.trial, one.base) for one in known.official] == [(2, False), (1, True)]
    found = unseen(known, 2)
    assert found is not None and found.base is not None and (found.base.number, found.base.mean) == (1, 4.0)


def test_without_a_base_of_the_winners_seed_no_gain_is_said(tmp_path: Path) -> None:
    space, study = grid(tmp_path, 1.0, None, 3.0, 8.0)
    best = ranked(study.get_trials())[0]
    assert winner.gain_over_base(space, study.get_trials(), best, NOTHING) is None
    assert winner.comparison(space, study, best, NOTHING) == ["In the search, which chose by it: avg.mAP 8.000"]
    assert totals(study.get_trials(), 2, 1.0, partial(is_base, space)).base is None


def test_a_base_that_wins_unconfirmed_gained_nothing(tmp_path: Path) -> None:
    space, study = grid(tmp_path, 1.0, 9.0, 3.0, 8.0)
    best = ranked(study.get_trials())[0]
    gained, _ = winner.comparison(space, study, best, NOTHING)
    assert gained.startswith("Gain: the base itself scored highest; nothing found is better")
    assert [winner.called(space, trial.number, trial.params) for trial in study.get_trials()] == [
        "trial 0 (base, seed 1)", "trial 1 (base, seed 2)", "trial 2", "trial 3",
    ]  # fmt: skip


@pytest.mark.parametrize(("objective", "expected"), [("best", 9.0), ("last", 4.0), ("recent", 4.0)])
def test_the_base_at_its_own_setting_is_of_the_epochs_that_its_value_is_of(
    tmp_path: Path, objective: Objective, expected: float
) -> None:
    """Its own setting has 9 in its best epoch, and 4 in those that count."""
    (tmp_path / "s.yaml").write_text(SPACE.replace("SEED", "1").replace("VIDEOS", "official"))
    space = read_space(tmp_path / "s.yaml")
    space = replace(space, plan=replace(space.plan, objective=objective))
    known = {"avg_map_by_detect": [4.0], "best_avg_map_by_detect": [9.0]}
    assert winner.own_setting_avg_map(space, create_trial(value=4.0, user_attrs=known)) == expected


def test_a_base_that_failed_in_the_search_may_win_over_the_seeds(tmp_path: Path) -> None:
    of = repetitions.space(tmp_path)
    study = optuna.create_study(direction="maximize")
    study.add_trials(repetitions.searched(of, None, 9.0, states={0: TrialState.FAIL}))
    trials = study.get_trials()
    runs = [run(again, 7.0 - 2 * again["trial"]) for again in retraining.repeats(of, trials)]
    known = confirm.summarise(of, trials, runs)
    best = confirm.winner(of, trials, known)
    assert best is not None and (best.number, best.value) == (0, None)
    assert (
        winner.comparison(of, study, best, known)[-1] == "In the search, which chose by it: avg.mAP none, for it failed"
    )
    final = run({"trial": 0, "seed": 5, "videos": "official"}, 6.0)
    above = winner.about("name", study, of, best, known, final)
    assert above["holdout_avg_map"] == "none in the search, which chose the settings and the epochs by it"


def test_what_sets_a_winner_apart_is_said_without_its_seed(tmp_path: Path) -> None:
    space, study = grid(tmp_path, 1.0, 7.0, 3.0, 8.0)
    base, one = study.get_trials()[1], study.get_trials()[3]
    assert winner.set_apart(space, base, base, NOTHING) == ""
    for other in (base, None):
        assert winner.set_apart(space, one, other, NOTHING) == "loss.pseudo 0 (base 0.001)"


def test_settings_that_all_score_the_same_are_said_to_change_nothing() -> None:
    def trials(*values: float) -> list[FrozenTrial]:
        of = {"x": IntDistribution(0, 9)}
        found = enumerate(values)
        return [create_trial(value=value, params={"x": place}, distributions=dict(of)) for place, value in found]

    assert winner.all_alike(trials(2.5, 2.5, 2.5)) == [
        "all 3 COMPLETE trials have the same avg.mAP: what was searched (x) changed nothing"
    ]
    assert winner.all_alike(trials(2.5, 2.5, 2.6)) == winner.all_alike(trials(2.5, 2.5)) == winner.all_alike([]) == []
    assert winner.all_alike([trials(2.5)[0]] * 5) == [], "of one configuration"


def test_a_swept_setting_sets_apart_where_the_base_is_scored_at_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, study = grid(tmp_path, 1.0, 7.0, 3.0, 8.0)
    _, base, alike, other = study.get_trials()
    chosen = {base.number: -0.5, alike.number: -0.5, other.number: 0.5}
    own = space.base.detect
    monkeypatch.setattr(winner, "chosen_detect", lambda space, trial: replace(own, alpha=chosen[trial.number]))
    assert winner.differences(space, alike, base, NOTHING) == [("loss.pseudo", "0", "0.001")]
    assert winner.differences(space, other, base, NOTHING)[1] == (
        "detect.alpha", "0.5", f"{own.alpha:g} in the file, -0.5 at its best",
    )  # fmt: skip
    assert winner.differences(space, base, base, NOTHING) == [("detect.alpha", "-0.5", f"{own.alpha:g}")], (
        "against what was given"
    )


def ended(value: float | None, detections: int | None = None) -> FrozenTrial:
    state = TrialState.FAIL if value is None else TrialState.COMPLETE
    return create_trial(state=state, value=value, user_attrs={} if detections is None else {"detections": detections})


@pytest.mark.parametrize(
    ("trials", "why"),
    [
        ([], None),
        ([ended(None)], None),
        ([ended(0.0, 5), ended(0.1, 5)], None),
        ([ended(0.0, 0), ended(None), ended(0.0, 0)], "none of them detected anything in any epoch; "),
        ([ended(0.0, 0), ended(0.0, 3)], "what was detected matches no ground truth at eval.tiou"),
        ([ended(0.0)], "what was detected matches no ground truth at eval.tiou"),  # of a version that didn't count
    ],
)
def test_trials_that_all_score_nothing_name_no_winner(trials: list[FrozenTrial], why: str | None) -> None:
    said = winner.no_choice(trials)
    if why is None:
        assert said is None
    else:
        count = sum(trial.state == TrialState.COMPLETE for trial in trials)
        assert said is not None and said.startswith(
            f"All {count} COMPLETE trials have an avg.mAP of 0, so there is no "
        )
        assert why in said
