"""The plan of a dry run: its arithmetic by hand, its sizes beside real files, and that it leaves nothing behind."""

import logging
import random
import re
import shutil
import warnings
from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.pruners import HyperbandPruner
from optuna.samplers import RandomSampler

from haan.data.table import pack
from haan.errors import InputError
from haan.train import Trainer
from haan.weights import write_tensors
from search.driver import session
from search.driver.estimate import (
    Left,
    _runs_line,
    _time_lines,
    checkpoint_bytes,
    disk_line,
    duration,
    gpu_lines,
    remaining,
)
from search.driver.gpus import Gpu
from search.driver.job import Job, preview
from search.driver.nodes import Node, Room
from search.driver.placement import Share
from search.driver.request import Request
from search.driver.timing import Timed
from search.results import retraining
from search.results.confirm import finals, summarise
from search.results.folder import RunFolder, open_study
from search.results.listing import listed
from search.space.model import with_values
from search.space.read import read_kept, read_space
from search.study import journal
from search.study.algorithms import PRUNERS, Component, component, make_pruner, pruned_epochs
from search.study.earlier import keep
from search.study.study import Study
from tests.paths import ROOT, files
from tests.search.earlier_runs import earlier_run
from tests.search.head import Head
from tests.search.spaces import run, tiny_space

HALVING = "successive_halving"
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def scratch(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.chdir(tmp_path)  # spaces name their data from there; a checkout may hold data/ of a demo
    return RunFolder(tmp_path_factory.mktemp("scratch") / "run")


def look(path: Path, scratch: RunFolder, *overrides: str, name: str = "a", resume: bool = False) -> Job:
    return preview(Request(path, name, path.parent / "runs", None, None, overrides, resume), scratch)


def old_run(path: Path, name: str = "a", running: int = 1, value: float = 10.0) -> RunFolder:
    """A run of `path` with 2 COMPLETE trials of that value, and some that its driver left under way."""
    found, folder = read_space(path), RunFolder(path.parent / "runs" / name)
    folder.root.mkdir(parents=True)
    folder.space_yaml.write_text(found.document)
    study = study_of(folder.journal, found.parameters)
    for _ in range(2):
        number = study.ask().number
        study.report(number, 1, value)
        study.complete(number, {"epochs": 1})
    for _ in range(running):
        study.ask()
    return folder


def study_of(
    journal: Path | None, parameters: object, pruner: object = None, epochs: int = 4, conditions: object = None
) -> Study:
    return Study.create(
        name="tiny",
        journal=journal,
        sampler=RandomSampler(seed=0),
        pruner=pruner or PRUNERS["none"](),  # type: ignore[arg-type]
        parameters=parameters,  # type: ignore[arg-type]
        epochs=epochs,
        conditions=conditions,  # type: ignore[arg-type]
    )


def test_a_preview_plants_beside_its_scratch_and_leaves_the_folder_as_it_is(tmp_path: Path, scratch: RunFolder) -> None:
    path = tiny_space(tmp_path)
    before = files(tmp_path)
    job = look(path, scratch)
    assert files(tmp_path) == before
    assert job.folder.root == tmp_path / "runs" / "a"
    assert set(job.splits) == {job.space.base.data.validation, "official"} and len(job.source.num_clips) == 36


def test_an_old_run_is_read_and_not_mended(tmp_path: Path, scratch: RunFolder) -> None:
    path = tiny_space(tmp_path, confirm={"top": 2, "seeds": 2})
    folder = old_run(path)
    with folder.journal.open("a") as file:
        file.write('{"op_code": 4, "wor')
    before = files(tmp_path)
    job = look(path, scratch, resume=True)
    assert job.notes[-1] == f"{folder.journal}: its last line is incomplete, as a kill leaves it; --resume will mend it"
    # 5 trials less 2 that have ended, one of them under way; (2 + the base) x 2 seeds, and 2 on all training videos.
    assert remaining(job, scratch) == Left(trials=3, interrupted=1, rounds=(6,), finals=2)
    assert files(tmp_path) == before


def test_the_winner_of_an_earlier_run_is_counted_in_a_new_run_and_in_an_old_one(
    tmp_path: Path, scratch: RunFolder
) -> None:
    """(The best, that winner, the base) x 2 seeds, and three on all training videos; a run of before has one there."""
    root = earlier_run(tmp_path)
    path = tiny_space(tmp_path, confirm={"top": 2, "seeds": 2}, learn_from=[str(root)])
    job = look(path, scratch)
    assert any("its winner (trial 1) first of all" in remark for remark in job.remarks)
    assert remaining(job, scratch) == Left(trials=5, interrupted=0, rounds=(6,), finals=6)
    study = open_study(old_run(path))
    keep(study, job.sources)
    shutil.rmtree(root)
    again = RunFolder(scratch.root.with_name("again"))
    assert remaining(look(path, again, resume=True), again) == Left(trials=3, interrupted=1, rounds=(6,), finals=3)


def test_a_journal_damaged_in_its_middle_is_named_where_it_lies(tmp_path: Path, scratch: RunFolder) -> None:
    path = tiny_space(tmp_path)
    journal = old_run(path).journal
    journal.write_text("nonsense\n" + journal.read_text())
    with pytest.raises(InputError, match="must be one JSON record a line, got 'nonsense") as error:
        look(path, scratch, resume=True)
    assert str(error.value).startswith(f"{journal}:1: ")


def test_an_old_run_of_another_space_is_refused(tmp_path: Path, scratch: RunFolder) -> None:
    path = tiny_space(tmp_path)
    old_run(path)
    with pytest.raises(InputError, match=r"optim\.lr: must stay 0\.003 under --resume, got 0\.1"):
        look(path, scratch, "optim.lr=0.1", resume=True)


def test_runs_of_the_confirmation_that_have_ended_are_not_counted_again(tmp_path: Path, scratch: RunFolder) -> None:
    path = tiny_space(tmp_path, trials=2, confirm={"top": 2, "seeds": 2})
    folder = old_run(path, running=0)
    kept = read_kept(folder.space_yaml)
    again = study_of(folder.confirm_journal, retraining.parameters(kept), conditions=retraining.CONDITIONS)
    wanted = retraining.repeats(kept, journal.load(folder.journal).get_trials())  # type: ignore[union-attr]
    assert len(wanted) == 4, "the base is one of the best two"
    again.start_with([*wanted[:3], {"trial": 0, "seed": 9, "videos": retraining.OFFICIAL}])
    for _ in range(4):
        number = again.ask().number
        again.report(number, 1, 10.0)
        again.complete(number, {})
    # The run on all training videos is of a seed that is no longer asked for, and another winner may come.
    assert remaining(look(path, scratch, resume=True), scratch) == Left(0, 0, rounds=(4 - 3,), finals=2)


@pytest.mark.parametrize(("best", "is_wanted", "expected"), [(0, False, 2), (1, False, 4), (0, True, 1)])
def test_runs_on_all_training_videos_are_those_that_the_winner_leaves(
    tmp_path: Path, scratch: RunFolder, best: int, is_wanted: bool, expected: int
) -> None:
    """Two seeds each, of the winner and the base, trial 0: two in all where that wins.

    best: the winner. is_wanted: one of these has ended; otherwise six with seeds that are no longer asked for.
    """
    path = tiny_space(tmp_path, trials=2, confirm={"top": 2, "seeds": 2, "holdouts": "fixed"})
    folder = old_run(path, running=0)
    kept = read_kept(folder.space_yaml)
    again = study_of(folder.confirm_journal, retraining.parameters(kept), conditions=retraining.CONDITIONS)
    trials = journal.load(folder.journal).get_trials()  # type: ignore[union-attr]
    _ended(again, retraining.repeats(kept, trials), lambda asked: 11.0 if asked["trial"] == best else 10.0)
    known = summarise(kept, trials, again.trials())
    wanted = finals(kept, trials, known, has_official=True)
    done = wanted[:1] if is_wanted else [{**wanted[0], "seed": seed} for seed in range(9, 15)]
    _ended(again, done, lambda asked: 5.0)
    assert remaining(look(path, scratch, resume=True), scratch) == Left(0, 0, rounds=(0,), finals=expected)


def _ended(study: Study, runs: list[dict[str, Any]], value: Callable[[dict[str, Any]], float]) -> None:
    study.start_with(runs)
    for asked in runs:
        number = study.ask().number
        study.report(number, 1, value(asked))
        study.complete(number, {})


def test_where_nothing_is_left_to_choose_of_no_run_is_expected(tmp_path: Path, scratch: RunFolder) -> None:
    path = tiny_space(tmp_path, trials=2, confirm={"top": 2, "seeds": 2})
    old_run(path, running=0, value=0.0)
    assert remaining(look(path, scratch, resume=True), scratch) == Left(0, 0, rounds=(), finals=0)


@pytest.mark.parametrize(("running", "state"), [(0, "done"), (1, "interrupted")])
def test_a_search_that_has_enough_only_ends_what_was_under_way(
    tmp_path: Path, scratch: RunFolder, running: int, state: str
) -> None:
    path = tiny_space(tmp_path, trials=9, stop={"patience": 1})
    folder = old_run(path, running=running)  # the second of two equal ones is no gain
    assert remaining(look(path, scratch, resume=True), scratch).trials == running
    assert listed(folder).state == state


def test_a_budget_of_epochs_is_what_the_plan_and_its_time_are_of(tmp_path: Path, scratch: RunFolder) -> None:
    """Of 30 epochs the old run's two trials had one each; two trials of 4 epochs at once may go beyond by 8."""
    path = tiny_space(tmp_path, trials=99, stop={"epochs": 30})
    old_run(path, running=0)
    job = look(path, scratch, resume=True)
    left = remaining(job, scratch)
    assert left.epochs == 28
    assert _runs_line(job, Share(2, 1, 0.0), left).startswith(
        "Plan: 97 of 99 trials are left (0 of them interrupted), of up to 4 epochs = 36 trial-epochs (none begins "
        "after 28), 2 at once"
    )
    timed = Timed("lab", {"cluster": 0.0, "train": 1.0, "detect": 0.0, "score": 0.0}, {"kmeans": 0.0})
    _, search = _time_lines(job, Share(2, 1, 0.0), left, timed)
    assert search.startswith("Search: about 18 s")


def test_a_grid_whose_rows_train_for_other_epochs_counts_each(job: Job) -> None:
    """Rows of 1, 4 and 10 epochs, two seeds: 30 in all, of 1 s each, three at once. Once one is left, 10 at most."""
    rows = {str(epochs): {"optim.epochs": epochs} for epochs in (1, 4, 10)}
    of = {"optim.epochs": CategoricalDistribution([1, 4, 10]), "seed": CategoricalDistribution([1, 2])}
    space = replace(job.space, rows=rows, parameters=of, sampler=Component("grid", {}))
    grid = replace(job, space=replace(space, plan=replace(space.plan, trials=6)))
    timed = Timed("lab", {"cluster": 0.0, "train": 1.0, "detect": 0.0, "score": 0.0}, {"kmeans": 0.0})
    share = Share(3, 1, 0.0)
    left = Left(6, 0, (), 0)
    assert _runs_line(grid, share, left) == "Plan: 6 trials of up to 10 epochs = 30 trial-epochs, 3 at once"
    assert "= 10 trial-epochs" in _runs_line(grid, share, replace(left, trials=1))
    _, search = _time_lines(grid, share, left, timed)
    assert search == "Search: about 10 s without pruning; in all up to 30 CPU-seconds"


@pytest.mark.parametrize(
    ("table", "total"),
    [
        ("table1-fineaction", 5 * (4 * 50 + 50 + 50 + 50 + 100 + 50 + 300 + 45 + 9 + 15)),
        ("table2-finegym", 5 * (4 * 200 + 200 + 50 + 50 + 100 + 50 + 300 + 45 + 9 + 35)),
    ],
)
def test_a_shipped_table_of_all_methods_is_planned_row_by_row(table: str, total: int, scratch: RunFolder) -> None:
    planted = "{train_videos: 60, validation_videos: 20, dim: 16, fine_classes: 12}"
    data = "data.root=data", "data.features=features.npy", "data.train_videos=60", f"data.plant={planted}"
    job = look(ROOT / "spaces" / f"{table}.yaml", scratch, *data, "concepts.clusters=10", "concepts.sample_rate=1.0")
    plan = f"Plan: 65 trials of up to 300 epochs = {total:,} trial-epochs, 2 at once"
    assert _runs_line(job, Share(2, 1, 0.0), remaining(job, scratch)) == plan


def test_a_race_takes_as_long_as_its_rounds_one_after_the_other(job: Job) -> None:
    """Of one epoch and second each, four at once: rounds of 6, 3 and 3 take 2 + 1 + 1, where 12 at once took 3."""
    timed = Timed("lab", {"cluster": 0.0, "train": 1.0, "detect": 0.0, "score": 0.0}, {"kmeans": 0.0})
    one = replace(job, space=replace(job.space, base=with_values(job.space.base, {"optim.epochs": 1})))
    time, search = _time_lines(one, Share(4, 1, 0.0), Left(4, 0, (6, 3, 3, 0), 5), timed)
    assert "; confirmation: up to about 4 s; on all training videos: up to about 2 s; in all" in search
    assert "the base's method" not in time
    rows = {"a": {"method": "haan"}, "b": {"method": "wtalc"}}
    several, _ = _time_lines(replace(one, space=replace(one.space, rows=rows)), Share(4, 1, 0.0), LEFT, timed)
    assert several.endswith("; the base's method, haan, stands for all")


@pytest.mark.parametrize(("interval", "said"), [(1, False), (2, True)])
def test_the_plan_says_how_often_trials_are_judged(job: Job, interval: int, said: bool) -> None:
    timed = Timed("lab", {"cluster": 0.0, "train": 1.0, "detect": 0.0, "score": 0.0}, {"kmeans": 0.0})
    pruner = component({"name": "hyperband", "min_resource": 2, "interval": interval}, PRUNERS)
    _, search = _time_lines(replace(job, space=replace(job.space, pruner=pruner)), Share(4, 1, 0.0), LEFT, timed)
    assert ("if hyperband prunes as designed, judging every 2 epochs" in search) == said


def test_a_race_that_goes_on_may_take_what_its_next_seeds_take(tmp_path: Path, scratch: RunFolder) -> None:
    """Of seven seeds it had two, in which neither of two fell behind: five with both are left at most."""
    path = tiny_space(tmp_path, trials=2, confirm={"top": 2, "seeds": 7, "race": True, "holdouts": "fixed"})
    folder = old_run(path, running=0)
    kept = read_kept(folder.space_yaml)
    assert retraining.num_runs(kept, has_official=False) == ((6, 3, 3, 3, 3, 3), 0)
    again = study_of(folder.confirm_journal, retraining.parameters(kept), conditions=retraining.CONDITIONS)
    wanted = retraining.repeats(kept, journal.load(folder.journal).get_trials())  # type: ignore[union-attr]
    again.start_with(wanted[:4])
    for value in (10.0, 11.0, 11.0, 10.0):
        number = again.ask().number
        again.report(number, 1, value)
        again.complete(number, {})
    assert remaining(look(path, scratch, resume=True), scratch).rounds == (2, 2, 2, 2, 2)


def test_a_checkpoint_is_as_large_as_expected(tmp_path: Path, scratch: RunFolder) -> None:
    job = look(tiny_space(tmp_path), scratch, "model.width=64")
    table = pack(job.source, job.annotations, "float16")
    largest = with_values(job.space.base, {"concepts.clusters": 16})
    trainer = Trainer(largest, table, job.splits["official"], job.space.detects, every_epoch=True)
    trainer.train_epoch()
    expected, state, weights = checkpoint_bytes(job), tmp_path / "state", tmp_path / "weights"
    trainer.save(state)
    assert trainer.best is not None
    write_tensors(weights, trainer.best.tensors, {})
    assert expected.state == pytest.approx(state.stat().st_size, rel=0.03)
    assert expected.weights == pytest.approx(weights.stat().st_size, rel=0.03)


def test_the_largest_width_of_a_space_sets_the_size(tmp_path: Path, scratch: RunFolder) -> None:
    path = tiny_space(tmp_path, parameters={"model.width": {"choice": [16, 256]}})
    job = look(path, scratch)
    wide = replace(job, space=replace(job.space, base=with_values(job.space.base, {"model.width": 256}), parameters={}))
    assert checkpoint_bytes(job).weights == checkpoint_bytes(wide).weights > 4 * 4 * 256 * 256


@pytest.fixture
def job(tmp_path: Path, scratch: RunFolder) -> Job:
    return look(tiny_space(tmp_path), scratch)


def _disk(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 10**12 - free, free))


SHARE, LEFT = Share(2, 1, 0.0), Left(5, 0, (), 2)


def test_a_disk_that_is_too_small_is_refused(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _disk(monkeypatch, 2**20)
    with pytest.raises(InputError, match=r"--out: must be on a disk with [\d.]+ MiB free, got 1\.0 MiB in "):
        disk_line(job, SHARE, LEFT, checkpoint_bytes(job))
    _disk(monkeypatch, 100 * 2**30)
    line = disk_line(job, SHARE, LEFT, checkpoint_bytes(job))
    assert line.startswith("Disk: checkpoints every 2 epochs, ") and f"of 100.0 GiB free in {tmp_path}" in line


def test_a_storage_that_is_too_small_is_named(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = replace(job, space=replace(job.space, plan=replace(job.space.plan, storage=str(tmp_path / "x" / "y"))))
    assert "MiB of" in disk_line(there, SHARE, LEFT, checkpoint_bytes(job))
    _disk(monkeypatch, 2**20)
    with pytest.raises(InputError, match=r"search\.storage: must be on a disk with .* free, got 1\.0 MiB in "):
        disk_line(there, SHARE, LEFT, checkpoint_bytes(job))


def test_the_room_in_a_bucket_is_not_made_up(job: Job) -> None:
    there = replace(job, space=replace(job.space, plan=replace(job.space.plan, storage="s3://bucket")))
    line = disk_line(there, SHARE, LEFT, checkpoint_bytes(job))
    assert "in s3://bucket/a, whose free space can't be measured from here" in line


def test_a_file_in_the_place_of_the_runs_is_refused(job: Job, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(InputError, match="--out: must be a folder that can be made or written to, got "):
        disk_line(job, SHARE, LEFT, checkpoint_bytes(job))


@pytest.mark.parametrize(
    ("pruner", "epochs", "expected"),
    [
        # Rungs 3 and 9: 3 + 6 / 3 + 9 / 9.
        ({"name": HALVING, "min_resource": 3, "reduction_factor": 3}, 18, 6),
        # Rungs 4, 8 and 16, seen at 5, 10 and 20, and 20 is the end: 5 + 5 / 2 + 10 / 4.
        ({"name": HALVING, "min_resource": 4, "reduction_factor": 2, "interval": 5}, 20, 10),
        # Rungs 2 x 2 and 8: 4 + 4 / 2 + 1 / 4.
        ({"name": HALVING, "min_resource": 2, "reduction_factor": 2, "min_early_stopping_rate": 1}, 9, 6.25),
        # floor(log3(18 / 3)) + 1 = 2 brackets, of 3 and 2 trials, of 6 and 9 + 9 / 3 epochs: (3 x 6 + 2 x 12) / 5.
        ({"name": "hyperband", "min_resource": 3, "reduction_factor": 3, "interval": 3}, 18, 8.4),
        ({"name": HALVING, "min_resource": "auto"}, 18, None),
        ({"name": "median"}, 18, None),
        ({"name": "none"}, 18, None),
    ],
)  # fmt: skip
def test_epochs_under_rungs_are_those_worked_by_hand(
    pruner: dict[str, object], epochs: int, expected: float | None
) -> None:
    found = pruned_epochs(component(pruner, PRUNERS), epochs)
    assert found == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(("least", "epochs", "factor"), [(3, 18, 3), (15, 50, 3), (1, 81, 3), (2, 64, 4)])
def test_brackets_are_those_of_optuna(least: int, epochs: int, factor: int) -> None:
    arguments = {"min_resource": least, "max_resource": epochs, "reduction_factor": factor}
    pruner = HyperbandPruner(**arguments)  # type: ignore[arg-type]
    pruner._try_initialization(study_of(None, {}).inner)
    budgets = pruner._trial_allocation_budgets
    halving = [
        pruned_epochs(
            component(
                {
                    "name": "successive_halving",
                    "min_resource": least,
                    "reduction_factor": factor,
                    "min_early_stopping_rate": bracket,
                },
                PRUNERS,
            ),
            epochs,
        )
        for bracket in range(len(budgets))
    ]
    expected = np.average(np.array(halving, dtype=float), weights=budgets)
    found = pruned_epochs(component({"name": "hyperband", **arguments}, PRUNERS), epochs)
    assert found == pytest.approx(float(expected))


def test_trials_in_random_order_run_about_as_long_as_designed() -> None:
    one = component({"name": "hyperband", "min_resource": 3, "reduction_factor": 3, "interval": 3}, PRUNERS)
    study = study_of(None, {"x": IntDistribution(0, 9)}, make_pruner(one, 18), epochs=18)
    draw, ran = random.Random(0), []
    for _ in range(600):
        number, value = study.ask().number, draw.random()
        epoch = next((epoch for epoch in range(1, 19) if study.report(number, epoch, value)), None)
        (study.complete if epoch is None else study.prune)(number, {})
        ran.append(epoch or 18)
    assert np.mean(ran) == pytest.approx(pruned_epochs(one, 18), rel=0.1)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0421, "0.042 s"), (41.3, "41 s"), (200, "3 min"), (7200, "2.0 h"), (3.6e7, "10,000 h")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def _starting(lines: Sequence[str], *heads: str) -> list[str]:
    found = [next((line for line in lines if line.startswith(head)), "") for head in heads]
    assert all(found), (heads, lines)
    return found


@pytest.fixture
def logging_kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A session sets up the logging of its process, which here goes on."""
    monkeypatch.setattr(logging, "raiseExceptions", True)
    monkeypatch.setattr(logging, "captureWarnings", lambda capture: None)
    loggers = [logging.getLogger(name) for name in ("search", "optuna", "py.warnings", *session._RAY_LOGGERS)]
    for logger in [*loggers, *map(logging.getLogger, session.internals.NOISE)]:
        for name in ("handlers", "propagate", "level"):
            monkeypatch.setattr(logger, name, getattr(logger, name))
    with warnings.catch_warnings():
        yield


@pytest.mark.usefixtures("logging_kept")
def test_a_dry_run_ends_its_ray_then_its_log_then_its_folder(
    tmp_path: Path, scratch: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    def logs() -> list[Path]:
        loggers = [logging.root, *map(logging.getLogger, logging.root.manager.loggerDict)]
        files = [one for logger in loggers for one in logger.handlers if isinstance(one, logging.FileHandler)]
        return [path for path in (Path(one.baseFilename) for one in files) if path.name == "search.log"]

    def end_of_ray() -> None:
        seen.extend(logs())
        assert seen and all(log.exists() for log in seen), "Ray may still say something"

    monkeypatch.setattr(session, "_find", lambda *about, with_room: (None, None))
    monkeypatch.setattr(session.estimate, "plan", lambda *about: [])
    monkeypatch.setattr(session.ray, "shutdown", end_of_ray)
    session.show_plan(Request(tiny_space(tmp_path), None, tmp_path / "runs", None, None, (), False), None, quiet=True)
    assert len(set(seen)) == 1 and not seen[0].parent.parent.exists()
    assert not set(seen) & set(logs()), "what is said from here on goes nowhere: its file is no longer there"


@pytest.mark.slow
@pytest.mark.ray
def test_a_dry_run_checks_says_its_plan_and_writes_nothing(tmp_path: Path) -> None:
    path = tiny_space(tmp_path, confirm={"top": 2, "seeds": 2})
    before = files(tmp_path)
    ended = run("run.py", tmp_path, path, "--dry-run", "--address", "local", "--trials", 7, "--seed", 3)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert files(tmp_path) == before
    lines = ended.stdout.splitlines()
    assert lines[1].startswith("Running on a local Ray of its own: 1 node(s), ")
    (given,) = _starting(lines, "Given: ")
    assert " of the machine's " in given and "of memory (" in given and " open files (ulimit -Hn), " in given
    plan, node, disk, time, search = _starting(lines, "Plan: ", "Node ", "Disk: ", "Time: ", "Search: about ")
    assert plan.startswith("Plan: 7 trials of up to 4 epochs = 28 trial-epochs, ")
    assert plan.endswith("; then up to 6 runs to confirm and 4 on all training videos = 40 epochs")
    assert "trial(s) at once; features 0.0 MiB of " in node
    assert "checkpoints every 2 epochs" in disk and f"free in {tmp_path}" in disk
    assert "cluster " in time and "every 2 epochs" in time and "without pruning" in search
    assert lines[-1] == "Dry run: all checks passed; nothing was written"


@pytest.mark.slow
@pytest.mark.ray
def test_a_dry_run_of_an_old_run_says_what_is_left_and_mends_nothing(tmp_path: Path, head: Head) -> None:
    path = tiny_space(tmp_path)
    folder = old_run(path)
    with folder.journal.open("a") as file:
        file.write('{"op_code": 4, "wor')
    before = files(tmp_path)
    ended = run("run.py", tmp_path, path, "--dry-run", "--name", "a", "--resume", "--quiet", env=head.env)
    assert (ended.returncode, ended.stderr, files(tmp_path)) == (0, "", before)
    assert ended.stdout.startswith("Plan: 3 of 5 trials are left (1 of them interrupted), of up to 4 epochs = 12 trial")
    assert "  warning: " not in ended.stdout, "quiet"


@pytest.mark.slow
@pytest.mark.ray
def test_a_dry_run_of_what_can_not_run_ends_with_2(tmp_path: Path, head: Head) -> None:
    path = tiny_space(tmp_path)
    before = files(tmp_path)
    ended = run("run.py", tmp_path, path, "--dry-run", "--set", "search.resources.cpu=1000", env=head.env)
    assert ended.returncode == 2 and "search.resources: must fit the cluster" in ended.stderr
    ended = run("run.py", tmp_path, path, "--dry-run", "--set", "optim.lr=1e30", env=head.env)
    assert ended.returncode == 2 and ended.stderr.startswith("base: must train for an epoch, got: loss ")
    assert files(tmp_path) == before


H100 = Gpu(0, "GPU-a", "NVIDIA H100 80GB HBM3", 80 * 2**30, 79 * 2**30)


def gpu_node(*gpus: Gpu) -> Node:
    return Node("a", "lab", {"CPU": 16, "GPU": len(gpus)}, room=Room(None, "/tmp", 5, gpus))


def test_what_a_trial_takes_of_a_gpu_is_said_of_each_kind(tmp_path: Path, scratch: RunFolder) -> None:
    job, old = look(tiny_space(tmp_path), scratch), Gpu(1, "GPU-b", "Tesla T4", 15 * 2**30, 14 * 2**30)
    nodes = [gpu_node(H100, H100), gpu_node(old)]
    small, large = gpu_lines(job, Share(2, 1, 1.0), nodes)
    assert small.startswith("GPU: a trial takes about 51") and " of 15.0 GiB, its 1 of a Tesla T4; all clips" in small
    assert " of 80.0 GiB, its 1 of a NVIDIA H100 80GB HBM3; all clips (" in large
    (shared, *_) = gpu_lines(job, Share(2, 1, 0.25), nodes)
    assert shared.endswith(" of 3.8 GiB, its 0.25 of a Tesla T4; clips come batch by batch")


def test_a_share_of_a_gpu_that_is_too_small_is_refused(tmp_path: Path, scratch: RunFolder) -> None:
    job = look(tiny_space(tmp_path), scratch)
    with pytest.raises(InputError) as refused:
        list(gpu_lines(job, Share(2, 1, 0.005), [gpu_node(H100)]))
    assert re.fullmatch(
        r"search.resources.gpu: must leave a trial the memory that it takes of a GPU, about 51\d.\d MiB \(weights and "
        r"moments .*, CUDA 512.0 MiB\), got 409.6 MiB, its 0.005 of a NVIDIA H100 80GB HBM3",
        str(refused.value),
    )


def test_a_gpu_that_others_fill_is_refused(tmp_path: Path, scratch: RunFolder) -> None:
    job, full = look(tiny_space(tmp_path), scratch), replace(H100, free=2**28)
    with pytest.raises(InputError, match=r"^GPU 0 \(NVIDIA H100 .*\): must have .*, got 256.0 MiB of 80.0 GiB$"):
        list(gpu_lines(job, Share(2, 1, 0.5), [gpu_node(full)]))


def test_without_a_gpu_nothing_is_said_of_one(tmp_path: Path, scratch: RunFolder) -> None:
    assert list(gpu_lines(look(tiny_space(tmp_path), scratch), Share(2, 1, 0.0), [gpu_node()])) == []
