"""What a bridge tells its driver, and asks of it, as trials go on; without Ray."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution

from search.results.checkpoints import Checkpoints
from search.study.record import Summary
from search.study.study import Study
from search.trials import bridge as bridge_module
from search.trials.bridge import Bridge, Events, Running
from search.trials.features import Opened

EPOCHS = 2
OPENED = Opened("id", "host", 1, 0.0, 1.0)


def numbers(under_way: Collection[Running]) -> list[int]:
    return [trial.number for trial in under_way]


class Noted(Events):
    """Keeps all that it is told."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.late = False

    def opened(self, how: Opened) -> None:
        self.heard.append(("opened", how))

    def reported(self, under_way: Collection[Running]) -> None:
        self.heard.append(("reported", numbers(under_way)))

    def ended(self, trial: Running, state: str, under_way: Collection[Running]) -> None:
        self.heard.append(("ended", trial.number, state, numbers(under_way)))

    def goes_on(self, under_way: Collection[Running]) -> None:
        self.heard.append(("goes on", numbers(under_way)))

    def waits(self, seconds: float) -> None:
        self.heard.append(("waits", seconds))

    def queues(self, under_way: Collection[Running]) -> None:
        self.heard.append(("queues", numbers(under_way)))

    def is_late(self) -> bool:
        return self.late


def made(place: Path, events: Events) -> Bridge:
    study = Study.create(
        name="events",
        journal=None,
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=optuna.pruners.NopPruner(),
        parameters={"optim.lr": FloatDistribution(1e-5, 1e-3)},
        epochs=EPOCHS,
    )
    return Bridge(study, 2, lambda one: {"number": one.number, "epochs": EPOCHS}, events, Checkpoints(str(place)))


def result(epoch: int) -> dict[str, Any]:
    told = {"epoch": epoch, "avg_map": 10.0 * epoch, "avg_map_by_detect": [10.0 * epoch], "map_by_tiou": [10.0]}
    told |= {
        "losses": {},
        "seconds": {"train": 1.0},
        "collapsed": False,
        "empty_clusters": 0,
        "detections": 1,
        "device": "cpu",
    }
    summary = Summary()
    summary.add(told)
    return {"epochs": [told | {"summary": summary}]}


def test_a_trial_is_heard_of_as_it_opens_reports_and_ends_with_those_under_way_then(tmp_path: Path) -> None:
    noted = Noted()
    bridge = made(tmp_path, noted)
    bridge.ask("a")
    bridge.ask("b")
    assert [bridge.judge("a", result(1) | {"opened": OPENED}), bridge.judge("a", result(2))] == [False, True]
    bridge.end("a")
    bridge.judge("b", {"failure": "broke", "epochs": []})
    bridge.end("b")
    assert noted.heard == [
        ("opened", OPENED),
        ("reported", [0, 1]),
        ("reported", [0, 1]),
        ("ended", 0, "COMPLETE", [1]),
        ("ended", 1, "FAIL", []),
    ]


def test_trials_that_wait_are_heard_of_now_and_then_and_lack_of_nodes_where_none_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(bridge_module.time, "monotonic", lambda: now[0])
    noted = Noted()
    bridge = made(tmp_path, noted)
    bridge.ask("a")
    for running in (True, False, False, False):
        now[0] += 21  # the limits of both are 20 s
        bridge.look(running=running, waiting=True)
    queues = ("queues", [0])
    assert noted.heard == [("goes on", [0]), queues, queues, ("waits", 21.0), queues, queues]


def test_a_search_that_is_late_halts_for_its_time_and_one_without_events_never_is(tmp_path: Path) -> None:
    noted = Noted()
    bridge = made(tmp_path, noted)
    assert not bridge.is_over()
    noted.late = True
    assert bridge.is_over() and bridge.halted is not None and bridge.halted.kind == "time"
    assert not made(tmp_path, Events()).is_over()
