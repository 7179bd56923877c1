"""How many steps all trials of one GPU take together: processes beside each other, with NVIDIA's MPS and without."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from search.driver.gpus import OVERLAP, LocalGpus
from search.space.model import Plan
from tests.benchmarks.sizes import SIZES
from tests.gpu.parity import steps_of, trainer_of
from tests.gpu.rows import Row

GOALS = {"fineaction": 5_000, "middle": 15_000}
SECONDS = 4.0
READY_S = 90


def rows(device: str, tiny: bool) -> Iterator[Row]:
    """Steps a second of all."""
    if tiny:
        yield _row("small", device, 2, mps=False, seconds=0.5)
        return
    yield _row("fineaction", device, 8, mps=False, seconds=SECONDS)
    with mps():
        for size, processes in (("fineaction", 8), ("fineaction", 16), ("middle", 16)):
            yield _row(size, device, processes, mps=True, seconds=SECONDS)


@contextmanager
def mps() -> Iterator[None]:
    """NVIDIA's MPS for what starts meanwhile, as a search has it. Raises RuntimeError where there is none."""
    with ExitStack() as held:
        gpus = LocalGpus(Plan(mps="on"), held)
        gpus.take()
        (said,) = gpus.overlapping(0.5)
        if said != OVERLAP:
            raise RuntimeError(said)
        yield


def _row(size: str, device: str, processes: int, mps: bool, seconds: float) -> Row:
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.gpu.beside", size, device, str(processes), str(seconds), folder]
        started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
        rates = [float(one.communicate(timeout=2 * READY_S)[0] or 0) for one in started]
    about = f"{processes} processes{', MPS' if mps else ''}"
    goal = GOALS.get(size) if mps else None
    return Row(
        part="beside", work=f"{size}, {about}", value=sum(rates), unit="steps/s", goal=goal, most=False,
        note="" if all(rates) else f"{sum(not rate for rate in rates)} of them failed",
    )  # fmt: skip


def main(size: str, device: str, processes: int, seconds: float, folder: str) -> None:
    """One of the processes: steps a second, from the moment at which all are ready."""
    model = SIZES[size].config().model
    trainer = trainer_of(SIZES[size], device, alone=False, precision="auto", model=model, threads=1)
    trainer.method.renew(1)
    steps_of(trainer, 64)
    Path(folder, str(os.getpid())).touch()
    limit = time.monotonic() + READY_S
    while len(list(Path(folder).iterdir())) < processes:
        if time.monotonic() > limit:
            raise TimeoutError(f"not all of {processes} processes were ready in {READY_S} s")
        time.sleep(0.01)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        steps_of(trainer, 64).cpu()
        count += 64
    sys.stdout.write(f"{count / (time.perf_counter() - start):.1f}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5])
