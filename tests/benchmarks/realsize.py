"""A search at the real size: what it takes of a machine's memory, and how long each phase is.

`python -m tests.benchmarks.realsize fineaction --like ANNOTATIONS` plants features over the published annotations
(12,614 videos x 100 clips x 4096 as one float32 file, 20.7 GB, written a video at a time), then runs `search/run.py` on
them, two trials at once and one epoch of each, and again with `--resume`, which finds the features packed, shares them
and has nothing to train. Memory is looked at every half second. `finegym` does it for 4,968 ragged videos, 2048-d.
Everything, the cache included, lies in one folder below `--folder`, which needs 40 GB and is removed at the end.
`--videos 500,200` takes fewer videos.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from haan.data import cache
from tests.paths import ROOT

MIB = 2**20


@dataclass(frozen=True)
class Shape:
    """A published data set. videos: training and validation. clips: of every video, or None where they differ."""

    videos: tuple[int, int]
    dim: int
    clips: int | None


SHAPES = {"fineaction": Shape((8440, 4174), 4096, 100), "finegym": Shape((3775, 1193), 2048, None)}


def settings(shape: str, videos: tuple[int, int], data: Path) -> list[str]:
    """What a run differs in from the shipped space: one epoch, two trials at once, nothing after them."""
    values = {
        "data.root": str(data),
        "data.features": "features.npy",
        "data.train_videos": str(videos[0]),
        "data.validation": "official",
        "optim.epochs": "1",
        "search.pruner": "{name: none}",
        "search.confirm": "null",
        "search.concurrent": "2",
        "search.resources": "{cpu: 1}",
        "search.sampler": "{name: random}",
    }
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


@dataclass
class Peaks:
    """Largest values seen, in bytes.

    machine: all that is not available to others, over what it was at the start. shared: shared memory; shared_s: when
    it had last grown by 1 %, in seconds from the start.
    """

    machine: int = 0
    shared: int = 0
    shared_s: float = 0.0
    driver: dict[str, int] = field(default_factory=dict)
    trials: dict[int, int] = field(default_factory=dict)

    def see(self, start: int, driver: psutil.Process, now_s: float) -> None:
        """One look at everything."""
        self.machine = max(self.machine, start - psutil.virtual_memory().available)
        shared = shutil.disk_usage("/dev/shm").used
        if shared > 1.01 * self.shared:
            self.shared, self.shared_s = shared, now_s
        for name, value in resident(driver.pid).items():
            self.driver[name] = max(self.driver.get(name, 0), value)
        for process in driver.children(recursive=True):
            if is_trial(process):
                private = resident(process.pid)["RssAnon"]
                self.trials[process.pid] = max(self.trials.get(process.pid, 0), private)


def is_trial(process: psutil.Process) -> bool:
    """Whether it trains: a worker of Ray's that is neither idle nor one of its agents, and has not just ended."""
    try:
        name = process.name()
        return name.startswith("ray::") and name != "ray::IDLE" and "Agent" not in name
    except psutil.NoSuchProcess:
        return False


def resident(pid: int) -> dict[str, int]:
    """Resident memory of a process by kind, in bytes: RssAnon its own, RssShmem shared memory, RssFile mapped files."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it ended
        lines = []
    found = dict(line.split(":", 1) for line in lines)
    return {name: 1024 * int(found.get(name, "0 kB").split()[0]) for name in ("RssAnon", "RssShmem", "RssFile")}


@contextmanager
def watching(driver: psutil.Process, start: int) -> Iterator[Peaks]:
    """Looks every half second for as long as the block runs."""
    peaks, over, began = Peaks(), threading.Event(), time.monotonic()

    def look() -> None:
        while not over.wait(0.5):
            if driver.is_running() and driver.status() != psutil.STATUS_ZOMBIE:
                peaks.see(start, driver, time.monotonic() - began)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()


@dataclass(frozen=True)
class Run:
    """What one search took, in seconds from its start. phases: of the epoch of the slower of its trials."""

    total_s: float
    until_checked_s: float
    phases: Mapping[str, float]
    peaks: Peaks


def search(shape: str, videos: tuple[int, int], data: Path, out: Path, *options: str) -> Run:
    """One search as a user starts it. Raises CalledProcessError where it fails."""
    words = [sys.executable, str(ROOT / "search" / "run.py"), str(ROOT / "spaces" / f"{shape}.yaml")]
    words += ["--name", "run", "--out", str(out), "--trials", "2", "--address", "local", *settings(shape, videos, data)]
    words += options
    start, began = psutil.virtual_memory().available, time.monotonic()
    marks: dict[str, float] = {}
    environment = {name: value for name, value in os.environ.items() if name != cache.VARIABLE}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as process:
        assert process.stdout is not None
        with watching(psutil.Process(process.pid), start) as peaks:
            for line in process.stdout:
                print(f"  {time.monotonic() - began:7.1f} s  {line.rstrip()[:150]}", flush=True)
                marks.setdefault(line.split(" ", 1)[0], time.monotonic() - began)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words)
    epochs = [json.loads(path.read_text())["result"]["seconds"] for path in out.rglob("*/result.json")]
    slower = max(epochs, key=lambda seconds: sum(seconds.values()))
    return Run(time.monotonic() - began, marks["Running"], slower, peaks)


def gib(value: float) -> str:
    """Bytes for a reader."""
    return f"{value / 2**30:.2f} GiB"


def show(title: str, run: Run) -> None:
    """One run as lines."""
    driver = ", ".join(f"{name} {gib(value)}" for name, value in run.peaks.driver.items())
    trials = ", ".join(gib(value) for value in sorted(run.peaks.trials.values(), reverse=True)[:2])
    phases = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in run.phases.items())
    print(f"{title}: {run.total_s:.0f} s in all")
    print(f"  data checked after {run.until_checked_s:.1f} s, in shared memory after {run.peaks.shared_s:.1f} s")
    print(f"  peaks: machine {gib(run.peaks.machine)}, shared memory {gib(run.peaks.shared)}")
    print(f"  driver: {driver}")
    if trials:
        print(f"  each trial: {phases}; its own memory {trials}", flush=True)


def plant(shape: str, videos: tuple[int, int], like: Path, data: Path) -> float:
    """Plants the features; seconds."""
    one = SHAPES[shape]
    words = [sys.executable, "-m", "haan", "plant", "--out", str(data), "--like", str(like)]
    words += ["--train-videos", str(one.videos[0]), "--videos", f"{videos[0]},{videos[1]}", "--dim", str(one.dim)]
    words += [] if one.clips is None else ["--clips", str(one.clips)]
    began = time.monotonic()
    subprocess.run(words, check=True, cwd=ROOT)
    return time.monotonic() - began


def main() -> None:
    """Plants, searches twice, prints, and frees the disk."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--like", type=Path, help="the published annotations", required=True)
    parser.add_argument("--videos", help="TRAIN,VALIDATION instead of all")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    given = parser.parse_args()
    videos = SHAPES[given.shape].videos
    if given.videos:
        train, validation = map(int, given.videos.split(","))
        videos = (train, validation)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        data = Path(folder, "data")
        seconds = plant(given.shape, videos, given.like, data)
        size = (data / "features.npy").stat().st_size
        memory = psutil.virtual_memory().total
        print(f"{given.shape}: {videos[0]} + {videos[1]} videos, {gib(size)} on disk, planted in {seconds:.0f} s; "
              f"{psutil.cpu_count()} cores, {gib(memory)} of memory", flush=True)  # fmt: skip
        out = Path(folder, "runs")
        show("first run", search(given.shape, videos, data, out))
        show("resumed", search(given.shape, videos, data, out, "--resume"))


if __name__ == "__main__":
    main()
