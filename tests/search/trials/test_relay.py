"""Studies one after the other: what Ray Tune is told of them, without Ray."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.search import Searcher

from search.results.checkpoints import Checkpoints
from search.study.study import Study
from search.trials import hooks
from search.trials.bridge import Bridge, Events
from search.trials.hooks import StudyListener, StudySearcher
from search.trials.relay import Relay
from tests.search.curves import result
from tests.search.trials.oracle import create, setting


class Late(Events):
    """A time budget that is spent once it is said so."""

    late = False

    def is_late(self) -> bool:
        return self.late


@pytest.fixture
def studies() -> list[Study]:
    return [create(setting("none")), create(setting("none"))]


def bridge(study: Study, budget: int, place: Path, more: int = 0, events: Events | None = None) -> Bridge:
    def config(suggestion: Any) -> dict[str, Any]:
        return {"number": suggestion.number, "epochs": 1}

    return Bridge(study, budget, config, events or Events(), Checkpoints(str(place)), more=more)


def end(one: Bridge, trial_id: str) -> None:
    """Its only epoch ends, and with it the trial."""
    one.judge(trial_id, {"epochs": [result(1, 10.0) | {"summary": one.by_id[trial_id].summary}]})
    one.end(trial_id)


def test_the_next_study_begins_once_the_last_trial_of_the_one_before_has_ended(
    studies: list[Study], tmp_path: Path
) -> None:
    first, second = bridge(studies[0], 2, tmp_path, more=1), bridge(studies[1], 1, tmp_path)
    coming = [second]
    relay = Relay(first, 2, lambda: coming.pop() if coming else None)
    searcher = StudySearcher(relay)
    assert [searcher.suggest(one)["number"] for one in "ab"] == [0, 1]
    end(first, "a")
    assert searcher.suggest("c") is None  # b may still win: what follows isn't known
    assert coming and relay.now is first
    end(first, "b")
    assert searcher.suggest("c")["number"] == 0
    assert relay.now is second and len(studies[1].trials()) == 1
    assert relay.was_cut  # would Ray Tune end now, by a Ctrl-C
    assert searcher.suggest("d") == Searcher.FINISHED  # at once, so that Ray Tune ends processes that idle
    end(second, "c")
    assert not relay.was_cut


def test_a_study_that_nothing_follows_is_the_last_though_more_was_expected(
    studies: list[Study], tmp_path: Path
) -> None:
    first = bridge(studies[0], 1, tmp_path, more=3)
    searcher = StudySearcher(relay := Relay(first, 2, lambda: None))
    searcher.suggest("a")
    end(first, "a")
    assert relay.was_cut
    assert searcher.suggest("b") == Searcher.FINISHED
    assert not relay.was_cut


def test_a_study_that_halts_is_followed_by_nothing(studies: list[Study], tmp_path: Path) -> None:
    events = Late()
    first = bridge(studies[0], 2, tmp_path, more=1, events=events)

    def follow() -> Bridge | None:
        raise AssertionError("it halted")

    searcher = StudySearcher(relay := Relay(first, 1, follow))
    searcher.suggest("a")
    end(first, "a")
    events.late = True
    assert searcher.suggest("b") == Searcher.FINISHED
    assert first.halted is not None and first.halted.kind == "time" and not relay.was_cut


def test_as_many_processes_may_idle_as_have_a_trial_before_them(studies: list[Study], tmp_path: Path) -> None:
    """Of 4 at once, 5 trials, and then 2."""
    first, second = bridge(studies[0], 5, tmp_path, more=2), bridge(studies[1], 2, tmp_path)
    relay = Relay(first, 4, lambda: second)
    searcher = StudySearcher(relay)
    for one in "abcd":
        searcher.suggest(one)
    assert relay.idle() == 0
    assert relay.idle(ending=1) == 1  # the fifth is before it
    end(first, "a")
    searcher.suggest("e")
    assert relay.idle(ending=1) == 1  # one of the two that follow
    for one in "bc":
        end(first, one)
    assert relay.idle() == relay.idle(ending=1) == 2  # of the third no more is wanted
    for one in "de":
        end(first, one)
    searcher.suggest("f")
    assert relay.now is second and relay.idle() == 1
    searcher.suggest("g")
    assert relay.idle() == relay.idle(ending=1) == 0


def test_idle_processes_end_for_a_trial_that_waits_from_one_look_to_the_next(
    studies: list[Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that an idle process is about to take is seen waiting, too."""
    monkeypatch.setattr(hooks, "_LOOK_S", -1)
    monkeypatch.setattr(hooks, "_AGAIN_S", -1)
    released: list[str] = []
    idle: Any = SimpleNamespace(release=lambda: released.append("all"))
    listener = StudyListener(Relay(bridge(studies[0], 9, tmp_path), 2, lambda: None), idle)

    def look(**states: str) -> int:
        trials: Any = [SimpleNamespace(trial_id=name, status=state) for name, state in states.items()]
        listener.on_step_begin(0, trials)
        return len(released)

    assert look(a="RUNNING", b="PENDING") == 0
    assert look(a="PENDING", b="RUNNING") == 0
    assert look(a="PENDING", b="RUNNING") == 1
    assert look(a="RUNNING", b="RUNNING") == 1
