"""A driver that is killed loses nothing and repeats nothing, whenever that is: without Ray, so at many moments.

tests/search/test_faults.py kills real ones, with Ray and training, at a few.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from optuna.trial import TrialState

from search.results.confirm import read_confirmation
from search.results.folder import RunFolder, open_study
from search.space.read import read_space
from search.study import journal, record
from tests.search import plain_driver
from tests.search.earlier_runs import earlier_run
from tests.search.journals import assert_whole, endings, lines, records
from tests.search.spaces import tiny_space

KILLS, LIMIT_S = 40, 60.0
BUDGET = 16


@dataclass
class Drivers:
    """Drivers of one run, one after the other. Of each journal it keeps every ending that was told by now."""

    space: Path
    folder: RunFolder

    def __post_init__(self) -> None:
        self.known: list[list[object]] = [[], []]

    @property
    def journals(self) -> tuple[Path, Path]:
        return self.folder.journal, self.folder.confirm_journal

    def kill_after(self, amount: int, delay_s: float) -> bool:
        """Kills a driver so long after it wrote so many lines; whether it was still running."""
        before, end = sum(map(lines, self.journals)), time.monotonic() + LIMIT_S
        driver = plain_driver.start(self.space, self.folder)
        while driver.is_alive() and sum(map(lines, self.journals)) < before + amount:
            assert time.monotonic() < end
            time.sleep(0.001)
        time.sleep(delay_s)
        driver.kill()
        driver.join()
        assert driver.exitcode in (0, -9)
        self.note()
        return driver.exitcode != 0

    def finish(self) -> None:
        driver = plain_driver.start(self.space, self.folder)
        driver.join(LIMIT_S)
        assert driver.exitcode == 0
        self.note()

    def note(self) -> None:
        """Nothing that had ended has changed."""
        told: list[list[object]] = [list(endings(records(one))) for one in self.journals]
        for before, now in zip(self.known, told, strict=True):
            assert now[: len(before)] == before
        self.known = told


@pytest.fixture(params=[{"seeds": 2}, {"seeds": 6, "race": True, "official_seeds": 2}], ids=["all seeds", "race"])
def drivers(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Drivers]:
    """Where all have all seeds, the winner of an earlier run is among them."""
    pruner = {"name": "median", "n_startup_trials": 4, "n_warmup_steps": 4}
    sources = [] if "race" in request.param else [str(earlier_run(tmp_path, epochs=10))]
    search = {"trials": BUDGET, "pruner": pruner, "confirm": {"top": 2, **request.param}, "learn_from": sources}
    space = tiny_space(tmp_path, epochs=10, **search)
    yield Drivers(space, RunFolder(tmp_path / "runs" / "a"))


def test_forty_kills_of_a_driver_lose_nothing_and_repeat_nothing(drivers: Drivers) -> None:
    rng, folder, moments = random.Random(1), drivers.folder, set()
    for _ in range(KILLS):
        amount = rng.choice([0, rng.randint(1, 25), rng.randint(1, 50)])
        delay_s = rng.uniform(0, 0.06 if amount == 0 else 0.01)  # 0 lines: as it starts
        assert drivers.kill_after(amount, delay_s) or drivers.kill_after(0, 0)  # it was through before
        moments.add(tuple(map(lines, drivers.journals)))
    assert len(moments) > KILLS / 4
    drivers.finish()

    space = read_space(drivers.space)
    for trial in assert_whole(folder, BUDGET):
        reported = trial.intermediate_values
        assert list(reported.values()) == list(plain_driver.curves(space)[trial.number][: len(reported)])
        assert trial.state == TrialState.PRUNED or len(reported) == 10
    again = journal.load(folder.confirm_journal)
    assert again is not None
    assert {run.state for run in again.trials} == {TrialState.COMPLETE}
    assert len({repr(sorted(run.params.items())) for run in again.trials}) == len(again.trials) >= 6
    assert pd.read_csv(folder.trials_csv)["number"].tolist() == list(range(BUDGET))
    assert len(pd.read_csv(folder.confirm_csv)) == len(again.trials)
    known = read_confirmation(folder, space, open_study(folder))
    assert known.ranking is not None and known.rounds == ()
    assert sorted((run.trial, run.seed) for run in known.runs if run.videos == "holdout") == sorted(
        (run["trial"], run["seed"]) for run in known.wanted
    ), "nothing that a race did not ask for"
    assert [sum(bool(run.sources) for run in known.runs if run.videos == one) for one in ("holdout", "official")] == (
        [2, 2] if space.plan.learn_from else [0, 0]
    ), "an earlier winner with each seed, however often it was cut short"
    sessions = open_study(folder).user_attrs[record.SESSIONS]
    assert len(sessions) > KILLS / 4 and sessions[-1]["ended"]
