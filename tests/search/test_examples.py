"""The example in the --help of every command runs, in the order in which a user would come to it."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.ray]
COMMANDS = (
    "haan plant",
    "search/run.py",
    "search/export.py",
    "search/report.py",
    "search/replay.py",
    "search/table.py",
    "haan train",
    "haan detect",
    "haan evaluate",
    "haan figures",
    "haan split",
)
UNSEEN = {"search/remote/head.py"}  # runs on a cluster's head for search/run.py


def call(words: list[str], folder: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": "local"}
    ended = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=560
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def prepare(command: str, folder: Path) -> None:
    """What a user has by then: the run of the README's first command, and what was exported from it."""
    if command == "search/export.py":
        shutil.move(folder / "runs" / "first", folder / "runs" / "demo")
    if command == "haan train":
        shutil.copy(folder / "runs" / "demo" / "best.yaml", folder)
    if command == "haan evaluate":
        found = json.loads((folder / "predictions.json").read_text())["results"]
        database = {
            name: {
                "subset": "validation",
                "annotations": [{"segment": one["segment"], "label": one["label"]} for one in rows[:1]],
            }
            for name, rows in found.items()
        }
        (folder / "ground_truth.json").write_text(json.dumps({"database": database}))
    if command == "haan split":
        events = [f"video{number:06d}_E_000001_000009" for number in range(16)]
        lines = [f"{event}_A_000{label}_0009 {label}\n" for event in events for label in (0, 1)]
        (folder / "gym99_train_element_new.txt").write_text("".join(lines[:20]))
        (folder / "gym99_val_element_new.txt").write_text("".join(lines[20:]))


@pytest.mark.timeout(1200)
def test_the_example_of_every_command_runs(tmp_path: Path) -> None:
    for name in ("search", "spaces"):
        (tmp_path / name).symlink_to(ROOT / name)
    for command in COMMANDS:
        script = ["-m", *command.split()] if command.startswith("haan") else [command]
        help_, _, example = call([*script, "--help"], tmp_path).partition("Example: python ")
        assert help_ and example, command
        assert shlex.split(example)[: len(script)] == script
        prepare(command, tmp_path)
        call(shlex.split(example), tmp_path)


def test_no_command_is_left_out() -> None:
    scripts = {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "search").glob("*.py") if "typer" in path.read_text()
    }
    assert scripts - UNSEEN == {command for command in COMMANDS if command.startswith("search/")}
    listed = call(
        ["-c", "import haan.__main__ as m; print(*(c.name or c.callback.__name__ for c in m.app.registered_commands))"],
        ROOT,
    )
    assert {f"haan {name}" for name in listed.split()} == {c for c in COMMANDS if c.startswith("haan")}
