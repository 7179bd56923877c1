"""What the study keeps of a trial is read back as it was written, and what it lacks reads as not known."""

from dataclasses import fields, replace
from typing import Any

import pytest
from optuna.trial import TrialState, create_trial

from haan.detectors.runs import RunsDetect
from search.study.record import FAILURE, NODE, RETRIES, RUNS, WINNER_OF, Ran, Summary, TrialRecord

ALPHAS = tuple(RunsDetect(alpha=alpha) for alpha in (-0.5, 0.0, 0.5))
TIOU = (0.3, 0.7)


def result(epoch: int, by_detect: list[float], by_tiou: list[float]) -> dict[str, Any]:
    """One epoch's, as a trial reports it."""
    return {
        "epoch": epoch,
        "avg_map": max(by_detect),
        "avg_map_by_detect": by_detect,
        "map_by_tiou": by_tiou,
        "losses": {"total": 1.0},
        "seconds": {"train": 2.0, "score": 0.5},
        "collapsed": False,
        "empty_clusters": epoch,
        "detections": 10 * epoch,
        "device": "cpu",
    }


def written(summary: Summary | None = None) -> dict[str, Any]:
    """The attributes of a trial of two epochs, of which the first counts. summary: what it begins with."""
    summary = summary or Summary(by_epoch=[])
    summary.add(result(1, [1.0, 5.0, 2.0], [6.0, 4.0]))
    summary.add(result(2, [3.0, 4.0, 1.0], [5.0, 3.0]))
    where = {NODE: "b", RUNS: [[10.0, 20.0, "a"], [30.0, None, "b"]], RETRIES: ["its node was lost"]}
    where |= {WINNER_OF: ["runs/old"]}
    return summary.attributes() | where | {FAILURE: "loss is nan"}


def test_a_record_is_what_was_written() -> None:
    record = TrialRecord.of(create_trial(state=TrialState.FAIL, user_attrs=written()))
    assert (record.epochs, record.best_epoch, record.seconds, record.empty_clusters) == (2, 1, 5.0, 2)
    assert (record.device, record.node, record.failure) == ("cpu", "b", "loss is nan")
    assert record.runs == (Ran(10.0, 20.0, "a"), Ran(30.0, None, "b"))
    assert record.retries == ("its node was lost",) and record.winner_of == ("runs/old",)
    assert record.by_epoch == ((1, (1.0, 5.0, 2.0)), (2, (3.0, 4.0, 1.0)))
    assert written().keys() - written(Summary()).keys() == {"by_epoch"}, "only where it is asked for"


def test_scores_by_epoch_stay_as_they_were_when_more_are_added() -> None:
    summary = Summary(by_epoch=[])
    summary.add(result(1, [1.0], [1.0]))
    told = replace(summary)
    summary.add(result(2, [2.0], [1.0]))
    assert (told.by_epoch, summary.by_epoch) == ([(1, [1.0])], [(1, [1.0]), (2, [2.0])])


def test_a_mean_over_the_last_epochs_has_one_setting_for_all_of_them() -> None:
    """Of seven epochs the last five count: 3 + 0 + 3 + 0 + 4 = 10 of the first setting, 5 times 3 of the second."""
    summary = Summary("recent")
    for epoch, first in enumerate([9.0, 9.0, 3.0, 0.0, 3.0, 0.0, 4.0], start=1):
        summary.add(result(epoch, [first, 3.0], [float(epoch)]))
        summary.add({**result(epoch, [first, 3.0], []), "avg_map_by_detect": [], "avg_map": None, "seconds": {}})
        if epoch == 3:
            assert (summary.avg_map, summary.best_epoch) == (7.0, 3), "of three, where there are no more"
    assert (summary.avg_map, summary.best_epoch, summary.map_by_tiou) == (3.0, 7, [7.0])
    scores = TrialRecord.read(summary.attributes()).scores(ALPHAS[:2], TIOU)
    assert dict(scores.by_detect) == dict(zip(ALPHAS[:2], (2.0, 3.0), strict=True))
    assert (scores.chosen, scores.avg_map, scores.at_seed) == (ALPHAS[1], 3.0, 3.0)
    assert dict(scores.last_by_detect) == dict(zip(ALPHAS[:2], (4.0, 3.0), strict=True))
    assert "recent" not in summary.attributes() and "last_avg_map_by_detect" not in Summary().attributes()


@pytest.mark.parametrize("curve", [None, "x", [[1, [2.0]], [2, []]], [[1, [2.0]], [None, [2.0]]], [[1, ["2.0"]]]])
def test_scores_by_epoch_that_are_not_whole_are_none(curve: object) -> None:
    assert TrialRecord.read(written() | {"by_epoch": curve}).by_epoch == ()


def test_figures_are_known_by_what_they_are_of() -> None:
    scores = TrialRecord.read(written()).scores(ALPHAS, TIOU)
    assert dict(scores.by_detect) == dict(zip(ALPHAS, (1.0, 5.0, 2.0), strict=True))
    assert [scores.best_at(detect) for detect in ALPHAS] == [3.0, 5.0, 2.0], "the best of both epochs"
    assert scores.best_at(RunsDetect(alpha=0.25)) is None
    assert scores.by_tiou == {0.3: 6.0, 0.7: 4.0}
    assert (scores.chosen, scores.avg_map) == (ALPHAS[1], 5.0)


def test_of_equal_settings_the_first_is_chosen() -> None:
    scores = TrialRecord(avg_map_by_detect=(1.0, 2.0, 2.0)).scores(ALPHAS, TIOU)
    assert scores.chosen == ALPHAS[1]


def test_what_is_scored_twice_is_one_setting() -> None:
    """As where a confirmed configuration has the base's own setting, which is scored beside it."""
    scores = TrialRecord(best_avg_map_by_detect=(2.0, 2.0)).scores((ALPHAS[0], RunsDetect(alpha=-0.5)), TIOU)
    assert scores.best_at(ALPHAS[0]) == 2.0


def test_every_key_that_is_read_is_written() -> None:
    """And all that are written but the last epoch's losses and the collapsed ones, which only the screen shows."""
    unread = {"losses", "collapsed_epochs"}
    every = written().keys() | written(Summary("recent")).keys()
    assert {field.name for field in fields(TrialRecord)} == every - unread


def test_a_trial_without_attributes_has_a_record_of_nothing() -> None:
    record = TrialRecord.of(create_trial(state=TrialState.FAIL))
    assert record == TrialRecord() and record.runs is None and record.last_node == ""
    scores = record.scores(ALPHAS, TIOU)
    assert scores.chosen is None and scores.avg_map is None and not scores.by_tiou
    assert record.saved_s(9) == 0.0


@pytest.mark.parametrize("values", [None, "5.0", [], [1.0, 5.0], [1.0, float("nan"), 2.0], [1.0, "5.0", 2.0]])
def test_figures_that_are_not_a_finite_number_a_setting_are_none(values: object) -> None:
    damaged = written() | {"avg_map_by_detect": values, "map_by_tiou": values}
    scores = TrialRecord.read(damaged).scores(ALPHAS, (0.3, 0.5, 0.7))
    assert scores.chosen is None and not scores.by_tiou and scores.best_by_detect


def test_where_a_trial_ran_last_is_its_node_or_that_of_its_last_stretch() -> None:
    record = TrialRecord.read(written())
    assert record.last_node == "b"
    assert replace(record, node="", runs=record.runs and record.runs[:1]).last_node == "a"
    assert replace(record, node=None, runs=()).last_node == ""


def test_what_pruning_saves_is_at_the_trials_own_pace() -> None:
    assert TrialRecord(epochs=3, seconds=60.0).saved_s(18) == 300.0  # 15 epochs of 20 s
    assert TrialRecord(epochs=18, seconds=60.0).saved_s(9) == 0.0
