"""What only a GPU can show: `python -m tests.gpu`, about four minutes; names choose parts, --tiny a CPU's size.

Prints a table with goals and limits, and writes everything into a JSON file. Ends with 1 where a part did not come to
its end.
"""

import argparse
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from tests.benchmarks.__main__ import machine
from tests.gpu import beside, demo, methods, parity, speed
from tests.gpu.rows import Row

PARTS: dict[str, Callable[[str, bool], Iterator[Row]]] = {
    "parity": parity.rows,
    "methods": methods.rows,
    "speed": speed.rows,
    "beside": beside.rows,
    "search": demo.rows,
}


def table(found: list[Row], device: str) -> Table:
    """The rows as a Markdown table."""
    shown = Table("part", "work", "value", "", "goal", "limit", "note", box=MARKDOWN, title=f"on {device}")
    for row in found:
        goal = "" if row.goal is None else f"{'<=' if row.most else '>='} {row.goal:g}{'' if row.holds else ', missed'}"
        limit = "" if row.limit is None else f"{row.limit:g}"
        shown.add_row(row.part, row.work, f"{row.value:.4g}", row.unit, goal, limit, row.note)
    return shown


def main() -> None:
    """Runs the parts that are asked for, all by default."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.gpu")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; by default all")
    parser.add_argument("--tiny", action="store_true", help="at a tiny size, which a CPU can do too")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="where the JSON file goes")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"PART: must be one of {', '.join(PARTS)}, got {', '.join(sorted(unknown))}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not given.tiny:
        parser.error("PyTorch finds no CUDA device here; --tiny runs everything that a CPU can")
    found: list[Row] = []
    failed = []
    for name in given.parts or PARTS:
        try:
            found.extend(PARTS[name](device, given.tiny))
        except Exception:  # the other parts' figures are not lost by one
            failed.append(name)
            traceback.print_exc()
        record = {"machine": machine(), "failed": failed, "rows": [row.record() for row in found]}
        given.out.write_text(json.dumps(record, indent=1), encoding="utf-8")
    Console(width=200).print(table(found, torch.cuda.get_device_name() if device == "cuda" else "a CPU"))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
