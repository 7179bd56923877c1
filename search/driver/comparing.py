"""Runs the searches of a comparison, one after the other, each as its own `search/run.py`, and keeps their table."""

import hashlib
import json
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from subprocess import DEVNULL, Popen
from types import FrameType

from haan.cli import python, say
from haan.config import Holdout
from haan.errors import InputError
from haan.files import digest, whole
from haan.weights import STATE, WEIGHTS
from haan.words import clean
from haan.yamlconfig import BEST
from search.results import comparison
from search.results.comparison import Compared, Kept, KeptRun
from search.results.folder import RunFolder
from search.space.comparisons import Comparison, Entry, read_comparison

_RUN = Path(__file__).resolve().parents[1] / "run.py"
_WRONG, _INCOMPLETE, _INTERRUPTED = 2, 3, 130


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
    """The exit code, and the table once all searches have been run. Raises InputError before any begins."""
    made = read_comparison(asked.path, asked.overrides)
    kept = _kept(made)
    _begin(asked, kept)
    for number, one in enumerate(made.entries, 1):
        folder = RunFolder(asked.root / one.run)
        if comparison.is_over(folder):
            continue
        if not asked.quiet:
            say(clean(f"[{number}/{len(made.entries)}] {one.line}: {one.file}"))
        if one.teacher is not None and not comparison.is_over(RunFolder(asked.root / one.teacher)):
            say(clean(f"{one.line}: left out, for its teacher's search has not come to its end"))
            continue
        code = next((code for words, silent in _commands(asked, one, folder) if (code := _run(words, silent))), 0)
        if code == _WRONG and not any((asked.root / each.run).exists() for each in made.entries):
            shutil.rmtree(asked.root)  # nothing has begun, and its name is free again
        if code == _INTERRUPTED:
            say(clean(f"To go on with the comparison: {asked.again}"))
        if code not in (0, _INCOMPLETE):
            return code, None
        if comparison.lacks_official(folder):
            rule = "must have scores on official validation videos, got none; see"
            raise InputError(f"{folder.root}: {rule} {folder.log}")
    found = comparison.write(asked.root, kept)
    return _INCOMPLETE if found.missing else 0, found


def _kept(made: Comparison) -> Kept:
    def run(one: Entry) -> KeptRun:
        return KeptRun(one.run, hashlib.sha256(one.space.document.encode()).hexdigest()[:16], one.teacher)

    return Kept(made.form.title, made.form.epochs, {one.line: run(one) for one in made.entries})


def _begin(asked: Asked, kept: Kept) -> None:
    """Takes the folder. Raises InputError where it is another's, or its comparison was another."""
    kept_file = comparison.kept_file(asked.root)
    if asked.root.exists() and not asked.resume:
        rule = "--name must be of a comparison that does not exist yet, unless --resume goes on with it"
        raise InputError(f"{asked.root}: {rule}, got one that does")
    if asked.resume and not kept_file.exists():
        got = "a folder without one" if asked.root.exists() else "none"
        raise InputError(f"{asked.root}: --resume must be of a comparison that exists, got {got}")
    if asked.resume and (other := comparison.read_kept(asked.root).differences(kept)):
        raise InputError(
            f"{asked.root}: --resume must go on with the same comparison, got another in {', '.join(other)}"
        )
    asked.root.mkdir(parents=True, exist_ok=True)
    with whole(kept_file) as partial:
        partial.write_text(kept.text, encoding="utf-8")


def _commands(asked: Asked, one: Entry, folder: RunFolder) -> Iterator[tuple[list[str], bool]]:
    """What is to be run for a search, one after the other, and whether it is to be silent; the next is made once the
    one before has come to its end.
    """
    given = list(one.overrides)
    if one.teacher is not None:
        best = asked.root / one.teacher / BEST
        told = asked.root / "teachers" / f"{one.teacher}-{digest(best)[:12]}.json"
        yield from ((words, asked.quiet) for words in _teaching(best, told, one))
        given.append(f"student.teacher={told.resolve()}")
    options = ["--name", one.run, "--out", str(asked.root)]
    options += [word for override in given for word in ("--set", override)]
    options += [] if asked.address is None else ["--address", asked.address]
    options += ["--quiet"] * asked.quiet + ["--resume"] * folder.is_begun
    yield [sys.executable, str(_RUN), str(one.file), *options], False


def _teaching(best: Path, told: Path, student: Entry) -> Iterator[list[str]]:
    """Trains a winner without the videos that validate its student, and has it detect in all training videos."""
    if told.exists():
        return
    trained, haan = told.with_suffix(""), [sys.executable, "-m", "haan"]
    validation = student.space.base.data.validation
    assert isinstance(validation, Holdout)
    if not (trained / WEIGHTS).exists():
        goes_on = (trained / STATE).exists()
        if not goes_on:
            shutil.rmtree(trained, ignore_errors=True)  # of a training that was killed before its first word
        more = ["--set", f"data.validation={json.dumps(asdict(validation))}", "--out", str(trained)]
        yield [*haan, "train", str(best), *more, *["--resume"] * goes_on]
    yield [*haan, "detect", str(trained), "--train", "--out", str(told)]


def _run(words: Sequence[str], silent: bool) -> int:
    """The exit code of a process, `_INTERRUPTED` where it or we were told to end.

    A terminal's Ctrl-C reaches it by itself, SIGTERM through us.
    """
    told, started = list[int](), list[Popen[bytes]]()

    def end(number: int, frame: FrameType | None) -> None:
        told.append(number)
        if number == signal.SIGTERM:
            for process in started:
                process.terminate()

    before = [(number, signal.signal(number, end)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        with Popen(words, stdout=DEVNULL if silent else None) as process:
            started.append(process)
            if signal.SIGTERM in told:
                process.terminate()
            code = process.wait()
    finally:
        for number, handler in before:
            signal.signal(number, handler)
    return _INTERRUPTED if told or code in (-signal.SIGINT, -signal.SIGTERM) else code if code >= 0 else 128 - code
