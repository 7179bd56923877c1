"""What is confirmed, what wins, and what is said before all of it is known."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState, create_trial

from haan.optimiser import learning_rates
from haan.yamlconfig import plain
from search.results import confirm
from search.results.folder import RunFolder
from search.space.model import Space, with_values
from search.space.read import read_space
from tests.planted import tiny_config

COMPLETE, PRUNED, FAIL, RUNNING = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING
ALPHAS = (-0.4, -0.2, 0.0, 0.2, 0.4)


def space(folder: Path, validation: Any = None, **search: object) -> Space:
    base = plain(tiny_config(Path("data")))
    base["data"]["validation"] = validation or {"holdout": 0.25, "seed": 0}
    parameters = {"concepts.clusters": {"int": [4, 16]}, "detect.alpha": {"sweep": "-0.4:0.4:0.2"}}
    found = {"sampler": {"name": "random"}, "parameters": parameters, "confirm": {"top": 2, "seeds": 2}}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({"base": base, "search": found | search}))
    return read_space(path)


def searched(of: Space, *values: float | None, states: Mapping[int, TrialState] | None = None) -> list[FrozenTrial]:
    """Trials of a search; each chose the alpha of its own number, and its best epoch is its number + 1."""
    study = optuna.create_study(direction="maximize")
    for number, value in enumerate(values):
        state = (states or {}).get(number, COMPLETE)
        by_detect = [float(i == number % len(of.detects)) for i in range(len(of.detects))]
        attributes = {"avg_map_by_detect": by_detect, "best_epoch": number + 1} if value is not None else {}
        study.add_trial(
            create_trial(
                state=state,
                value=value if state == COMPLETE else None,
                params={"concepts.clusters": 4 + number},
                distributions=dict(of.parameters),
                user_attrs=attributes,
            )
        )
    return study.get_trials()


def run(again: confirm.Again, value: float | None, state: TrialState = COMPLETE, **known: Any) -> FrozenTrial:
    return create_trial(
        state=state,
        value=value,
        params=again,
        distributions=dict(confirm.PARAMETERS),
        user_attrs={"best_epoch": 5, "epochs": 9} | known,
    )


def test_the_best_trials_and_the_base_are_repeated_seed_by_seed(tmp_path: Path) -> None:
    of = space(tmp_path)
    trials = searched(of, 3.0, 9.0, 5.0, 7.0)
    assert [(a["trial"], a["seed"]) for a in confirm.repeats(of, trials)] == [
        (1, of.base.seed + 1), (3, of.base.seed + 1), (0, of.base.seed + 1),
        (1, of.base.seed + 2), (3, of.base.seed + 2), (0, of.base.seed + 2),
    ]  # fmt: skip
    assert {a["videos"] for a in confirm.repeats(of, trials)} == {"holdout"}


def test_a_base_among_the_best_is_repeated_once_and_pruned_trials_are_not(tmp_path: Path) -> None:
    of = space(tmp_path)
    chosen = confirm.candidates(of, searched(of, 8.0, 99.0, 5.0, states={1: PRUNED}))
    assert [trial.number for trial in chosen] == [0, 2]


def test_without_confirm_or_a_complete_trial_nothing_is_repeated(tmp_path: Path) -> None:
    of = space(tmp_path, confirm=None)
    assert confirm.repeats(of, searched(of, 3.0, 4.0)) == []
    of = space(tmp_path)
    assert confirm.repeats(of, searched(of, 3.0, 4.0, states={0: PRUNED, 1: FAIL})) == []


def test_a_repeat_has_a_new_seed_and_the_alpha_that_the_search_chose(tmp_path: Path) -> None:
    of = space(tmp_path)
    trials = searched(of, 3.0, 9.0)
    values = confirm.settings(of, trials[1], {"seed": 7, "videos": "holdout"}, 3)
    assert values["seed"] == 7 and values["concepts.clusters"] == 5 and values["eval.epoch"] == "best"
    assert values["detect.alpha"] == of.detects[1].alpha
    assert "data.validation" not in values and "optim.epochs" not in values


def test_a_final_run_takes_all_training_videos_and_the_epochs_of_the_search(tmp_path: Path) -> None:
    of = space(tmp_path)
    trials = searched(of, 3.0, 9.0)
    again = confirm.finals(of, 1, has_official=True)
    assert again == [{"trial": n, "seed": of.base.seed, "videos": "official"} for n in (1, 0)]
    assert confirm.final_epochs(of, trials[1], []) == 2
    config = confirm.final_config(of, trials[1], run(again[0], 4.0, epochs=2))
    assert (config.data.validation, config.optim.epochs, config.eval.epoch) == ("official", 2, "last")
    assert (config.seed, config.detect) == (of.base.seed, of.detects[1])


def test_a_final_run_goes_along_the_learning_rates_of_its_trial(tmp_path: Path) -> None:
    """It had 3 epochs of a cosine and was best in its second: that run takes two, of the same cosine."""
    of = space(tmp_path, parameters={"optim.epochs": {"int": [2, 9]}})
    of = replace(of, base=with_values(of.base, {"optim.schedule": "cosine", "optim.warmup_epochs": 1}))
    trial = create_trial(
        value=9.0, params={"optim.epochs": 3}, distributions=dict(of.parameters), user_attrs={"best_epoch": 2}
    )
    assert confirm.final_epochs(of, trial, []) == 2
    again = {"trial": 1, "seed": 1, "videos": "official"}
    optim = confirm.final_config(of, trial, run(again, 4.0, epochs=2)).optim
    assert (optim.epochs, optim.schedule_epochs) == (2, 3)
    assert [learning_rates(optim, epoch, 4) for epoch in (1, 2)] == [
        learning_rates(replace(optim, epochs=3, schedule_epochs=None), epoch, 4) for epoch in (1, 2)
    ]
    assert confirm.final_epochs(replace(of, plan=replace(of.plan, objective="last")), trial, []) == 3


def test_a_base_that_was_pruned_takes_the_median_of_its_repeats(tmp_path: Path) -> None:
    of = space(tmp_path)
    trials = searched(of, 3.0, 9.0, states={0: PRUNED})
    again = {"trial": 0, "seed": 2, "videos": "holdout"}
    runs = [run(again | {"seed": seed}, 1.0, best_epoch=epoch) for seed, epoch in ((2, 4), (3, 9), (4, 5))]
    others = [run(again | {"trial": 1}, 1.0, best_epoch=1), run(again, None, FAIL)]
    assert confirm.final_epochs(of, trials[0], [*runs, *others]) == 5
    assert confirm.final_epochs(of, trials[1], [*runs, *others]) == 2, "one that ran to the end keeps its own"


def test_no_final_run_where_the_search_saw_the_official_videos_or_there_are_none(tmp_path: Path) -> None:
    assert confirm.finals(space(tmp_path), 1, has_official=False) == []
    of = space(tmp_path, validation="official")
    assert confirm.finals(of, 1, has_official=True) == []
    assert {a["videos"] for a in confirm.repeats(of, searched(of, 3.0))} == {"validation"}


def test_the_mean_decides_and_not_before_every_run_has_ended(tmp_path: Path) -> None:
    of = space(tmp_path)
    trials = searched(of, 3.0, 9.0, 8.0)
    values = {1: 4.0, 2: 6.0, 0: 3.0}
    repeats = confirm.repeats(of, trials)
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
    runs = [run(again, 50.0 if again["trial"] == 2 else 1.0) for again in confirm.repeats(of, before)]
    after = searched(of, 3.0, 9.0, 8.0, 10.0)
    runs += [run(again, 5.0) for again in confirm.repeats(of, after) if again["trial"] == 3]
    known = confirm.summarise(of, after, runs)
    assert known.ranking is not None and {one.number for one in known.ranking.order} == {0, 1, 3}
    best = confirm.winner(of, after, known)
    assert best is not None and best.number == 3


@pytest.mark.parametrize("confirmed", [True, False])
def test_the_table_has_a_row_a_run(confirmed: bool, tmp_path: Path) -> None:
    of = space(tmp_path)
    trials = searched(of, 3.0, 9.0)
    maps = [float(i) for i in range(len(of.base.eval.tiou))]
    runs = [
        run(again, 5.0, best_avg_map_by_detect=[5.0, 4.0], map_by_tiou=maps, seconds=2.0, node="a")
        for again in (confirm.repeats(of, trials) if confirmed else [])
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
    of = space(tmp_path)
    trials = searched(of, 3.0, 9.0)
    values = {(1, 2): 8.0, (1, 3): 6.0, (0, 2): 4.0, (0, 3): 5.0}
    runs = [
        run(again, value := values[again["trial"], again["seed"]], best_avg_map_by_detect=[value, value / 2])
        for again in confirm.repeats(of, trials)
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
