"""What a search checks of its data before anything starts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from haan.config import Data
from haan.data.table import Annotations
from haan.errors import InputError
from search.driver import job
from search.driver.request import Request
from search.results.folder import RunFolder
from tests.search.spaces import tiny_space


def bare(annotations: Annotations, videos: slice) -> Annotations:
    """Without the ground truth of some videos."""
    counts = np.diff(annotations.segment_offsets)
    kept = np.ones(len(counts), dtype=bool)
    kept[videos] = False
    of = np.repeat(kept, counts)
    offsets = np.concatenate([[0], np.cumsum(counts * kept)])
    segments, fine = annotations.segments[of], annotations.segment_fine[of]
    return replace(annotations, segment_offsets=offsets, segments=segments, segment_fine=fine)


@pytest.fixture
def without_official_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    read = job.open_data

    def opened(data: Data) -> Any:
        source, annotations, notes = read(data)
        return source, bare(annotations, slice(annotations.num_train, None)), notes

    monkeypatch.setattr(job, "open_data", opened)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a checkout may hold data/ of a demo


def look(folder: Path, *overrides: str) -> job.Job:
    asked = Request(tiny_space(folder), "a", folder / "runs", None, None, overrides, False)
    return job.preview(asked, RunFolder(folder / "scratch" / "run"))


@pytest.mark.usefixtures("without_official_truth")
def test_validation_videos_without_ground_truth_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data.validation: must choose videos with a ground-truth segment, got \d+ "):
        look(tmp_path, "data.validation=official")


@pytest.mark.usefixtures("without_official_truth")
def test_a_holdout_is_searched_where_the_official_videos_have_no_ground_truth(tmp_path: Path) -> None:
    found = look(tmp_path)
    assert list(found.splits) == [found.space.base.data.validation]
    assert any("official validation videos have no ground truth" in note for note in found.notes)
