"""Recorded curves under another sampler, pruner and number of workers: virtual time, and what a replay may claim."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from haan.errors import InputError
from haan.words import aligned
from search import replay
from search.replays import compare
from search.replays.compare import remaining_s
from search.replays.pool import Pool, Trust, continued, read_pool, trust
from search.replays.simulation import Costs, Replay, simulate
from search.results.folder import RunFolder, open_study
from search.space.model import Space
from search.space.read import read_space
from search.study.algorithms import Component
from search.study.alike import Scale
from search.study.study import Study, Suggestion
from tests.paths import ROOT
from tests.search.curves import Curve, outcomes, record
from tests.search.replays.recorded import EPOCHS, PRUNERS, create, pool_of, record_run, search_one_by_one, write_space


@pytest.fixture
def space(tmp_path: Path) -> Space:
    return read_space(write_space(tmp_path))


@pytest.mark.parametrize("name", PRUNERS)
def test_one_worker_on_the_recorded_parameters_repeats_every_decision_of_the_run(name: str, tmp_path: Path) -> None:
    space = record_run(tmp_path, PRUNERS[name])
    recorded = open_study(RunFolder(tmp_path))
    study = create(space)
    study.start_with([trial.params for trial in recorded.trials])
    pool = read_pool(recorded.trials, space, "here")
    found = simulate(study, pool, 30, 1)
    assert outcomes(study.inner) == outcomes(recorded)
    expected = {TrialState.COMPLETE} if name == "none" else {TrialState.COMPLETE, TrialState.PRUNED}
    assert {trial.state for trial in recorded.trials} == expected
    assert found.end_s == found.busy_s == pytest.approx(sum(trial.user_attrs["seconds"] for trial in recorded.trials))
    assert found.best == recorded.best_value and found.idle == 0


@pytest.mark.parametrize("sampler", [{"name": "random"}, {"name": "tpe", "n_startup_trials": 6}])
def test_one_worker_with_the_runs_own_sampler_and_pruner_repeats_the_run(sampler: dict, tmp_path: Path) -> None:
    record_run(tmp_path, PRUNERS["hyperband"], sampler=sampler)
    recorded = open_study(RunFolder(tmp_path))
    own, *_ = compare.setups(tmp_path / "space.yaml", (), (), None, None)
    pool = read_pool(recorded.trials, own.space, "here")
    found = compare.replay(own, pool, "recorded", 1, own.space.base.seed)
    states = [trial.state for trial in recorded.trials]
    assert (found.pruned, found.complete) == (states.count(TrialState.PRUNED), states.count(TrialState.COMPLETE))
    assert found.best == recorded.best_value
    assert found.end_s == pytest.approx(sum(trial.user_attrs["seconds"] for trial in recorded.trials))


class Witness(Study):
    """Checks that every report comes when its epoch has ended, and no earlier than the one before it."""

    pool: Pool
    now_s = 0.0

    def ask(self) -> Suggestion:
        suggestion = super().ask()
        self.begun = getattr(self, "begun", {}) | {
            suggestion.number: (self.now_s, self.pool.nearest(suggestion.params))
        }
        return suggestion

    def report(self, number: int, epoch: int, value: float) -> bool:
        start_s, row = self.begun[number]
        ends_s = start_s + epoch * self.pool.seconds[row]
        assert ends_s >= self.now_s
        assert value == self.pool.curves[row, epoch - 1]
        self.now_s = ends_s
        return super().report(number, epoch, value)


@pytest.mark.parametrize("workers", [1, 5, 64])
def test_reports_come_in_the_order_of_time_and_none_before_its_epoch_has_ended(workers: int, space: Space) -> None:
    pool = pool_of(space, record(20, EPOCHS), seconds=np.random.default_rng(0).uniform(1, 5, 20))
    study = create(replace(space, pruner=PRUNERS["median"]), cls=Witness)
    assert isinstance(study, Witness)
    study.pool = pool
    found = simulate(study, pool, 40, workers)
    assert found.pruned > 0 and found.end_s == study.now_s
    assert found.costs.reports == sum(len(trial.intermediate_values) for trial in study.trials())


@pytest.mark.parametrize(("trials", "workers", "rounds"), [(12, 1, 12), (12, 4, 3), (13, 4, 4), (12, 64, 1), (1, 8, 1)])
def test_equal_epochs_without_pruning_take_as_many_rounds_as_workers_need(
    trials: int, workers: int, rounds: int, space: Space
) -> None:
    pool = pool_of(space, record(10, EPOCHS), seconds=2.5)
    found = simulate(create(space), pool, trials, workers)
    assert found.end_s == pytest.approx(rounds * EPOCHS * 2.5)  # ceil(trials / workers) rounds
    assert found.busy_s == pytest.approx(trials * EPOCHS * 2.5)
    assert found.idle == pytest.approx(1 - trials / (rounds * workers))
    assert (found.trials, found.complete, found.pruned) == (trials, trials, 0)


def test_a_trial_ends_with_its_own_epochs_where_these_are_searched(tmp_path: Path) -> None:
    """Trials of 12, 3 and 5 epochs of a second each: one worker takes 20 s."""
    space = read_space(write_space(tmp_path, parameters={"optim.epochs": {"int": [2, 14]}}))
    study = create(space)
    for epochs in (EPOCHS, 3, 5):
        study.start_with([{"optim.epochs": epochs}])
        number = study.ask().number
        for epoch in range(1, epochs + 1):
            study.report(number, epoch, float(epochs + epoch))
        study.complete(number, {"seconds": 1.0 * epochs, "epochs": epochs})
    pool = read_pool(study.trials(), space, "here")
    assert pool.epochs.tolist() == [12, 3, 5] and pool.values.tolist() == [24.0, 6.0, 10.0]
    again = create(space)
    again.start_with([trial.params for trial in study.trials()])
    found = simulate(again, pool, 3, 1)
    assert found.end_s == pytest.approx(20.0) and found.busy_s == found.full_s
    assert [trial.last_step for trial in again.trials()] == [12, 3, 5]


def test_more_workers_never_take_longer_without_pruning(space: Space) -> None:
    pool = pool_of(space, record(20, EPOCHS), seconds=np.random.default_rng(1).uniform(1, 5, 20))
    ends = [simulate(create(space), pool, 25, workers).end_s for workers in range(1, 28)]
    assert all(later <= earlier + 1e-9 for earlier, later in zip(ends, ends[1:], strict=False))
    assert ends[0] > 5 * ends[-1]


def test_the_first_good_trial_is_timed_when_it_completes(space: Space) -> None:
    curves = [tuple(np.linspace(0, ceiling, EPOCHS)) for ceiling in (5.0, 6.0, 9.95, 10.0)]
    pool = pool_of(space, curves, seconds=1.0)
    study = create(space)
    params = [one.params for one in create_trials(space, curves)]
    study.start_with(params)
    found = simulate(study, pool, 4, 2)
    assert found.near_s == 2 * EPOCHS  # trial 2 (9.95 is within 1 % of 10), in the second round of two workers
    assert found.best == 10 and found.results == 4 * EPOCHS
    assert found.near_results == 4 * EPOCHS - 1  # all but the last epoch of trial 3, which ends just after it
    poor = create(space)
    poor.start_with(params)
    never = simulate(poor, pool, 2, 2)
    assert (never.near_s, never.near_results) == (None, None)
    low = create(space)
    low.start_with(params)
    assert simulate(low, pool, 4, 2, level=5.5).near_s == EPOCHS  # trial 1, which reaches 6 in the first round


def create_trials(space: Space, curves: Sequence[Curve]) -> list[optuna.trial.FrozenTrial]:
    study = create(space)
    search_one_by_one(study, space, curves)
    return study.trials()


def test_the_same_seed_gives_the_same_replay_and_another_seed_another(space: Space) -> None:
    pool = pool_of(space, record(20, EPOCHS), seconds=np.random.default_rng(2).uniform(1, 5, 20))
    setup = compare.Setup("asked for", replace(space, pruner=PRUNERS["hyperband"], sampler=Component("tpe", {})))

    def figures(seed: int) -> tuple[object, ...]:
        one = compare.replay(setup, pool, "recorded", 6, seed)
        return one.pruned, one.best, one.end_s, one.busy_s, one.near_s

    assert figures(1) == figures(1)
    assert figures(1) != figures(2)


def test_distance_is_on_each_parameters_own_scale_and_1_between_choices() -> None:
    scale = Scale(
        {
            "a": FloatDistribution(1e-4, 1.0, log=True),
            "b": IntDistribution(0, 10),
            "c": CategoricalDistribution(["x", "y", "z"]),
        },
        {"a": 1e-4, "b": 0, "c": "x"},
    )
    assert scale.point({}).tolist() == scale.point({"a": 1e-4, "b": 0, "c": "x"}).tolist(), "it names none"
    origin = scale.point({"a": 1e-4, "b": 0, "c": "x"})

    def distance(**params: Any) -> float:
        return float(np.linalg.norm(scale.point({"a": 1e-4, "b": 0, "c": "x"} | params) - origin))

    assert distance(a=1e-2) == pytest.approx(0.5)  # halfway between the logarithms of 1e-4 and 1
    assert distance(b=3) == pytest.approx(0.3)
    assert distance(c="y") == distance(c="z") == pytest.approx(1)
    assert distance(a=1.0, b=10, c="z") == pytest.approx(math.sqrt(3))


def test_a_curve_goes_on_with_the_donors_gain_scaled_down_to_its_own_height() -> None:
    gap = math.nan
    donor = np.array([2.0, 4.0, 6.0, 7.0])
    low = continued(np.array([1.0, 2.0, gap, gap]), donor)  # half the donor's height: half of its gains of 2 and 3
    assert low.tolist() == [1.0, 2.0, 3.0, 3.5]
    high = continued(np.array([3.0, 8.0, gap, gap]), donor)  # above the donor: its gains as they are
    assert high.tolist() == [3.0, 8.0, 10.0, 11.0]
    assert continued(np.array([0.0, gap, gap, gap]), np.zeros(4)).tolist() == [0.0] * 4


def test_epochs_that_were_not_scored_are_not_reported(space: Space) -> None:
    pool = pool_of(space, record(5, EPOCHS), seconds=1.0)
    pool.curves[:, 0::2] = np.nan
    study = create(space)
    found = simulate(study, pool, 5, 2)
    assert all(list(trial.intermediate_values) == [2, 4, 6, 8, 10, 12] for trial in study.trials())
    assert found.end_s == 3 * EPOCHS


def test_failed_trials_are_left_out_and_missing_seconds_are_the_median(space: Space) -> None:
    study = create(space)
    for seconds in (12.0, 24.0, 60.0, None):
        number = study.ask().number
        for epoch in range(1, EPOCHS + 1):
            study.report(number, epoch, 1.0 * epoch)
        study.complete(number, {"seconds": seconds, "epochs": EPOCHS} if seconds else {})
    study.fail(study.ask().number, "broke", {})
    study.ask()
    pool = read_pool(study.trials(), space, "here")
    assert (len(pool), pool.left_out, pool.best) == (4, 2, 12.0)
    assert pool.seconds.tolist() == [1.0, 2.0, 5.0, 2.0]


@pytest.mark.parametrize(("objective", "value"), [("best", 9.0), ("last", 3.0)])
def test_a_trials_value_is_the_runs_objective(objective: str, value: float, tmp_path: Path) -> None:
    space = read_space(write_space(tmp_path, objective=objective))
    curve = (9.0, *[3.0] * (EPOCHS - 1))
    pool = pool_of(space, [curve])
    assert pool.best == value
    assert simulate(create(space), pool, 2, 1).best == value


def test_the_reach_compares_the_nearest_trial_with_any_other(space: Space) -> None:
    pool = pool_of(space, record(4, EPOCHS))
    line = replace(pool, points=np.array([[0.0], [0.1], [0.9], [1.0]]), values=np.array([1.0, 2.0, 7.0, 9.0]))
    # Nearest: |1-2|, |2-1|, |7-9|, |9-7|. Any other: six pairs, 1 + 6 + 8 + 5 + 7 + 2 = 29.
    assert trust(line) == Trust(nearest=1.5, random=pytest.approx(29 / 6))  # type: ignore[arg-type]


def test_what_a_pool_can_not_tell_is_said(space: Space) -> None:
    pool = pool_of(space, record(8, EPOCHS))
    lines = compare.caveats(pool, Trust(nearest=1.0, random=1.0), 8)
    assert any("only 8 trial(s) ran to the end, so this replay knows little" in line for line in lines)
    assert any("differences between samplers mean nothing" in line for line in lines)
    assert any("8 trials share 8 curves" in line for line in lines)
    many = pool_of(space, record(12, EPOCHS))
    assert not any("warning" in line for line in compare.caveats(many, Trust(nearest=0.1, random=1.0), 6))


def test_time_left_follows_a_growing_cost() -> None:
    def cost(n: int) -> float:
        return 0.5 * n + 0.01 * n**2

    assert remaining_s(cost(50), cost(100), 100, 1000) == pytest.approx(cost(1000) - cost(100))
    assert remaining_s(60.0, 100.0, 100, 1000) == pytest.approx(900)  # slow at first only: taken as even


def asked_for(
    path: Path, sampler: str | None = None, pruner: str | None = None, trials: int | None = None
) -> list[compare.Setup]:
    """The setups with one sampler and one pruner, or none of either."""
    samplers, pruners = ([] if given is None else [given] for given in (sampler, pruner))
    return compare.setups(path, samplers, pruners, trials, None)


def test_setups_are_the_runs_own_the_one_asked_for_and_the_yardstick_each_once(tmp_path: Path) -> None:
    path = write_space(tmp_path, pruner={"name": "median"})

    def names(**options: str) -> list[tuple[str, str]]:
        return [(one.name, one.description) for one in asked_for(path, **options)]

    assert names() == [("as run", "random + median"), ("yardstick", "random + none")]
    assert names(pruner="none") == [("as run", "random + median"), ("asked for", "random + none")]
    inline = "{name: hyperband, min_resource: 3}"
    assert names(pruner=inline, sampler="tpe")[1] == ("asked for", "tpe + hyperband(min_resource=3)")
    assert names(sampler=" {name: tpe, prior_weight: 1e-1}")[1] == ("asked for", "tpe(prior_weight=0.1) + median")
    budgets = [one.space.plan.trials for one in compare.setups(path, ["tpe"], (), 7, 5)]
    seeds = [one.space.base.seed for one in compare.setups(path, ["tpe"], (), 7, 5)]
    assert (budgets, seeds) == ([7] * 3, [5] * 3)


@pytest.fixture(scope="module")
def any_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    record_run(folder, trials=10)
    return folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pruner": "medain"}, "--pruner: search.pruner.name: must be one of .*got 'medain'; did you mean 'median'"),
        ({"sampler": "tpee"}, "--sampler: search.sampler.name: must be one of .*got 'tpee'; did you mean 'tpe'"),
        ({"pruner": "{name: median, n_warmup: 1}"}, "--pruner: search.pruner.n_warmup: .*did you mean"),
        ({"pruner": "{name: median"}, "--pruner: search.pruner: must be YAML, got .{name: median., which is not "),
        ({"sampler": "{}"}, "--sampler: search.sampler.name: is required and missing"),
        ({"trials": 0}, "--trials: search.trials: must be >= 1, got 0"),
    ],
)
def test_what_is_asked_for_is_checked_as_a_space_is_and_the_option_named(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        asked_for(write_space(tmp_path), **options)


def test_of_several_samplers_and_pruners_every_pair_is_compared_once_under_a_name_of_its_own(tmp_path: Path) -> None:
    path = write_space(tmp_path, pruner={"name": "median"})
    found = compare.setups(path, ["random", "tpe", "tpe"], ["median", "{name: median, n_warmup_steps: 2}"], None, None)
    assert [(one.name, one.description) for one in found] == [
        ("as run", "random + median"),  # also the first pair that was asked for
        ("random + median", "random + median(n_warmup_steps=2)"),
        ("tpe + median", "tpe + median"),
        ("tpe + median #2", "tpe + median(n_warmup_steps=2)"),
        ("yardstick", "random + none"),
    ]
    assert [one.description for one in compare.setups(path, ["qmc", "tpe"], (), None, None)][1:3] == [
        "qmc + median",
        "tpe + median",
    ]


@pytest.mark.parametrize(
    ("given", "each"),
    [
        (["tpe"], ["tpe"]),
        (["tpe,random", "qmc"], ["tpe", "random", "qmc"]),
        (["{name: tpe, n_startup_trials: 6}"], ["{name: tpe, n_startup_trials: 6}"]),
        (
            ["{name: patient, wrapped_pruner: {name: median, n_warmup_steps: 1}, patience: 2},none"],
            ["{name: patient, wrapped_pruner: {name: median, n_warmup_steps: 1}, patience: 2}", "none"],
        ),
        (["tpe,"], ["tpe", ""]),
        ([], []),
    ],
)
def test_an_option_names_several_with_commas_between_but_for_those_within_braces(
    given: list[str], each: list[str]
) -> None:
    assert replay._each(given) == each


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": "0"}, "--workers: must be >= 1, got 0"),
        ({"workers": "8;64"}, "--workers: must be one whole number, got '8;64'"),
        ({"workers": ""}, "--workers: must be one whole number, got ''"),
        (
            {"workers": "8,64"},
            "--workers: must be one whole number, got '8,64'; for several: ",
        ),
        ({"repeats": 0}, "--repeats: must be >= 1, got 0"),
        ({"level": 0.0}, "--level: must be > 0 and <= 100, got 0"),
        ({"level": 2400.0}, "--level: must be > 0 and <= 100, got 2400"),
        ({"level": math.nan}, "--level: must be > 0 and <= 100, got nan"),
        ({"sampler": ["tpe", "tpee"]}, "--sampler: search.sampler.name: must be one of "),
    ],
)
def test_wrong_options_are_refused_by_name(options: dict[str, Any], message: str, any_run: Path) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        replay.main(any_run, **options)


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="study.journal: no such file"):
        replay.main(tmp_path)


def test_a_run_without_a_complete_trial_or_without_seconds_is_refused(space: Space) -> None:
    study = create(space)
    number = study.ask().number
    study.report(number, 1, 1.0)
    study.prune(number, {})
    with pytest.raises(InputError, match="runs/a: must have a COMPLETE trial to replay, got none of 1"):
        read_pool(study.trials(), space, "runs/a")
    number = study.ask().number
    study.report(number, 1, 1.0)
    study.complete(number, {})
    with pytest.raises(InputError, match="runs/a: must have trials with their `seconds` and `epochs`, got none"):
        read_pool(study.trials(), space, "runs/a")


def test_the_table_has_a_column_a_setup_and_says_what_never_happened() -> None:
    def one(best: float | None, end_s: float, near_s: float | None) -> Replay:
        near = None if near_s is None else 40
        return Replay(10, 5, 5, best, 9.0, end_s, 4 * end_s, 8 * end_s, 0.0, 0.0, near_s, near, 99, 8, Costs(), 0.1)

    found = {"as run": [one(20.0, 7200, 3600), one(22.0, 10800, None)], "yardstick": [one(None, 7200, None)] * 2}
    lines = [" ".join(line.split()) for line in aligned(compare.table(found), texts=1)]
    assert lines == [
        "as run yardstick",
        "trials 10 10",
        "best avg.mAP 21.00 ± 1.41 never",  # sd of 20 and 22: sqrt(2)
        "until the end [h] 2.5 ± 0.71 2 ± 0",
        "until 99 % of the best recorded [h] 1 (1 of 2) never",
        "trial-epochs until 99 % of the best recorded 40 (1 of 2) never",
        "trial-epochs 99 ± 0 99 ± 0",
        "work of all workers [h] 10 ± 2.8 8 ± 0",
        "pruned [%] 50 ± 0 50 ± 0",
        "idle [%] 50.0 ± 0.0 50.0 ± 0.0",
    ]
    levelled = [row[0] for row in compare.table(found, level=21.5)]
    assert "until avg.mAP 21.5 [h]" in levelled and "trial-epochs until avg.mAP 21.5" in levelled


def test_a_level_above_all_that_was_recorded_is_warned_of(space: Space) -> None:
    pool = pool_of(space, record(12, EPOCHS))
    said = f"warning: no trial ran to the end with avg.mAP 99 or more; the best has {pool.best:.2f}"
    assert said in compare.caveats(pool, None, 6, 99.0)
    assert not any("no trial ran to the end" in line for line in compare.caveats(pool, None, 6, pool.best))


def test_the_command_compares_and_says_so(tmp_path: Path) -> None:
    record_run(tmp_path / "a", PRUNERS["median"])
    command = [sys.executable, str(ROOT / "search" / "replay.py"), "a", "--pruner", "hyperband", "--workers", "4"]
    ended = subprocess.run([*command, "--repeats", "2"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "mean ± sd of 2 repeats, virtual time; haan, weak supervision: video-level labels\n" in ended.stdout
    assert "\nasked for: random + hyperband\n" in ended.stdout


def test_the_command_takes_several_samplers_and_pruners_and_a_level(tmp_path: Path) -> None:
    record_run(tmp_path / "a", PRUNERS["median"])
    words = ["a", "--sampler", "tpe,qmc", "--sampler", "random", "--pruner", "{name: hyperband, min_resource: 3},none"]
    command = [sys.executable, str(ROOT / "search" / "replay.py"), *words, "--repeats", "1", "--level", "1"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")
    head, *rows = ended.stdout.partition("random + none: random + none\n")[2].splitlines()
    pairs = [f"{sampler} + {pruner}" for sampler in ("tpe", "qmc", "random") for pruner in ("hyperband", "none")]
    assert re.split(r"  +", head.strip()) == ["as run", *pairs]  # random + none is the yardstick itself
    assert {"trial-epochs", "trial-epochs until avg.mAP 1"} <= {re.split(r"  +", row)[0] for row in rows}


def test_json_holds_every_replay_and_their_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record_run(tmp_path, PRUNERS["median"])
    replay.main(tmp_path, pruner=["hyperband"], workers="4", repeats=2, level=5.0, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["level"] == 5.0
    assert list(found["setups"]) == ["as run", "asked for", "yardstick"]
    assert found["pool"]["complete"] + found["pool"]["pruned"] == 30
    asked = found["setups"]["asked for"]
    assert [one["trials"] for one in asked["replays"]] == [30, 30]
    ends = [one["end_s"] for one in asked["replays"]]
    expected = {"mean": pytest.approx(sum(ends) / 2), "sd": pytest.approx(np.std(ends, ddof=1)), "n": 2}
    assert asked["summary"]["end_s"] == expected


def test_a_large_replay_tells_how_long_it_will_take(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    clock = iter([0.0, 100.0, *(100.0 + 0.2 * ended for ended in range(1, 151))])
    monkeypatch.setattr(compare.time, "monotonic", lambda: next(clock))
    on_end = compare.Progress(3, 3000).watch(1000)
    for ended in range(1, 151):  # 0.2 s each
        on_end(ended)
    assert capsys.readouterr().err == (
        "replay 1 of 3: 100 of 1000 trials in 20 s, about 180 s left of it\n"
        "replay 1 of 3: 150 of 1000 trials in 30 s, about 170 s left of it\n"
    )


def test_small_replays_are_silent(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(compare, "_PROGRESS_S", 0.0)
    on_end = compare.Progress(3, 999).watch(333)
    for ended in range(1, 334):
        on_end(ended)
    assert capsys.readouterr().err == ""
