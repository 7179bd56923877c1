"""Runs the searches of a comparison, one after the other, each as its own `search/run.py`, and keeps their table."""

import json
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from subprocess import Popen

from haan.cli import python, say
from haan.config import Holdout
from haan.errors import InputError
from haan.files import whole
from haan.weights import STATE, WEIGHTS
from haan.words import clean
from haan.yamlconfig import BEST
from search.results import comparison
from search.results.comparison import Compared, Kept
from search.results.folder import RunFolder
from search.space.comparisons import Entry, read_comparison

_RUN = Path(__file__).resolve().parents[1] / "run.py"
_NO_TRIAL, _INTERRUPTED = 3, 130


@dataclass(frozen=True)
class Asked:
    """What the user asked for. overrides: `KEY=VALUE` each, for every search."""

    path: Path
    name: str
    out: Path
    overrides: tuple[str, ...]
    address: str | None
    resume: bool
    quiet: bool

    @property
    def root(self) -> Path:
        """The folder of the searches' run folders and of their table."""
        return self.out / self.name

    @property
    def again(self) -> str:
        """The command that goes on."""
        more = [word for one in self.overrides for word in ("--set", one)]
        where = [] if self.address is None else ["--address", self.address]
        named = ["--name", self.name, "--out", self.out, *more, *where]
        return python(_RUN.with_name("table.py"), self.path, *named, *["--quiet"] * self.quiet, "--resume")


def compare(asked: Asked) -> tuple[int, Compared | None]:
    """The exit code and the table of all searches that came to their end. Raises InputError before any begins."""
    made = read_comparison(asked.path, asked.overrides)
    kept = Kept(made.form.title, made.form.epochs, tuple((one.line, one.run) for one in made.entries))
    _begin(asked, kept)
    for number, one in enumerate(made.entries, 1):
        folder = RunFolder(asked.root / one.run)
        if comparison.is_over(folder):
            continue
        head = f"[{number}/{len(made.entries)}] {one.line}: "
        if one.teacher is not None and not (asked.root / one.teacher / BEST).exists():
            say(clean(f"{head}left out, for its teacher's search has no winner"))
            continue
        say(clean(f"{head}{one.file}"))
        code = next((code for command in _commands(asked, one, folder) if (code := _run(command))), 0)
        if code not in (0, _NO_TRIAL):
            if code == _INTERRUPTED:
                say(clean(f"To go on with the comparison: {asked.again}"))
            return code, None
    return 0, comparison.write(asked.root, kept)


def _begin(asked: Asked, kept: Kept) -> None:
    """Takes the folder. Raises InputError where it is another's, or its comparison was another."""
    if Path(asked.name).name != asked.name or asked.name in ("", ".", ".."):
        raise InputError(f"--name: must be a plain folder name, got {asked.name!r}")
    if asked.root.exists() and not asked.resume:
        rule = "--name must be of a comparison that does not exist yet, unless --resume goes on with it"
        raise InputError(f"{asked.root}: {rule}, got one that does")
    before = comparison.read_kept(asked.root) if comparison.kept_file(asked.root).exists() else None
    if before not in (None, kept):
        raise InputError(f"{asked.root}: --resume must go on with the same searches and budget, got others")
    asked.root.mkdir(parents=True, exist_ok=True)
    with whole(comparison.kept_file(asked.root)) as partial:
        partial.write_text(kept.text, encoding="utf-8")


def _commands(asked: Asked, one: Entry, folder: RunFolder) -> Iterator[list[str]]:
    """What is to be run for a search, one after the other; the next is made once the one before has come to its end."""
    given = list(one.overrides)
    if one.teacher is not None:
        told = asked.root / f"{one.teacher}-teacher.json"
        yield from _teaching(asked.root / one.teacher, told, one)
        given.append(f"student.teacher={told.resolve()}")
    options = ["--name", one.run, "--out", str(asked.root)]
    options += [word for override in given for word in ("--set", override)]
    options += [] if asked.address is None else ["--address", asked.address]
    options += ["--quiet"] * asked.quiet + ["--resume"] * folder.is_begun
    yield [sys.executable, str(_RUN), str(one.file), *options]


def _teaching(run: Path, told: Path, student: Entry) -> Iterator[list[str]]:
    """Trains a run's winner without the videos that validate its student, and has it detect in all training videos."""
    if told.exists():
        return
    trained, haan = told.with_suffix(""), [sys.executable, "-m", "haan"]
    validation = student.space.base.data.validation
    assert isinstance(validation, Holdout)
    if not (trained / WEIGHTS).exists():
        more = ["--set", f"data.validation={json.dumps(asdict(validation))}", "--out", str(trained)]
        yield [*haan, "train", str(run / BEST), *more, *["--resume"] * (trained / STATE).exists()]
    yield [*haan, "detect", str(trained), "--train", "--out", str(told)]


def _run(command: Sequence[str]) -> int:
    """The exit code of a search, which a terminal's Ctrl-C reaches by itself, and SIGTERM through us."""
    with Popen(command) as search:
        before = [
            (number, signal.signal(number, handler))
            for number, handler in ((signal.SIGINT, signal.SIG_IGN), (signal.SIGTERM, lambda *_: search.terminate()))
        ]
        try:
            code = search.wait()
        finally:
            for number, handler in before:
                signal.signal(number, handler)
    return code if code >= 0 else 128 - code
