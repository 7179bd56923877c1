"""A disk that fills ends a search in order, whatever it was writing, and with more room it goes on: a real Ray."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from haan.cli import python
from tests.search.drivers import NAME, RUN, Runs, assert_as_unbroken, driven
from tests.search.head import Head
from tests.search.journals import assert_whole, endings, records
from tests.search.spaces import tiny_space

pytestmark = [pytest.mark.ray, pytest.mark.slow]
SIZES = ("48k", "240k", "560k", "2m")  # fills in the first records, Ray's files, checkpoints and tables, the report


@pytest.fixture
def runs(tmp_path: Path, head: Head) -> Iterator[Runs]:
    with driven(tmp_path, head) as found:
        yield found


@pytest.fixture
def small_disk(runs: Runs) -> Iterator[Callable[[str], None]]:
    """Mounts a file system of so many bytes as the folder of all runs, or makes it larger."""
    place = runs.home / "runs"
    place.mkdir()

    def size(amount: str) -> None:
        again = (
            ["-o", f"remount,size={amount}"] if place.is_mount() else ["-t", "tmpfs", "-o", f"size={amount}", "tmpfs"]
        )
        done = subprocess.run(["mount", *again, str(place)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no file system of its own may be mounted here: {done.stderr.strip()}")

    yield size
    runs.sweep()
    if place.is_mount():
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_disk_that_fills_again_and_again_ends_a_search_in_order_and_with_more_room_it_goes_on(
    runs: Runs, small_disk: Callable[[str], None]
) -> None:
    budget = 6
    runs.space = tiny_space(runs.home, epochs=6, trials=budget, confirm={"top": 2, "seeds": 2})
    known: list[object] = []
    for size in (*SIZES, "64m"):
        small_disk(size)
        code, said = runs.run()
        assert "Traceback" not in said, said
        told = endings(records(runs.folder.journal))
        assert told[: len(known)] == known
        known = list(told)
        if size in SIZES:
            assert code == 130, said
            full, room = said.splitlines()[-2:]
            assert full.startswith("The disk is full (") and full.endswith(f"; what is finished is kept in runs/{NAME}")
            command = python(RUN, f"runs/{NAME}/space.yaml", "--name", NAME, "--resume")
            assert room == f"Make room, and to go on: {command}"
    assert code == 0, said
    trials = assert_whole(runs.folder, budget)
    assert {trial.state.name for trial in trials} <= {"COMPLETE", "PRUNED"}
    assert_as_unbroken(runs.folder, trials)
    assert runs.folder.report.exists() and runs.folder.predictions.exists()
