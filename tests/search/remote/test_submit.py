"""`--cluster` without a cluster: a folder plays the head, and a program in the place of ssh runs its commands there."""

import gc
import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from optuna.trial import TrialState

from haan.cli import in_checkout, python
from haan.errors import InputError
from search.driver.request import Request
from search.remote import submit, watched
from search.remote.head import digest, pack, sources, unpack
from search.results.folder import RunFolder
from search.study import journal
from tests.paths import ROOT
from tests.search.head import Head
from tests.search.spaces import tiny_space

RUN = ROOT / "search" / "run.py"
TRIALS = 3


@dataclass
class Lab:
    """home: of the user on the head; the project lies in it. laptop: where the user is."""

    home: Path
    laptop: Path
    lines: list[str] = field(default_factory=list)

    @property
    def project(self) -> Path:
        return self.home / "haan-search"

    def submit(self, space: Path, resume: bool = False, dry_run: bool = False) -> int:
        asked = Request(space, "a", self.laptop / "runs", TRIALS, None, (), resume)
        return submit.submit(asked, Path("cluster.yaml"), None, False, dry_run)

    def study(self) -> list[tuple[int, TrialState]]:
        study = journal.load(self.laptop / "runs" / "a" / "study.journal")
        assert study is not None
        return [(one.number, one.state) for one in study.get_trials(deepcopy=False)]

    def driver(self) -> int:
        return int((self.project / "submitted" / "a.pid").read_text())


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    lab = Lab(tmp_path / "home", tmp_path / "laptop")
    lab.laptop.mkdir()
    for package in ("haan", "search"):
        shutil.copytree(ROOT / package, lab.project / package, ignore=shutil.ignore_patterns("__pycache__"))
    start = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": str(lab.project),
        "RAY_ADDRESS": "local",
    }
    exports = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in start.items())
    (lab.home / ".bash_profile").write_text("echo Welcome to the head\n")  # which doesn't read .bashrc
    (lab.home / ".bashrc").write_text(exports)
    ssh = tmp_path / "ssh"
    ssh.write_text(f'#!/bin/sh\nfor last; do :; done\nexec env -i HOME={shlex.quote(str(lab.home))} sh -c "$last"\n')
    ssh.chmod(0o755)
    monkeypatch.setattr(submit.clusterfile, "read", lambda path: {})
    monkeypatch.setattr(submit, "find_head", lambda path, config: submit.Head((str(ssh), "user@head")))
    monkeypatch.setattr(watched, "say", lab.lines.append)
    monkeypatch.setattr(submit, "say", lab.lines.append)
    yield lab
    for pid in lab.project.glob("submitted/*.pid"):
        if not (pid.with_suffix(".ended")).exists():
            os.kill(int(pid.read_text()), signal.SIGTERM)


@pytest.fixture
def joined(lab: Lab, head: Head) -> Lab:
    """One with a Ray on its head, which drivers there join."""
    start = lab.home / ".bashrc"
    known = head.env | {"RAY_AUTH_TOKEN_PATH": str(Path("~/.ray/auth_token").expanduser())}
    exports = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in known.items())
    start.write_text(start.read_text().replace("export RAY_ADDRESS=local\n", exports))
    return lab


def closed_at(lab: Lab, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    """The terminal is closed as the first line with a word is shown."""

    def say(line: str) -> None:
        lab.lines.append(line)
        if word in line:
            monkeypatch.setattr(submit, "say", lab.lines.append)
            raise KeyboardInterrupt

    monkeypatch.setattr(submit, "say", say)


def until(condition: Callable[[], bool], limit_s: float = 120) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.ray
def test_a_search_outlives_the_terminal_and_is_fetched_when_it_is_watched_again(
    joined: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = tiny_space(joined.laptop, trials=TRIALS)
    closed_at(joined, monkeypatch, "Running on")
    assert joined.submit(space) == 130
    assert any("goes on without this terminal" in line for line in joined.lines)
    with pytest.raises(InputError, match="--name.*running on the cluster"):
        joined.submit(space)
    assert joined.submit(space, resume=True) == 0

    assert [number for number, _ in joined.study()] == list(range(TRIALS))
    fetched = {
        path.relative_to(joined.laptop / "runs" / "a").as_posix() for path in (joined.laptop / "runs" / "a").rglob("*")
    }
    assert {
        "best.yaml",
        "best.safetensors",
        "predictions.json",
        "report.html",
        "trials.csv",
        "log/search.log",
    } <= fetched
    assert not [one for one in fetched if "checkpoint_" in one]
    assert not [line for line in joined.lines if "Welcome" in line]
    assert joined.lines[-1].startswith("Fetched into ")


@pytest.mark.slow
@pytest.mark.ray
def test_a_search_whose_driver_was_killed_goes_on_and_one_that_was_stopped_too(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = tiny_space(lab.laptop, trials=TRIALS)
    closed_at(lab, monkeypatch, "[  1/3")
    assert lab.submit(space) == 130
    os.kill(lab.driver(), signal.SIGKILL)
    until(lambda: (lab.project / "submitted" / "a.ended").exists())
    with monkeypatch.context() as watching:  # without starting a driver, as a terminal that was open would
        watching.setattr(submit, "begin", lambda work, head, known: None)
        assert lab.submit(space, resume=True) == 130
    assert any("ended without a word: it was killed" in line for line in lab.lines)
    script = python(in_checkout("search/run.py"))
    assert lab.lines[-1].startswith(f"To go on: {script} ") and lab.lines[-1].endswith("--resume")
    shutil.rmtree(lab.laptop / "runs")
    assert lab.submit(space, resume=True) == 0
    assert [number for number, _ in lab.study()] == list(range(TRIALS))
    assert all(state.is_finished() for _, state in lab.study())

    shutil.rmtree(lab.project / "runs")  # a new cluster: the folder that was fetched goes back to it
    assert lab.submit(space, resume=True) == 0
    assert [number for number, _ in lab.study()] == list(range(TRIALS))


@pytest.mark.slow
@pytest.mark.ray
def test_a_dry_run_says_the_plan_and_leaves_nothing_on_either_side(joined: Lab) -> None:
    assert joined.submit(tiny_space(joined.laptop, trials=TRIALS), dry_run=True) == 0
    assert any(line.startswith("Plan: ") or "trial-epochs" in line for line in joined.lines), joined.lines
    assert not (joined.project / "runs").exists() and not (joined.laptop / "runs").exists()


@pytest.mark.slow
def test_a_head_whose_ray_is_down_searches_nothing_by_itself(lab: Lab) -> None:
    start = lab.home / ".bashrc"
    start.write_text(start.read_text().replace("export RAY_ADDRESS=local\n", "export RAY_TMPDIR=$HOME/none\n"))
    # This user may have another Ray among the machine's processes.
    (lab.project / "sitecustomize.py").write_text(
        "from pathlib import Path\n"
        "plain = Path.glob\n"
        "Path.glob = lambda self, *about: () if self == Path('/proc') else plain(self, *about)\n"
    )
    assert lab.submit(tiny_space(lab.laptop, trials=TRIALS)) == 2
    (said,) = [line for line in lab.lines if line.startswith("RAY_ADDRESS: ")]
    assert "must be a Ray cluster that this user started here, got 'auto'" in said and "`ray up FILE` starts it" in said
    assert not (lab.project / "runs" / "a").exists()


def test_the_command_to_go_on_is_the_one_that_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Request(Path("s.yaml"), None, tmp_path, 50, 7, ("search.resources.gpu=0.25",), False)
    options = asked.options("fa", "90m", quiet=True)
    work = submit.Submission(asked, Path("c.yaml"), "fa", b"", "s.yaml", options, print)
    words = "--name fa --trials 50 --seed 7 --time-budget 90m --set search.resources.gpu=0.25 --quiet --resume"
    monkeypatch.chdir(ROOT)
    assert work.again == f"{python('search/run.py')} s.yaml --cluster c.yaml --out {tmp_path} {words}"
    monkeypatch.chdir(tmp_path)
    assert work.again == f"{python(RUN)} s.yaml --cluster c.yaml --out {tmp_path} {words}"


def test_wrong_input_that_the_head_alone_can_see_is_said_here_and_nothing_is_fetched(lab: Lab) -> None:
    space = tiny_space(lab.laptop)
    tree = yaml.safe_load(space.read_text())
    tree["base"]["data"]["plant"] = None
    space.write_text(yaml.safe_dump(tree))
    assert lab.submit(space) == 2
    assert any("data.root" in line for line in lab.lines)
    assert not (lab.laptop / "runs").exists()


def test_a_wrong_space_is_refused_before_the_head_is_asked(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "find_head", None)
    with pytest.raises(InputError, match="tiny.yaml.*search.max_failures"):
        lab.submit(tiny_space(lab.laptop, trials=TRIALS, max_failures=-1))


@pytest.mark.parametrize("name", ["haan/losses.py", "search/page/report.css", "search/clusters/pins.txt"])
def test_another_version_on_the_head_is_refused_with_the_fix(lab: Lab, name: str) -> None:
    with (lab.project / name).open("a") as file:
        file.write("# edited there\n")
    with pytest.raises(InputError, match="--cluster.*another version.*ray up cluster.yaml"):
        lab.submit(tiny_space(lab.laptop))
    assert not (lab.project / "submitted").exists()


def test_a_run_that_is_nowhere_can_not_be_resumed(lab: Lab) -> None:
    with pytest.raises(InputError, match="--resume.*got 'a'"):
        lab.submit(tiny_space(lab.laptop), resume=True)


def journals(lab: Lab, here: bytes, there: bytes) -> None:
    """A run folder on either side whose journal holds this."""
    for root, content in ((lab.laptop, here), (lab.project, there)):
        folder = RunFolder(root / "runs" / "a")
        folder.root.mkdir(parents=True)
        folder.journal.write_bytes(content)


def test_two_runs_of_one_name_that_went_different_ways_are_refused_and_kept(lab: Lab) -> None:
    journals(lab, b"begun\non the laptop\n", b"begun\non the cluster\nand on\n")
    with pytest.raises(InputError, match=r"study.journal: must be one run on the cluster and here, got two that have"):
        lab.submit(tiny_space(lab.laptop), resume=True)
    assert not (lab.project / "submitted").exists()
    assert (lab.laptop / "runs" / "a" / "study.journal").read_bytes() == b"begun\non the laptop\n"


@pytest.mark.parametrize(
    ("here", "there", "kept"),
    [
        (b"begun\ngone on\n", b"begun\n", b"begun\ngone on\n"),  # elsewhere, after the cluster's own was fetched
        (b"begun\ngone on\n", b"begun\ngone", b"begun\ngone on\n"),  # of a torn line nothing is known
        (b"begun\n", b"begun\ngone on\n", b"begun\ngone on\n"),
        (b"begun\ngo", b"begun\ngone on\n", b"begun\ngone on\n"),
        (b"begun\n", b"begun\n", b"begun\n"),
    ],
)
def test_the_one_that_went_further_goes_on(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, here: bytes, there: bytes, kept: bytes
) -> None:
    journals(lab, here, there)
    asked, ask = [], submit.Head.ask

    def all_but_start(head: submit.Head, *words: str, given: bytes = b"") -> bytes:
        asked.append(words)
        return b"" if words[0] == "start" else ask(head, *words, given=given)

    monkeypatch.setattr(submit.Head, "ask", all_but_start)
    monkeypatch.setattr(submit, "finish", lambda work, head: 0)
    assert lab.submit(tiny_space(lab.laptop), resume=True) == 0
    assert (lab.project / "runs" / "a" / "study.journal").read_bytes() == kept
    (start,) = [words for words in asked if words[0] == "start"]
    again = start[start.index("--again") + 1]
    assert f" {RUN} " in again or again.startswith(f"{python('search/run.py')} ")
    options = f" --cluster cluster.yaml --out {lab.laptop / 'runs'} --name a --trials 3 --resume"
    assert again.endswith(options)


class Away:
    """A head that is out of reach for so many asks."""

    def __init__(self, times: int, answer: bytes = b""):
        self.times, self.answer = times, answer

    def ask(self, *words: str, given: bytes = b"") -> bytes:
        self.times -= 1
        if self.times >= 0:
            raise submit.Unreachable("ssh: no route")
        return self.answer


def test_a_fetch_is_tried_again_while_the_head_is_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "_AGAIN_S", 0.0)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "best.yaml").write_text("x")
    said: list[str] = []
    asked = Request(Path("s.yaml"), "a", tmp_path / "runs", None, None, (), False)
    work = submit.Submission(asked, Path("c.yaml"), "a", b"", "s.yaml", ("--name", "a"), said.append)
    submit.fetch(work, Away(3, packed(tmp_path / "there")))  # type: ignore[arg-type]  # all that it is asked
    assert (tmp_path / "runs" / "a" / "best.yaml").read_text() == "x"
    assert said == [
        "The head does not answer; the search is over, trying again to fetch it",
        f"Fetched into {work.folder}",
    ]
    submit.fetch(work, Away(0))  # type: ignore[arg-type]  # as above
    assert said[-1] == "There is nothing to fetch: the search ended before it had a run folder"
    with pytest.raises(InputError, match=r"(?s)ssh: no route.*To fetch it later: .*search/run.py s.yaml --cluster"):
        submit.fetch(work, Away(1000))  # type: ignore[arg-type]  # as above


def test_the_head_of_own_machines_is_found_by_the_file_alone(tmp_path: Path) -> None:
    config = yaml.safe_load((ROOT / "search" / "clusters" / "own-machines.yaml").read_text())
    config["cluster_name"] = "never-up"
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(config))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # Ray leaves a file of its own open
        head = submit.find_head(path, config)
        gc.collect()
    assert head.ssh[-1] == "YOUR-USER@192.0.2.11"


def test_a_head_without_the_project_says_what_is_wrong(lab: Lab) -> None:
    shutil.rmtree(lab.project)
    with pytest.raises(InputError, match="(?s)--cluster.*haan-search on the head.*No such file"):
        lab.submit(tiny_space(lab.laptop))


def packed(root: Path) -> bytes:
    stream = io.BytesIO()
    pack(root, stream)
    return stream.getvalue()


def test_a_torn_stream_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "big").write_bytes(os.urandom(200_000))
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "big").write_bytes(b"old")
    whole = packed(tmp_path / "run")
    for cut in (0, 100, len(whole) // 2, len(whole) - 30_000):
        with pytest.raises((tarfile.TarError, EOFError)):
            unpack(io.BytesIO(whole[:cut]), tmp_path / "here")
        assert {path.name for path in tmp_path.iterdir()} == {"run", "here"}
        assert (tmp_path / "here" / "big").read_bytes() == b"old"


def test_a_stream_can_not_write_outside_its_folder(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w|gz") as tar:
        tar.addfile(tarfile.TarInfo("../outside"), io.BytesIO())
    stream.seek(0)
    with pytest.raises(tarfile.TarError):
        unpack(stream, tmp_path / "run")
    assert not (tmp_path / "outside").exists()


def test_the_fingerprint_is_of_names_and_bytes_of_the_code(tmp_path: Path) -> None:
    for name in ("haan/a.py", "search/b.py", "haan/__pycache__/a.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert sources(tmp_path) == ["haan/a.py", "search/b.py"]
    first = digest(tmp_path, sources(tmp_path))
    assert digest(tmp_path, ["haan/a.py", "search/c.py"]) != first
    (tmp_path / "haan/old.py").write_text("which the laptop no longer has, and `ray up` leaves on the head")
    assert digest(tmp_path, ["haan/a.py", "search/b.py"]) == first
    (tmp_path / "haan/a.py").write_text("else")
    assert digest(tmp_path, ["haan/a.py", "search/b.py"]) != first
    (tmp_path / "haan/a.py").unlink()
    assert digest(tmp_path, ["haan/a.py", "search/b.py"]) != first


def test_every_file_of_the_product_is_part_of_its_version_and_what_lies_beside_them_is_not(tmp_path: Path) -> None:
    tracked = subprocess.run(["git", "ls-files", "haan", "search"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode != 0:
        pytest.skip("no checkout of git: what belongs to the product isn't known")
    edited = {f"search/clusters/{name}.yaml" for name in ("own-machines", "slurm")}  # by users
    product = [name for name in tracked.stdout.splitlines() if name not in edited]
    assert {"search/page/report.js", "search/page/report.css", "search/clusters/pins.txt"} <= set(product)
    assert set(product) <= set(sources(ROOT))
    for name in (
        "search/new.json",
        "search/clusters/mine.yaml",
        "haan/.cache/a",
        "haan/__pycache__/a.pyc",
        "haan/a.py~",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert sources(tmp_path) == ["search/new.json"]
