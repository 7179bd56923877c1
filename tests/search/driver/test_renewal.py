"""The report of a search that goes on: how often it is written, and that it costs the search nothing."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest

from search.driver import renewal
from search.driver.phases import PhaseEvents
from search.driver.renewal import Renewal
from search.results.folder import RunFolder
from tests.search.page.report_run import fill, new_study, write_space


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When a report was written, on a clock that `takes` moves on by the time that one takes."""
    times: list[float] = []
    monkeypatch.setattr(renewal.time, "monotonic", lambda: now[0])

    def write(*given: Any, goes_on: bool) -> None:
        assert goes_on
        times.append(now[0])
        now[0] += takes[0]

    monkeypatch.setattr(renewal, "write_report", write)
    return times


now, takes = [0.0], [0.0]


@pytest.mark.parametrize(
    ("seconds", "times"), [(0.0, [60, 120, 180, 240]), (1.0, [60, 120, 180, 240]), (2.0, [60, 160])]
)
def test_it_is_written_once_a_minute_and_takes_a_fiftieth_of_the_time_at_most(
    written: list[float], seconds: float, times: list[int]
) -> None:
    # One that takes 2 s ends at 62, and comes again after 49 times as long, at 160: 2 s of 100.
    now[0], takes[0] = 0.0, seconds
    report: Any = Renewal(RunFolder(Path("run")), *[None] * 2)  # type: ignore[arg-type]  # nothing reads them
    for second in range(1, 250):
        now[0] = max(now[0], second)
        report.renew()
    assert written == times


def test_one_that_can_not_be_made_is_no_end_of_the_search(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(renewal, "RENEWED_S", 0)
    space = write_space(tmp_path / "run")
    folder, study = RunFolder(tmp_path / "run"), new_study(tmp_path / "run")
    folder.report.mkdir()
    monkeypatch.setattr(renewal._LOG, "propagate", True)
    Renewal(folder, space, study).renew()
    assert f"could not write {folder.report}" in caplog.text


def test_while_a_trial_runs_the_report_says_that_the_search_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(renewal, "RENEWED_S", 0)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = write_space(tmp_path / "run")
    folder, study = RunFolder(tmp_path / "run"), new_study(tmp_path / "run")
    fill(study, space, 3)
    work = SimpleNamespace(job=SimpleNamespace(folder=folder, space=space), staff=None)
    phase: Any = SimpleNamespace(work=work, search=SimpleNamespace(inner=study))
    progress: Any = SimpleNamespace(reported=lambda under_way: None)
    found: Any = None
    PhaseEvents(phase, progress, found).goes_on([])
    assert "The search goes on, and this page renews itself." in folder.report.read_text()
