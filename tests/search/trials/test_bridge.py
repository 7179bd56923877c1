"""A study run through real Ray Tune decides as it does through plain Optuna, and every trial ends in a true state."""

import gc
import json
import os
import platform
import sys
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray
from optuna.trial import TrialState
from ray import cloudpickle, tune

from search.study.algorithms import Component, make_pruner
from search.study.study import Study, Suggestion
from search.trials import internals
from search.trials.bridge import Bridge, Events, Running
from search.trials.tuning import Stage, run_stage
from tests.search.curves import CURVES, EPOCHS, TRIALS, outcomes
from tests.search.trials import recorded
from tests.search.trials.oracle import create, setting, through_optuna
from tests.search.trials.recorded import PARAMETERS, Replay

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"

pytestmark = pytest.mark.ray

COMPLETE, PRUNED, FAIL, RUNNING = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING


class RaisesAlways(Replay):
    """Trial 1 can't run at all, trial 3 breaks in its third epoch every time."""

    def step(self) -> dict[str, Any]:
        if self.number == 1 or (self.number == 3 and self.epoch == 2):
            raise ValueError(f"trial {self.number} broke")
        return super().step()


class GivesUp(Replay):
    """Trial 1 says at once that it can't run, trial 3 after two epochs; each notes how often it was tried."""

    def step(self) -> dict[str, Any]:
        if self.number == 1 or (self.number == 3 and self.epoch == 2):
            (self.notes / f"tried-{self.number}").open("a").write("x")
            return {"failure": f"trial {self.number} gave up", "epochs": []}
        return super().step()


class RaisesOnce(Replay):
    """The first time, trial 1 raises in epoch 8, past a checkpoint; trial 2's process dies in epoch 4, before any."""

    def step(self) -> dict[str, Any]:
        if self.number == 1 and self.epoch == 7 and self.first_time("broke"):
            raise RuntimeError("lost")
        if self.number == 2 and self.epoch == 3 and self.first_time("broke"):
            os._exit(1)
        return super().step()


class StartsLate(Replay):
    """Every process but the first takes longer to start than a trial takes."""

    late_s = 2.0

    def setup(self, config: dict[str, Any], **given: Any) -> None:
        super().setup(config, **given)
        if len(list(self.notes.glob("process-*"))) > 1:
            time.sleep(self.late_s)

    def step(self) -> dict[str, Any]:
        (self.notes / f"trains-{os.getpid()}").touch()
        time.sleep(0.05)
        return super().step()


class HardlyStarts(StartsLate):
    """As on a node that is out of order."""

    late_s = 300.0


class Meets(Replay):
    """No epoch ends before two processes train."""

    def step(self) -> dict[str, Any]:
        (self.notes / f"trains-{os.getpid()}").touch()
        while len(list(self.notes.glob("trains-*"))) < 2:
            time.sleep(0.05)
        return super().step()


class DiesIdle(Meets):
    """The process of the first trial 0 dies half a second after its last epoch; trial 1 takes a second longer."""

    def step(self) -> dict[str, Any]:
        if self.epoch == EPOCHS - 1 and self.first_time("died"):
            if self.number == 0:
                threading.Timer(0.5, os._exit, [1]).start()
            else:
                time.sleep(1.5)
        return super().step()


class DiesAtHandover(Replay):
    """The first time, trial 1's process dies as it is handed over from trial 0."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.number = new_config["number"]
        if self.number == 1 and self.first_time("died"):
            os._exit(1)
        return super().reset_config(new_config)


@pytest.fixture(scope="module", autouse=True)
def one_ray() -> Iterator[None]:
    for module in (sys.modules[__name__], recorded):
        cloudpickle.register_pickle_by_value(module)  # workers can't import the tests
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
    for module in (sys.modules[__name__], recorded):
        cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture(autouse=True)
def no_open_logs() -> Iterator[None]:
    """Ray Tune leaves the logs of trials that it stopped open; they are closed here rather than in some later test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


Ends = list[tuple[int, str]]


class Noted(Events):
    """Keeps how trials ended."""

    def __init__(self) -> None:
        self.ends: Ends = []

    def ended(self, trial: Running, state: str, under_way: Collection[Running]) -> None:
        self.ends.append((trial.number, state))


def through_ray(
    study: Study,
    folder: Path,
    trials: int,
    trainable: type[Replay] = Replay,
    concurrent: int = 1,
    max_failures: int = 0,
) -> tuple[Bridge, Ends]:
    """Runs a study as search.run does; the bridge, and (number, state) of each trial in the order they ended."""
    noted = Noted()

    def config(suggestion: Suggestion) -> dict[str, Any]:
        return {"number": suggestion.number, "epochs": study.epochs}

    stage = Stage(
        place=str(folder),
        session=1,
        trainable=tune.with_resources(tune.with_parameters(trainable, curves=CURVES, notes=str(folder)), {"cpu": 1}),
        concurrent=concurrent,
        max_failures=max_failures,
        log=folder / "log",
    )
    bridge = Bridge(study, trials, config, noted, stage.checkpoints())
    if run_stage(stage, bridge):
        raise KeyboardInterrupt
    return bridge, noted.ends


class Enough(Noted):
    """Has enough once so many trials have ended."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def has_enough(self) -> bool:
        return len(self.ends) >= self._most


def one_after_the_other(
    studies: list[Study], folder: Path, trials: int, trainable: type[Replay], first: Events | None = None
) -> None:
    """Runs so many trials of each study, two at a time, as one search of Ray Tune's. first: of the first of them."""
    resources = tune.with_resources(tune.with_parameters(trainable, curves=CURVES, notes=str(folder)), {"cpu": 1})
    stage = Stage(str(folder), 1, resources, concurrent=2, max_failures=1, log=folder / "log")

    def bridge(place: int) -> Bridge:
        kind, study = ("trial", "confirm")[place], studies[place]

        def config(suggestion: Suggestion) -> dict[str, Any]:
            return {"number": suggestion.number, "kind": kind, "epochs": study.epochs}

        more = trials * (len(studies) - 1 - place)
        events = first if first is not None and place == 0 else Events()
        return Bridge(study, trials, config, events, stage.checkpoints(kind), more=more)

    begun, *others = map(bridge, range(len(studies)))
    coming = iter(others)
    assert not run_stage(stage, begun, lambda: next(coming, None))


NO_PRUNER = Component("none", {})


def test_a_pruner_decides_through_ray_as_through_plain_optuna(tmp_path: Path) -> None:
    """One with rungs; test_judge.py has all of them, without Ray."""
    hyperband = setting("hyperband")
    study = create(hyperband)
    _, ends = through_ray(study, tmp_path, TRIALS)
    expected = through_optuna(make_pruner(hyperband, EPOCHS), TRIALS)
    assert outcomes(study.inner) == expected
    assert ends == [(trial.number, trial.state.name) for trial in expected]
    assert {trial.state for trial in expected} == {COMPLETE, PRUNED}


def test_a_process_that_takes_longer_to_start_than_trials_take_gets_to_work(tmp_path: Path) -> None:
    study = create(NO_PRUNER)
    through_ray(study, tmp_path, 14, StartsLate, concurrent=2)
    assert [trial.state for trial in study.trials()] == [COMPLETE] * 14
    # Ray Tune alone gives its trial to whichever process becomes free, ends it, and starts another for the next trial.
    assert len(list(tmp_path.glob("trains-*"))) == len(list(tmp_path.glob("process-*"))) == 2


def test_a_process_that_does_not_get_to_start_holds_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(internals, "_START_S", 1)
    study = create(NO_PRUNER)
    through_ray(study, tmp_path, 4, HardlyStarts, concurrent=2)
    assert [trial.state for trial in study.trials()] == [COMPLETE] * 4
    assert len(list(tmp_path.glob("trains-*"))) == 1


@dataclass(frozen=True)
class Ran:
    """A search through Ray that several tests look at. place: where its checkpoints and notes are."""

    study: Study
    bridge: Bridge
    ends: Ends
    place: Path


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Two trials side by side, some of them pruned."""
    study, place = create(setting("median")), tmp_path_factory.mktemp("pruned")
    return Ran(study, *through_ray(study, place, TRIALS, concurrent=2), place)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """One trial after another, none of them pruned."""
    study, place = create(NO_PRUNER), tmp_path_factory.mktemp("whole")
    return Ran(study, *through_ray(study, place, 4), place)


def test_trials_side_by_side_all_end_in_true_states_and_use_the_budget_once(pruned: Ran) -> None:
    bridge, ends, trials = pruned.bridge, pruned.ends, pruned.study.trials()
    assert bridge.asked == len(trials) == TRIALS
    assert bridge.by_id == {}
    assert sorted(ends) == [(trial.number, trial.state.name) for trial in trials]
    assert {trial.state for trial in trials} == {COMPLETE, PRUNED}
    for trial in trials:
        curve = CURVES[trial.number]
        reported = dict(enumerate(curve[: len(trial.intermediate_values)], start=1))
        assert trial.intermediate_values == reported
        if trial.state == COMPLETE:
            assert len(reported) == EPOCHS
            assert trial.value == max(curve)
        else:
            assert len(reported) < EPOCHS
            assert trial.value == reported[len(reported)]


def test_the_study_keeps_what_is_known_of_each_trial(whole: Ran) -> None:
    assert len(whole.study.trials()) == 4
    for trial in whole.study.trials():
        curve, known = CURVES[trial.number], dict(trial.user_attrs)
        ((start, end, node),) = known.pop("runs")
        assert start < end and node == known.pop("node") == platform.node()
        assert known == {
            "seconds": EPOCHS * 0.25,
            "map_by_tiou": [max(curve) + 1, max(curve) - 1],
            "losses": {"total": 1.0},
            "retries": [],
            "epochs": EPOCHS,
            "best_epoch": curve.index(max(curve)) + 1,
            "device": "cpu",
            "avg_map_by_detect": [max(curve), max(curve) / 2],
            "best_avg_map_by_detect": [max(curve), max(curve) / 2],
            "collapsed_epochs": 1,
            "empty_clusters": 0,
            "detections": 1,
        }


def test_one_process_serves_one_trial_after_another(whole: Ran) -> None:
    assert len(list(whole.place.glob("process-*"))) == 1


def test_processes_live_through_studies_that_follow_each_other(tmp_path: Path) -> None:
    studies = [create(NO_PRUNER), create(NO_PRUNER)]
    one_after_the_other(studies, tmp_path, 4, Meets)
    for study in studies:
        assert [trial.state for trial in study.trials()] == [COMPLETE] * 4
    begun, ended = ([trial.user_attrs["runs"][0][which] for trial in studies[1 - which].trials()] for which in (0, 1))
    assert min(begun) >= max(ended) - 1  # the first epoch's own second is counted back from its message
    assert len(list(tmp_path.glob("process-*"))) == 2
    kinds = sorted(path.name.partition("-")[0] for path in (tmp_path / "trials").iterdir() if path.is_dir())
    assert kinds == ["confirm"] * 4 + ["trial"] * 4


@pytest.mark.slow
def test_a_study_that_has_enough_ends_what_runs_and_the_next_one_follows(tmp_path: Path) -> None:
    studies = [create(NO_PRUNER), create(NO_PRUNER)]
    one_after_the_other(studies, tmp_path, 9, Replay, Enough(3))
    # The third ended beside one that was under way, and Ray Tune may have asked for another before it was told.
    known = studies[0].trials()
    assert 3 <= len(known) <= 5 and {trial.state for trial in known} == {COMPLETE}
    assert [trial.state for trial in studies[1].trials()] == [COMPLETE] * 9


def test_a_process_that_dies_between_two_studies_costs_no_trial(tmp_path: Path) -> None:
    studies = [create(NO_PRUNER), create(NO_PRUNER)]
    one_after_the_other(studies, tmp_path, 2, DiesIdle)
    assert (tmp_path / "0-died").exists()
    for study in studies:
        assert [trial.state for trial in study.trials()] == [COMPLETE] * 2
    assert len(list(tmp_path.glob("process-*"))) == 3


def test_a_pruned_trial_leaves_no_checkpoint_and_a_complete_one_leaves_its_last(pruned: Ran) -> None:
    left = sorted(json.loads(path.read_text())[0] for path in pruned.place.rglob("epoch.json"))
    assert left == [EPOCHS] * len(pruned.study.trials(COMPLETE))


@pytest.mark.parametrize("max_failures", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_trial_that_always_raises_fails_with_its_reason_and_the_search_goes_on(
    max_failures: int, tmp_path: Path
) -> None:
    study = create(NO_PRUNER)
    bridge, ends = through_ray(study, tmp_path, 5, RaisesAlways, max_failures=max_failures)
    assert [trial.state for trial in study.trials()] == [COMPLETE, FAIL, COMPLETE, FAIL, COMPLETE]
    assert [len(trial.intermediate_values) for trial in study.trials()] == [EPOCHS, 0, EPOCHS, 2, EPOCHS]
    for number in (1, 3):
        assert "ValueError" in study.trials()[number].user_attrs["failure"]
        assert f"trial {number} broke" in study.trials()[number].user_attrs["failure"]
    assert ends == [(0, "COMPLETE"), (1, "FAIL"), (2, "COMPLETE"), (3, "FAIL"), (4, "COMPLETE")]
    assert bridge.asked == 5


def test_a_trial_that_gives_up_fails_with_its_reason_and_is_not_tried_again(tmp_path: Path) -> None:
    study = create(NO_PRUNER)
    _, ends = through_ray(study, tmp_path, 5, GivesUp, max_failures=2)
    assert [trial.state for trial in study.trials()] == [COMPLETE, FAIL, COMPLETE, FAIL, COMPLETE]
    assert [len(trial.intermediate_values) for trial in study.trials()] == [EPOCHS, 0, EPOCHS, 2, EPOCHS]
    assert [study.trials()[number].user_attrs["failure"] for number in (1, 3)] == ["trial 1 gave up", "trial 3 gave up"]
    assert [(tmp_path / f"tried-{number}").read_text() for number in (1, 3)] == ["x", "x"]
    assert [number for number, _ in ends] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ["none", pytest.param("median", marks=pytest.mark.slow)])
def test_a_trial_that_recovers_has_each_epoch_once(name: str, tmp_path: Path) -> None:
    study = create(setting(name))
    _, ends = through_ray(study, tmp_path, TRIALS, RaisesOnce, max_failures=2)
    assert (tmp_path / "1-broke").exists()
    assert (tmp_path / "2-broke").exists()
    assert outcomes(study.inner) == through_optuna(make_pruner(setting(name), EPOCHS), TRIALS)
    assert len(ends) == TRIALS
    for recovered in study.trials()[1:3]:
        assert recovered.state == COMPLETE
        assert recovered.intermediate_values == dict(enumerate(CURVES[recovered.number], start=1))
        assert recovered.user_attrs["epochs"] == EPOCHS
        assert recovered.user_attrs["collapsed_epochs"] == 1  # in trial 1 that epoch ran twice
        assert len(recovered.user_attrs["retries"]) == 1 and len(recovered.user_attrs["runs"]) == 2
    assert "RuntimeError: lost" in study.trials()[1].user_attrs["retries"][0]
    assert study.trials()[2].user_attrs["retries"][0].startswith("its process died")


def test_an_interrupt_leaves_the_trials_under_way_to_the_next_driver(tmp_path: Path) -> None:
    study = create(NO_PRUNER)
    asked: Callable[[], Any] = study.ask

    def interrupted() -> Any:
        if len(study.trials()) == 3:
            raise KeyboardInterrupt
        return asked()

    study.ask = interrupted  # type: ignore[method-assign]  # the user's Ctrl-C, at a moment that repeats
    with pytest.raises(KeyboardInterrupt):
        through_ray(study, tmp_path, 6, concurrent=2)
    assert len(study.trials()) == 3
    under_way = [trial.number for trial in study.trials(RUNNING)]
    assert under_way

    taken_up = Study(study.inner, PARAMETERS, EPOCHS, "best")
    assert taken_up.num_left(6) == 3 + len(under_way)
    assert [taken_up.ask().number for _ in under_way] == under_way


@pytest.mark.slow
@pytest.mark.parametrize("max_failures", [0, 1])
def test_a_process_that_dies_between_two_trials_counts_once(max_failures: int, tmp_path: Path) -> None:
    study = create(NO_PRUNER)
    through_ray(study, tmp_path, 4, DiesAtHandover, max_failures=max_failures)
    second = COMPLETE if max_failures else FAIL
    assert [trial.state for trial in study.trials()] == [COMPLETE, second, COMPLETE, COMPLETE]
    assert len(study.trials()[1].user_attrs["retries"]) == max_failures
