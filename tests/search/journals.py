"""What a journal holds, read as lines of JSON and not through Optuna, and what must hold of a run that is through."""

import json
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search.results.folder import RunFolder, open_study
from search.study.study import FINISHED

Records = list[dict[str, Any]]


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def records(journal: Path) -> Records:
    """The whole lines of a journal; a torn last one is passed over."""
    content = journal.read_bytes() if journal.exists() else b""
    return [json.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]


def endings(found: Records) -> list[tuple[int, int, Any]]:
    """Each time that a trial was told how it ended: number, state, values."""
    told = [record for record in found if record["op_code"] == 6 and TrialState(record["state"]).is_finished()]
    return [(record["trial_id"], record["state"], record["values"]) for record in told]


def under_way(folder: RunFolder) -> list[int]:
    """Trials that were begun and whose end nobody told."""
    found = records(folder.journal)
    reported = {record["trial_id"] for record in found if record["op_code"] == 7}
    return sorted(reported - {number for number, _, _ in endings(found)})


def assert_whole(folder: RunFolder, budget: int) -> list[FrozenTrial]:
    """Every trial of the budget is there once, none is under way, none ran twice; the trials."""
    trials = open_study(folder).get_trials()
    assert [trial.number for trial in trials] == list(range(budget))
    assert {trial.state for trial in trials} <= set(FINISHED)
    assert len({repr(sorted(trial.params.items())) for trial in trials}) == budget
    told = [number for number, _, _ in endings(records(folder.journal))]
    assert sorted(told) == list(range(budget))
    return trials
