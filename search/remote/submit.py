"""Sends a search to a cluster's head, watches it while this terminal is open, and fetches its run folder.

The laptop needs `ray up`'s own file and ssh alone: no port of the cluster is open to it. What happens on the head is in
`search.remote.head`.
"""

import io
import json
import logging
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from haan.cli import say
from haan.errors import InputError
from haan.files import check_folder
from haan.words import clean
from search.driver.request import Request, named, taken
from search.remote import clusterfile, watched
from search.remote.head import beginning, digest, pack, sources, unpack
from search.results.folder import RunFolder
from search.trials import internals

PROJECT = "~/haan-search"  # where a cluster file puts the project on every node
_ROOT = Path(__file__).resolve().parents[2]
_SSH_FAILED = 255
_NO_TERMINAL = ("cannot set terminal process group", "no job control in this shell")
_AGAIN_S, _TRIES = 10, 30


class Unreachable(InputError):
    """The head doesn't answer, now."""


@dataclass(frozen=True)
class Head:
    """A cluster's head as this machine reaches it. ssh: the command up to and with the host."""

    ssh: tuple[str, ...]

    def command(self, *words: str) -> list[str]:
        """`python -m search.remote.head` there, in a shell that has read the user's start files.

        A login shell may leave out ~/.bashrc, where cluster files put the path, so it is read by name, as Ray does.
        What those files print goes to standard error; standard output is the command's own.
        """
        start = f"test ! -e ~/.bashrc || . ~/.bashrc; cd {PROJECT}"
        inside = f"{start} && exec python -m search.remote.head {shlex.join(words)} >&3"
        return [*self.ssh, f"bash -lic {shlex.quote(inside)} 3>&1 1>&2"]

    def ask(self, *words: str, given: bytes = b"") -> bytes:
        """What a command prints there. Raises InputError where the head can't be reached or refuses."""
        done = subprocess.run(self.command(*words), input=given, capture_output=True)
        if done.returncode == 2:
            raise InputError(_said(done.stderr))
        if done.returncode == _SSH_FAILED:
            raise Unreachable(["--cluster: the head must answer by SSH, got:", *_said(done.stderr)])
        if done.returncode != 0:
            raise InputError(
                [f"--cluster: {PROJECT} on the head must run `python -m search.remote.head`, got:", *_said(done.stderr)]
            )
        return done.stdout

    def watch(self, show: Callable[[str], None], *words: str, given: bytes = b"") -> tuple[int, int]:
        """Shows what a command prints, line by line as it comes; its exit code, and how many bytes were shown."""
        with subprocess.Popen(
            self.command(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as there:
            assert there.stdin is not None and there.stdout is not None
            there.stdin.write(given)
            there.stdin.close()
            shown = 0
            try:
                for line in there.stdout:
                    if line.endswith(b"\n"):  # a torn one is shown whole after the next connection
                        show(clean(line.decode(errors="replace").rstrip("\n")))
                        shown += len(line)
            except KeyboardInterrupt:
                there.kill()  # of the connection alone
                there.wait()
                raise
        return there.returncode, shown


def find_head(path: Path, config: dict[str, Any]) -> Head:
    """The head of a cluster; own machines aren't asked whether it is up. Raises InputError."""
    provider, said = config["provider"], io.StringIO()
    logging.getLogger("ray.autoscaler").setLevel(logging.WARNING)  # it tells what it fills in
    try:
        with redirect_stdout(said), redirect_stderr(said):  # Ray's launcher talks
            # For machines of one's own Ray would ask a file that `ray up` left in /tmp, which a reboot takes away.
            local = provider["type"] == "local"
            address = _own_head(provider) if local else internals.launched_head(path)
            auth = internals.launched_with(config)["auth"]
    except Exception as error:  # of the cloud's own library as well, which need not be installed
        fix = f"; bring it up first: ray up {shlex.quote(str(path))}" if "not found" in str(error) else ""
        raise InputError(f"{path}: must be of a cluster that is up, got: {error}{fix}") from None
    key, proxy = auth.get("ssh_private_key"), auth.get("ssh_proxy_command")
    options = {
        "StrictHostKeyChecking": "no",  # as `ray up` does: a new machine may have an old one's address
        "UserKnownHostsFile": os.devnull,
        "LogLevel": "ERROR",
        "BatchMode": "yes",
        "ConnectTimeout": "20",
        "ServerAliveInterval": "5",
        "ServerAliveCountMax": "6",
    }
    options |= {"IdentitiesOnly": "yes", "IdentityFile": str(Path(key).expanduser())} if key else {}
    options |= {"ProxyCommand": proxy} if proxy else {}
    given = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return Head(("ssh", "-T", *given, f"{auth['ssh_user']}@{address}"))


def _own_head(provider: Mapping[str, Any]) -> str:
    return provider.get("external_head_ip") or provider["head_ip"]


def _said(stderr: bytes) -> list[str]:
    """Without what an interactive shell says where there is no terminal."""
    lines = [clean(one) for one in stderr.decode(errors="replace").splitlines() if one.strip()]
    return [one for one in lines if not any(words in one for words in _NO_TERMINAL)] or ["nothing"]


@dataclass(frozen=True)
class Submission:
    """A search on its way. text: of its space. path: of the space on the head, below the project."""

    asked: Request
    cluster: Path
    name: str
    text: bytes
    path: str
    options: tuple[str, ...]
    show: Callable[[str], None]

    @property
    def folder(self) -> Path:
        """The run folder on this machine."""
        return self.asked.out / self.name

    @property
    def again(self) -> str:
        """The command that watches it again, or goes on with it."""
        return watched.again(self.asked, self.cluster, self.options)


def submit(asked: Request, cluster: Path, time_budget: str | None, quiet: bool, dry_run: bool) -> int:
    """Runs a search on a cluster that is up; the exit code of the search. Raises InputError."""
    config = clusterfile.read(cluster)
    _, name, _ = named(asked)
    folder = RunFolder(asked.out / name)
    check_folder(folder.root)
    if folder.root.exists() and not asked.resume:
        raise taken(folder)
    path = (
        asked.path
        if not asked.path.is_absolute() and ".." not in asked.path.parts
        else Path("submitted", asked.path.name)
    )
    options = asked.options(name, time_budget, quiet)
    show = _silent if quiet and not dry_run else say
    work = Submission(asked, cluster, name, asked.path.read_bytes(), path.as_posix(), options, show)
    head = find_head(cluster, config)
    have, _ = beginning(RunFolder(work.folder).journal, 0)
    known = json.loads(head.ask("state", name, "--journal", str(have), given="\n".join(sources(_ROOT)).encode()))
    _same_code(known, cluster)
    if dry_run:
        return head.watch(say, "plan", work.path, *options, "--dry-run", given=work.text)[0]
    begin(work, head, known)
    return finish(work, head)


def _same_code(known: dict[str, Any], cluster: Path) -> None:
    """Two versions of the project would search one study. A search under way is watched all the same."""
    if known["digest"] != digest(_ROOT, sources(_ROOT)) and not known["running"]:
        rule = "the project on the head must be the one here"
        raise InputError(
            f"--cluster: {rule}, got another version; bring it up to date: ray up {shlex.quote(str(cluster))}"
        )


def begin(work: Submission, head: Head, known: dict[str, Any]) -> None:
    """Starts the search on the head, or goes on with it, unless it is running and only wants to be watched."""
    if known["running"]:
        _is_ahead(work, known)  # or another run altogether, in whose place this one would be fetched
        if not work.asked.resume:
            rule = "must be of a run that does not exist yet, unless --resume watches it"
            raise InputError(f"--name: {rule}, got one that is running on the cluster: {work.name!r}")
        work.show(f"{work.name} is running on the cluster: watching it")
        return
    resume: tuple[str, ...] = ()
    if work.asked.resume:
        if not known["is_there"] or _is_ahead(work, known):
            _take_back(work, head)
        resume = ("--resume",)
    head.ask("start", work.name, work.path, *work.options, *resume, "--again", work.again, given=work.text)
    work.show(f"{work.name} runs on the head of the cluster by itself: this terminal may close")


def _is_ahead(work: Submission, known: dict[str, Any]) -> bool:
    """Whether the run here has gone on since the cluster's. Raises InputError where they are not one and the same."""
    journal = RunFolder(work.folder).journal
    have, begins = beginning(journal, known["journal"])
    if known["is_there"] and begins != known["begins"]:
        rule = "must be one run on the cluster and here"
        fix = "to keep both, move the one here away or take another --name"
        raise InputError(f"{journal}: {rule}, got two that have gone on in different ways; {fix}")
    return have > known["journal"]


def _take_back(work: Submission, head: Head) -> None:
    """The cluster goes on with the run here, which it has not, or not as far; checkpoints lie in search.storage."""
    if not RunFolder(work.folder).is_run:
        raise InputError(f"--resume: must be of a run that is on the cluster or in {work.folder}, got {work.name!r}")
    packed = io.BytesIO()
    pack(work.folder, packed)
    head.ask("unpack", work.name, given=packed.getvalue())


def finish(work: Submission, head: Head) -> int:
    """Shows the search until it ends, then fetches its run folder; the exit code of the search."""
    try:
        code = _shown(work, head)
    except KeyboardInterrupt:
        code = None
    if code is None:
        stop = f"cd {PROJECT} && python -m search.remote.head stop {shlex.quote(work.name)}"
        command = f"ray exec {shlex.quote(str(work.cluster))} {shlex.quote(stop)}"
        return watched.let_go(work.again, command, fetches=True)
    if watched.is_lost(code):
        watched.say_lost("the head")
    if code != 2:  # of wrong input there is nothing to fetch
        fetch(work, head)
    return watched.over(code, work.again)


def _shown(work: Submission, head: Head) -> int | None:
    """The exit code of the search; None where the head has been out of reach for minutes."""
    skip, tries = 0, 0
    while tries < _TRIES:
        code, shown = head.watch(say, "follow", work.name, "--skip", str(skip))
        if code != _SSH_FAILED:
            return code
        if not tries or shown:
            work.show("The head does not answer; the search goes on there, trying again")
        skip, tries = skip + shown, 0 if shown else tries + 1
        time.sleep(_AGAIN_S)
    return None


def fetch(work: Submission, head: Head) -> None:
    """Brings the run folder here, without its checkpoints. Raises InputError where the head stays out of reach."""
    packed = _packed(work, head)
    if packed:
        unpack(io.BytesIO(packed), work.folder)
        work.show(f"Fetched into {work.folder}")
    else:
        work.show("There is nothing to fetch: the search ended before it had a run folder")


def _packed(work: Submission, head: Head) -> bytes:
    tries = 0
    while True:
        try:
            return head.ask("pack", work.name)
        except Unreachable as error:
            if tries == _TRIES:
                raise InputError([*error.messages, f"To fetch it later: {work.again}"]) from None
        if not tries:
            work.show("The head does not answer; the search is over, trying again to fetch it")
        tries += 1
        time.sleep(_AGAIN_S)


def _silent(line: str) -> None:
    """With --quiet only what the driver says is shown."""
