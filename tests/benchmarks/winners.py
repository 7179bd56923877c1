"""What searches found, with seeds of no search: `python -m tests.benchmarks.winners runs/old runs/new --seeds 5`.

Each run's exported winner, and the base, train on all training videos with the same new seeds, for as many epochs as
they leave with, and are scored once on the official videos. Gains are paired by seed: over the base as the space has
it, and over the base at the winner's setting of detection, which needs no training. The runs share one base and data.
"""

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev

from haan.cli import show_table
from haan.config import Config, Detect
from haan.data.readers import open_data
from haan.data.table import ClipTable, pack, split
from haan.train import Trainer
from haan.yamlconfig import read_config
from search.results.folder import RunFolder
from search.space.read import read_kept
from tests.benchmarks.pools import OFFICIAL
from tests.benchmarks.seeds import interval

FIRST = 101  # of the new seeds


@dataclass(frozen=True)
class Searched:
    """A run. epochs: trained in the search, and again, on held-out videos."""

    name: str
    winner: Config
    base: Config
    epochs: tuple[int, int]


def read(folder: Path) -> Searched:
    """A finished run."""
    run = RunFolder(folder)
    tried = _epochs(_rows(run.trials_csv))
    again = _epochs([row for row in _rows(run.confirm_csv) if row["videos"] != OFFICIAL])
    return Searched(folder.name, read_config(run.best_yaml), read_kept(run.space_yaml).base, (tried, again))


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _epochs(rows: Sequence[dict[str, str]]) -> int:
    return sum(int(row["epochs"] or 0) for row in rows)


def scored(config: Config, table: ClipTable, detects: Sequence[Detect], seed: int) -> dict[Detect, float]:
    """avg.mAP of the last epoch on the official videos, in percent, by setting of detection."""
    data, evaluation = replace(config.data, validation=OFFICIAL), replace(config.eval, epoch="last")
    config = replace(config, data=data, eval=evaluation, seed=seed, device="cpu", threads=1)
    trainer = Trainer(config, table, split(table.annotations, data), list(detects))
    *_, last = trainer.epochs()
    assert last.avg_map is not None
    return dict(zip(detects, last.avg_map, strict=True))


@dataclass(frozen=True)
class Gains:
    """Of each seed. worth: the winner's avg.mAP. over_own: over the base as it is; over_tuned: at the winner's."""

    run: Searched
    worth: list[float]
    over_own: list[float]
    over_tuned: list[float]


def gains(runs: Sequence[Searched], seeds: Sequence[int]) -> tuple[list[float], list[Gains]]:
    """The base's avg.mAP, and what each run gained over it."""
    base = runs[0].base
    source, annotations, _ = open_data(base.data)
    table = pack(source, annotations, base.data.dtype)
    detects = list(dict.fromkeys([base.detect, *(run.winner.detect for run in runs)]))

    @cache
    def of_base(seed: int) -> dict[Detect, float]:
        return scored(base, table, detects, seed)

    found = []
    for run in runs:
        detect = run.winner.detect
        worth = [scored(run.winner, table, [detect], seed)[detect] for seed in seeds]
        over = [
            [value - of_base(seed)[setting] for value, seed in zip(worth, seeds, strict=True)]
            for setting in (base.detect, detect)
        ]
        found.append(Gains(run, worth, *over))
    return [of_base(seed)[base.detect] for seed in seeds], found


def _mean(values: Sequence[float]) -> str:
    mean, low, high = interval(values)
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


def rows(base: Sequence[float], found: Sequence[Gains]) -> list[list[str]]:
    """A run a row; then, of those whose names have the same beginning up to a hyphen, their means and the worst."""
    table = [["run", "trial-epochs", "again", "leaves", "avg.mAP", "over the base", "over it at this setting"]]
    table.append(["base", "", "", "", f"{fmean(base):.2f} ± {stdev(base):.2f}", "", ""])
    for one in found:
        tried, again = one.run.epochs
        leaves = f"{one.run.winner.optim.epochs} epochs"
        worth = f"{fmean(one.worth):.2f} ± {stdev(one.worth):.2f}"
        table.append([one.run.name, str(tried), str(again), leaves, worth, _mean(one.over_own), _mean(one.over_tuned)])
    for kind, some in groupby(found, lambda one: one.run.name.partition("-")[0]):
        group = list(some)
        if len(group) < 2:
            continue
        columns = [[fmean(one.over_own) for one in group], [fmean(one.over_tuned) for one in group]]
        total = [str(sum(one.run.epochs[place] for one in group)) for place in (0, 1)]
        worth = f"{fmean(fmean(one.worth) for one in group):.2f}"
        table.append([f"{kind}: {len(group)} searches", *total, "", worth, *(_mean(column) for column in columns)])
        table.append([f"{kind}: worst", "", "", "", "", *(f"{min(column):+.2f}" for column in columns)])
    return table


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished searches of one space")
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    show_table(rows(*gains([read(folder) for folder in given.runs], range(FIRST, FIRST + given.seeds))))


if __name__ == "__main__":
    main()
