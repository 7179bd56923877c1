"""The demo's search as its user runs it: with one and eight trials a GPU, with MPS and without, and on a CPU."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.gpu.beside import mps
from tests.gpu.rows import Row
from tests.paths import ROOT

CPU = ("device=cpu", "search.resources.gpu=0")


def rows(device: str, tiny: bool) -> Iterator[Row]:
    """Seconds of the search of 20 trials, without its confirmation; tiny: of two trials."""
    settings = ["search.confirm=null", *(("search.trials=2", "optim.epochs=3") if tiny else ())]
    on_cpu = _seconds([*settings, *CPU])
    yield Row(part="search", work="the demo's trials on a CPU", value=on_cpu, unit="s")
    if device != "cuda":
        return
    for share in (1.0, 0.125):
        took = _seconds([*settings, f"search.resources.gpu={share}"])
        yield Row(part="search", work=f"gpu: {share:g}", value=on_cpu / took, unit="times faster", goal=3, most=False)
    with mps():
        took = _seconds([*settings, "search.resources.gpu=0.125"])
        yield Row(part="search", work="gpu: 0.125, MPS", value=on_cpu / took, unit="times faster", goal=3, most=False)


def _seconds(settings: list[str]) -> float:
    with TemporaryDirectory() as folder:
        given = [part for setting in settings for part in ("--set", setting)]
        command = [sys.executable, ROOT / "search" / "run.py", ROOT / "spaces" / "demo.yaml", "--name", "demo", *given]
        start = time.perf_counter()
        ended = subprocess.run([*command, "--address", "local"], cwd=Path(folder), capture_output=True, text=True)
        if ended.returncode:
            raise RuntimeError(ended.stderr[-2000:] or ended.stdout[-2000:])
        return time.perf_counter() - start
