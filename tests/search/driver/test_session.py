"""The last words of a session."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from search.driver.session import _counted
from search.results.folder import RunFolder
from search.space.read import read_space
from search.space.studies import study_of
from search.study.record import RUNS
from tests.search.spaces import tiny_space


def test_a_search_starts_its_ray_without_grpcs_fork_handlers() -> None:
    assert os.environ["GRPC_ENABLE_FORK_SUPPORT"] == "0"  # since the import above


def test_what_trials_under_way_took_counts_where_none_has_ended(tmp_path: Path) -> None:
    space, folder = read_space(tiny_space(tmp_path, trials=3)), RunFolder(tmp_path / "runs" / "a")
    folder.root.mkdir(parents=True)
    study = study_of(space, name="tiny", journal=folder.journal, seed=1)
    for start_s in (0, 10):
        study.note(study.ask().number, RUNS, [[1_000_000 + start_s, 1_000_030, "a"]])
    share = SimpleNamespace(units=2, unit="CPU")
    work: Any = SimpleNamespace(job=SimpleNamespace(space=space, folder=folder), share=share)
    ended, spent = _counted(work, study)
    assert ended == "Trials: 0 complete, 0 pruned, 0 failed, 2 under way"
    assert spent.startswith("Spent 100 CPU-seconds on them")  # 30 and 20 s of two CPUs
