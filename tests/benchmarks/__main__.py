"""How fast ours is, as ratios against named rivals.

Prints a table and writes a JSON file with every second measured. `python -m tests.benchmarks step --size middle`.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from tests.benchmarks import clustering, detection, epoch, loading, step, turnover
from tests.benchmarks.measure import Row, Skipped, threads
from tests.benchmarks.sizes import SIZES, Size

Results = Iterator[Row | Skipped]
SIZED: dict[str, Callable[[Size, int], Results]] = {
    "step": step.rows,
    "encoding": clustering.encoding,
    "kmeans": clustering.kmeans,
    "assignment": clustering.assignment,
    "detection": detection.detection,
    "metrics": detection.metrics,
    "epoch": epoch.rows,
}
UNSIZED: dict[str, Callable[[int], Results]] = {
    "loading": loading.loading,
    "start": loading.start,
    "put": loading.put,
    "turnover": turnover.rows,
}
NAMES = [*SIZED, *UNSIZED]
WITHOUT = {("detection", "middle"), ("metrics", "middle")}
PACKAGES = ("torch", "numpy", "faiss-gpu", "ray", "optuna")
WIDTH = 200  # a line of the table is never cut; a narrower terminal breaks it


def machine() -> dict[str, Any]:
    """What the figures hold for."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "threads": torch.get_num_threads(),
        "load before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
    } | {name: version(name) for name in PACKAGES}


def run(names: Sequence[str], sizes: Sequence[str], repeats: int) -> Results:
    """Row by row, one size after the other; what runs now is said on stderr."""
    began = time.perf_counter()
    works = [(name, size) for size in sizes for name in SIZED if name in names]
    for name, size in [*works, *((name, None) for name in UNSIZED if name in names)]:
        print(f"{time.perf_counter() - began:5.0f} s  {name} {size or ''}", file=sys.stderr, flush=True)
        if (name, size) in WITHOUT:
            yield Skipped(work=name, size=str(size), rival="", reason="it does not depend on d: see small")
        else:
            yield from SIZED[name](SIZES[size], repeats) if size else UNSIZED[name](repeats)
    print(f"{time.perf_counter() - began:5.0f} s  done", file=sys.stderr, flush=True)


def duration(seconds: Sequence[float]) -> str:
    """The median, with three digits."""
    value = median(seconds)
    return f"{value:.3g} s" if value >= 1 else f"{1e3 * value:.3g} ms"


def table(results: Sequence[Row | Skipped]) -> Table:
    """A line a row."""
    shown = Table(title="ours / rival: below 1 ours is faster", title_justify="left", box=MARKDOWN)
    for head in ("work", "size", "rival"):
        shown.add_column(head, no_wrap=True)
    for head in ("ours", "rival's", "ours / rival", "quartiles", "of fastest", "limit", "rounds", "threads"):
        shown.add_column(head, no_wrap=True, justify="right")
    for one in results:
        shown.add_row(*_cells(one))
    return shown


def _cells(one: Row | Skipped) -> list[str]:
    if isinstance(one, Skipped):
        return [one.work, one.size, one.rival, "skipped"]
    low, high = one.quartiles
    over = one.limit is not None and one.ratio > one.limit
    return [
        one.work, one.size, one.rival, duration(one.ours_s), duration(one.rival_s), f"{one.ratio:.3g}",
        f"{low:.3g} to {high:.3g}", f"{one.ratio_of_fastest:.3g}",
        ("" if one.limit is None else f"{one.limit:g}") + (" OVER" if over else ""),
        str(len(one.ratios)), f"{one.threads} {one.clock}",
    ]  # fmt: skip


def summary(rows: Sequence[Row]) -> Table:
    """A line a work and rival, a column a size: ratio, of the limit where there is one, and the time of ours."""
    shown = Table(title="In short", title_justify="left", box=MARKDOWN)
    for head in ("work", "rival", "threads", *SIZES, "other"):
        shown.add_column(head, no_wrap=True)
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        column, work = (row.size, row.work) if row.size in SIZES else ("other", f"{row.work}, {row.size}")
        asked = "" if row.limit is None else f" of {row.limit:g}"
        cells = lines.setdefault((work, row.rival, f"{row.threads} {row.clock}"), {})
        cells[column] = f"{row.ratio:.2g}{asked} ({duration(row.ours_s)})"
    for key, cells in lines.items():
        shown.add_row(*key, *(cells.get(column, "") for column in (*SIZES, "other")))
    return shown


def phases(row: Row) -> str:
    """The phases of both sides in a line."""
    rival = row.phases["rival"]
    parts = [
        f"{name} {duration(seconds)}" + (f" (bare {duration(rival[name])})" if name in rival else "")
        for name, seconds in row.phases["ours"].items()
    ]
    return f"{row.work}, {row.size}: {', '.join(parts)}"


def show(where: dict[str, Any], results: Sequence[Row | Skipped], console: Console) -> None:
    """The machine, the table, and what does not go into it."""
    rows = [one for one in results if isinstance(one, Row)]
    skipped = [one for one in results if isinstance(one, Skipped)]
    lines = [
        "Median of the ratios within each round, their quartiles, and the ratio of the fastest rounds.",
        "Threads are PyTorch's and faiss's; by wall or by CPU time.",
        *dict.fromkeys(f"{row.size}: {row.about}" for row in rows),
        *(phases(row) for row in rows if row.phases),
        *(f"{one.work}, {one.size}{one.rival and ', ' + one.rival}: skipped, {one.reason}" for one in skipped),
    ]
    text = partial(console.print, soft_wrap=True, highlight=False, markup=False)
    text(", ".join(f"{key} {value}" for key, value in where.items()))
    console.print(table(results))
    text("\n".join(lines))
    console.print(summary(rows))


def record(where: dict[str, Any], results: Sequence[Row | Skipped]) -> str:
    """The JSON file."""
    rows = [one.record() for one in results if isinstance(one, Row)]
    skipped = [vars(one) for one in results if isinstance(one, Skipped)]
    return json.dumps({"machine": where, "rows": rows, "skipped": skipped}, indent=1) + "\n"


def arguments() -> argparse.Namespace:
    """Exits with 2 where one is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, prog="python -m tests.benchmarks", usage="%(prog)s [name ...] [options]"
    )
    parser.add_argument("names", nargs="*", metavar="name", help=f"what to measure, all by default: {', '.join(NAMES)}")
    parser.add_argument("--size", nargs="+", choices=list(SIZES), default=list(SIZES), help="all by default")
    parser.add_argument("--repeats", type=int, default=5, help="rounds; 6 times as many of a step, fewer of long works")
    parser.add_argument("--threads", type=int, help="all cores by default; 1 counts CPU time, for a busy machine")
    parser.add_argument("--json", type=Path, help="a new file in the temporary folder by default")
    given = parser.parse_args()
    if wrong := [name for name in given.names if name not in NAMES]:
        parser.error(f"name: must be one of {', '.join(NAMES)}, got {', '.join(wrong)}")
    for option, value in (("--repeats", given.repeats), ("--threads", given.threads)):
        if value is not None and value < 1:
            parser.error(f"{option}: must be >= 1, got {value}")
    if given.json and not given.json.parent.is_dir():
        parser.error(f"--json: must lie in a folder that exists, got {given.json}")
    return given


def main() -> None:
    """Measures, shows, writes."""
    given = arguments()
    with threads(given.threads or torch.get_num_threads()):
        where = machine()
        results = list(run(given.names or NAMES, given.size, given.repeats))
    console = Console(width=WIDTH)
    show(where, results, console)
    path = given.json or Path(tempfile.gettempdir(), f"haan-benchmarks-{time.strftime('%Y%m%d-%H%M%S')}.json")
    path.write_text(record(where, results), encoding="utf-8")
    console.print(f"Every second measured: {path}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main()
