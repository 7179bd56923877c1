"""What a run says of the versions that made it, however they came onto the path."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import haan
from search.results import provenance, versions
from tests.paths import ROOT

UNINSTALLED = """
import importlib.metadata
try:
    importlib.metadata.version("haan-search")
except importlib.metadata.PackageNotFoundError:
    from search.results import provenance
    print(provenance.__file__, provenance.versions()["versions"], sep="\\n")
"""


def test_versions_are_those_of_the_packages_that_run() -> None:
    said = dict(one.split(" ") for one in provenance.versions()["versions"].split(", "))
    others = {name: version(name) for name in ("torch", "numpy", "faiss-gpu", "optuna", "ray")}
    assert said == {"haan-search": haan.__version__} | others


@pytest.mark.parametrize("missing", ["haan-search", "faiss-gpu", "torch", "everything"])
def test_a_package_without_metadata_costs_no_run_its_export(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def known(name: str) -> str:
        if missing in (name, "everything"):
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.2.3"

    monkeypatch.setattr(versions, "version", known)
    said = dict(one.split(" ") for one in provenance.versions()["versions"].split(", "))
    assert said.pop("haan-search") == haan.__version__
    assert set(said.values()) == ({"unknown"} if missing == "everything" else {"1.2.3", said.get(missing, "1.2.3")})
    assert said.get(missing, "unknown") == "unknown"


def test_a_checkout_that_was_never_installed_says_its_version(tmp_path: Path) -> None:
    for package in ("haan", "search"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    libraries = _without_this_project(tmp_path / "libraries")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{libraries}"}
    ended = subprocess.run(  # -S: without what installs have Python look at as it starts
        [sys.executable, "-S", "-c", UNINSTALLED], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    where, said = ended.stdout.splitlines()
    assert where.startswith(str(tmp_path)) and said.startswith(f"haan-search {haan.__version__}, torch ")


def _without_this_project(to: Path) -> Path:
    """Links to all that is installed but this project."""
    to.mkdir()
    for entry in (one for folder in sys.path if folder.endswith("site-packages") for one in Path(folder).iterdir()):
        if "haan" not in entry.name and not (to / entry.name).exists():
            (to / entry.name).symlink_to(entry)
    return to


def test_no_other_place_asks_for_metadata_that_an_uninstalled_checkout_lacks() -> None:
    asking = [
        file.relative_to(ROOT).as_posix()
        for package in ("haan", "search")
        for file in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom | ast.Import)
        and {"importlib", "metadata"} <= set(re.findall(r"\w+", ast.unparse(node)))
    ]
    assert asking == ["search/results/versions.py"]
