"""What is confirmed, what wins, and what is said before all of it is known."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from optuna.trial import FrozenTrial, create_trial

from haan.config import Holdout
from haan.optimiser import learning_rates
from search.results import confirm, retraining
from search.results.folder import RunFolder
from search.results.meancurve import Choice
from search.space.model import with_values
from tests.search.results.repetitions import FAIL, PRUNED, RUNNING, run, scored, searched, space


def test_the_best_trials_and_the_base_are_repeated_seed_by_seed(tmp_path: Path) -> None:
    of = space(tmp_path)
    trials = searched(of, 3.0, 9.0, 5.0, 7.0)
    assert [(a["trial"], a["seed"]) for a in retraining.repeats(of, trials)] == [
        (1, of.base.seed + 1), (3, of.base.seed + 1), (0, of.base.seed + 1),
        (1, of.base.seed + 2), (3, of.base.seed + 2), (0, of.base.seed + 2),
    ]  # fmt: skip
    assert {a["videos"] for a in retraining.repeats(of, trials)} == {"holdout"}


def test_a_base_among_the_best_is_repeated_once_and_pruned_trials_are_not(tmp_path: Path) -> None:
    of = space(tmp_path)
    chosen = retraining.candidates(of, searched(of, 8.0, 99.0, 5.0, states={1: PRUNED}))
    assert [trial.number for trial in chosen] == [0, 2]


def test_without_confirm_or_a_complete_trial_nothing_is_repeated(tmp_path: Path) -> None:
    of = space(tmp_path, confirm=None)
    assert retraining.repeats(of, searched(of, 3.0, 4.0)) == []
    of = space(tmp_path)
    assert retraining.repeats(of, searched(of, 3.0, 4.0, states={0: PRUNED, 1: FAIL})) == []


def test_each_seed_has_a_holdout_of_its_own_that_all_candidates_share(tmp_path: Path) -> None:
    of = space(tmp_path, validation={"holdout": 0.25, "seed": 40})
    trials = searched(of, 3.0, 9.0)
    repeats = retraining.repeats(of, trials)
    assert {(a["seed"], a["holdout"]) for a in repeats} == {(of.base.seed + 1, 41), (of.base.seed + 2, 42)}
    for again in repeats:
        values = retraining.settings(of, trials[again["trial"]], again, 3)
        assert values["data.validation"] == Holdout(holdout=0.25, seed=again["holdout"], classes="both")
        assert retraining.is_swept(of, again)
        assert retraining.described(of, again) == f"seed {again['seed']} on holdout {again['holdout']}"


def test_fixed_holdouts_are_the_search_s_own(tmp_path: Path) -> None:
    of = space(tmp_path, confirm={"top": 2, "seeds": 2, "holdouts": "fixed"})
    trials = searched(of, 3.0, 9.0)
    for again in retraining.repeats(of, trials):
        assert retraining.settings(of, trials[1], again, 3)["data.validation"] == of.base.data.validation
        assert retraining.is_swept(of, again)
        assert retraining.described(of, again) == f"seed {again['seed']} on holdout videos"


def test_a_run_that_began_before_holdouts_keeps_what_it_meant(tmp_path: Path) -> None:
    of = space(tmp_path, kept=True)
    trials = searched(of, 3.0, 9.0)
    repeats = retraining.repeats(of, trials)
    assert repeats[0] == {"trial": 1, "seed": of.base.seed + 1, "videos": "holdout"}
    assert not retraining.is_swept(of, repeats[0]) and set(retraining.parameters(of)) == {"trial", "seed", "videos"}
    known = confirm.summarise(of, trials, [run(again, again["seed"] + again["trial"]) for again in repeats])
    assert known.ranking is not None and known.ranking.winner.mean == of.base.seed + 1.5 + 1 and not known.choices
    assert confirm.finals(of, trials, known, has_official=True) == [
        {"trial": n, "seed": of.base.seed, "videos": "official"} for n in (1, 0)
    ]


def test_runs_on_other_holdouts_than_the_space_asks_for_do_not_count(tmp_path: Path) -> None:
    of = space(tmp_path)
    trials = searched(of, 3.0, 9.0)
    fixed = [{**again, "holdout": 0} for again in retraining.repeats(of, trials)]
    known = confirm.summarise(of, trials, [scored(of, again, {0: 9.0}) for again in fixed])
    assert len(known.runs) == 4 and known.ranking is None and known.confirmed() == [] and not known.choices


def test_the_mean_curve_chooses_epochs_and_alpha_and_not_the_peaks_of_runs(tmp_path: Path) -> None:
    """Means of trial 1 by epoch: 4, 6, 5 at the first setting, 5, 2, 5.5 at the second: 6 in epoch 2.

    Its runs peak at 7 and 10. Of the base, trial 0, at its own setting: 3, 4, 2.
    """
    of = space(tmp_path)
    trials, own = searched(of, 3.0, 9.0), of.detects.index(of.base.detect)
    first, second = [place for place in range(len(of.detects)) if place != own][:2]
    one = [{first: 4.0, second: 0.0}, {first: 7.0, second: 3.0}, {first: 1.0, second: 1.0}]
    two = [{first: 4.0, second: 10.0}, {first: 5.0, second: 1.0}, {first: 9.0, second: 10.0}]
    base = [{own: 3.0}, {own: 4.0}, {own: 2.0, first: 3.0}]
    runs = [
        scored(of, again, *(base if again["trial"] == 0 else one if again["seed"] == of.base.seed + 1 else two))
        for again in retraining.repeats(of, trials)
    ]
    known = confirm.summarise(of, trials, runs)
    assert known.choices == {1: Choice(2, of.detects[first]), 0: Choice(2, of.base.detect)}
    assert [(r.trial, r.epoch, r.avg_map) for r in known.runs] == [(1, 2, 7.0), (0, 2, 4.0), (1, 2, 5.0), (0, 2, 4.0)]
    assert known.ranking is not None and (known.ranking.winner.mean, known.ranking.gain) == (6.0, 2.0)
    last = replace(of, plan=replace(of.plan, objective="last"))
    known = confirm.summarise(last, trials, runs)
    assert known.choices == {1: Choice(3, of.detects[second]), 0: Choice(3, of.detects[first])}
    assert known.ranking is not None and (known.ranking.winner.mean, known.ranking.gain) == (5.5, 2.5)
    assert [run.own_avg_map for run in known.runs if run.base] == [2.0, 2.0]


def test_a_mean_of_the_last_epochs_chooses_alpha_and_the_last_epoch_leaves(tmp_path: Path) -> None:
    """Seven epochs, of which five count: the second setting's mean is 3, the first's 2 but for its peak before them."""
    of = space(tmp_path, objective="recent")
    trials, (first, second) = searched(of, 3.0, 9.0), (0, 1)
    epochs = [{first: 50.0}, {first: 40.0}] + [{first: 2.0, second: float(value)} for value in (1, 5, 1, 5, 3)]
    base = [{first: 1.0, of.detects.index(of.base.detect): 0.5}] * 7
    runs = [scored(of, again, *(base if again["trial"] == 0 else epochs)) for again in retraining.repeats(of, trials)]
    known = confirm.summarise(of, trials, runs)
    assert known.choices == {1: Choice(7, of.detects[second], over=5), 0: Choice(7, of.detects[first], over=5)}
    assert known.ranking is not None and (known.ranking.winner.mean, known.ranking.gain) == (3.0, 2.0)
    assert [run.own_avg_map for run in known.runs if run.base] == [0.5, 0.5]
    (final,) = {one["epochs"] for one in confirm.finals(of, trials, known, has_official=True)}
    assert final == 7
    settings = retraining.settings(of, trials[1], retraining.repeats(of, trials)[0], 7)
    assert settings["eval.epoch"] == "last"


def test_a_repeat_has_a_new_seed_and_the_alpha_that_the_search_chose(tmp_path: Path) -> None:
    of = space(tmp_path, kept=True)
    trials = searched(of, 3.0, 9.0)
    values = retraining.settings(of, trials[1], {"seed": 7, "videos": "holdout"}, 3)
    assert values["seed"] == 7 and values["concepts.clusters"] == 5 and values["eval.epoch"] == "best"
    assert values["detect.alpha"] == of.detects[1].alpha
    assert "data.validation" not in values and "optim.epochs" not in values


def test_a_final_run_takes_all_training_videos_and_the_epochs_of_the_search(tmp_path: Path) -> None:
    of = space(tmp_path, confirm=None)
    trials, known = searched(of, 3.0, 9.0), confirm.Confirmation()
    again = confirm.finals(of, trials, known, has_official=True)
    assert again == [{"trial": n, "seed": of.base.seed, "videos": "official"} for n in (1, 0)]
    assert confirm.num_epochs(of, trials[1], again[0], known) == 2
    config = confirm.final_config(of, trials[1], run(again[0], 4.0, epochs=2))
    assert (config.data.validation, config.optim.epochs, config.eval.epoch) == ("official", 2, "last")
    assert (config.seed, config.detect) == (of.base.seed, of.detects[1])


def test_a_final_run_after_a_confirmation_is_as_the_mean_curves_chose(tmp_path: Path) -> None:
    of = space(tmp_path)
    trials = searched(of, 3.0, 9.0)
    runs = [scored(of, a, {}, {}, {a["trial"] + 2: 8.0 + a["trial"]}, {}) for a in retraining.repeats(of, trials)]
    known = confirm.summarise(of, trials, runs)
    best, base, *others = confirm.finals(of, trials, known, has_official=True)
    assert [(one["trial"], one["seed"]) for one in (best, base, *others)] == [
        (1, of.base.seed + 3), (0, of.base.seed + 3), (1, of.base.seed + 4), (0, of.base.seed + 4),
    ], "seeds that the confirmation has not seen"  # fmt: skip
    assert (best["trial"], best["epochs"], best["setting"]) == (1, 3, 3)
    assert (base["trial"], base["epochs"], base["setting"]) == (0, 3, 2)
    assert confirm.num_epochs(of, trials[1], best, known) == 3
    config = confirm.final_config(of, trials[1], run(best, 4.0, epochs=3))
    assert (config.optim.epochs, config.detect, config.seed) == (3, of.detects[3], best["seed"])


def test_a_final_run_goes_along_the_learning_rates_of_its_trial(tmp_path: Path) -> None:
    """It had 3 epochs of a cosine and was best in its second: that run takes two, of the same cosine."""
    of = space(tmp_path, parameters={"optim.epochs": {"int": [2, 9]}}, confirm=None)
    of = replace(of, base=with_values(of.base, {"optim.schedule": "cosine", "optim.warmup_epochs": 1}))
    trial = create_trial(
        value=9.0, params={"optim.epochs": 3}, distributions=dict(of.parameters), user_attrs={"best_epoch": 2}
    )
    assert confirm.choice_of(of, trial, confirm.Confirmation()).epochs == 2
    again = {"trial": 1, "seed": 1, "videos": "official"}
    optim = confirm.final_config(of, trial, run(again, 4.0, epochs=2)).optim
    assert (optim.epochs, optim.schedule_epochs) == (2, 3)
    assert [learning_rates(optim, epoch, 4) for epoch in (1, 2)] == [
        learning_rates(replace(optim, epochs=3, schedule_epochs=None), epoch, 4) for epoch in (1, 2)
    ]
    last = replace(of, plan=replace(of.plan, objective="last"))
    assert confirm.choice_of(last, trial, confirm.Confirmation()).epochs == 3


def test_a_base_that_was_pruned_takes_the_median_of_its_repeats(tmp_path: Path) -> None:
    of = space(tmp_path, kept=True)
    trials = searched(of, 3.0, 9.0, states={0: PRUNED})
    again = {"trial": 0, "seed": 2, "videos": "holdout"}
    runs = [run(again | {"seed": seed}, 1.0, best_epoch=epoch) for seed, epoch in ((2, 4), (3, 9), (4, 5))]
    others = [run(again | {"trial": 1}, 1.0, best_epoch=1), run(again, None, FAIL)]
    known = confirm.summarise(of, trials, [*runs, *others])
    assert confirm.choice_of(of, trials[0], known).epochs == 5
    assert confirm.choice_of(of, trials[1], known).epochs == 2, "one that ran to the end keeps its own"


def test_no_final_run_where_the_search_saw_the_official_videos_or_there_are_none(tmp_path: Path) -> None:
    of, nothing = space(tmp_path), confirm.Confirmation()
    assert confirm.finals(of, searched(of, 3.0), nothing, has_official=False) == []
    assert retraining.num_runs(of, has_official=False) == ((6,), 0) and retraining.num_runs(of, True) == ((6,), 4)
    few = space(tmp_path, confirm={"top": 2, "seeds": 2, "official_seeds": 1})
    assert retraining.num_runs(few, has_official=True) == ((6,), 2)
    assert retraining.num_runs(space(tmp_path, kept=True), has_official=True) == ((6,), 2)
    of = space(tmp_path, validation="official")
    assert confirm.finals(of, searched(of, 3.0), nothing, has_official=True) == []
    assert retraining.num_runs(of, has_official=True) == ((6,), 0)
    assert {a["videos"] for a in retraining.repeats(of, searched(of, 3.0))} == {"validation"}


def test_the_mean_decides_and_not_before_every_run_has_ended(tmp_path: Path) -> None:
    of = space(tmp_path)
    trials = searched(of, 3.0, 9.0, 8.0)
    values = {1: 4.0, 2: 6.0, 0: 3.0}
    repeats = retraining.repeats(of, trials)
    runs = [run(again, values[again["trial"]] + again["seed"] / 100) for again in repeats]
    partly = confirm.summarise(of, trials, runs[:-1])
    assert partly.ranking is None
    best = confirm.winner(of, trials, partly)
    assert best is not None and best.number == 1, "the luckiest of the search"

    known = confirm.summarise(of, trials, runs)
    assert known.ranking is not None and [one.number for one in known.ranking.order] == [2, 1, 0]
    best = confirm.winner(of, trials, known)
    assert best is not None and best.number == 2

    under_way = confirm.summarise(of, trials, [*runs[:-1], run(repeats[-1], None, RUNNING)])
    assert under_way.ranking is None
    failed = confirm.summarise(of, trials, [*runs[:-1], run(repeats[-1], None, FAIL)])
    assert failed.ranking is not None, "a run that failed is a run that ended"


def test_runs_of_a_trial_that_is_no_longer_among_the_best_do_not_count(tmp_path: Path) -> None:
    of = space(tmp_path)
    before = searched(of, 3.0, 9.0, 8.0)
    runs = [run(again, 50.0 if again["trial"] == 2 else 1.0) for again in retraining.repeats(of, before)]
    after = searched(of, 3.0, 9.0, 8.0, 10.0)
    runs += [run(again, 5.0) for again in retraining.repeats(of, after) if again["trial"] == 3]
    known = confirm.summarise(of, after, runs)
    assert known.ranking is not None and {one.number for one in known.ranking.order} == {0, 1, 3}
    best = confirm.winner(of, after, known)
    assert best is not None and best.number == 3


def test_a_race_asks_for_seeds_as_long_as_it_is_close_and_the_last_look_ranks(tmp_path: Path) -> None:
    """Trial 3 is behind after two seeds, and trial 1 behind trial 2 after four."""
    of = space(tmp_path, confirm={"top": 3, "seeds": 5, "race": True})
    trials = searched(of, 3.0, 9.0, 8.0, 7.0)
    first = of.base.seed + 1
    scores = {1: [20, 22, 21, 15], 2: [22, 20, 22, 23], 3: [4, 4], 0: [6, 7, 6, 7]}
    runs = list[FrozenTrial]()
    known = confirm.summarise(of, trials, runs)
    asked: list[list[tuple[int, int]]] = []
    while known.ranking is None:
        todo = [again for again in known.wanted if again not in [run.params for run in runs]]
        asked.append([(again["trial"], again["seed"] - first) for again in todo])
        assert sum(known.rounds) == (5 - max(seed for _, seed in asked[-1]) - 1) * (4 if len(asked) == 1 else 3)
        runs += [scored(of, again, {0: float(scores[again["trial"]][again["seed"] - first])}) for again in todo]
        assert confirm.summarise(of, trials, runs[:-1]).ranking is None
        known = confirm.summarise(of, trials, runs)
    assert asked == [
        [(n, seed) for seed in (0, 1) for n in (1, 2, 3, 0)],
        *([(n, s) for n in (1, 2, 0)] for s in (2, 3)),
    ]
    assert [(one.number, one.n) for one in known.ranking.order] == [(2, 4), (1, 4), (0, 4), (3, 2)]
    assert "4 seeds each, in a race of up to 5" in known.ranking.sentence()
    assert [(one.number, len(one.scores)) for one in known.confirmed() if one.setting == "chosen"] == [
        (2, 4), (1, 4), (0, 4), (3, 2),
    ]  # fmt: skip
    final = confirm.finals(of, trials, known, has_official=True)
    assert {again["seed"] for again in final} == {first + 5 + number for number in range(5)}, (
        "as many as a race may have"
    )


def test_a_look_reads_the_mean_curve_of_its_own_seeds(tmp_path: Path) -> None:
    """By two seeds trial 1 leads at epoch 1, where 2 is far behind; by all three it would be best at epoch 2."""
    of = space(tmp_path, confirm={"top": 2, "seeds": 3, "race": True})
    trials = searched(of, 3.0, 9.0, 8.0)
    curves = {1: [(20, 0), (21, 0), (0, 99)], 2: [(10, 0), (11, 0), (0, 0)], 0: [(19, 0), (22, 0), (30, 0)]}
    runs = [
        scored(of, again, *({0: float(value)} for value in curves[again["trial"]][again["seed"] - of.base.seed - 1]))
        for again in retraining.repeats(of, trials)
    ]
    known = confirm.summarise(of, trials, [run for run in runs if run.params["trial"] != 2 or run.params["seed"] < 4])
    assert known.ranking is not None and [one.number for one in known.ranking.order] == [1, 0, 2]
    assert [one.mean for one in known.ranking.order] == [33.0, pytest.approx(71 / 3), 10.5]


@pytest.mark.parametrize("confirmed", [True, False])
def test_the_table_has_a_row_a_run(confirmed: bool, tmp_path: Path) -> None:
    of = space(tmp_path, kept=True)
    trials = searched(of, 3.0, 9.0)
    maps = [float(i) for i in range(len(of.base.eval.tiou))]
    runs = [
        run(again, 5.0, best_avg_map_by_detect=[5.0, 4.0], map_by_tiou=maps, seconds=2.0, node="a")
        for again in (retraining.repeats(of, trials) if confirmed else [])
    ]
    folder = RunFolder(tmp_path)
    confirm.write_csv(folder, of, confirm.summarise(of, trials, runs))
    assert folder.confirm_csv.exists() == confirmed
    if confirmed:
        table = pd.read_csv(folder.confirm_csv)
        assert table["number"].tolist() == [1, 0, 1, 0] and table["base"].tolist() == [False, True, False, True]
        assert set(table["own_avg_map"]) == {4.0} and table["detect.alpha"].tolist()[:2] == [
            of.detects[1].alpha, of.detects[0].alpha,
        ]  # fmt: skip
        assert table[[f"map@{tiou:g}" for tiou in of.base.eval.tiou]].iloc[0].tolist() == maps


def test_each_configuration_has_its_seeds_and_the_base_those_at_its_own_setting_as_well(tmp_path: Path) -> None:
    of = space(tmp_path, kept=True)
    trials = searched(of, 3.0, 9.0)
    values = {(1, 2): 8.0, (1, 3): 6.0, (0, 2): 4.0, (0, 3): 5.0}
    runs = [
        run(again, value := values[again["trial"], again["seed"]], best_avg_map_by_detect=[value, value / 2])
        for again in retraining.repeats(of, trials)
    ]
    runs[2] = run(runs[2].params, None, FAIL, best_avg_map_by_detect=[6.0, 3.0], failure="loss is nan")
    runs.append(run({"trial": 1, "seed": 1, "videos": "official"}, 2.0))
    known = confirm.summarise(of, trials, runs)
    assert [(one.number, one.base, one.setting, one.seeds, one.scores, one.runs) for one in known.confirmed()] == [
        (1, False, "chosen", (2,), (8.0,), 2),
        (0, True, "chosen", (2, 3), (4.0, 5.0), 2),
        (0, True, "own", (2, 3), (2.0, 2.5), 2),
    ]
    assert [(one.trial, one.avg_map) for one in known.official] == [(1, 2.0)]
    assert [(one.trial, one.seed, one.record.failure) for one in known.runs if one.state == FAIL] == [
        (1, 3, "loss is nan")
    ]


def test_runs_of_another_study_that_lie_in_the_folder_are_left_out(tmp_path: Path) -> None:
    of = space(tmp_path)
    trials = searched(of, 3.0, 9.0)
    known = confirm.summarise(of, trials, [run({"trial": 7, "seed": 2, "videos": "holdout"}, 1.0)])
    assert known.runs == () and known.confirmed() == []
