"""A driver without Ray and without training: study, journals, lock and tables in the order of search.driver.

Its trials report recorded curves, two at a time. It is there in a moment, so it can be killed at many.
"""

import multiprocessing
import time
from collections.abc import Callable
from functools import lru_cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler

from search.results import confirm, retraining, trialscsv
from search.results.folder import RunFolder
from search.results.sources import read_sources
from search.space.model import Space
from search.space.read import read_space
from search.space.studies import begin, study_of
from search.study import journal, record
from search.study.record import Summary
from search.study.study import Study, Suggestion
from tests.search.curves import Curve, result
from tests.search.curves import record as record_curves

EPOCH_S = 0.004
CONCURRENT = 2
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload([__name__])  # imports once for all drivers


def start(path: Path, folder: RunFolder) -> BaseProcess:
    """A driver as a process of its own."""
    driver = _PROCESSES.Process(target=drive, args=(path, folder))
    driver.start()
    return driver


def drive(path: Path, folder: RunFolder) -> None:
    """One session of a search from start to end, new or gone on with."""
    space = read_space(path)
    folder.root.mkdir(parents=True, exist_ok=True)
    with journal.only_driver(folder.lock):
        for one in (folder.journal, folder.confirm_journal):
            journal.repair(one)
        folder.space_yaml.write_text(space.document, encoding="utf-8")
        study = study_of(space, name=space.name, journal=folder.journal, seed=space.base.seed)
        sessions = [*study.inner.user_attrs.get(record.SESSIONS, []), {"started": time.time(), "ended": None}]
        study.inner.set_user_attr(record.SESSIONS, sessions)
        begin(study, space, read_sources(space, folder))
        _run(space, study, space.plan.trials, lambda asked: study.epochs)
        trialscsv.write_trials(folder, space, study.trials())
        _confirm(space, study, folder)
        study.inner.set_user_attr(record.SESSIONS, [*sessions[:-1], {**sessions[-1], "ended": time.time()}])


def curves(space: Space) -> tuple[Curve, ...]:
    """What the trials report, number by number."""
    return _curves(space.plan.trials, space.base.optim.epochs)


_curves = lru_cache(maxsize=1)(record_curves)


def _confirm(space: Space, study: Study, folder: RunFolder) -> None:
    again = Study.create(
        name=f"{study.inner.study_name} confirmation",
        journal=folder.confirm_journal,
        sampler=RandomSampler(),
        pruner=NopPruner(),
        parameters=retraining.parameters(space),
        epochs=study.epochs,
        conditions=retraining.CONDITIONS,
    )
    by_number = {trial.number: trial for trial in study.trials()}

    def known() -> confirm.Confirmation:
        return confirm.summarise(space, study.trials(), again.trials())

    def epochs_of(asked: Suggestion) -> int:
        return confirm.num_epochs(space, by_number[asked.params["trial"]], asked.params, known())

    def phase(runs: list[retraining.Again]) -> None:
        again.start_with(runs)
        _run(space, again, len(again.trials()), epochs_of, by_epoch=[])
        confirm.write_csv(folder, space, known())

    runs = None
    while list(known().wanted) != runs:
        phase(runs := list(known().wanted))
    phase(confirm.finals(space, study.trials(), known(), has_official=True))


def _run(space: Space, study: Study, budget: int, epochs_of: Callable[[Suggestion], int], **given: list[Any]) -> None:
    """The trials that are left of a budget, an epoch of each in turn. given: what each summary begins with."""
    left, under_way = study.num_left(budget), {}
    while left or under_way:
        while left and len(under_way) < CONCURRENT:
            asked, left = study.ask(), left - 1
            under_way[asked.number] = (asked, epochs_of(asked), Summary(**given))
        for asked, epochs, summary in list(under_way.values()):
            if _is_over(space, study, asked.number, epochs, summary):
                del under_way[asked.number]


def _is_over(space: Space, study: Study, number: int, epochs: int, summary: Summary) -> bool:
    """An epoch of a trial; whether it was its last."""
    time.sleep(EPOCH_S)
    value = curves(space)[number][summary.epochs]
    summary.add(
        result(summary.epochs + 1, value, len(space.detects)) | {"map_by_tiou": [value] * len(space.base.eval.tiou)}
    )
    pruned = study.report(number, summary.epochs, value)
    if pruned or summary.epochs == epochs:
        (study.prune if pruned else study.complete)(number, summary.attributes())
    return pruned or summary.epochs == epochs
