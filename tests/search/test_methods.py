"""A search over every method, from run to a training of what it exported."""

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from haan.methods.names import CONFIGS
from haan.yamlconfig import plain
from tests.haan.commands import haan
from tests.methods import tiny_of, write_teacher
from tests.search.head import Head
from tests.search.spaces import run

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.mark.parametrize("method", list(CONFIGS))
def test_what_a_search_exports_trains_again_to_the_same_score(
    method: str, tmp_path: Path, head: Head, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_teacher(tmp_path / "data", tmp_path / "planted")
    search = {
        "trials": 4,
        "sampler": {"name": "random"},
        "pruner": {"name": "median", "n_startup_trials": 1, "n_warmup_steps": 1},
        "resources": {"cpu": 1, "gpu": 0},
        "parameters": {"optim.lr": {"float": [1e-3, 1e-2], "log": True}},
        "confirm": {"top": 1, "seeds": 2},
    }
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({"base": plain(tiny_of(method, Path("data"))), "search": search}))
    for more in (("--trials", "2"), ("--resume",)):
        ended = run("run.py", tmp_path, "s.yaml", "--name", "a", *more, env=head.env)
        assert ended.returncode == 0, ended.stderr
    report = (tmp_path / "runs" / "a" / "report.html").read_text()
    assert ("wtalc" in report) == (method == "wtalc")
    trials, supervision = pd.read_csv(tmp_path / "runs" / "a" / "trials.csv"), CONFIGS[method].supervision
    assert f"<dd>{method}, {supervision} supervision: " in report
    assert set(trials["method"]) == {method} and set(trials["supervision"]) == {supervision}
    last = trials["number"][trials["state"] == "COMPLETE"].max()
    ended = run("export.py", tmp_path, "runs/a", "--trial", str(last), "--to", "one/best.yaml")
    assert ended.returncode == 0, ended.stderr
    monkeypatch.chdir(tmp_path)
    expected = re.search(r"# avg_map_at_seed: (.*)", Path("one/best.yaml").read_text())
    assert expected is not None
    haan("train", "one/best.yaml", "--out", "again")
    assert f"avg.mAP {expected[1]};" in capsys.readouterr().out
