"""A search, a dry run and the trainer's commands beside the packed cache, as their users start them."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from haan.data import cache
from haan.data.cache import Cached
from haan.data.readers import open_data
from haan.yamlconfig import dump
from search.driver.job import Job, prepare, preview
from search.driver.request import Request
from search.results.folder import RunFolder
from tests.paths import ROOT, files
from tests.planted import tiny_config
from tests.search.head import Head
from tests.search.spaces import tiny_space

# Any data are worth a cache; "closed": the features must not be opened.
COMMAND = """
import runpy, sys
from haan.data import cache, features
cache.WORTH_BYTES, cache.SETTLE_S = 1, 0.02
mode, *sys.argv = sys.argv[1:]

def closed(path, key):
    assert key != "data.features", f"{path} was opened"
    return read_objects(path, key)

read_objects = features.read_objects
if mode == "closed":
    features.read_header = features.read_objects = closed
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(mode: str, folder: Path, script: str, *arguments: object) -> tuple[str, str]:
    """What a command wrote to stdout and stderr."""
    line = [sys.executable, "-c", COMMAND, mode, str(ROOT / script), *map(str, arguments)]
    ended = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, ended.stderr


def test_a_dry_run_uses_a_cache_and_writes_none(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "WORTH_BYTES", 1)
    monkeypatch.setattr(cache, "SETTLE_S", 0.02)
    monkeypatch.delenv("HAAN_CACHE", raising=False)
    monkeypatch.chdir(tmp_path)
    asked = Request(tiny_space(tmp_path), "a", Path("runs"), None, None, (), False)

    def look() -> Job:
        before = files(tmp_path)
        job = preview(asked, RunFolder(tmp_path_factory.mktemp("scratch") / "run"))
        assert files(tmp_path) == before and job.remarks == ()
        return job

    open_data(tiny_config(Path("data")).data)  # plants
    own = look()
    assert not isinstance(own.source, Cached)
    with ExitStack() as held:
        job = prepare(asked, held)
        assert isinstance(job.source, Cached) and "are kept in data/.haan-cache/" in job.remarks[0]
    (tmp_path / "runs" / "a").rename(tmp_path / "runs" / "b")
    seen = look()
    assert isinstance(seen.source, Cached)
    assert own.fingerprint == job.fingerprint == seen.fingerprint


@pytest.mark.slow
@pytest.mark.ray
def test_a_search_writes_a_cache_and_goes_on_from_it(
    tmp_path: Path, head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in head.env.items():
        monkeypatch.setenv(key, value)
    path = tiny_space(tmp_path, trials=2)
    out, err = run("open", tmp_path, "search/run.py", path, "--name", "a")
    (note,) = [line for line in out.splitlines() if line.startswith("note: ")]
    (about,) = (tmp_path / "data" / cache.FOLDER).glob("*/about.json")
    assert "the packed features" in note and not err
    more = ("--resume", "--trials", 3)
    out, err = run("closed", tmp_path, "search/run.py", path, "--name", "a", *more)
    assert "note: " not in out and not err
    folder = RunFolder(tmp_path / "runs" / "a")
    assert len(folder.trials_csv.read_text().splitlines()) == 1 + 3
    assert f"# data_fingerprint: {about.parent.name[:16]}" in folder.best_yaml.read_text()


@pytest.mark.slow
def test_training_writes_a_cache_and_detecting_only_uses_one(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(dump(tiny_config(Path("data"), epochs=1)))
    root = tmp_path / "data" / cache.FOLDER
    _, err = run("open", tmp_path, "haan/__main__.py", "train", "c.yaml", "--out", "first")
    (about,) = root.glob("*/about.json")
    assert err.startswith(f"note: the packed features (0.0 GiB) are kept in {about.parent.relative_to(tmp_path)}; ")
    assert run("closed", tmp_path, "haan/__main__.py", "train", "c.yaml", "--out", "second")[1] == ""
    run("closed", tmp_path, "haan/__main__.py", "detect", "second", "--out", "mapped.json")
    root.rename(tmp_path / "aside")
    run("open", tmp_path, "haan/__main__.py", "detect", "second", "--out", "read.json")
    assert not root.exists()
    own = [(tmp_path / name).read_bytes() for name in ("first/best.safetensors", "first/predictions.json")]
    assert own == [(tmp_path / name).read_bytes() for name in ("second/best.safetensors", "second/predictions.json")]
    assert own[1] == (tmp_path / "mapped.json").read_bytes() == (tmp_path / "read.json").read_bytes()
