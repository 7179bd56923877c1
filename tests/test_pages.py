"""The pages hold: their commands run or are understood, their links lead somewhere, their tables are the code's.

A command of a page is a line of a fenced bash block, or a `python ...` in its text. Each stands in one of two tables:
RUN, which a slow test runs for real in one folder, in that order, as a user would come to it; and READ, with the reason
why it is not run. Of every one its options, its space and its files are checked. So are the examples of every --help.
"""

import argparse
import ast
import importlib
import json
import multiprocessing
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from haan.checked import Checked
from haan.yamlconfig import plain
from search.space.comparisons import is_comparison, read_comparison
from search.space.model import Plan, Repeats, Resources, Stop, base_point, front
from search.space.read import read_space
from tests import keys
from tests.haan.data.tiny import CLASS_OF, database
from tests.paths import ROOT
from tests.planted import tiny_config
from tests.search.head import Head

PAGES = tuple(f"{room}README.md" for room in ("", "spaces/", "search/", "haan/", "haan/methods/", "tests/"))
FIRST = "python search/run.py spaces/demo.yaml --trials 8 --name first"

TWO_SEEDS = "--set optim.epochs=1 --set search.parameters.seed=[1,2]"

# command -> what makes it short here. FIRST makes the demo's run folder, unless HAAN_DEMO_RUN names a finished one.
RUN = {
    FIRST: "--set optim.epochs=6 --set 'search.confirm={top: 1, seeds: 2}'",
    "python search/export.py runs/demo --trial 0 --to base.yaml": "",
    "python search/export.py runs/NAME --trial 0 --to base.yaml": "",
    "python search/export.py runs/openpack --trial 0 --to start.yaml": "",
    "python search/replay.py runs/demo --pruner '{name: median, n_warmup_steps: 6}' --workers 64": "",
    "python search/replay.py runs/demo --sampler tpe,random --pruner 'none,median,{name: hyperband, min_resource: 3}' "
    "--level 20": "",
    "python -m haan train best.yaml --out trained": "",
    "python -m haan train runs/openpack/best.yaml --out best2 --set seed=2": "--set optim.epochs=1",
    "python -m haan train start.yaml --out start2 --set data.validation=official --set eval.epoch=last "
    "--set optim.epochs=26 --set seed=2": "--set optim.epochs=1",
    "python -m haan config spaces/demo.yaml": "",
    "python -m haan config --keys": "",
    "python -m haan detect trained --out predictions.json": "",
    "python -m haan convert truth trained/best.yaml --out truth.json": "",
    "python -m haan evaluate truth.json predictions.json --subset validation": "",
    "python -m haan evaluate ground_truth.json predictions.json --tiou 0.5:0.95:0.05": "",
    "python -m haan figures trained --clips 3": "",
    "python -m haan figures runs/NAME": "",
    "python search/report.py runs/NAME": "",
    "python search/report.py runs/demo": "",
    "python -m haan plant --out data/planted --videos 120,40": "",
    "python -m haan plant --out data/planted --videos 120,40 --seed 0": "",
    "python -m haan convert fineaction annotations_gt.json labels_df.csv --out data/FineAction": "",
    "python -m haan split train.txt val.txt --out dealt": "",
    "python -m haan split gym99_train_element_new.txt gym99_val_element_new.txt --out DIR": "",
    "python -m haan split gym99_train_element_new.txt gym99_val_element_new.txt --by video --out by_video": "",
    "python search/table.py spaces/table-demo.yaml --name table": TWO_SEEDS,
    "python search/table.py runs/table2": "",
}
INSTALL, AWS, LONG = "installs, from the network", "needs AWS and machines; tests/cluster runs the way", "takes minutes"
SLURM = "needs Slurm; tests/search/remote/test_slurm.py plays it"
BATCH = "needs several nodes of a batch system"
TAUGHT = "tests/haan/methods/student/test_teacher.py runs such"
DATA, TESTS, MADE = "needs features that are not here", "runs tests", "tests/haan/convert runs it on made files"
READ = {
    "python -m venv .venv && . .venv/bin/activate": INSTALL,
    "pip install -e '.[dev]'": INSTALL,
    "pip install -e '.[cluster]'": INSTALL,
    "git clone --depth 1 https://github.com/open-pack/openpack-toolkit": INSTALL,
    "python search/run.py spaces/demo.yaml": "minutes; .ci/run runs it and checks its folder",
    "python search/run.py spaces/demo.yaml --dry-run": "tests/search/driver/test_estimate.py runs such",
    "python search/run.py spaces/demo.yaml --trials 120 --set search.confirm=null --name pool": LONG,
    "python search/run.py spaces/finegym.yaml --set data.root=/data/FineGym --trials 50 --name finegym": DATA,
    "python search/run.py spaces/finegym.yaml --set data.root=/data/FineGym --from runs/old,runs/fineaction": DATA,
    "python search/run.py spaces/openpack.yaml --set data.root=data/OpenPack --name openpack": DATA,
    "python search/run.py spaces/openpack.yaml --set data.root=data/OpenPack --set seed=1 --name new-1": DATA,
    "python search/table.py spaces/table2-finegym.yaml --set data.root=/data/FineGym --name table2": DATA,
    "python search/table.py spaces/table2-finegym.yaml --set data.root=/data/FineGym --name table2 --resume": DATA,
    "python search/table.py spaces/table2-openpack.yaml --set data.root=data/OpenPack": DATA,
    "python search/table.py spaces/differences.yaml --set data.root=data/OpenPack": DATA,
    "python search/table.py spaces/compare-demo.yaml --name methods": LONG,
    "python search/table.py spaces/compare-timelines.yaml --name methods-timelines": LONG,
    "python -m haan plant --like data/FineGym --train-videos 3775 --videos 300,120 --dim 128 "
    "--out data/timelines": "tests/haan/data/test_plant.py plants over timelines",
    "python search/table.py spaces/compare-openpack.yaml --set data.root=data/OpenPack --name methods-openpack": DATA,
    "python -m haan train spaces/demo.yaml --out teacher": TAUGHT,
    "python -m haan detect teacher --train --out teacher.json": TAUGHT,
    "python search/run.py spaces/student-demo.yaml --name student": TAUGHT,
    "python -m haan convert openpack openpack-toolkit/samples/openpack/v1.0.0 --out data/OpenPack": MADE,
    "python -m haan convert finegym finegym_annotation_info_v1.0.json gym99_categories.txt "
    "--train gym99_train_element_new.txt --val gym99_val_element_new.txt --out data/FineGym": MADE,
    "(umask 077; ray get-auth-token --generate > /dev/null)": AWS,
    "python -m search.awsaccount YOUR-BUCKET --region us-west-2": AWS,
    "ray up cluster.yaml": AWS,
    "ray rsync-up cluster.yaml data/FineAction '~/haan-search/data/'": AWS,
    "python search/run.py spaces/fineaction.yaml --cluster cluster.yaml --name fa --set search.resources.gpu=0.25": AWS,
    "python search/run.py spaces/demo.yaml --cluster search/clusters/slurm.yaml --name first --dry-run": SLURM,
    "python search/run.py spaces/demo.yaml --cluster search/clusters/slurm.yaml --name first": SLURM,
    "python -m search.remote.slurm stop runs/first": SLURM,
    "export RAY_AUTH_MODE=token RAY_TMPDIR=/tmp/$USER HAAN_STORAGE=$PWD/runs": BATCH,
    "ray symmetric-run --address $FIRST_NODE:$PORT --min-nodes 4 --num-cpus 16 --num-gpus 1 -- "
    "python search/run.py spaces/demo.yaml --name first": BATCH,
    "ray dashboard cluster.yaml": AWS,
    "ray down cluster.yaml": AWS,
    "python -m pytest -q": TESTS,
    "python -m pytest -q -m slow": TESTS,
    "python -m pytest -q -m cluster tests/cluster": TESTS,
    "python -m pytest -q tests/haan": TESTS,
    "python -m pytest -n 0 -m slow -s tests/search/trials/test_features.py": TESTS,
    "python tests/check_demo.py runs/demo": "trains for a minute; .ci/run runs it",
    "python -m tests.gpu": "needs a GPU; tests/gpu runs what a CPU can",
    "python -m tests.benchmarks": LONG,
    "python -m tests.benchmarks step --size middle": LONG,
    "python -m tests.benchmarks.costs step": LONG,
    "python -m tests.benchmarks.costs epoch": LONG,
    "python -m tests.benchmarks.confirmation": LONG,
    "python -m tests.benchmarks.seeds precision=bfloat16": LONG,
    "python -m tests.benchmarks.seeds precision=tf32": LONG,
    "python -m tests.benchmarks.seeds concepts.warm_start=true": LONG,
    "python -m tests.benchmarks.replay": LONG,
    "python -m tests.benchmarks.driver": LONG,
    "python -m tests.benchmarks.fusion": LONG,
    "python -m tests.benchmarks.cards": "counts; test_the_tables_of_cards_are_what_the_benchmark_prints",
    "python -m tests.benchmarks.methods": LONG,
    "python -m tests.pictures": "takes minutes, and a Chromium",
    "python -m tests.benchmarks.efficiency": "takes minutes; tests/benchmarks/test_efficiency.py has it",
    "python -m tests.benchmarks.objectives": "takes a minute; tests/benchmarks/test_objectives.py has it",
    "python -m tests.benchmarks.races": "takes minutes; tests/benchmarks/test_races.py has it",
    "python -m tests.benchmarks.races --repeats 600": "takes minutes",
    "python -m tests.benchmarks.learning": "takes minutes; tests/benchmarks/test_learning.py has it",
    "python -m tests.benchmarks.stopping": "takes minutes; tests/benchmarks/test_stopping.py has it",
    "python -m tests.benchmarks.winners runs/NAME": "takes minutes; tests/benchmarks/test_winners.py has it",
    "python -m tests.benchmarks.winners runs/old-1 runs/new-1 --seeds 10": "takes minutes",
    "python -m tests.benchmarks.pools planted-easy --root FOLDER": "takes hours",
    "python -m tests.benchmarks.ranges planted-hard --root FOLDER": "takes an hour; test_ranges.py has it",
    "python -m tests.benchmarks.scale runs/pool --workers 8,64": LONG,
    "python -m tests.benchmarks.scale runs/pool --workers 8,64,1000 --epoch-seconds 30 --plot plan.svg": LONG,
    "python -m tests.benchmarks.realsize fineaction --like ANNOTATIONS": "takes an hour and 40 GB of disk",
}


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def prose(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def commands(text: str) -> Iterator[str]:
    """Every command of a page, on one line and without its comment."""
    for block in re.findall(r"^```bash\n(.*?)^```$", text, re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            yield " ".join(re.sub(r"(^|\s)#.*", "", line).split())
    for span in re.findall(r"`([^`]+)`", prose(text)):
        if span.startswith("python "):
            yield " ".join(span.split())


def on_pages() -> set[str]:
    return {command for page in PAGES for command in commands(text_of(page)) if command}


# What a command says is understood, without running it.


def understood(line: str) -> None:
    """Raises or exits where a program, an option, a space or a file of a command is not there."""
    for words in simple_commands(line):
        program, *rest = words
        if program == "python":
            understood_by_python(rest)
        elif program == "ray":
            from ray.scripts.scripts import cli  # slow to import

            parsed(cli, rest)
            if rest[0] == "symmetric-run":  # it takes the options of `ray start`, and a command behind --
                options, _, command = (" ".join(rest[5:])).partition(" -- ")
                parsed(cli, ["start", *rest[1:3], *options.split()])
                understood(command)
            assert all((ROOT / word).exists() for word in rest if word.endswith(".yaml"))
        elif program == "pip":
            known = tomllib.loads(text_of("pyproject.toml"))["project"]["optional-dependencies"]
            assert re.fullmatch(r"install -e \.\[(\w+)\]", " ".join(rest)) and rest[-1][2:-1] in known
        elif program == "git":
            assert re.fullmatch(r"clone --depth 1 https://\S+", " ".join(rest))
        else:
            assert program in ("umask", ".", "export"), f"{program}: no check knows it"


def simple_commands(line: str) -> list[list[str]]:
    """Its commands as words, without what the shell alone reads."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    words = iter(lexer)
    for word in words:
        if word == ">":
            next(words)
        elif set(word) <= set("();&|"):
            found.append([])
        else:
            found[-1].append(word)
    return [words for words in found if words]


def understood_by_python(words: list[str]) -> None:
    if words[0] != "-m":
        path = ROOT / words[0]
        assert path.exists(), words[0]
        if "typer" in path.read_text():
            understood_by_main(".".join(Path(words[0]).with_suffix("").parts), words[1:])
    elif words[1] == "haan":
        from haan.__main__ import app

        parsed(typer.main.get_command(app), words[2:])
    elif words[1] == "pytest":
        assert pytest_understands(words[2:])
    elif words[1] != "venv":
        package = (ROOT / words[1].replace(".", "/")).is_dir()
        understood_by_main(words[1] + (".__main__" if package else ""), words[2:])


def understood_by_main(name: str, words: list[str]) -> None:
    """The options of a module's main, which Typer, argparse or nothing reads."""
    module = importlib.import_module(name)
    if isinstance(getattr(module, "app", None), typer.Typer):
        parsed(typer.main.get_command(module.app), words)
    elif hasattr(module, "typer"):
        app = typer.Typer()
        app.command()(module.main)
        given = parsed(typer.main.get_command(app), words)
        space = Path(given.get("space") or "")
        if space.suffix == ".yaml":
            read = read_comparison if is_comparison(ROOT / space) else read_space
            read(ROOT / space, tuple(given["set_"] or ()))
    elif hasattr(module, "argparse"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [name, *words])
            patch.setattr(argparse.ArgumentParser, "parse_args", _Parsed.by(argparse.ArgumentParser.parse_args))
            with pytest.raises(_Parsed):
                module.main()
    else:
        assert not words and '__name__ == "__main__"' in Path(str(module.__file__)).read_text(), "takes no options"


class _Parsed(Exception):
    """The options were read; nothing more is to happen."""

    @classmethod
    def by(cls, parse_args: Callable[..., Any]) -> Callable[..., Any]:
        def read(parser: argparse.ArgumentParser, *given: Any) -> None:
            parse_args(parser, *given)
            raise cls

        return read


def parsed(command: Any, words: list[str]) -> dict[str, Any]:
    """The parameters that a click command, or one of its subcommands, reads from words; it exits where it can't."""
    context = command.make_context(command.name, list(words))
    while hasattr(command, "resolve_command"):
        _, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(command.name, list(words), parent=context)
    return context.params


def pytest_understands(words: Sequence[str]) -> bool:
    """Whether the files are there, and the mark is one of ours; -n takes a number of processes."""
    settings = tomllib.loads(text_of("pyproject.toml"))["tool"]["pytest"]["ini_options"]
    marks = [mark.partition(":")[0] for mark in settings["markers"]]
    files = [word for word in words if word.startswith("tests/")]
    options = [word for word in words if word not in files]
    return all((ROOT / file).exists() for file in files) and all(
        option in ("-q", "-s", "-m", "-n", *marks) or option.isdigit() for option in options
    )


def test_every_command_of_every_page_is_run_or_read() -> None:
    languages = {mark for page in PAGES for mark in re.findall(r"^```(.*)\n(?:.*\n)*?```$", text_of(page), re.M)}
    assert languages <= {"", "bash", "python"}, "a block of commands is marked as bash"
    listed, there = set(RUN) | set(READ), on_pages()
    assert not set(RUN) & set(READ)
    assert there - listed == set(), "put it into RUN, or into READ with a reason"
    assert set(READ) - there == set(), "no page has it any more"


@pytest.mark.filterwarnings("default")  # of Ray's own command line
@pytest.mark.parametrize("command", [*RUN, *READ])
def test_a_command_is_understood(command: str) -> None:
    understood(command)


# ... and run for real.

_PROCESSES = multiprocessing.get_context("forkserver")  # imports PyTorch once, not again for each of twenty commands


def as_python(words: list[str], folder: Path, shown: Path) -> None:
    """`python WORDS` in a folder; what it shows goes into a file."""
    os.chdir(folder)
    file = os.open(shown, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        sys.path.insert(0, str((folder / words[0]).parent.resolve()))
        runpy.run_path(words[0], run_name="__main__")


def call(words: list[str], folder: Path, head: Head | None = None) -> str:
    """What `python WORDS` shows. A driver, which joins `head`, is a process of its own from its first import on."""
    if words[0] in ("search/run.py", "search/table.py", "block.py"):
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | (head.env if head else {})
        ended = subprocess.run(
            [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=560
        )
        shown, code = ended.stdout + ended.stderr, ended.returncode
    else:
        _PROCESSES.set_forkserver_preload(["tests.test_pages", "haan.training_folder", "search.results.export"])
        log = folder / "shown.log"
        process = _PROCESSES.Process(target=as_python, args=(words, folder, log))
        process.start()
        process.join(560)
        if process.is_alive():
            process.kill()
            process.join()
        shown, code = log.read_text(), process.exitcode
    assert code == 0, f"{shlex.join(words)}: exit code {code}\n{shown}"
    return shown


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a user stands: the checkout's commands and spaces, and what the pages' commands read."""
    folder = tmp_path_factory.mktemp("pages")
    for name in ("search", "spaces"):
        (folder / name).symlink_to(ROOT / name)
    for given, name in (("runs/demo", "runs/NAME"), ("runs/demo", "runs/openpack"), ("runs/table", "runs/table2")):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(folder / given)
    (folder / "annotations_gt.json").write_text(json.dumps({"database": database()}))
    pairs = "".join(f"{fine},{coarse}\n" for fine, coarse in CLASS_OF.items())
    (folder / "labels_df.csv").write_text(f"fine,coarse\n{pairs}")
    events = [f"video{number:06d}_E_000001_000009" for number in range(16)]
    lines = [f"{event}_A_000{label}_0009 {label}\n" for event in events for label in (0, 1)]
    for train, val in (("train.txt", "val.txt"), ("gym99_train_element_new.txt", "gym99_val_element_new.txt")):
        (folder / train).write_text("".join(lines[:20]))
        (folder / val).write_text("".join(lines[20:]))
    return folder


def make_demo(folder: Path, head: Head) -> None:
    """runs/demo: the finished run that HAAN_DEMO_RUN names, or a small one."""
    finished = os.environ.get("HAAN_DEMO_RUN")
    if finished:
        shutil.copytree(finished, folder / "runs" / "demo", ignore=shutil.ignore_patterns("trained-again"))
    else:
        call([*shlex.split(FIRST)[1:], *shlex.split(RUN[FIRST])], folder, head)
        (folder / "runs" / "first").rename(folder / "runs" / "demo")
    shutil.copy(folder / "runs" / "demo" / "best.yaml", folder)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1200)
def test_the_commands_of_the_pages_run(folder: Path, head: Head) -> None:
    make_demo(folder, head)
    for command, shorter in RUN.items():
        if command == FIRST:
            continue
        if " evaluate ground_truth.json" in command:
            shutil.copy(folder / "truth.json", folder / "ground_truth.json")
        if " plant " in command:
            shutil.rmtree(folder / "data" / "planted", ignore_errors=True)
        assert call([*shlex.split(command)[1:], *shlex.split(shorter)], folder, head), command
    for page in PAGES:
        for block in re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S):
            (folder / "block.py").write_text(block)
            assert call(["block.py"], folder, head), block


@pytest.mark.slow
def test_the_example_of_every_help_is_run_or_read(folder: Path) -> None:
    examples = set()
    for script in every_command():
        help_, _, example = call([*script, "--help"], folder).partition("Example: python ")
        assert help_ and example, script
        assert shlex.split(example)[: len(script)] == script
        examples.add(unspaced(f"python {example}"))
    listed, run, pages = (set(map(unspaced, these)) for these in (RUN | READ, RUN, on_pages()))
    assert examples - listed == set(), "put it into RUN, or into READ with a reason"
    assert run - pages - examples == set(), "neither a page nor a --help has it any more"


def unspaced(text: str) -> str:
    """A --help is broken into lines, also behind a hyphen."""
    return re.sub(r"\s", "", text)


def every_command() -> list[list[str]]:
    """The words that start each command that ends its --help with an example."""
    from haan.__main__ import app

    scripts = [
        [path.relative_to(ROOT).as_posix()]
        for path in sorted((ROOT / "search").glob("*.py"))
        if "typer" in path.read_text()
    ]
    top: Any = typer.main.get_command(app)
    haan = [[name] for name, one in top.commands.items() if not hasattr(one, "commands")]
    haan += [[name, part] for name, one in top.commands.items() if hasattr(one, "commands") for part in one.commands]
    return scripts + [["-m", "haan", *names] for names in haan]


# Their links, rooms and tables.


def headings(text: str) -> set[str]:
    """Anchors as a forge makes them."""
    found = re.findall(r"^#+ (.*)$", prose(text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = prose(text_of(page))
    for target in re.findall(r"\]\(([^)\s]+)\)|^\[\w+\]: (\S+)$", text, re.M):
        path, _, anchor = "".join(target).partition("#")
        if path.startswith("https://"):
            continue
        there = (ROOT / page).parent / path if path else ROOT / page
        assert there.exists(), target
        assert not anchor or anchor in headings(there.read_text(encoding="utf-8")), target


def test_the_pictures_of_the_pages_are_small_and_fetch_nothing() -> None:
    pictures = [*(ROOT / "tests").glob("*/*.svg"), *(ROOT / "tests").glob("*/*.png")]
    assert {"screen.svg", "report.png", "thousand-gpus.svg"} <= {one.name for one in pictures}
    for one in pictures:
        assert one.stat().st_size < 150 * 1024, one
        fetched = re.findall(r"""(?:url\(|href=)["']?https?:""", one.read_bytes().decode("latin-1"))
        assert not fetched, one


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_are_there(page: str) -> None:
    named = re.findall(r"`((?:haan|search|spaces|tests)/[\w/.-]+\.(?:py|yaml|txt|svg|md))`", text_of(page))
    assert [file for file in named if not (ROOT / file).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_no_wider_than_120_columns(page: str) -> None:
    assert [line for line in text_of(page).splitlines() if len(line) > 120] == []


def test_the_first_page_is_short() -> None:
    assert len(text_of("README.md").splitlines()) <= 150


def content(folder: Path) -> set[str]:
    """What a room holds, as its page names it."""
    hidden = ("__", ".", "README.md", "ruff.toml")
    there = [path for path in folder.iterdir() if not path.name.startswith(hidden) or path.name == "__main__.py"]
    return {path.name + "/" * path.is_dir() for path in there}


def rooms(page: str) -> dict[str, set[str]]:
    """The rooms that a page opens with: folder ("" is its own) -> names in it."""
    block = re.findall(r"^```\n(.*?)^```$", text_of(page), re.M | re.S)[0]
    found, folder = {"": set[str]()}, ""
    for line in block.splitlines():
        *named, _ = re.split(r"\s{2,}", line.strip())
        files = [name for pattern in named for name in spelled_out(pattern)]
        if not line.startswith(" "):
            folder = files[0] if files[0].endswith("/") else ""
            found[""] |= set(files)
        else:
            found.setdefault(folder, set()).update(files)
    return found


def spelled_out(pattern: str) -> list[str]:
    """`{a,b}.yaml` as a shell reads it."""
    before, brace, rest = pattern.partition("{")
    if not brace:
        return [pattern]
    choices, _, after = rest.partition("}")
    return [f"{before}{choice}{after}" for choice in choices.split(",")]


@pytest.mark.parametrize("page", PAGES[1:])
def test_a_page_opens_with_its_rooms(page: str) -> None:
    home = (ROOT / page).parent
    for folder, names in rooms(page).items():
        assert names == content(home / folder), folder or page


def test_the_table_of_search_keys_is_the_code_s(tmp_path: Path) -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| (.+?) \|", text_of("spaces/README.md").partition("## The paper's")[0], re.M)
    said = {key: yaml.safe_load(default.strip("`")) for key, default in rows}
    base, parameters = plain(tiny_config(tmp_path)), {"loss.pseudo": {"float": [0.0, 1.0]}}
    path = tmp_path / "plain.yaml"
    path.write_text(yaml.safe_dump({"base": base, "search": {"parameters": parameters}}))
    space = read_space(path)
    components = {"sampler": space.sampler, "pruner": space.pruner}
    assert all(not component.arguments for component in components.values())
    expected = {key: {"name": component.name} for key, component in components.items()}
    assert front(space) == [base_point(space)]
    expected |= {"parameters": "required", "rows": "none", "start_with": "base"}
    expected |= defaults(Plan(), leave_out=("resources", "learn_from")) | {"learn_from": list(Plan().learn_from)}
    expected |= {f"resources.{key}": value for key, value in defaults(Resources()).items()}
    expected |= {f"confirm.{key}": value for key, value in defaults(Repeats()).items()}
    expected |= {f"stop.{key}": value for key, value in defaults(Stop()).items()}
    assert said == expected


@pytest.mark.parametrize("page", keys.HEADS)
def test_the_table_of_a_configuration_s_keys_is_the_code_s(page: Path) -> None:
    assert keys.on_page(page) == keys.made(page), "`python -m tests.keys` renews it"


def texts_of_the_code() -> set[str]:
    """Every text in haan/ and search/ that is no docstring; what is put into it is three dots."""
    found = set()
    for file in (*(ROOT / "haan").rglob("*.py"), *(ROOT / "search").rglob("*.py")):
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        said = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.JoinedStr):
                found.add("".join(part.value if isinstance(part, ast.Constant) else "..." for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
                found.add(node.value)
    return found


def test_every_message_of_the_troubleshooting_table_is_one_of_the_code() -> None:
    table = text_of("search/README.md").partition("## Troubleshooting")[2].partition("\n## ")[0]
    messages = re.findall(r"^\| `([^`]+)` \| .+ \|$", table, re.M)
    assert len(messages) == table.count("\n| ") - 2, "a row is a message and what to do"
    texts = texts_of_the_code()
    assert [message for message in messages if not any(message in text for text in texts)] == []
    assert not any("no message says this" in text for text in texts)


def test_the_tables_of_cards_are_what_the_benchmark_prints() -> None:
    from tests.benchmarks import cards  # imports Ray, which the server of processes here is not to do

    page = text_of("search/README.md")
    for rows in (cards.by_memory(), cards.by_cores(), cards.hours()):
        for row in (rows[0], ["---"] * len(rows[0]), *rows[1:]):
            assert f"| {' | '.join(row)} |" in page
    for one in cards.SHIPPED:
        assert f"{one.steps:,}" in page


def defaults(made: Checked, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    return {one.name: getattr(made, one.name) for one in fields(made) if one.name not in leave_out}
