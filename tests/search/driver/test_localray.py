"""The Ray that a search starts for itself: its store, its folder, and what is said where it can't start.

That strangers don't reach it: trials/test_internals.py, which has one.
"""

import os
import shutil
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from haan.errors import InputError
from search.driver import given, localray
from search.driver.given import Limit
from search.driver.nodes import start_ray

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

MIB = 2**20


@pytest.mark.slow
@pytest.mark.ray
def test_features_that_fill_the_store_are_not_copied_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # 200 of 240 MiB: above the 80 % from which Ray, left alone, writes all of it to disk within a second or two.
    monkeypatch.setattr(localray, "_STORE_LEAST", 0)
    with ExitStack() as held:
        found = start_ray("local", 200 * MIB, tmp_path / "log", held)
        held.callback(ray.shutdown)
        chunks = [ray.put(np.zeros(20 * MIB, dtype=np.uint8)) for _ in range(10)]
        assert 0.8 * found.total("object_store_memory") < 200 * MIB
        time.sleep(4)
        session = Path(ray._private.worker._global_node.get_session_dir_path())  # type: ignore[attr-defined]
        spilled = [file for folder in session.glob("ray_spilled_objects*") for file in folder.rglob("*")]
        assert spilled == [] and len(chunks) == 10
    assert not session.exists()


MOVES = "RAY_TMPDIR=FOLDER moves its files"


@pytest.mark.parametrize(
    ("raised", "fix"),
    [
        (OSError("AF_UNIX path\nis too long"), MOVES), (PermissionError(13, "no"), MOVES), (SystemError(), MOVES),
        (RuntimeError("The current node timed out during startup."), "try again once this machine has less to do"),
    ],
)  # fmt: skip
def test_a_ray_that_can_not_start_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, fix: str
) -> None:
    places = []

    def start_own(**_: Any) -> None:
        os.write(2, b"RpcError: Unavailable\n" * 20)
        places.append(Path(os.environ["RAY_TMPDIR"]))
        raise raised

    monkeypatch.setattr(localray.internals, "start_own", start_own)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    with pytest.raises(InputError) as refused, ExitStack() as held:
        start_ray("local", MIB, tmp_path / "log", held)
    words = " ".join(str(raised).split()) or "SystemError"
    rule = "a Ray of this search's own must start on this machine"
    assert str(refused.value) == f"{rule}, got: {words}; {fix}"
    assert not places[0].exists() and "RAY_TMPDIR" not in os.environ and "RAY_AUTH_TOKEN" not in os.environ


def test_what_rays_c_plus_plus_says_stays_off_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def start_own(**_: Any) -> None:
        os.write(2, b"RpcError: Unavailable\n" * 20)
        raise ConnectionError("no GCS answers")

    monkeypatch.setattr(localray.internals, "start_own", start_own)
    with pytest.raises(InputError), ExitStack() as held:
        start_ray("local", MIB, tmp_path / "log", held)
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"
    assert (tmp_path / "log").read_text() == "RpcError: Unavailable\n" * 20


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
@pytest.mark.parametrize(("length", "stays"), [(20, True), (100, False)])
def test_rays_files_lie_where_the_user_said_unless_its_path_is_too_long_for_sockets(
    monkeypatch: pytest.MonkeyPatch, variable: str, length: int, stays: bool
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    with tempfile.TemporaryDirectory(prefix="x".ljust(length - 13, "x"), dir="/tmp") as place:
        monkeypatch.setenv(variable, place)
        with localray._folder():
            folder = Path(os.environ["RAY_TMPDIR"])
            assert folder.parent == Path(place if stays else "/tmp")
            assert len(f"{folder}/ray") + len(localray._BELOW) <= 107
            assert folder.stat().st_mode & 0o777 == 0o700
            (folder / "ray").mkdir()
        assert not folder.exists() and os.environ.get("RAY_TMPDIR") == (place if variable == "RAY_TMPDIR" else None)


def test_features_must_fit_into_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    size = shutil.disk_usage("/")._replace(free=64 * MIB)  # as Docker leaves it
    monkeypatch.setattr(localray.shutil, "disk_usage", lambda path: size)
    has = replace(given.look(), memory=Limit(2**40, "the machine's"))
    assert localray._store_bytes(50 * MIB, has) > 50 * MIB
    rule = r"must fit into shared memory \(/dev/shm has 64.0 MiB free\), got 120.0 MiB needed; mount a larger /dev/shm"
    with pytest.raises(InputError, match=rule):
        localray._store_bytes(100 * MIB, has)


def test_features_must_fit_into_the_memory_that_was_given(tmp_path: Path) -> None:
    has = replace(given.look(), memory=Limit(100 * MIB, "cgroup /job_7: memory.max"))
    assert localray._store_bytes(80 * MIB, has) > 80 * MIB
    rule = (
        r"data.features: must fit into the memory that this search was given \(100.0 MiB by cgroup /job_7: memory.max"
    )
    with pytest.raises(InputError, match=rule + r"\), got 120.0 MiB needed; "):
        localray._store_bytes(100 * MIB, has)
