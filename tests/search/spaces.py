"""The tiny space that a search is through with in seconds, and the commands as their user runs them."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from haan.yamlconfig import plain
from search.space.model import Space
from search.space.read import read_space
from tests.paths import ROOT
from tests.planted import tiny_config

OWN_RAY = {"RAY_ADDRESS": "local"}


def tiny_space(folder: Path, epochs: int = 4, **search: object) -> Path:
    """Over the tiny planted data, which its run makes; search: keys of its `search:`."""
    base = plain(tiny_config(Path("data"), epochs=epochs))
    parameters = {
        "concepts.clusters": {"int": [4, 16], "log": True},
        "loss.pseudo": {"float": [1e-4, 1.0], "log": True},
        "detect.alpha": {"sweep": "-0.4:0.4:0.2"},
    }
    found = {
        "trials": 5,
        "sampler": {"name": "random"},
        "pruner": {"name": "percentile", "percentile": 10.0, "n_startup_trials": 1, "n_warmup_steps": 1},
        "resources": {"cpu": 1, "gpu": 0},
        "parameters": parameters,
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({"base": base, "search": found | search}))
    return path


def run(
    script: str, folder: Path, *arguments: object, env: Mapping[str, str] = OWN_RAY
) -> subprocess.CompletedProcess[str]:
    """A script of search/ as its user runs it, in a folder. env: how it finds Ray."""
    command = [sys.executable, str(ROOT / "search" / script), *map(str, arguments)]
    environment = os.environ | env
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def demo_space(folder: Path, **search: Any) -> Space:
    """The demo's space with a storage that all nodes reach; search: keys of its `search:`."""
    document = yaml.safe_load((ROOT / "spaces" / "demo.yaml").read_text())
    document["search"] |= {"storage": "s3://bucket/place", **search}
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump(document))
    return read_space(path)
