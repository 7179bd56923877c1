"""What is said to somebody who watches a search that goes on by itself elsewhere, on a cluster's head or on Slurm."""

from collections.abc import Sequence
from pathlib import Path

from haan.cli import in_checkout, python, say
from search.driver.request import Request
from search.remote.head import LOST


def again(asked: Request, cluster: Path, options: Sequence[str]) -> str:
    """The command that watches it again, or goes on with it. cluster: the file that says where."""
    words = [in_checkout("search/run.py"), asked.path, "--cluster", cluster]
    words += [] if asked.out == Path("runs") else ["--out", asked.out]
    return python(*words, *options, "--resume")


def let_go(watch: str, stop: str, fetches: bool = False) -> int:
    """Whoever watches goes, by Ctrl-C or for lack of a connection; the exit code. watch, stop: the commands."""
    say("The search goes on without this terminal")
    say(f"To watch it again{' and fetch the run' if fetches else ''}: {watch}")
    say(f"To end it in order: {stop}")
    return 130


def is_lost(code: int) -> bool:
    """Whether the driver was killed: a shell gives 128 and the number of the signal."""
    return code >= LOST and code != 130


def say_lost(went_down: str) -> None:
    """Says that it was. went_down: what may have gone with it."""
    say(f"Its driver ended without a word: it was killed, or {went_down} went down; what is finished is kept")


def over(code: int, command: str) -> int:
    """The search is over; the exit code. command: goes on with it."""
    if code not in (0, 2, 3):
        say(f"To go on: {command}")
    return 130 if is_lost(code) else code
