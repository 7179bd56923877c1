"""What --resume refuses, before anything starts: input that the study of the run was not made with."""

import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from haan.data.readers import open_data
from haan.errors import InputError
from search.driver.job import prepare
from search.driver.request import Request
from search.results.folder import RunFolder, open_study
from search.study import record
from tests.planted import tiny_config
from tests.search import plain_driver
from tests.search.journals import endings, records, under_way
from tests.search.spaces import tiny_space

NAME = "a"
LIMIT_S = 120.0


@dataclass(frozen=True)
class Left:
    """A run that its driver left in its middle; who was refused beside it."""

    home: Path
    space: Path
    refused: str

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.home / "runs" / NAME)


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Left:
    home = tmp_path_factory.mktemp("left")
    open_data(tiny_config(home / "data").data)  # plants
    space, folder = tiny_space(home, epochs=40, trials=1000), RunFolder(home / "runs" / NAME)
    driver, end = plain_driver.start(space, folder), time.monotonic() + LIMIT_S
    try:
        while not (endings(records(folder.journal)) and under_way(folder)):
            assert driver.is_alive() and time.monotonic() < end
            time.sleep(0.01)
        refused = refusal(space, folder)
    finally:
        driver.kill()
        driver.join()
    return Left(home, space, refused)


def refusal(space: Path, folder: RunFolder, *overrides: str, name: str | None = NAME) -> str:
    """Why `--resume` of a run is refused, before anything starts."""
    with ExitStack() as held, pytest.raises(InputError) as raised:
        data = f"data.root={space.parent / 'data'}"  # not below this process's own folder
        prepare(Request(space, name, folder.root.parent, None, None, (data, *overrides), resume=True), held)
    return str(raised.value)


def test_a_second_driver_of_a_run_is_refused(left: Left) -> None:
    rule = f"{left.folder.root}: must have one driver at a time, got a second; process "
    assert left.refused.startswith(rule) and left.refused.endswith(" drives it")


def test_a_resume_needs_the_name_of_a_run_that_exists(left: Left) -> None:
    said = refusal(left.space, left.folder, name=None)
    assert said == "--resume: must come with the --name of the run to go on with, got none"
    assert "must be of a run that exists" in refusal(left.space, left.folder, name="other")


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("optim.epochs", 41, "must stay 40 under --resume, got 41"),
        ("model.width", 32, "must stay 16 under --resume, got 32"),
        ("seed", 2, "must stay 1 under --resume, got 2"),
    ],
)
def test_a_base_that_the_study_can_t_take_is_refused_with_line_key_rule_and_value(
    left: Left, key: str, value: int, rule: str
) -> None:
    before = left.folder.journal.read_bytes()
    assert refusal(left.space, left.folder, f"{key}={value}").endswith(f"{key}: {rule}")
    document = yaml.safe_load(left.space.read_text())
    *parents, last = key.split(".")
    section = document["base"][parents[0]] if parents else document["base"]
    section[last] = value
    changed = left.home / "changed.yaml"
    changed.write_text(yaml.safe_dump(document))
    indented = "  " * len(key.split(".")) + f"{last}: "
    line = next(i for i, text in enumerate(changed.read_text().splitlines(), 1) if text.startswith(indented))
    assert refusal(changed, left.folder) == f"{changed}:{line}: {key}: {rule}"
    assert left.folder.journal.read_bytes() == before


def test_another_objective_is_refused(left: Left) -> None:
    found = refusal(left.space, left.folder, "search.objective=last")
    assert found.endswith("search.objective: must stay 'best' under --resume, got 'last'")


def test_another_kind_of_parameter_is_refused(left: Left) -> None:
    document = yaml.safe_load(left.space.read_text())
    document["search"]["parameters"]["loss.pseudo"] = {"choice": [0.001, 0.1]}
    changed = left.home / "changed.yaml"
    changed.write_text(yaml.safe_dump(document))
    found = refusal(changed, left.folder)
    assert found.startswith(f"{changed}:") and "loss.pseudo: must stay a float on a log scale in search" in found


def test_a_parameter_that_comes_is_taken_and_said(left: Left) -> None:
    path = left.home / "more" / "runs" / NAME
    shutil.copytree(left.folder.root, path)
    document = yaml.safe_load(left.space.read_text())
    document["search"]["parameters"]["loss.coarse_pooling"] = {"choice": ["max", "mean"]}
    grown = left.home / "grown.yaml"
    grown.write_text(yaml.safe_dump(document))
    with ExitStack() as held:
        asked = Request(grown, NAME, path.parent, None, None, (f"data.root={left.home / 'data'}",), resume=True)
        job = prepare(asked, held)
    assert job.remarks[-1] == (
        "searched from here on: loss.coarse_pooling; the trials so far have the base's loss.coarse_pooling = mean"
    )


def test_other_data_are_refused(left: Left) -> None:
    path = left.home / "again" / "runs" / NAME
    shutil.copytree(left.folder.root, path)
    study = open_study(RunFolder(path))
    study.set_user_attr(record.FINGERPRINT, "0" * 64)
    found = refusal(left.space, RunFolder(path))
    assert "data.root: must be the data that the study was made on (fingerprint 000000000000...), got others (" in found
