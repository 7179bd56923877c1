"""Bad input through the real command lines: exit code 2, one message an error, no traceback, and nothing started.

Every message names the file (YAML: and the line), the key or array, the rule and the value received. `{folder}` in an
expected message is where the test's files lie.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml

import haan.__main__
from haan.cli import python, run
from haan.methods import names
from tests.haan.data.tiny import LABELS, MAPPING, NAMES, SEGMENTS, changed, features, objects, tiny
from tests.paths import ROOT, files

# Lines are counted below: data is line 1, seed line 8.
CONFIG = """\
data: {root: ROOT, features: features.npy, train_videos: 4}
model: {width: 8}
concepts: {clusters: 3, top_k: 2, sample_rate: 1.0}
loss: {coarse: 0.1}
optim: {lr: 1.0e-3, epochs: 1}
detect: {alpha: 0.0}
eval: {tiou: "0.1:0.5:0.1", report: [0.1, 0.5]}
seed: 1
device: cpu
threads: 1
"""
SPACE = """\
base:
  data: {root: ROOT, features: features.npy, train_videos: 4, validation: {holdout: 0.25}}
  model: {width: 8}
  concepts: {clusters: 3, top_k: 2, sample_rate: 1.0}
  loss: {coarse: 0.1}
  optim: {lr: 1.0e-3, epochs: 1}
  detect: {alpha: 0.0}
  eval: {tiou: "0.1:0.5:0.1", report: [0.1, 0.5]}
  device: cpu
search:
  trials: 2
  sampler: {name: random}
  pruner: {name: hyperband, min_resource: 1}
  parameters:
    concepts.clusters: {int: [2, 6]}
    loss.pseudo: {float: [1e-4, 1.0], log: true}
    loss.coarse_pooling: {choice: [max, mean]}
    detect.alpha: {sweep: "-0.5:0.5:0.5"}
  resources: {cpu: 1, gpu: auto}
"""


@dataclass(frozen=True)
class Ended:
    """How a command line ended."""

    code: int
    out: str
    err: str


Shell = Callable[..., Ended]


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """Runs `python -m haan ...` or `python search/run.py ...` in this process."""

    def call(command: str, *arguments: object) -> Ended:
        app = haan.__main__.app if command == "haan" else _search_app(monkeypatch)
        monkeypatch.setattr(sys, "argv", [command, *map(str, arguments)])
        capsys.readouterr()
        code: Any = 0
        try:
            run(app)
        except SystemExit as end:
            code = end.code
        found = capsys.readouterr()
        return Ended(code or 0, found.out, found.err)

    return call


def _search_app(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    import optuna

    import search.driver.session  # here, for it takes seconds
    import search.run

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # its handler keeps the stream of an earlier test
    monkeypatch.setattr(search.driver.session, "_logged", lambda path: nullcontext())
    monkeypatch.setattr(
        search.driver.session.nodes, "start_ray", lambda *about: pytest.fail("Ray would have been started")
    )
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(search.run.main)
    return app


def process(*arguments: object) -> Ended:
    """The same as a process of its own, as a user runs it."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=120,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


def edited(text: str, edits: Sequence[tuple[str, str]], folder: Path) -> str:
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text.replace("ROOT", str(folder / "data"))


def refused(ended: Ended, folder: Path, expected: Sequence[str]) -> None:
    assert "Traceback" not in ended.err + ended.out
    assert ended.err.splitlines() == [message.replace("{folder}", str(folder)) for message in expected]
    assert ended.code == 2
    assert ended.out == ""


Edits = Sequence[tuple[str, str]]


def case(name: str, edits: Edits, *expected: str, options: Sequence[str] = ()) -> Any:
    """A row of a table: the file with `old` replaced by `new`, and every line expected on stderr."""
    return pytest.param(edits, options, expected, id=name)


C = "{folder}/c.yaml"
METHODS = " or ".join(map(repr, names.CONFIGS))
CONFIGS = [
    case("unknown key", [("lr:", "lrr:")], f"{C}:5: optim.lrr: unknown key; did you mean 'lr'?"),
    case(
        "unknown key like no other",
        [("{alpha: 0.0}", "{alpha: 0.0, zzz: 1}")],
        f"{C}:6: detect.zzz: unknown key; valid keys here: alpha, class_score_weight, class_threshold, min_clips, "
        "threshold_from, top_clips",
    ),
    case(
        "section of another method",
        [("seed: 1", "wtalc: {margin: 1}")],
        f"{C}:8: wtalc: is a section of another method; did you mean method: wtalc?",
    ),
    case("no such method", [("seed: 1", "method: wtalk")], f"{C}:8: method: must be {METHODS}, got 'wtalk'"),
    case("unknown section", [("seed: 1", "optimizer: {}")], f"{C}:8: optimizer: unknown key; did you mean 'optim'?"),
    case(
        "key twice",
        [("{alpha: 0.0}", "{alpha: 0.0,\n  alpha: 0.5}")],
        f"{C}:7: detect.alpha: stands twice, first on line 6",
    ),
    case(
        "key twice at the top",
        [("seed: 1", "seed: 1\nseed: 2")],
        f"{C}:9: seed: stands twice, first on line 8",
    ),
    case(
        "section twice",
        [("seed: 1", "model: {width: 4}")],
        f"{C}:8: model: stands twice, first on line 2",
    ),
    case(
        "whole number expected",
        [("epochs: 1", "epochs: 1.5")],
        f"{C}:5: optim.epochs: must be a whole number, got '1.5'",
    ),
    case("number expected", [("1.0e-3", "fast")], f"{C}:5: optim.lr: must be a finite number, got 'fast'"),
    case("infinite", [("1.0e-3", ".inf")], f"{C}:5: optim.lr: must be a finite number, got '.inf'"),
    case(
        "no for a truth value",
        [("{coarse: 0.1}", "{coarse: 0.1, detach_prototypes: no}")],
        f"{C}:4: loss.detach_prototypes: must be true or false, got 'no'",
    ),
    case(
        "not among the choices",
        [("{coarse: 0.1}", "{coarse_pooling: sum}")],
        f"{C}:4: loss.coarse_pooling: must be 'max' or 'mean', got 'sum'",
    ),
    case("below its bound", [("1.0e-3", "0")], f"{C}:5: optim.lr: must be > 0, got 0.0"),
    case("above its bound", [("{width: 8}", "{dropout: 1}")], f"{C}:2: model.dropout: must be >= 0 and < 1, got 1.0"),
    case(
        "top_k above clusters",
        [("top_k: 2", "top_k: 4")],
        f"{C}:3: concepts.top_k: must be <= concepts.clusters (3), got 4",
    ),
    case(
        "optimiser of no kind",
        [("1.0e-3", "1.0e-3, kind: rmsprop")],
        f"{C}:5: optim.kind: must be 'adam' or 'adamw' or 'sgd', got 'rmsprop'",
    ),
    case(
        "warm-up that never ends",
        [("epochs: 1}", "epochs: 4, warmup_epochs: 4}")],
        f"{C}:5: optim.warmup_epochs: must be < optim.epochs (4), got 4",
    ),
    case(
        "schedule that ends too early",
        [("epochs: 1}", "epochs: 4, schedule: cosine, schedule_epochs: 3}")],
        f"{C}:5: optim.schedule_epochs: must be >= optim.epochs (4), got 3",
    ),
    case(
        "list expected", [("[0.1, 0.5]}", "high}")], f"{C}:7: eval.report: must be a list of finite numbers, got 'high'"
    ),
    case(
        "threshold above 1",
        [('"0.1:0.5:0.1"', '"0.5:1.5:0.5"')],
        f"{C}:7: eval.tiou: must hold tIoU thresholds > 0 and <= 1, got [0.5, 1.0, 1.5]",
    ),
    case(
        "report of no threshold", [("[0.1, 0.5]", "[0.9]")], f"{C}:7: eval.report: must be among eval.tiou, got [0.9]"
    ),
    case("section is a number", [("{width: 8}", "8")], f"{C}:2: model: must be a mapping, got '8'"),
    case("required key missing", [("root: ROOT, ", "")], f"{C}:1: data.root: is required and missing"),
    case(
        "training videos missing",
        [(", train_videos: 4", "")],
        f"{C}:1: data.train_videos: is required with format haan, got None",
    ),
    case(
        "keys of another format",
        [("train_videos: 4", "train_videos: 4, format: activitynet, annotations: a.json, hierarchy: h.json")],
        f"{C}:1: data.train_videos: must not be given with format activitynet, got 4",
    ),
    case(
        "format of no kind",
        [("train_videos: 4", "train_videos: 4, format: thumos")],
        f"{C}:1: data.format: must be 'haan' or 'activitynet', got 'thumos'",
    ),
    case(
        "files of another format missing",
        [("train_videos: 4", "format: activitynet, annotations: a.json, hierarchy: h.json")],
        f"{C}:1: data.root: {{folder}}/data must hold a.json, h.json, which it does not",
    ),
    case(
        "split of no kind",
        [("train_videos: 4", "train_videos: 4, validation: random")],
        f"{C}:1: data.validation: must be a mapping or 'official', got 'random'",
    ),
    case("seed below 0", [("seed: 1", "seed: -1")], f"{C}:8: seed: must be >= 0 and < 2**31, got -1"),
    case(
        "every loss off",
        [("{coarse: 0.1}", "{mil: 0, pseudo: 0, concept: 0, coarse: 0}")],
        f"{C}:4: loss.mil: must be > 0 when the other three weights are 0, got 0.0",
    ),
    case(
        "several errors",
        [("{width: 8}", "{width: 0, dropot: 0.1}"), ("1.0e-3", "x"), ("seed: 1", "seed: -1\nsede: 2")],
        f"{C}:9: sede: unknown key; did you mean 'seed'?",
        f"{C}:2: model.dropot: unknown key; did you mean 'dropout'?",
        f"{C}:2: model.width: must be >= 1, got 0",
        f"{C}:5: optim.lr: must be a finite number, got 'x'",
        f"{C}:8: seed: must be >= 0 and < 2**31, got -1",
    ),
    case(
        "override without =",
        [],
        "--set: must be KEY=VALUE with a dotted key, got 'optim.lr'",
        options=["--set", "optim.lr"],
    ),
    case(
        "override of no key", [], "--set: optim.lrr: unknown key; did you mean 'lr'?", options=["--set", "optim.lrr=1"]
    ),
    case("override out of bounds", [], "--set: optim.lr: must be > 0, got -1.0", options=["--set", "optim.lr=-1"]),
    case(
        "override through a value",
        [],
        "--set: seed: must be a whole number, got a mapping",
        options=["--set", "seed.x=1"],
    ),
    case(
        "training videos beyond the data",
        [("train_videos: 4", "train_videos: 7")],
        f"{C}:1: data.train_videos: must be >= 1 and <= the 6 videos, got 7",
    ),
    case(
        "no validation videos",
        [("train_videos: 4", "train_videos: 6")],
        f"{C}:1: data.train_videos: must leave a video for validation: official, got 6 of 6 videos",
    ),
    case(
        "more clusters than clips",
        [("clusters: 3", "clusters: 30")],
        f"{C}:3: concepts.clusters: must be <= the number of sampled clips (concepts.sample_rate 1.0 of 20 training "
        "clips = 20), got 30",
    ),
]


@pytest.mark.parametrize(("edits", "options", "expected"), CONFIGS)
def test_a_bad_configuration(
    tmp_path: Path, shell: Shell, edits: Edits, options: Sequence[str], expected: Sequence[str]
) -> None:
    tiny(tmp_path / "data")
    path = tmp_path / "c.yaml"
    path.write_text(edited(CONFIG, edits, tmp_path))
    refused(shell("haan", "train", path, "--out", tmp_path / "out", *options), tmp_path, expected)
    assert not (tmp_path / "out").exists()


def test_the_configuration_itself_is_sound_and_1e_3_is_a_number(tmp_path: Path, shell: Shell) -> None:
    """Else the table above could pass for another reason."""
    tiny(tmp_path / "data")
    path = tmp_path / "c.yaml"
    path.write_text(edited(CONFIG, [("1.0e-3", "1e-3")], tmp_path))
    ended = shell("haan", "train", path, "--out", tmp_path / "out")
    assert (ended.code, ended.err) == (0, "")
    assert "lr: 0.001" in (tmp_path / "out" / "best.yaml").read_text()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data: {root: d\nseed: 1\n", f"{C}:2: is not valid YAML: expected ',' or '}}', but got ':'"),
        ("\tdata: 1\n", f"{C}:1: is not valid YAML: found character '\\t' that cannot start any token"),
        ("- 1\n", f"{C}: must be a mapping of keys to values, got a list"),
        ("", f"{C}: must be a mapping of keys to values, got nothing"),
    ],
)
def test_what_is_no_configuration_at_all(tmp_path: Path, shell: Shell, text: str, expected: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    refused(shell("haan", "train", tmp_path / "c.yaml", "--out", tmp_path / "out"), tmp_path, [expected])


def test_a_configuration_that_is_not_there(tmp_path: Path, shell: Shell) -> None:
    refused(shell("haan", "train", tmp_path / "c.yaml", "--out", tmp_path / "out"), tmp_path, [f"{C}: no such file"])


def test_an_output_folder_that_holds_files(tmp_path: Path, shell: Shell) -> None:
    tiny(tmp_path / "data")
    (tmp_path / "c.yaml").write_text(edited(CONFIG, [], tmp_path))
    expected = "{folder}/data: --out must be a new or empty folder unless --resume is given, got one with files"
    refused(shell("haan", "train", tmp_path / "c.yaml", "--out", tmp_path / "data"), tmp_path, [expected])


S = "{folder}/s.yaml"
CLUSTERS, PSEUDO = "concepts.clusters: {int: [2, 6]}", "loss.pseudo: {float: [1e-4, 1.0], log: true}"
POOLING, ALPHA = "loss.coarse_pooling: {choice: [max, mean]}", 'detect.alpha: {sweep: "-0.5:0.5:0.5"}'
SAMPLERS = "tpe, random, qmc, cmaes, gp, nsgaii, nsgaiii, brute_force, partial_fixed, grid"
GRID, TRAINED = ("{name: random}", "{name: grid}"), f"{CLUSTERS}\n    {PSEUDO}\n    {POOLING}"
HYPERBAND = "{name: hyperband, min_resource: 1}"
SPACES = [
    case(
        "log scale from 0",
        [(PSEUDO, "loss.pseudo: {float: [0, 1.0], log: true}")],
        f"{S}:16: loss.pseudo: low must be > 0 on a log scale, got 0.0",
    ),
    case(
        "low above high",
        [(CLUSTERS, "concepts.clusters: {int: [6, 2]}")],
        f"{S}:15: concepts.clusters: low must be < high, got [6, 2]",
    ),
    case(
        "low equal to high",
        [(CLUSTERS, "concepts.clusters: {int: [3, 3]}")],
        f"{S}:15: concepts.clusters: low must be < high, got [3, 3]",
    ),
    case(
        "three bounds",
        [(CLUSTERS, "concepts.clusters: {int: [2, 3, 6]}")],
        f"{S}:15: concepts.clusters: must be [low, high], got 3 values",
    ),
    case(
        "bound of no number",
        [(PSEUDO, "loss.pseudo: {float: [low, 1.0]}")],
        f"{S}:16: loss.pseudo: must be a finite number, got 'low'",
    ),
    case(
        "condition on what stands below",
        [(PSEUDO, "loss.pseudo: {float: [1e-4, 1.0], when: {loss.coarse_pooling: max}}")],
        f"{S}:16: loss.pseudo.when.loss.coarse_pooling: must be a choice or int parameter that stands above "
        "loss.pseudo, got one that does not",
    ),
    case(
        "condition on a float",
        [("[max, mean]}", "[max, mean], when: {loss.pseudo: 0.001}}")],
        f"{S}:17: loss.coarse_pooling.when.loss.pseudo: must be a choice or int parameter that stands above "
        "loss.coarse_pooling, got a float",
    ),
    case(
        "condition on no such value",
        [("[max, mean]}", "[max, mean], when: {concepts.clusters: [3, 7]}}")],
        f"{S}:17: loss.coarse_pooling.when.concepts.clusters: must be a whole number in [2, 6], got 7",
    ),
    case(
        "condition that is none",
        [("[max, mean]}", "[max, mean], when: max}")],
        f"{S}:17: loss.coarse_pooling.when: must be a mapping, got 'max'",
    ),
    case(
        "condition of a sweep",
        [('"-0.5:0.5:0.5"}', '"-0.5:0.5:0.5", when: {concepts.clusters: 3}}')],
        f"{S}:18: detect.alpha.when: is for int, float and choice alone, got a mapping",
    ),
    case(
        "condition under brute force",
        [
            ("{name: random}", "{name: brute_force}"),
            (PSEUDO, "concepts.top_k: {int: [1, 2]}"),
            ("[max, mean]}", "[max, mean], when: {concepts.clusters: 3}}"),
        ],
        f"{S}:17: loss.coarse_pooling.when: can't stand under brute_force, which tries every value with every "
        "other one",
    ),
    case(
        "condition under a grid",
        [GRID, (HYPERBAND, "{name: none}"), (TRAINED, "concepts.clusters: {choice: [3, 4], when: {loss.mil: 1}}")],
        f"{S}:15: concepts.clusters: must be a list of values under sampler: {{name: grid}}, got a mapping",
    ),
    case(
        "start that gives what is not searched there",
        [
            ("trials: 2", "trials: 2\n  start_with: [{concepts.clusters: 4, loss.coarse_pooling: mean}]"),
            ("[max, mean]}", "[max, mean], when: {concepts.clusters: [2, 3]}}"),
        ],
        f"{S}:12: search.start_with.loss.coarse_pooling: must be the base's 'max' where loss.coarse_pooling is not "
        "searched (its `when`), got 'mean'",
    ),
    case(
        "start of another kind",
        [("trials: 2", "trials: 2\n  start_with: []")],
        f"{S}:12: search.start_with: must be base, or a list of base, mappings of parameters to values, and run "
        "folders, got []",
    ),
    case(
        "start outside its range",
        [
            (
                "trials: 2",
                "trials: 2\n  start_with: [{concepts.clusters: 7, loss.pseudo: 2},\n    {concepts.clusters: 2}]",
            )
        ],
        f"{S}:12: search.start_with.concepts.clusters: must be a whole number in [2, 6], as search.parameters "
        "has it, got 7",
        f"{S}:12: search.start_with.loss.pseudo: must be a number in [0.0001, 1.0], as search.parameters has it, "
        "got 2.0",
    ),
    case(
        "start of what is not searched",
        [("trials: 2", "trials: 2\n  start_with: [base, {concepts.cluster: 3}, {loss.coarse: much}]")],
        f"{S}:12: search.start_with.concepts.cluster: must be a parameter that is searched; did you mean "
        "'concepts.clusters'?",
        f"{S}:12: search.start_with.loss.coarse: must be a parameter that is searched; did you mean "
        "'loss.coarse_pooling'?",
    ),
    case(
        "start of no such value",
        [("trials: 2", "trials: 2\n  start_with: [{concepts.clusters: many}]")],
        f"{S}:12: search.start_with.concepts.clusters: must be a whole number, got 'many'",
    ),
    case(
        "start at a run that is none",
        [("trials: 2", "trials: 2\n  start_with: [base, runs/none]")],
        f"{S}:12: search.start_with: must be base, a mapping, or the folder of a run with its best.yaml, got "
        "'runs/none'",
    ),
    case(
        "starts under a grid",
        [
            GRID,
            (HYPERBAND, "{name: none}"),
            (TRAINED, "concepts.clusters: [3, 4]"),
            ("trials: 2", "start_with: [base]"),
        ],
        f"{S}:11: search.start_with: must be base under sampler: {{name: grid}}, which tries its points in their "
        "order, got a list",
    ),
    case(
        "base outside its range",
        [(CLUSTERS, "concepts.clusters: {int: [4, 6]}")],
        f"{S}:15: concepts.clusters: the range must hold the base's value, got base 3 and [4, 6]",
    ),
    case(
        "base between two steps",
        [(CLUSTERS, "concepts.clusters: {int: [2, 6], step: 2}")],
        f"{S}:15: concepts.clusters: the range must hold the base's value, got base 3 and [2, 6] in steps of 2",
    ),
    case(
        "choice without the base",
        [("coarse: 0.1}", "coarse: 0.1, coarse_pooling: max}"), ("[max, mean]", "[mean]")],
        f"{S}:17: loss.coarse_pooling: choice must hold the base's value, got base 'max'",
    ),
    case(
        "choice of no such value",
        [("[max, mean]", "[max, median]")],
        f"{S}:17: loss.coarse_pooling: must be 'max' or 'mean', got 'median'",
    ),
    case(
        "sweep of what is trained",
        [(PSEUDO, 'loss.pseudo: {sweep: "0:1:0.5"}')],
        f"{S}:16: loss.pseudo: sweep is for detect.* alone, which needs no training, got '0:1:0.5'",
    ),
    case(
        "sweep of no range",
        [('"-0.5:0.5:0.5"', '"0.5:-0.5:0.1"')],
        f"{S}:18: detect.alpha: sweep must have step > 0 and high >= low, got '0.5:-0.5:0.1'",
    ),
    case(
        "detection setting that is sampled",
        [('detect.alpha: {sweep: "-0.5:0.5:0.5"}', "detect.alpha: {float: [-1, 1]}")],
        f"{S}:18: detect.alpha: must be swept, as it needs no training, got float",
    ),
    case(
        "epochs that are sampled",
        [(PSEUDO, "optim.epochs: {int: [1, 9]}")],
        f"{S}:16: optim.epochs: can be searched under pruner: {{name: none}} alone, for the others compare trials "
        "epoch by epoch, got hyperband",
    ),
    case(
        "number whose base is null",
        [(PSEUDO, "optim.clip_norm: {float: [0.1, 9]}")],
        f"{S}:16: optim.clip_norm: the range must hold the base's value, got base None and [0.1, 9.0]",
    ),
    case(
        "fewer epochs than the warm-up may take",
        [
            (HYPERBAND, "{name: none}"),
            ("epochs: 1}", "epochs: 3, warmup_epochs: 1}"),
            (PSEUDO, "optim.epochs: {int: [1, 9]}"),
        ],
        f"{S}:16: optim.epochs: at its bound 1: optim.warmup_epochs: must be < optim.epochs (1), got 1",
    ),
    case(
        "too many sweeps at once",
        [('"-0.5:0.5:0.5"}', '"0:1:0.01"}\n    detect.class_threshold: {sweep: "0:1:0.1"}')],
        f"{S}:15: search.parameters: sweeps must have at most 1000 combinations, for every epoch is scored at each, "
        "got 1111",
    ),
    case("empty sweep", [('"-0.5:0.5:0.5"', "[]")], f"{S}:18: detect.alpha: sweep must not be empty, got []"),
    case(
        "sweep of no number",
        [('"-0.5:0.5:0.5"', "[0.1, x]")],
        f"{S}:18: detect.alpha: must be a finite number, got 'x'",
    ),
    case(
        "sweep outside the rule",
        [(ALPHA, "detect.top_clips: {sweep: [0.5, 1.5]}")],
        f"{S}:18: detect.top_clips: must be > 0 and <= 1, got 1.5",
    ),
    case(
        "sampler of no such name",
        [("name: random", "name: bayes")],
        f"{S}:12: search.sampler.name: must be one of {SAMPLERS}, got 'bayes'",
    ),
    case(
        "sampler's name misspelt",
        [("name: random", "name: nsga2")],
        f"{S}:12: search.sampler.name: must be one of {SAMPLERS}, got 'nsga2'; did you mean 'nsgaii'?",
    ),
    case(
        "pruner that compares no epochs",
        [(HYPERBAND, "{name: wilcoxon}")],
        f"{S}:13: search.pruner.name: wilcoxon can't be used here: it compares scores per instance, not per epoch",
    ),
    case(
        "sampler's argument is an object",
        [("{name: random}", "{name: tpe, gamma: 5}")],
        f"{S}:12: search.sampler.gamma: can't be given: it is a Python object, which YAML can't give",
    ),
    case(
        "sampler's argument is a quoted number",
        [("{name: random}", "{name: gp, n_startup_trials: '8'}")],
        f"{S}:12: search.sampler.n_startup_trials: must be a whole number, got '8'",
    ),
    case(
        "sampler's argument may be null",
        [("{name: random}", "{name: cmaes, popsize: some}")],
        f"{S}:12: search.sampler.popsize: must be a whole number or null, got 'some'",
    ),
    case(
        "start-up of no kind",
        [("{name: random}", "{name: tpe, startup: sobol}")],
        f"{S}:12: search.sampler.startup: must be 'qmc' or 'random', got 'sobol'",
    ),
    case(
        "start-up of a sampler without a model",
        [("{name: random}", "{name: random, startup: qmc}")],
        f"{S}:12: search.sampler.startup: random has no such argument; random takes seed",
    ),
    case(
        "sequence of no kind",
        [("{name: random}", "{name: qmc, qmc_type: latin}")],
        f"{S}:12: search.sampler.qmc_type: must be 'sobol' or 'halton', got 'latin'",
    ),
    case(
        "brute force over an endless space",
        [("{name: random}", "{name: brute_force}")],
        f"{S}:12: search.sampler.name: brute_force needs a finite space, but loss.pseudo is a float without step",
    ),
    case(
        "CMA-ES of one number",
        [("{name: random}", "{name: cmaes}"), (f"    {CLUSTERS}\n", "")],
        f"{S}:12: search.sampler.name: cmaes needs two int or float parameters, got 1",
    ),
    case(
        "fixed parameter that is not searched",
        [("{name: random}", "{name: partial_fixed, base_sampler: {name: tpe},\n    fixed_params: {loss.coarse: 1}}")],
        f"{S}:13: search.sampler.fixed_params.loss.coarse: must be a parameter that is searched; did you mean "
        "'loss.coarse_pooling'?",
    ),
    case(
        "fixed parameter outside its range",
        [("{name: random}", "{name: partial_fixed, base_sampler: {name: tpe}, fixed_params: {concepts.clusters: 7}}")],
        f"{S}:12: search.sampler.fixed_params.concepts.clusters: must be a whole number in [2, 6], got 7",
    ),
    case(
        "fixed parameters without a sampler",
        [("{name: random}", "{name: partial_fixed, fixed_params: {concepts.clusters: 4}}")],
        f"{S}:12: search.sampler.base_sampler: is required and missing",
    ),
    case(
        "sampler within another misspelt",
        [("{name: random}", "{name: partial_fixed, fixed_params: {},\n    base_sampler: {name: ramdom}}")],
        f"{S}:13: search.sampler.base_sampler.name: must be one of {SAMPLERS}, got 'ramdom'; did you mean 'random'?",
    ),
    case(
        "pruner within another has a wrong argument",
        [(HYPERBAND, "{name: patient, patience: 1,\n    wrapped_pruner: {name: median,\n      n_warmup_steps: -1}}")],
        f"{S}:15: search.pruner.wrapped_pruner.n_warmup_steps: must be >= 0, got -1",
    ),
    case(
        "pruner within another is a word",
        [(HYPERBAND, "{name: patient, patience: 1, wrapped_pruner: median}")],
        f"{S}:13: search.pruner.wrapped_pruner: must be a mapping with a name, got 'median'",
    ),
    case(
        "interval longer than a trial",
        [("min_resource: 1", "interval: 2")],
        f"{S}:13: search.pruner.interval: must be <= optim.epochs (1), got 2",
    ),
    case(
        "interval of nothing",
        [("min_resource: 1", "interval: 0")],
        f"{S}:13: search.pruner.interval: must be >= 1, got 0",
    ),
    case(
        "least resource beyond a trial",
        [(HYPERBAND, "{name: median, min_resource: 3}")],
        f"{S}:13: search.pruner.min_resource: must be <= optim.epochs (1), got 3",
    ),
    case(
        "grid of ranges",
        [GRID, (TRAINED, CLUSTERS)],
        f"{S}:15: concepts.clusters: must be a list of values under sampler: {{name: grid}}, got a mapping",
    ),
    case(
        "list without a grid",
        [(CLUSTERS, "concepts.clusters: [2, 3]")],
        f"{S}:15: concepts.clusters: must be one of {{int|float|choice|sweep: ...}}, for a list is for sampler: "
        "{name: grid}, got a list",
    ),
    case(
        "grid with a value that breaks a rule",
        [GRID, (TRAINED, "concepts.clusters: [3, 0]")],
        f"{S}:15: concepts.clusters: must be >= 1, got 0; the space allows {{'concepts.clusters': 0}}",
    ),
    case(
        "grid with a point that breaks a rule",
        [GRID, (TRAINED, "concepts.clusters: [3, 4]\n    concepts.top_k: [2, 4]")],
        f"{S}:16: concepts.top_k: must be <= concepts.clusters (3), got 4; the space allows {{'concepts.clusters': 3, "
        "'concepts.top_k': 4}",
    ),
    case(
        "grid with a value twice",
        [GRID, (TRAINED, "seed: [1, 2, 1]")],
        f"{S}:15: seed: must hold each value once, got 1 twice",
    ),
    case(
        "grid with a value of another type",
        [GRID, (TRAINED, "seed: [1, x]")],
        f"{S}:15: seed: must be a whole number, got 'x'",
    ),
    case(
        "grid over seeds that is confirmed",
        [GRID, (HYPERBAND, "{name: none}"), (TRAINED, "seed: [1, 2]"), ("trials: 2", "confirm: {top: 2}")],
        f"{S}:11: search.confirm: must be null where the seed is searched, for new seeds would be those that chose, "
        "got a mapping",
    ),
    case(
        "grid without a value",
        [GRID, (TRAINED, "seed: []")],
        f"{S}:15: seed: must hold a value, got []",
    ),
    case(
        "grid of detection settings",
        [GRID, (f"{TRAINED}\n    {ALPHA}", "detect.alpha: [0.0, 0.5]")],
        f"{S}:15: detect.alpha: must be swept, as it needs no training, got a list",
    ),
    case(
        "seed that is sampled",
        [(CLUSTERS, "seed: {int: [1, 9]}")],
        f"{S}:15: seed: must be a key of the configuration that can be searched; these are of model, concepts, loss, "
        "optim, detect, or precision",
    ),
    case(
        "grid of too many points",
        [GRID, (TRAINED, f"concepts.clusters: {list(range(2, 202))}\n    seed: {list(range(51))}")],
        f"{S}:15: search.parameters: a grid must have at most 10000 points, got 10200",
    ),
    case(
        "sampler without a name",
        [("{name: random}", "{seed: 1}")],
        f"{S}:12: search.sampler.name: is required and missing",
    ),
    case(
        "pruner's argument unknown",
        [("min_resource: 1", "min_resources: 1")],
        f"{S}:13: search.pruner.min_resources: hyperband has no such argument; did you mean 'min_resource'?",
    ),
    case(
        "pruner's argument wrong",
        [("min_resource: 1", "min_resource: 0")],
        f"{S}:13: search.pruner.min_resource: must be >= 1, got 0",
    ),
    case(
        "sampler's argument of another type",
        [("{name: random}", "{name: tpe, n_startup_trials: many}")],
        f"{S}:12: search.sampler.n_startup_trials: must be a whole number, got 'many'",
    ),
    case(
        "pruner's argument is keyed by a list",
        [("min_resource: 1", "min_resource: {[a]: 1}")],
        f"{S}:13: search.pruner.min_resource: keys must be text, got a list",
    ),
    case(
        "pruner without its argument",
        [("{name: hyperband, min_resource: 1}", "{name: percentile}")],
        f"{S}:13: search.pruner.percentile: is required and missing",
    ),
    case(
        "log scale of a choice",
        [("{choice: [max, mean]}", "{choice: [max, mean], log: true}")],
        f"{S}:17: loss.coarse_pooling.log: is for int and float alone, got 'true'",
    ),
    case(
        "step that does not divide the range",
        [(CLUSTERS, "concepts.clusters: {int: [3, 6], step: 10}")],
        f"{S}:15: concepts.clusters: step must divide high - low, got 10 and [3, 6]",
    ),
    case(
        "sweep is a mapping",
        [('"-0.5:0.5:0.5"', "{a: 1}")],
        f"{S}:18: detect.alpha: sweep must be a number or low:high:step, got a mapping",
    ),
    case(
        "sampler is a word",
        [("{name: random}", "tpe")],
        f"{S}:12: search.sampler: must be a mapping, got 'tpe'",
    ),
    case(
        "top_k above clusters at a corner",
        [(PSEUDO, "concepts.top_k: {int: [1, 3]}")],
        f"{S}:16: concepts.top_k: must be <= concepts.clusters (2), got 3; the space allows "
        "{'concepts.clusters': 2, 'concepts.top_k': 3, 'loss.coarse_pooling': 'max'}",
    ),
    case(
        "bound that breaks a rule",
        [(PSEUDO, "loss.pseudo: {float: [-1, 1.0]}")],
        f"{S}:16: loss.pseudo: at its bound -1.0: must be >= 0, got -1.0",
    ),
    case(
        "whole numbers for a fraction",
        [(PSEUDO, "loss.pseudo: {int: [1, 2]}")],
        f"{S}:16: loss.pseudo: must be searched as float, got int",
    ),
    case(
        "range of a choice",
        [(POOLING, "loss.coarse_pooling: {float: [0, 1]}")],
        f"{S}:17: loss.coarse_pooling: must be searched as choice, got float",
    ),
    case(
        "key that is none",
        [("loss.pseudo:", "loss.psuedo:")],
        f"{S}:16: loss.psuedo: must be a key of the configuration that can be searched; did you mean 'loss.pseudo'?",
    ),
    case(
        "key that can't be searched",
        [(PSEUDO, "seed: {int: [1, 2]}")],
        f"{S}:16: seed: must be a key of the configuration that can be searched; these are of model, concepts, loss, "
        "optim, detect, or precision",
    ),
    case(
        "form that is none",
        [("{int: [2, 6]}", "{uniform: [2, 6]}")],
        f"{S}:15: concepts.clusters: must be one of {{int|float|choice|sweep: ...}}, got ['uniform']",
    ),
    case(
        "two forms",
        [("{int: [2, 6]}", "{int: [2, 6], choice: [2, 3]}")],
        f"{S}:15: concepts.clusters: must be one of {{int|float|choice|sweep: ...}}, got ['choice', 'int']",
    ),
    case(
        "range is a word",
        [("{int: [2, 6]}", "{int: many}")],
        f"{S}:15: concepts.clusters: int must be a list, got 'many'",
    ),
    case(
        "parameter is a number",
        [("{int: [2, 6]}", "3")],
        f"{S}:15: concepts.clusters: must be a mapping, got '3'",
    ),
    case(
        "parameter twice",
        [(PSEUDO, CLUSTERS)],
        f"{S}:16: search.parameters.concepts.clusters: stands twice, first on line 15",
    ),
    case("search missing", [(SPACE[SPACE.index("search:") :], "")], f"{S}:1: search: is required and missing"),
    case(
        "search empty",
        [(SPACE[SPACE.index("search:") :], "search:\n")],
        f"{S}:10: search: must be a mapping, got ''",
    ),
    case(
        "parameters missing",
        [(SPACE[SPACE.index("  parameters:") : SPACE.index("  resources:")], "")],
        f"{S}:11: search.parameters: is required and missing",
    ),
    case(
        "section unknown", [("search:", "serach: 1\nsearch:")], f"{S}:10: serach: unknown key; did you mean 'search'?"
    ),
    case(
        "search key unknown",
        [("trials: 2", "trails: 2")],
        f"{S}:11: search.trails: unknown key; did you mean 'trials'?",
    ),
    case(
        "search key twice",
        [("trials: 2", "trials: 2\n  trials: 3")],
        f"{S}:12: search.trials: stands twice, first on line 11",
    ),
    case(
        "sampler twice",
        [("  sampler: {name: random}", "  sampler: {name: random}\n  sampler: {name: tpe}")],
        f"{S}:13: search.sampler: stands twice, first on line 12",
    ),
    case(
        "more than one GPU",
        [("gpu: auto", "gpu: 2")],
        f"{S}:19: search.resources.gpu: must be auto, or >= 0 and <= 1 (a trial uses one GPU at most), got 2.0",
    ),
    case("no trial", [("trials: 2", "trials: 0")], f"{S}:11: search.trials: must be >= 1, got 0"),
    case(
        "a key in storage",
        [("trials: 2", "trials: 2\n  storage: s3://me:hidden@bucket/haan")],
        f"{S}:12: search.storage: must not hold a key, for it would stand in run folders; AWS_SECRET_ACCESS_KEY or a "
        "role has it, got 's3://...'",
    ),
    case(
        "no trial by option",
        [],
        "--trials: must be >= 1, got 0",
        options=["--trials", "0"],
    ),
    case(
        "negative seed by option", [], "--seed: base.seed: must be >= 0 and < 2**31, got -1", options=["--seed", "-1"]
    ),
    case(
        "override without =",
        [],
        "--set: must be KEY=VALUE with a dotted key, got 'optim.lr'",
        options=["--set", "optim.lr"],
    ),
    case(
        "override of no key",
        [],
        "--set: base.optim.lrr: unknown key; did you mean 'lr'?",
        options=["--set", "optim.lrr=1"],
    ),
    case(
        "override by the key that errors name",
        [],
        "--set: base.optim.lr: must be > 0, got -1.0",
        options=["--set", "base.optim.lr=-1"],
    ),
    case(
        "override that is no YAML",
        [],
        "--set: search.parameters.concepts.clusters: must be YAML, got '[1', which is not valid YAML: expected ',' or "
        "']', but got '<stream end>'",
        options=["--set", "search.parameters.concepts.clusters=[1"],
    ),
    case(
        "override of a number that YAML would not take",
        [],
        "--set: search.trials: must be a whole number, got '*x'",
        options=["--set", "search.trials=*x"],
    ),
    case("name that is a path", [], "--name: must be a plain folder name, got '../x'", options=["--name", "../x"]),
    case(
        "nothing to go on with",
        [],
        "{folder}/runs/x: --resume must be of a run that exists, got one that does not",
        options=["--resume"],
    ),
    *(
        case(
            f"time budget {text}",
            [],
            f"--time-budget: must be a number > 0 and a unit s, m, h or d, as in 90m, got {text!r}",
            options=["--time-budget", text],
        )
        for text in ("90", "0m", "-1h", "nanm", "infd", "soon", "1w", "")
    ),
    case(
        "one seed to confirm",
        [("  trials: 2\n", "  trials: 2\n  confirm: {top: 2, seeds: 1}\n")],
        f"{S}:12: search.confirm.seeds: must be >= 2, for one seed shows no spread, got 1",
    ),
    case(
        "none to confirm",
        [("  trials: 2\n", "  trials: 2\n  confirm: {top: 0}\n")],
        f"{S}:12: search.confirm.top: must be >= 1, got 0",
    ),
    case(
        "objective against the base's epoch",
        [("report: [0.1, 0.5]}", "report: [0.1, 0.5], epoch: last}")],
        f"{S}:11: search.objective: must be last or recent where base.eval.epoch is last, got best",
    ),
    case(
        "a mean of epochs in a table's cells",
        [GRID, ("  trials: 2\n", "  objective: recent\n"), (TRAINED, "concepts.clusters: [2, 3]")],
        f"{S}:11: search.objective: must be best or last under grid, for a table's cells are of one epoch, got recent",
    ),
    case(
        "epochs to judge that have no score",
        [
            ("report: [0.1, 0.5]}", "report: [0.1, 0.5], every: 5}"),
            ("min_resource: 1}", "min_resource: 1, interval: 3}"),
        ],
        f"{S}:13: search.pruner.interval: must be a multiple of base.eval.every (5), for no other epoch has a score, "
        "got 3",
    ),
    case(
        "more clusters than clips",
        [(CLUSTERS, "concepts.clusters: {int: [2, 60]}")],
        f"{S}:15: concepts.clusters: must be <= the number of sampled clips (concepts.sample_rate 1.0 of 15 training "
        "clips = 15), got 60",
    ),
    case(
        "holdout of nothing",
        [("{holdout: 0.25}", "{holdout: 0.01}")],
        f"{S}:2: data.validation.holdout: must hold out at least one video and keep every class in training, got 0.01 "
        "of 4 videos",
    ),
    case(
        "several errors",
        [
            ("epochs: 1}", "epochs: none}"),
            ("trials: 2", "trials: two"),
            ("name: random", "name: bayes"),
            ("min_resource: 1", "most: 1"),
        ],
        f"{S}:6: base.optim.epochs: must be a whole number, got 'none'",
        f"{S}:11: search.trials: must be a whole number, got 'two'",
        f"{S}:12: search.sampler.name: must be one of {SAMPLERS}, got 'bayes'",
        f"{S}:13: search.pruner.most: hyperband has no such argument; hyperband takes min_resource, max_resource, "
        "reduction_factor, bootstrap_count, interval",
    ),
    case(
        "several parameters",
        [(CLUSTERS, "concepts.clusters: {int: [6, 2]}"), ("loss.pseudo:", "loss.psuedo:"), ("[max, mean]", "[]")],
        f"{S}:15: concepts.clusters: low must be < high, got [6, 2]",
        f"{S}:16: loss.psuedo: must be a key of the configuration that can be searched; did you mean 'loss.pseudo'?",
        f"{S}:17: loss.coarse_pooling: must hold a value, got []",
    ),
    case(
        "an error in base and one in a parameter",
        [("epochs: 1}", "epochs: none}"), (CLUSTERS, "concepts.clusters: {int: [6, 2]}")],
        f"{S}:6: base.optim.epochs: must be a whole number, got 'none'",
        f"{S}:15: concepts.clusters: low must be < high, got [6, 2]",
    ),
]


@pytest.mark.parametrize(("edits", "options", "expected"), SPACES)
def test_a_bad_space(
    tmp_path: Path, shell: Shell, edits: Edits, options: Sequence[str], expected: Sequence[str]
) -> None:
    tiny(tmp_path / "data")
    path, out = tmp_path / "s.yaml", tmp_path / "runs"
    path.write_text(edited(SPACE, edits, tmp_path))
    name = () if "--name" in options else ("--name", "x")
    refused(shell("search", path, "--out", out, *name, *options), tmp_path, expected)
    assert not out.exists(), "nothing was started"


def test_the_space_itself_is_sound(tmp_path: Path) -> None:
    """Else the table above could pass for another reason."""
    from search.driver.job import prepare
    from search.driver.request import Request

    tiny(tmp_path / "data")
    (tmp_path / "s.yaml").write_text(edited(SPACE, [], tmp_path))
    with ExitStack() as held:
        asked = Request(tmp_path / "s.yaml", "x", tmp_path / "runs", 7, 3, ("optim.lr=1e-3",), resume=False)
        job = prepare(asked, held)
    assert (job.space.plan.trials, job.space.base.seed, job.space.base.optim.lr) == (7, 3, 0.001)
    assert list(job.space.parameters) == ["concepts.clusters", "loss.pseudo", "loss.coarse_pooling"]
    assert job.folder.space_yaml.exists()


def test_a_run_that_exists_is_left_alone(tmp_path: Path, shell: Shell) -> None:
    tiny(tmp_path / "data")
    (tmp_path / "s.yaml").write_text(edited(SPACE, [], tmp_path))
    kept = tmp_path / "runs" / "x" / "best.yaml"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    rule = "--name must be of a run that does not exist yet, unless --resume goes on with it, got one that does"
    expected = f"{{folder}}/runs/x: {rule}"
    refused(shell("search", tmp_path / "s.yaml", "--out", tmp_path / "runs", "--name", "x"), tmp_path, [expected])
    assert list(kept.parent.iterdir()) == [kept] and kept.read_text() == "mine"


F = features()
D = "{folder}/data"


@pytest.mark.parametrize("command", ["haan train", "search"])
def test_nothing_is_planted_where_an_option_puts_the_data(tmp_path: Path, shell: Shell, command: str) -> None:
    demo, root = ROOT / "spaces" / "demo.yaml", tmp_path / "nope"
    options: tuple[object, ...] = (demo, "--out", tmp_path / "out", "--set", f"data.root={root}")
    if command == "haan train":
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(yaml.safe_load(demo.read_text())["base"]))
        ended = shell("haan", "train", tmp_path / "c.yaml", *options[1:])
    else:
        ended = shell("search", *options)
    assert (ended.code, ended.out) == (2, "") and ended.err.startswith(
        f"--set: data.root: must be a folder with the data set, got '{root}', which does not exist"
    )
    assert ("without data, try: " in ended.err) == (command == "search")
    assert not root.exists() and not (tmp_path / "out").exists()


def with_value(value: float) -> np.ndarray:
    array = F.copy()
    array[2, 3, 1] = value
    return array


def pickle_that_touches(path: Path) -> bytes:
    whole = b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (6,), }".ljust(127) + b"\n"
    return whole + f"\x80\x02cposix\nsystem\n(X{chr(len(str(path)) + 6)}\0\0\0touch {path}tR.".encode("latin1")


def data_case(name: str, contents: dict[str, Any], expected: str) -> Any:
    return pytest.param(contents, expected, id=name)


DATA_SETS = [
    data_case(
        "label of an unknown class",
        {"labels": changed(LABELS, 1, [[1, 9]])},
        f"{D}/labels.npy: labels: video 1 ('v1'): must name a fine class of "
        "fine_to_coarse_mappings.json (0 to 3), got 9",
    ),
    data_case(
        "coarse class of another",
        {"labels": changed(LABELS, 1, [[0, 2]])},
        f"{D}/labels.npy: labels: video 1 ('v1'): must have coarse class 1 for fine class 2, as "
        "fine_to_coarse_mappings.json says, got 0",
    ),
    data_case(
        "videos without segments",
        {"segments": SEGMENTS[:4]},
        f"{D}/segments.npy: segments: must hold one entry a video (6 in video_names.npy), got 4",
    ),
    data_case(
        "segments without a label",
        {"segments": changed(SEGMENTS, 1, [[0, 1], [1, 2]])},
        f"{D}/segments.npy: segments: video 1 ('v1'): must hold one segment a label (1 in labels.npy), got 2",
    ),
    data_case(
        "features of other videos",
        {"features": F[:5]},
        f"{D}/features.npy: data.features: must hold one entry a video (6 in video_names.npy), got 5",
    ),
    data_case(
        "NaN feature",
        {"features": with_value(np.nan)},
        f"{D}/features.npy: data.features: video 2 ('v2'), clip 3: must be finite in float16, got nan",
    ),
    data_case(
        "feature too large for float16",
        {"features": with_value(1e6)},
        f"{D}/features.npy: data.features: video 2 ('v2'), clip 3: must be finite in float16, got 1000000.0; "
        "data.dtype: float32 can hold it",
    ),
    data_case(
        "features of another size",
        {"features": objects([*F[:5], F[5][:, :3]])},
        f"{D}/features.npy: data.features: video 5 ('v5'): must have the feature size of the first video (8), got 3",
    ),
    data_case(
        "class that no training video shows",
        {"labels": changed(LABELS, 1, [[1, 3]]), "mapping": MAPPING | {"4": 1}, "classes": None},
        f"{D}/labels.npy: labels: must show every fine class in the first 4 videos (data.train_videos), "
        "got none of '4'",
    ),
    data_case(
        "repeated name",
        {"names": changed(NAMES, 3, "v1")},
        f"{D}/video_names.npy: video_names: must differ, got 'v1' for videos 1 and 3",
    ),
    data_case(
        "file that is no array",
        {"ratios": b"1.0\n2.0\n"},
        f"{D}/sec2clip_ratios.npy: sec2clip_ratios: must be a .npy file, got ValueError: ",
    ),
    data_case(
        "two files missing",
        {"labels": None, "segments": None},
        f"{{config}}: data.root: {D} must hold labels.npy, segments.npy, which it does not",
    ),
]


@pytest.mark.parametrize("command", ["haan", "search"])
@pytest.mark.parametrize(("contents", "expected"), DATA_SETS)
def test_a_bad_data_set(tmp_path: Path, shell: Shell, command: str, contents: dict[str, Any], expected: str) -> None:
    tiny(tmp_path / "data", **contents)
    path, out = tmp_path / "c.yaml", tmp_path / "out"
    path.write_text(edited(CONFIG if command == "haan" else SPACE, [], tmp_path))
    first = ("train",) if command == "haan" else ()
    ended = shell(command, *first, path, "--out", out)
    assert "Traceback" not in ended.err
    (line,) = ended.err.splitlines()
    line_of_data = 1 if command == "haan" else 2
    filled = expected.replace("{config}", f"{path}:{line_of_data}").replace("{folder}", str(tmp_path))
    assert line.startswith(filled)
    assert (ended.code, ended.out) == (2, "")
    assert not out.exists(), "nothing was started"


@pytest.mark.parametrize("command", ["haan", "search"])
def test_a_hostile_data_set_does_nothing(tmp_path: Path, shell: Shell, command: str) -> None:
    target = tmp_path / "pwned"
    tiny(tmp_path / "data", labels=pickle_that_touches(target))
    path, out = tmp_path / "c.yaml", tmp_path / "out"
    path.write_text(edited(CONFIG if command == "haan" else SPACE, [], tmp_path))
    first = ("train",) if command == "haan" else ()
    rule = "must need no pickled global but NumPy's own, got posix.system"
    refused(shell(command, *first, path, "--out", out), tmp_path, [f"{D}/labels.npy: labels: {rule}"])
    assert not target.exists() and not out.exists()


TRUTH = {"database": {"a": {"subset": "validation", "annotations": [{"label": "x", "segment": [0, 2]}]}}}
PREDICTIONS = {"results": {"a": [{"label": "x", "score": 0.5, "segment": [0, 2]}]}}
G, P = "{folder}/g.json", "{folder}/p.json"


def truth(**changes: Any) -> dict[str, Any]:
    entry = {"label": "x", "segment": [0, 2]} | changes
    return {"database": {"a": {"subset": "validation", "annotations": [entry]}}}


def predictions(**changes: Any) -> dict[str, Any]:
    return {"results": {"a": [{"label": "x", "score": 0.5, "segment": [0, 2]} | changes]}}


def json_case(
    name: str,
    expected: str,
    *options: str,
    g: Any = TRUTH,
    p: Any = PREDICTIONS,
) -> Any:
    return pytest.param(g, p, options, expected, id=name)


FILES = [
    json_case(
        "prediction ends before start",
        f"{P}: results.a[0].segment: must have end >= start, got [2, 1]",
        p=predictions(segment=[2, 1]),
    ),
    json_case(
        "segment of three",
        f"{P}: results.a[0].segment: must be [start_s, end_s], finite numbers, got [0, 1, 2]",
        p=predictions(segment=[0, 1, 2]),
    ),
    json_case(
        "segment of text",
        f"{P}: results.a[0].segment: must be [start_s, end_s], finite numbers, got ['0', '1']",
        p=predictions(segment=["0", "1"]),
    ),
    json_case(
        "truth's time no number",
        f"{G}: database.a.annotations[0].segment: must be [start_s, end_s], finite numbers, got [0, '2 s']",
        g=truth(segment=[0, "2 s"]),
    ),
    json_case(
        "segment is a number", f"{G}: database.a.annotations[0].segment: must be a list, got 3", g=truth(segment=3)
    ),
    json_case(
        "score NaN", f"{P}: results.a[0].score: must be a finite number, got nan", p=predictions(score=float("nan"))
    ),
    json_case(
        "score infinite",
        f"{P}: results.a[0].score: must be a finite number, got inf",
        p=predictions(score=float("inf")),
    ),
    json_case("score true", f"{P}: results.a[0].score: must be a finite number, got True", p=predictions(score=True)),
    json_case(
        "score too large for a float",
        f"{P}: results.a[0].score: must be a finite number, got 1000000",
        p='{"results": {"a": [{"label": "x", "score": 1' + "0" * 400 + ', "segment": [0, 2]}]}}',
    ),
    json_case("label is a number", f"{P}: results.a[0].label: must be text, got 3", p=predictions(label=3)),
    json_case(
        "label missing",
        f"{P}: results.a[0].label: is required and missing",
        p={"results": {"a": [{"score": 0.5, "segment": [0, 2]}]}},
    ),
    json_case(
        "entry is a number",
        f"{P}: results.a[0]: must be an object, got 3",
        p={"results": {"a": [3]}},
    ),
    json_case("results is a list", f"{P}: results: must be an object, got []", p={"results": []}),
    json_case("results missing", f"{P}: results: is required and missing", p={"detections": {}}),
    json_case("database missing", f"{G}: database: is required and missing", g={}),
    json_case(
        "annotations missing", f"{G}: database.a.annotations: is required and missing", g={"database": {"a": {}}}
    ),
    json_case(
        "annotations null",
        f"{G}: database.a.annotations: must be a list, got None",
        g={"database": {"a": {"annotations": None}}},
    ),
    json_case("damaged", f"{P}: must be JSON, got Expecting property name", p="{"),
    json_case("empty", f"{P}: must be JSON, got Expecting value", p=""),
    json_case("nested too deeply", f"{P}: must be JSON, got maximum recursion depth", p="[" * 100_000),
    json_case(
        "no such subset",
        f"{G}: subset: must be one of ['validation'] and have annotations, got 'testing'",
        "--subset",
        "testing",
    ),
    json_case("range of no numbers", "--tiou: must be a number or low:high:step, got 'high'", "--tiou", "high"),
    json_case("range without a step", "--tiou: must be a number or low:high:step, got '0.5:0.9'", "--tiou", "0.5:0.9"),
    json_case(
        "range backwards", "--tiou: must have step > 0 and high >= low, got '0.9:0.5:0.1'", "--tiou", "0.9:0.5:0.1"
    ),
    json_case("step 0", "--tiou: must have step > 0 and high >= low, got '0.5:0.9:0'", "--tiou", "0.5:0.9:0"),
    json_case(
        "threshold above 1", "--tiou: must hold thresholds > 0 and <= 1, got '0.5:1.5:0.5'", "--tiou", "0.5:1.5:0.5"
    ),
    json_case("threshold 0", "--tiou: must hold thresholds > 0 and <= 1, got '0'", "--tiou", "0"),
    json_case(
        "no annotation at all",
        f"{G}: database: must have an annotation, got none",
        g={"database": {}},
    ),
]


@pytest.mark.parametrize(("g", "p", "options", "expected"), FILES)
def test_bad_files_to_evaluate(
    tmp_path: Path, shell: Shell, g: Any, p: Any, options: Sequence[str], expected: str
) -> None:
    for name, content in (("g.json", g), ("p.json", p)):
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    ended = shell("haan", "evaluate", tmp_path / "g.json", tmp_path / "p.json", *options)
    assert "Traceback" not in ended.err
    (line,) = ended.err.splitlines()
    assert line.startswith(expected.replace("{folder}", str(tmp_path)))
    assert (ended.code, ended.out) == (2, "")


def test_the_files_themselves_are_sound(tmp_path: Path, shell: Shell) -> None:
    (tmp_path / "g.json").write_text(json.dumps(TRUTH))
    (tmp_path / "p.json").write_text(json.dumps(PREDICTIONS))
    ended = shell("haan", "evaluate", tmp_path / "g.json", tmp_path / "p.json", "--tiou", "0.5", "--json")
    assert (ended.code, ended.err) == (0, "")
    videos = {"videos": 1, "videos_predicted": 1, "videos_unpredicted": 0}
    assert json.loads(ended.out) == {
        "avg_map": 100.0, "map": {"0.50": 100.0}, "classes": 1, "detections": 1, **videos
    }  # fmt: skip


def test_a_ground_truth_of_all_videos_is_warned_of(tmp_path: Path, shell: Shell) -> None:
    about = {name: {"subset": "training", "annotations": [{"label": "x", "segment": [0, 0]}]} for name in "bcd"}
    (tmp_path / "g.json").write_text(json.dumps({"database": about | TRUTH["database"]}))
    (tmp_path / "p.json").write_text(json.dumps(PREDICTIONS))
    ended = shell("haan", "evaluate", tmp_path / "g.json", tmp_path / "p.json", "--tiou", "0.5")
    assert ended.code == 0 and ended.err.splitlines() == [
        "warning: 3 of 4 segments of the ground truth have end <= start: they count as missed, as on ActivityNet's "
        "server",
        "warning: 3 of 4 videos of the ground truth have no prediction, and their segments count as missed "
        "(training: 3 of 3, validation: 0 of 1; --subset NAME scores one alone)",
    ]
    *_, score, videos = ended.out.splitlines()
    assert score == "avg.mAP    25.00  (1 classes, 1 detections)"
    assert videos == "videos    4 with ground truth, 1 with predictions, 3 of the ground truth without"
    alone = shell("haan", "evaluate", tmp_path / "g.json", tmp_path / "p.json", "--subset", "validation")
    assert alone.err == "" and "avg.mAP   100.00" in alone.out
    (tmp_path / "p.json").write_text(json.dumps({"results": {"a": []}}))
    alone = shell("haan", "evaluate", tmp_path / "g.json", tmp_path / "p.json", "--subset", "validation")
    expected = "1 of 1 videos of the ground truth have no prediction, and their segments count as missed"
    assert alone.err == f"warning: {expected}\n"


def test_a_missing_file_is_named(tmp_path: Path, shell: Shell) -> None:
    ended = shell("haan", "evaluate", tmp_path / "g.json", tmp_path / "p.json")
    refused(ended, tmp_path, [f"{G}: no such file"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ("convert", "fineaction", "{folder}/x.json", "{folder}/h.json", "--out", "{folder}/o"),
            "{folder}/h.json: no such file",
        ),
        (
            ("convert", "finegym", "x.json", "{folder}/c.txt", "--train", "t", "--val", "v", "--out", "{folder}/o"),
            "{folder}/c.txt: no such file",
        ),
        (
            ("convert", "openpack", "{folder}/v1", "--out", "{folder}/o"),
            "{folder}/v1: must hold USER/annotation/openpack-actions/SESSION.csv, got none",
        ),
        (("convert", "truth", "{folder}/c.yaml", "--out", "{folder}/o"), "{folder}/c.yaml: no such file"),
        (("split", "{folder}/a.txt", "{folder}/b.txt", "--out", "{folder}/o"), "{folder}/a.txt: no such file"),
        (("detect", "{folder}/run", "--test", "--out", "{folder}/o"), "{folder}/run/best.yaml: no such file"),
    ],
)  # fmt: skip
def test_missing_input_of_the_other_commands(
    tmp_path: Path, shell: Shell, arguments: Sequence[str], expected: str
) -> None:
    ended = shell("haan", *(argument.replace("{folder}", str(tmp_path)) for argument in arguments))
    refused(ended, tmp_path, [expected])
    assert not list(tmp_path.iterdir()), "nothing was written"


OUTPUTS: dict[str, tuple[tuple[str, ...], str]] = {
    "train": (("haan", "train", "{folder}/c.yaml", "--out"), "folder"),
    "detect": (("haan", "detect", "{folder}/run", "--out"), "file"),
    "figures": (("haan", "figures", "{folder}/run", "--out"), "folder"),
    "plant": (("haan", "plant", "--out"), "folder"),
    "finegym": (("haan", "convert", "finegym", "i", "c", "--train", "t", "--val", "v", "--out"), "folder"),
    "fineaction": (("haan", "convert", "fineaction", "a", "h", "--out"), "folder"),
    "openpack": (("haan", "convert", "openpack", "s", "--out"), "folder"),
    "truth": (("haan", "convert", "truth", "{folder}/c.yaml", "--out"), "file"),
    "split": (("haan", "split", "a", "b", "--out"), "folder"),
    "search": (("search", "{folder}/s.yaml", "--name", "x", "--out"), "folder"),
}


@pytest.mark.parametrize(
    ("command", "place"),
    [(command, place) for command in OUTPUTS for place in ("below a file", "too long")]
    + [(command, "a folder") for command, (_, kind) in OUTPUTS.items() if kind == "file"],
)
def test_an_output_that_can_not_be_written_is_refused_before_anything_starts(
    tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch, command: str, place: str
) -> None:
    words, kind = OUTPUTS[command]
    tiny(tmp_path / "data")
    (tmp_path / "c.yaml").write_text(edited(CONFIG, [], tmp_path))
    (tmp_path / "s.yaml").write_text(edited(SPACE, [], tmp_path))
    out, got = {
        "below a file": (tmp_path / "c.yaml" / "out", "Not a directory"),
        "too long": (tmp_path / ("n" * 256), "File name too long"),
        "a folder": (tmp_path / "data", "Is a directory"),
    }[place]
    for module in ("haan.training_folder.open_data", "haan.data.readers.open_data", "search.driver.job.open_data"):
        monkeypatch.setattr(module, lambda *about: pytest.fail("the data are read before the output is looked at"))
    before = files(tmp_path)
    ended = shell(*(word.replace("{folder}", str(tmp_path)) for word in words), out)
    named = out / "x" if command == "search" else out
    refused(ended, tmp_path, [f"{named}: must be a {kind} that can be written, got: {got}"])
    assert files(tmp_path) == before


@pytest.mark.parametrize("form", [("--out=~/o/p.json",), ("--out", "~/o/p.json")])
def test_an_option_that_no_shell_has_seen_may_begin_with_a_home_folder(
    tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch, form: Sequence[str]
) -> None:
    tiny(tmp_path / "data")
    (tmp_path / "c.yaml").write_text(edited(CONFIG, [], tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    ended = shell("haan", "convert", "truth", "~/c.yaml", *form, "--set=data.root=~/data")
    assert (ended.code, ended.err) == (0, "")
    assert (tmp_path / "o" / "p.json").is_file() and not (tmp_path / "~").exists()


def test_checkpoints_go_where_the_home_folder_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from search.driver.request import Request, named

    (tmp_path / "s.yaml").write_text(edited(SPACE, [], tmp_path))
    monkeypatch.setenv("HOME", "/home/me")
    asked = Request(tmp_path / "s.yaml", "x", Path("runs"), None, None, ("search.storage=~/a",), resume=False)
    assert named(asked)[0].plan.storage == "/home/me/a"
    monkeypatch.setenv("HAAN_STORAGE", "~/b c")
    assert named(replace(asked, overrides=()))[0].plan.storage == "/home/me/b c"


@pytest.mark.parametrize(
    "words",
    [
        ("haan", "train", "{folder}/c.yaml", "--out", "{folder}/out", "--set", "data.root={long}"),
        ("haan", "detect", "{long}", "--out", "{folder}/out"),
        ("haan", "figures", "{folder}/run", "--data", "{long}"),
        ("search", "{long}"),
        ("search", "{folder}/s.yaml", "--out", "{folder}/runs", "--set", "data.root={long}"),
    ],
)
def test_an_input_that_is_too_long_a_name_is_one_message(tmp_path: Path, shell: Shell, words: Sequence[str]) -> None:
    (tmp_path / "c.yaml").write_text(edited(CONFIG, [], tmp_path))
    (tmp_path / "s.yaml").write_text(edited(SPACE, [], tmp_path))
    long, before = str(tmp_path / ("n" * 256)), files(tmp_path)
    ended = shell(*(word.replace("{folder}", str(tmp_path)).replace("{long}", long) for word in words))
    (line,) = ended.err.splitlines()
    assert ended.code == 2 and (long in line or "no such file" in line)
    assert files(tmp_path) == before


def test_haan_train_as_a_process(tmp_path: Path) -> None:
    tiny(tmp_path / "data", features=F[:5])
    (tmp_path / "c.yaml").write_text(edited(CONFIG, [], tmp_path))
    ended = process("-m", "haan", "train", tmp_path / "c.yaml", "--out", tmp_path / "out")
    rule = "must hold one entry a video (6 in video_names.npy), got 5"
    refused(ended, tmp_path, [f"{D}/features.npy: data.features: {rule}"])


def test_search_as_a_process(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(edited(SPACE, [("[1e-4, 1.0]", "[0, 1]"), ("trials: 2", "trials: 0")], tmp_path))
    ended = process("search/run.py", tmp_path / "s.yaml", "--out", tmp_path / "runs")
    expected = [
        f"{S}:11: search.trials: must be >= 1, got 0",
        f"{S}:16: loss.pseudo: low must be > 0 on a log scale, got 0.0",
    ]
    refused(ended, tmp_path, expected)
    assert not (tmp_path / "runs").exists()


def test_evaluate_as_a_process(tmp_path: Path) -> None:
    (tmp_path / "g.json").write_text(json.dumps(TRUTH))
    (tmp_path / "p.json").write_text(json.dumps(predictions(segment=[2, 1])))
    ended = process("-m", "haan", "evaluate", tmp_path / "g.json", tmp_path / "p.json")
    refused(ended, tmp_path, [f"{P}: results.a[0].segment: must have end >= start, got [2, 1]"])


@pytest.mark.parametrize(
    ("space", "root", "present"),
    [
        ("fineaction.yaml", "data/FineAction", ()),
        ("finegym.yaml", "data/FineGym", ()),
        ("finegym.yaml", "data/FineGym", ("labels.npy",)),
    ],
)
def test_the_paper_s_spaces_without_data_say_in_one_line_what_to_do(
    tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch, space: str, root: str, present: Sequence[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in present:
        (tmp_path / root).mkdir(parents=True)
        (tmp_path / root / file).touch()
    ended = shell("search/run.py", ROOT / "spaces" / space)
    (line,) = ended.err.splitlines()
    assert (ended.code, ended.out) == (2, "")
    assert re.match(rf"{re.escape(str(ROOT / 'spaces' / space))}:\d+: data\.root: ", line) and root in line, (
        "what is missing"
    )
    assert not present or "features" in line or "FineGym_i3d_fps24.npy" in line
    assert "https://github.com/lizhi1104/HAAN" in line, "where to get it"
    assert line.endswith(python(ROOT / "search" / "run.py", ROOT / "spaces" / "demo.yaml")), "what to do without"
    assert not (tmp_path / "runs").exists()
