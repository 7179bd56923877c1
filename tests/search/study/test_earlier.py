"""What a sampler learns from earlier searches: their trials beside its own, while these agree with them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from search.study import earlier, internals
from search.study.algorithms import Component, make_pruner, make_sampler
from search.study.earlier import EARLIER, JUDGED, Informed, Source, Tried, Winner
from search.study.record import TrialRecord
from search.study.study import Study

PARAMETERS: Mapping[str, BaseDistribution] = {
    "a": FloatDistribution(0.0, 1.0),
    "b": IntDistribution(1, 100, log=True),
    "c": CategoricalDistribution(("x", "y")),
}


def worth(params: Mapping[str, Any]) -> float:
    """Highest at a = 0.9."""
    return 10 - 10 * abs(params["a"] - 0.9)


def source(sign: float = 1.0, offset: float = 0.0, count: int = 30) -> Source:
    """Trials along `a`, which score as here, or the other way round; the last one was pruned in epoch 2."""
    points = [{"a": (i + 0.5) / count, "b": 1 + i, "c": "xy"[i % 2]} for i in range(count)]
    tried = [Tried(one, offset + sign * worth(one), 5, False) for one in points]
    tried = sorted(tried, key=lambda one: -one.value)
    tried[-1] = Tried(tried[-1].params, tried[-1].value, 2, True)
    return Source("runs/a", count, [one.params for one in tried[:3]], tried)


def made(
    *sources: Source,
    name: str = "tpe",
    journal: Path | None = None,
    pruner: str | Component = "none",
    parameters: Mapping[str, BaseDistribution] = PARAMETERS,
) -> Study:
    study = Study.create(
        name="s",
        journal=journal,
        sampler=make_sampler(Component(name, {}), 3, parameters),
        pruner=make_pruner(Component(pruner, {}) if isinstance(pruner, str) else pruner, 5),
        parameters=parameters,
        epochs=5,
    )
    earlier.keep(study.inner, sources)
    known = earlier.kept(study.inner.user_attrs)
    study.start_with(earlier.front(known, [{"a": 0.5, "b": 10, "c": "x"}]), earlier.winners(known))
    return study


def run(study: Study, count: int) -> list[float]:
    """So many trials; the values of `a` that were proposed."""
    found = []
    for _ in range(count):
        asked = study.ask()
        for epoch in range(1, 6):
            study.report(asked.number, epoch, worth(asked.params))
        study.complete(asked.number, {})
        found.append(asked.params["a"])
    return found


def informed(study: Study) -> list[optuna.trial.FrozenTrial]:
    """The trials that the sampler sees and the study has not."""
    adapter = study.inner.sampler.sampler(study.inner)  # type: ignore[attr-defined]  # Reseeded
    assert isinstance(adapter, Informed)
    return [one for one in internals.trials_of(adapter.seen(study.inner), tuple(TrialState)) if one.number < 0]


@pytest.mark.parametrize("name", ["tpe", "gp"])
def test_the_best_of_a_source_come_after_the_base_and_the_model_begins_with_what_it_tried(name: str) -> None:
    values = run(made(source(), name=name), 10)
    assert values[0] == 0.5 and [abs(one - 0.9) < 0.06 for one in values[1:4]] == [True] * 3
    alone = run(made(name=name), 10)
    assert sum(abs(one - 0.9) for one in values[4:]) < 0.6 * sum(abs(one - 0.9) for one in alone[4:])


def test_trials_of_a_source_are_moved_to_where_those_of_the_study_lie_and_are_none_of_its_own() -> None:
    """The source scores 50 more everywhere: a median over the study's trials, of which the sampler sees the same."""
    study = made(source(offset=50.0))
    assert max(one.value for one in informed(study) if one.value is not None) > 55, "nothing is known yet"
    run(study, 4)
    shown = informed(study)
    assert [one.state for one in shown].count(TrialState.PRUNED) == 1 and len(shown) == 30
    assert max(one.value for one in shown if one.value is not None) == pytest.approx(10, abs=1.5)
    assert [one.number for one in study.trials()] == [0, 1, 2, 3]


def test_a_source_that_the_study_contradicts_is_left_out() -> None:
    study = made(source(sign=-1.0))
    run(study, JUDGED - 1)
    assert informed(study)
    run(study, 5)
    assert not informed(study)
    agreeing = made(source())
    run(agreeing, JUDGED + 4)
    assert informed(agreeing)


def test_a_study_goes_on_with_what_it_keeps_of_its_sources(tmp_path: Path) -> None:
    run(made(source(), journal=tmp_path / "study.journal"), 2)
    study = made(journal=tmp_path / "study.journal")
    assert len(study.trials(TrialState.WAITING)) == 2, "of the source's best, two are left"
    assert len(informed(study)) == 30
    run(study, 3)
    assert len(study.trials()) == 5


@pytest.mark.parametrize("name", ["tpe", "gp"])
def test_a_study_resumed_with_a_narrower_range_learns_from_the_trials_that_lie_in_it(name: str, tmp_path: Path) -> None:
    run(made(source(), name=name, journal=tmp_path / "study.journal"), 4)
    narrow = {**PARAMETERS, "b": IntDistribution(1, 10, log=True)}
    study = made(name=name, journal=tmp_path / "study.journal", parameters=narrow)
    assert sorted(one.params["b"] for one in informed(study)) == list(range(1, 11))
    run(study, 2)
    assert all(one.params["b"] <= 10 for one in study.trials()[4:])


def test_several_sources_take_turns_and_one_without_a_trial_in_these_ranges_gives_nothing() -> None:
    first = [one["a"] for one in earlier.front([Source("runs/none", 7, [], []), source(), source(sign=-1.0)], [])]
    assert first[0] > 0.8 > 0.2 > first[1]
    said = Source("runs/none", 7, [], []).remark(learns=True)
    assert said.startswith("learns nothing from runs/none: none of its 7 trials")


def won(name: str, **params: Any) -> Source:
    return Source(name, 1, [params], [Tried(params, 1.0, 5, False)], Winner(0, params))


def winners(study: Study) -> dict[int, tuple[str, ...]]:
    records = {one.number: TrialRecord.of(one).winner_of for one in study.trials()}
    return {number: names for number, names in records.items() if names}


def test_a_trial_keeps_whose_winner_it_is_and_is_not_pruned(tmp_path: Path) -> None:
    """Two sources that the same won, and one that the base won; everything below 1,000 is pruned."""
    sources = [won("runs/a", a=0.1, b=1, c="x"), won("b", a=0.1, b=1, c="x"), won("c", a=0.5, b=10, c="x")]
    threshold = Component("threshold", {"lower": 1000.0})
    study = made(*sources, journal=tmp_path / "study.journal", pruner=threshold)
    assert winners(study) == {0: ("c",), 1: ("runs/a", "b")}
    study = made(journal=tmp_path / "study.journal", pruner=threshold)
    assert winners(study) == {0: ("c",), 1: ("runs/a", "b")} and len(study.trials()) == 2
    assert [study.report(study.ask().number, 1, 5.0) for _ in range(3)] == [False, False, True]


def test_a_study_of_before_that_kept_no_winners_goes_on_without(tmp_path: Path) -> None:
    """A source whose best are tried first; and a study in which this trial waits already."""
    study, first = made(journal=tmp_path / "study.journal"), {"a": 0.1, "b": 1, "c": "x"}
    old = {"name": "runs/a", "count": 1, "best": [first], "tried": []}
    study.inner.set_user_attr(EARLIER, [old])
    assert earlier.kept(study.inner.user_attrs) == [Source("runs/a", 1, [first], [])]
    study = made(journal=tmp_path / "study.journal")
    assert winners(study) == {} and len(study.trials()) == 2


def test_a_source_that_its_base_won_is_not_tried_twice_where_not_all_is_drawn() -> None:
    base = {"a": 0.5, "b": 10, "c": "x"}
    assert earlier.front([won("runs/a", a=0.5, b=10)], [base], base) == [base]


def test_a_study_without_sources_draws_what_it_drew() -> None:
    plain = optuna.create_study(sampler=make_sampler(Component("tpe", {}), 3, PARAMETERS), direction="maximize")
    plain.enqueue_trial({"a": 0.5, "b": 10, "c": "x"})
    found = []
    for _ in range(15):
        trial = plain.ask(dict(PARAMETERS))
        plain.tell(trial, worth(trial.params))
        found.append(trial.params["a"])
    assert run(made(), 15) == found


@pytest.mark.parametrize("pruner", ["hyperband", "median"])
def test_under_a_pruner_the_sampler_sees_them_as_well(pruner: str) -> None:
    values = run(made(source(), pruner=pruner), 12)
    assert sum(abs(one - 0.9) < 0.25 for one in values[4:]) >= 6
