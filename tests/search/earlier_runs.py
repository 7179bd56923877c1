"""A made-up run folder for others to learn from."""

from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState, create_trial

from search.results import retraining
from search.results.folder import RunFolder, open_study
from search.space.read import read_kept, read_space
from search.space.studies import study_of
from search.study import journal
from tests.search.results.repetitions import scored
from tests.search.spaces import tiny_space

VALUES = [5.0, 9.0, 1.0, 7.0, 8.0]


def earlier_run(folder: Path, values: list[float] = VALUES, **search: Any) -> Path:
    """A run whose trial i had 4 + i % 13 clusters and scored its value; one more was pruned, and one failed."""
    root = folder / "runs" / "old"
    root.mkdir(parents=True)
    space = read_space(tiny_space(folder, **search))
    (root / "space.yaml").write_text(space.document)
    study = study_of(space, name="old", journal=RunFolder(root).journal, seed=1).inner
    for number, value in enumerate([*values, None, None]):
        state = TrialState.COMPLETE if value is not None else TrialState.PRUNED
        state = TrialState.FAIL if number == len(values) + 1 else state
        study.add_trial(
            create_trial(
                state=state,
                value=value,
                params={"concepts.clusters": 4 + number % 13, "loss.pseudo": 0.1},
                distributions=dict(space.parameters),
                intermediate_values={1: 2.0, 3: 4.0} if state == TrialState.PRUNED else {},
            )
        )
    return root


def confirm_it(root: Path, values: dict[int, float]) -> None:
    """Its best and its base with new seeds, which scored these values, by trial."""
    space, trials = read_kept(root / "space.yaml"), open_study(RunFolder(root)).get_trials()
    store = journal.Journal(RunFolder(root).confirm_journal)
    again = optuna.create_study(storage=store, study_name="old confirmation", direction="maximize")
    again.add_trials([scored(space, run, {0: values[run["trial"]]}) for run in retraining.repeats(space, trials)])
