"""The demo's search as its user runs it: on a CPU, and on a GPU with one, four and `auto` trials at once."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.gpu.rows import Row
from tests.paths import ROOT

CPU = ("device=cpu", "search.resources.gpu=0")


def rows(device: str, tiny: bool) -> Iterator[Row]:
    """Seconds of its trials, without a confirmation; tiny: of two trials."""
    settings = ["search.confirm=null", *(("search.trials=2", "optim.epochs=3") if tiny else ())]
    on_cpu = _seconds([*settings, *CPU])
    yield Row(part="search", work="the demo's trials on a CPU", value=on_cpu, unit="s")
    if device != "cuda":
        return
    for setting in ("gpu: 1", "gpu: 0.25, mps: off", "gpu: auto"):
        share, _, mps = setting.removeprefix("gpu: ").partition(", mps: ")
        took = _seconds([*settings, f"search.resources.gpu={share}", f"search.mps={mps or 'auto'}"])
        yield Row(part="search", work=setting, value=on_cpu / took, unit="times faster", goal=3, most=False)


def _seconds(settings: list[str]) -> float:
    with TemporaryDirectory() as folder:
        given = [part for setting in settings for part in ("--set", setting)]
        command = [sys.executable, ROOT / "search" / "run.py", ROOT / "spaces" / "demo.yaml", "--name", "demo", *given]
        start = time.perf_counter()
        ended = subprocess.run([*command, "--address", "local"], cwd=Path(folder), capture_output=True, text=True)
        if ended.returncode:
            raise RuntimeError(ended.stderr[-2000:] or ended.stdout[-2000:])
        return time.perf_counter() - start
