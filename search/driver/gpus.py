"""The GPUs of a machine: which of them a search may use, and NVIDIA's MPS, with which trials on one of them overlap."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from haan.errors import InputError
from haan.words import byte_size
from search.space.model import Plan

VISIBLE, PIPES, LOGS = "CUDA_VISIBLE_DEVICES", "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
CONTROL = "nvidia-cuda-mps-control"
OVERLAP = "MPS: trials on one GPU overlap"
_LISTS = ["nvidia-smi", "--query-gpu=index,uuid,memory.total,memory.free,name", "--format=csv,noheader,nounits"]
_ANSWER_S = 60
_HELD_BYTES, _HELD = 2**30, 0.02  # less than that of a GPU's memory its driver itself takes
_READY_S, _END_S = 20, 20
# Ends with whoever holds its standard input, killed or not.
_SERVICE = f"({CONTROL} -f < /dev/null; kill $$) & read -r _; echo quit | {CONTROL}; wait"


@dataclass(frozen=True)
class Gpu:
    """A GPU of a machine, numbered as NVIDIA's command numbers them. size, free: bytes of its memory."""

    index: int
    uuid: str
    name: str
    size: int
    free: int

    @property
    def held(self) -> int:
        """Bytes that are not free: of other processes, and some of the driver's own."""
        return self.size - self.free

    def __str__(self) -> str:
        held, size = (f"{amount / 2**30:.0f}" for amount in (self.held, self.size))
        return f"GPU {self.index}: {held} of {size} GiB held by other processes"


def here() -> tuple[Gpu, ...]:
    """This machine's, as NVIDIA's own command lists them; none without it.

    Ray hides GPUs from a task that takes none, so PyTorch would see none.
    """
    try:
        said = subprocess.run(_LISTS, capture_output=True, text=True, timeout=_ANSWER_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [[part.strip() for part in line.split(",", 4)] for line in said.splitlines()]
    return tuple(
        Gpu(int(index), uuid, name, int(size) * 2**20, int(free) * 2**20)
        for index, uuid, size, free, name in (row for row in rows if len(row) == 5)
        if index.isdigit() and size.isdigit() and free.isdigit()
    )


def take(wanted: Sequence[int] | Literal["all"]) -> tuple[Gpu, ...] | None:
    """Has all that this process starts see the wanted GPUs of this machine alone; these.

    They are named by UUID, for CUDA may number them otherwise, and MPS numbers anew. None where CUDA_VISIBLE_DEVICES
    names what NVIDIA's command doesn't list (MIG), and stays as it is. Raises InputError.
    """
    listed, given = here(), os.environ.get(VISIBLE)
    ours = _named(given, listed)
    if wanted != "all":
        known = {gpu.index: gpu for gpu in ours or ()}
        missing = [index for index in wanted if index not in known]
        if missing or not wanted:
            of = "" if given is None else f" ({VISIBLE} is {given!r})"
            has = ", ".join(map(str, known)) or "none"
            raise InputError(
                f"search.gpus: must be all, or numbers of GPUs of this machine, {has}{of}; got {list(wanted)}"
            )
        ours = tuple(known[index] for index in dict.fromkeys(wanted))
    if ours and (wanted != "all" or given is not None):
        os.environ[VISIBLE] = ",".join(gpu.uuid for gpu in ours)
    return ours


def _named(visible: str | None, listed: tuple[Gpu, ...]) -> tuple[Gpu, ...] | None:
    """What CUDA_VISIBLE_DEVICES names: numbers or UUIDs, which may be cut; None where that can't be told."""
    if visible is None:
        return listed
    by_number = os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" or len({gpu.name for gpu in listed}) == 1
    found: list[Gpu] = []
    for word in filter(None, (part.strip() for part in visible.split(","))):
        if word.isdigit() and by_number:
            matches = [gpu for gpu in listed if gpu.index == int(word)]
        else:
            matches = [gpu for gpu in listed if word.startswith("GPU-") and gpu.uuid.startswith(word)]
        if len(matches) != 1:
            return None
        found += matches
    return tuple(found)


def _parts(visible: str) -> int | None:
    """How many parts of GPUs (MIG) are named; None where something else is."""
    names = [part.strip() for part in visible.split(",") if part.strip()]
    return len(names) if names and all(name.startswith("MIG-") for name in names) else None


class LocalGpus:
    """The GPUs of a local Ray: those that the plan names, and an MPS of its own where trials share one.

    after: takes up what must end after Ray. need: bytes that a trial takes of one.
    """

    def __init__(self, plan: Plan, after: ExitStack, need: int = 0):
        self._plan, self._after, self._need, self._local, self._own = plan, after, need, False, False
        self.known: tuple[Gpu, ...] = ()
        self._full: tuple[Gpu, ...] = ()
        self._named = False

    def take(self) -> int | None:
        """Prepares this process's environment, which a local Ray will have. Raises InputError.

        GPUs without room for a trial are left out, where nobody named any and others have room. Returns how many there
        are where they are parts of GPUs (MIG), of which Ray counts no more than there are GPUs.
        """
        self._local, self._named = True, VISIBLE in os.environ
        usable = take(self._plan.gpus)
        self.known = usable or ()
        chosen = self._named or self._plan.gpus != "all"
        if not chosen and self._need <= max((gpu.free for gpu in self.known), default=0):
            self._leave_out(tuple(gpu for gpu in self.known if gpu.free < self._need))
        if self.known and self._plan.mps != "off" and PIPES not in os.environ:
            self._after.enter_context(_places())
            self._own = True
        return None if usable is not None else _parts(os.environ.get(VISIBLE, ""))

    def __str__(self) -> str:
        """Those that were given, and who gave them; "" where nobody did."""
        by = "search.gpus" if self._plan.gpus != "all" else VISIBLE if self._named else ""
        names = ", ".join(str(gpu.index) for gpu in self.known) or os.environ.get(VISIBLE) or "none"
        return f"GPUs {names} ({by})" if by else ""

    def _leave_out(self, full: tuple[Gpu, ...]) -> None:
        if full:
            self._full, self.known = full, tuple(gpu for gpu in self.known if gpu not in full)
            os.environ[VISIBLE] = ",".join(gpu.uuid for gpu in self.known)

    def held(self) -> Iterator[str]:
        """Of which GPUs others held memory when they were taken, and how much; whether they are left out for it."""
        for gpu in sorted((*self.known, *self._full), key=lambda gpu: gpu.index):
            if gpu in self._full:
                yield f"{gpu}: left out, for a trial takes about {byte_size(self._need)}"
            elif gpu.held > max(_HELD_BYTES, _HELD * gpu.size):
                yield str(gpu)

    def overlapping(self, share: float) -> Iterator[str]:
        """Starts the MPS where trials take a share of a GPU, and says so. Raises InputError."""
        wanted = self._plan.mps
        if not self._local:
            for key, value, usual in (("gpus", self._plan.gpus, "all"), ("mps", wanted, "auto")):
                if value not in (usual, "off"):
                    got = list(value) if isinstance(value, tuple) else value
                    raise InputError(f"search.{key}: must be {usual} on a cluster that others started, got {got!r}")
            return
        if not 0 < share < 1 or wanted == "off":
            return
        if not self._own:
            yield f"MPS: trials use yours in {os.environ[PIPES]}" if PIPES in os.environ else "MPS: not on such GPUs"
            return
        why_not = self._after.enter_context(_service())
        if why_not and wanted == "on":
            raise InputError(f"search.mps: must be auto or off on this machine, got 'on': {why_not}")
        yield f"MPS: none, so trials on one GPU take turns ({why_not})" if why_not else OVERLAP


@contextmanager
def _places() -> Iterator[None]:
    """Names folders for an MPS of this process's own in the environment; CUDA does without where none is started."""
    with TemporaryDirectory(prefix="mps-", dir="/tmp") as folder:  # short, for the paths of sockets
        for name, below in ((PIPES, "p"), (LOGS, "l")):
            os.environ[name] = f"{folder}/{below}"
            Path(os.environ[name]).mkdir()
        try:
            yield
        finally:
            for name in (PIPES, LOGS):
                del os.environ[name]


@contextmanager
def _service() -> Iterator[str | None]:
    """NVIDIA's MPS in the folders of `_places`, while this process lives at most; why not, where there is none."""
    if shutil.which(CONTROL) is None:
        yield f"{CONTROL} is not on this machine"
        return
    log = Path(os.environ[LOGS], "start")
    with log.open("wb") as said:
        pipe = subprocess.PIPE
        one = subprocess.Popen(["sh", "-c", _SERVICE], stdin=pipe, stdout=said, stderr=said, start_new_session=True)
    try:
        ready = _within(_READY_S, lambda: one.poll() is not None or any(Path(os.environ[PIPES]).iterdir()))
        words = log.read_text(errors="replace").split("\n")[0]
        yield None if ready and one.poll() is None else words or f"{CONTROL} did not start within {_READY_S} s"
    finally:
        assert one.stdin is not None
        one.stdin.close()
        try:
            one.wait(_END_S)
        except subprocess.TimeoutExpired:
            os.killpg(one.pid, 9)
            one.wait()


def _within(seconds: float, done: Callable[[], bool]) -> bool:
    limit = time.monotonic() + seconds
    while not done():
        if time.monotonic() > limit:
            return False
        time.sleep(0.05)
    return True
