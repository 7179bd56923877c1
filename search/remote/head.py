"""What runs on a cluster's head for a laptop: starts a search that outlives the connection, shows it and packs it.

`search.remote.submit` calls it over ssh as `python -m search.remote.head COMMAND` in the project's folder. A search
runs as long as the lock of its record is held: its shell and its driver inherit it, and the system frees it whatever
ends them.
"""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, BinaryIO

import typer

from haan.cli import run, say
from haan.errors import InputError
from haan.files import make_folder, whole, writing
from search.driver.request import AGAIN
from search.results.folder import RunFolder

RECORDS, RUNS = Path("submitted"), Path("runs")
LOST = 128  # exit code of a search whose driver left none, for the machine went down; of a killed one it is higher
_POLL_S = 0.5
_PACKAGES, _CLUSTER_FILES = ("haan", "search"), Path("search/clusters")
_LEFT_BEHIND = "checkpoint_"  # what is needed to go on stays there or in search.storage
# $1: where the exit code goes; $2: where the process id of the rest, a command, goes.
_SHELL = 'to=$1; pid=$2; shift 2; "$@" & echo $! > "$pid"; wait $!; echo $? > "$to.partial"; mv "$to.partial" "$to"'


@dataclass(frozen=True)
class Record:
    """What is kept of one submitted search beside its run folder."""

    name: str

    @property
    def out(self) -> Path:
        """What its driver says."""
        return RECORDS / f"{self.name}.out"

    @property
    def ended(self) -> Path:
        """The exit code, once there is one."""
        return RECORDS / f"{self.name}.ended"

    @property
    def pid(self) -> Path:
        """The driver's process id."""
        return RECORDS / f"{self.name}.pid"

    @property
    def run_folder(self) -> Path:
        """Its run folder."""
        return RUNS / self.name

    def is_running(self) -> bool:
        """Whether its driver lives."""
        lock = RECORDS / f"{self.name}.lock"
        if not lock.exists():
            return False
        with lock.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    @contextmanager
    def held(self) -> Iterator[int]:
        """The lock as a file descriptor for a child to inherit. Raises InputError when the search is running."""
        RECORDS.mkdir(exist_ok=True)
        with (RECORDS / f"{self.name}.lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                rule = "--name must be of a search that is not running there, unless --resume watches it"
                raise InputError(f"{self.name}: {rule}, got one that is") from None
            yield file.fileno()


def sources(root: Path) -> list[str]:
    """The files below a checkout that make its version: code, what it reads, and what a head is installed from.

    Not what Python and editors leave beside them, nor cluster files, which only the laptop reads and users edit.
    """
    found = [one.relative_to(root) for package in _PACKAGES for one in (root / package).rglob("*") if one.is_file()]
    return sorted(one.as_posix() for one in found if not _is_aside(one))


def _is_aside(path: Path) -> bool:
    left = any(part == "__pycache__" or part.startswith(".") or part.endswith("~") for part in path.parts)
    return left or (path.parent == _CLUSTER_FILES and path.suffix == ".yaml")


def digest(root: Path, files: Sequence[str]) -> str:
    """A fingerprint of these files below a checkout, whether they are there included.

    Of a laptop's files on the head as well: `ray up` leaves files there that the laptop no longer has.
    """
    found = hashlib.sha256()
    for name in files:
        path = root / name
        content = path.read_bytes() if path.is_file() else b"missing"
        found.update(f"{name}\0{len(content)}\0".encode() + content)
    return found.hexdigest()


def beginning(journal: Path, size: int) -> tuple[int, str]:
    """The bytes of a journal's whole lines, and the SHA-256 of as many of them as that, or `size` if it is fewer.

    A journal only grows, so of two of one study one begins with the whole lines of the other.
    """
    content = journal.read_bytes() if journal.exists() else b""
    whole_lines = content[: content.rfind(b"\n") + 1]
    return len(whole_lines), hashlib.sha256(whole_lines[:size]).hexdigest()


def pack(root: Path, to: BinaryIO) -> None:
    """A run folder as a tar stream, checkpoints left out."""

    def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        checkpoint = any(part.startswith(_LEFT_BEHIND) for part in Path(member.name).parts)
        return member if (member.isfile() or member.isdir()) and not checkpoint else None

    with tarfile.open(fileobj=to, mode="w|gz") as tar:
        tar.add(root, arcname=".", filter=wanted)


def _inside(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Files and folders of a stream. Raises tarfile.TarError at a link, a device, or a name outside the folder."""
    for member in tar:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or not (member.isreg() or member.isdir()):
            raise tarfile.ExtractError(f"{member.name!r}: must be a file or folder inside the run folder")
        yield member


def unpack(stream: BinaryIO, root: Path) -> None:
    """Puts a stream of `pack` into a folder: each file is there as before or as packed, and others stay.

    Raises tarfile.TarError or EOFError where the stream is torn; nothing is changed then.
    """
    fresh = root.with_name(f".{root.name}.fetching")
    shutil.rmtree(fresh, ignore_errors=True)
    make_folder(fresh)
    try:
        with tarfile.open(fileobj=stream, mode="r|gz") as tar:
            if hasattr(tarfile, "data_filter"):
                tar.extractall(fresh, filter="data")
            else:  # Python before 3.11.4, such as Debian 12's
                tar.extractall(fresh, members=_inside(tar))
        for path in sorted(one for one in fresh.rglob("*") if one.is_file()):
            target = root / path.relative_to(fresh)
            make_folder(target.parent)
            with writing(target):
                path.replace(target)
    finally:
        shutil.rmtree(fresh)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__)
Name = Annotated[str, typer.Argument(help="Name of the run.")]
SpacePath = Annotated[Path, typer.Argument(help="Where the space on standard input is put.")]
Words = Annotated[list[str] | None, typer.Argument(help="What search/run.py is given beside the space.")]


@app.command()
def state(
    name: Name, journal: Annotated[int, typer.Option(help="Bytes of the journal that the laptop has.")] = 0
) -> None:
    """One line of JSON: the fingerprint of the files that standard input names, and how the run stands."""
    record = Record(name)
    size, begins = beginning(RunFolder(record.run_folder).journal, journal)
    known = {
        "digest": digest(Path.cwd(), sys.stdin.read().split("\n")),
        "running": record.is_running(),
        "submitted": record.out.exists(),
        "is_there": record.run_folder.exists(),
        "journal": size,
        "begins": begins,
    }
    say(json.dumps(known))


@app.command(context_settings={"ignore_unknown_options": True})
def start(
    name: Name,
    space: SpacePath,
    words: Words = None,
    again: Annotated[str, typer.Option(help="The laptop's command that goes on with it.")] = "",
) -> None:
    """Starts `search/run.py` on the space, detached from this connection."""
    record = Record(name)
    with record.held() as lock:
        _put(space)
        record.ended.unlink(missing_ok=True)
        record.pid.unlink(missing_ok=True)
        command = [sys.executable, "search/run.py", str(space), *(words or [])]
        with record.out.open("wb") as out:
            subprocess.Popen(
                ["sh", "-c", _SHELL, "sh", str(record.ended), str(record.pid), *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=_environment() | ({AGAIN: again} if again else {}),
                start_new_session=True,
                pass_fds=[lock],
            )


@app.command(context_settings={"ignore_unknown_options": True})
def plan(space: SpacePath, words: Words = None) -> None:
    """Runs `search/run.py` on the space here and now, as a dry run is."""
    _put(space)
    command = [sys.executable, "search/run.py", str(space), *(words or [])]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, env=_environment())
    raise typer.Exit(done.returncode)


def _environment() -> dict[str, str]:
    """The cluster's Ray or none: a head whose Ray is down must not search by itself, without the workers."""
    return {"RAY_ADDRESS": "auto", **os.environ}


def _put(space: Path) -> None:
    text = sys.stdin.buffer.read()
    make_folder(space.parent)
    with whole(space) as partial:
        partial.write_bytes(text)


@app.command()
def follow(name: Name, skip: Annotated[int, typer.Option(help="Bytes that were shown before.")] = 0) -> None:
    """What the driver says from there on, until it has ended; ends with its exit code."""
    record = Record(name)
    with record.out.open("rb") as out:
        out.seek(skip)
        while True:
            living = record.is_running()  # asked before the last look: what it wrote until then is shown
            shutil.copyfileobj(out, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            if not living:
                break
            time.sleep(_POLL_S)
    raise typer.Exit(int(record.ended.read_text()) if record.ended.exists() else LOST)


@app.command()
def stop(name: Name) -> None:
    """Ends the search in order, as Ctrl-C does on a machine of one's own; `--resume` goes on with it."""
    record = Record(name)
    if not record.is_running() or not record.pid.exists():
        raise InputError(f"{name}: must be of a search that is running here, got one that is not")
    os.kill(int(record.pid.read_text()), signal.SIGTERM)
    say(f"{name} was asked to end in order")


@app.command(name="pack")
def pack_run(name: Name) -> None:
    """The run folder as a tar stream on standard output, without its checkpoints; nothing where there is none."""
    if Record(name).run_folder.exists():
        pack(Record(name).run_folder, sys.stdout.buffer)


@app.command(name="unpack")
def unpack_run(name: Name) -> None:
    """Takes back a run folder that a laptop has, from standard input."""
    with Record(name).held():
        unpack(sys.stdin.buffer, Record(name).run_folder)


if __name__ == "__main__":
    run(app)
