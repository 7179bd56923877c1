"""Whether a space should search more than it does: `python -m tests.benchmarks.ranges planted-hard --root FOLDER`.

The space of a recorded pool (`tests.benchmarks.pools`) is searched as it stands, and with rates, dropout and widths
beside it, each time for the epochs of as many whole trials. Nothing is recorded here, for a pool holds no such
configurations: every trial is trained. What counts is the true worth of what would be exported, its mean over new
seeds on the official videos.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import product
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch

from haan.cli import show_table
from haan.config import Holdout
from haan.data.readers import open_data
from haan.data.table import pack, split
from haan.train import Trainer
from search.results.ranking import paired
from search.space.confirmkeys import drawn
from search.space.model import Space, with_values
from search.space.read import read_space
from search.study.algorithms import silent
from tests.benchmarks.pools import OFFICIAL, REDRAWN, SEEDS, SPACES
from tests.benchmarks.rivals import RIVALS, Pick, Rival
from tests.paths import ROOT

TRIALS = 20  # whole ones, whose epochs a search has
REPEATS = 12
NEW_SEEDS = 100, 101, 102
_RATE = "search.parameters.optim.lr={{float: [{low:g}, {high:g}], log: true}}"
_WIDTH = "search.parameters.model.width={{choice: [{half}, {width}, {twice}]}}"
WAYS = {
    "as the space has it": (),
    "and the rate": (_RATE,),
    "and the rate, dropout and width": (_RATE, "search.parameters.model.dropout={{float: [0.0, 0.6]}}", _WIDTH),
}


def space_of(name: str, root: str, way: str) -> Space:
    """The space of a pool, some of what it holds fixed searched, too: up to a quarter and four times its rate, half
    and twice its width.
    """
    file, overrides = SPACES[name]
    given = f"data.root={root}", *overrides, "search.pruner={name: median, n_warmup_steps: 5}"
    base = read_space(ROOT / "spaces" / file, given).base
    rate, width = base.optim.lr, base.model.width  # type: ignore[attr-defined]
    about = {"low": rate / 4, "high": 4 * rate, "half": width // 2, "width": width, "twice": 2 * width}
    return read_space(ROOT / "spaces" / file, (*given, *(one.format(**about) for one in WAYS[way])))


class Trained:
    """The data of a space, and runs over them. Scores of an epoch: avg.mAP at each of the space's settings."""

    def __init__(self, space: Space):
        self._space = space
        source, annotations, _ = open_data(space.base.data)
        self._table = pack(source, annotations, space.base.data.dtype)

    def epochs(self, params: Mapping[str, Any], seed: int, validation: Any) -> Iterator[tuple[float, ...]]:
        """Of one configuration, epoch by epoch."""
        config = with_values(self._space.base, {**params, "seed": seed})
        config = replace(config, data=replace(config.data, validation=validation), threads=1, device="cpu")
        parts = split(self._table.annotations, config.data)
        trainer = Trainer(config, self._table, parts, self._space.detects, every_epoch=True)
        return (epoch.avg_map for epoch in trainer.epochs())


def spend(
    rival: Rival, epochs_of: Any, whole: int, budget: int
) -> tuple[Pick | None, list[Mapping[str, Any]], list[list[tuple[float, ...]]]]:
    """A search with one worker until its epochs are spent: what it would export; parameters and scores of its trials.

    epochs_of: scores of a trial's epochs, by its parameters.
    """
    params, scores = list[Mapping[str, Any]](), list[list[tuple[float, ...]]]()
    while sum(map(len, scores)) < budget:
        trial = len(params)
        params.append(rival.ask())
        scores.append([])
        for epoch, found in enumerate(epochs_of(params[-1]), start=1):
            scores[-1].append(found)
            stopped = rival.report(trial, epoch, max(found))
            if stopped or epoch == whole:
                rival.end(trial, epoch, max(found), stopped)
                break
    return rival.pick(), params, scores


def worth(name: str, root: str, way: str, repeat: int) -> float:
    """True worth, in percent, of what one search would export."""
    torch.set_num_threads(1)
    space = space_of(name, root, way)
    trained, own, whole = Trained(space), space.base.data.validation, space.base.optim.epochs
    assert isinstance(own, Holdout)
    holdout, seed = drawn(own, repeat % SEEDS[REDRAWN]), space.base.seed
    with silent():
        rival = RIVALS["as its space says"](replace(space, plan=replace(space.plan, objective="recent")), repeat)
        pick, params, scores = spend(rival, lambda one: trained.epochs(one, seed, holdout), whole, TRIALS * whole)
    assert pick is not None
    setting = int(np.mean(scores[pick.trial][-pick.over :], axis=0).argmax())
    last = [[*trained.epochs(params[pick.trial], seed + new, OFFICIAL)][-1][setting] for new in NEW_SEEDS]
    return float(np.mean(last))


def rows(found: Mapping[str, Mapping[int, float]]) -> Iterator[list[str]]:
    """A way a row, of its worth by repeat: mean and sd, and the difference from the first way's."""
    yield ["searched", "worth", "against the first (95 %)"]
    first = next(iter(found.values()))
    for way, worths in found.items():
        values, against = list(worths.values()), ""
        if worths is not first and (apart := paired(worths, first)) is not None:
            assert apart.half is not None
            against = f"{apart.mean:+.2f} ({apart.mean - apart.half:+.2f} to {apart.mean + apart.half:+.2f})"
        yield [way, f"{fmean(values):.2f} ± {stdev(values):.2f}", against]


def main() -> None:
    """Prints the table of one pool's space."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(SPACES))
    parser.add_argument("--root", required=True, help="the data; planted there where nothing is")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    Trained(space_of(given.name, given.root, next(iter(WAYS))))  # plants, before several would at once
    found: dict[str, dict[int, float]] = {way: {} for way in WAYS}
    with ProcessPoolExecutor(given.workers) as pool:
        asked = {
            (way, repeat): pool.submit(worth, given.name, given.root, way, repeat)
            for repeat, way in product(range(given.repeats), WAYS)
        }
        for (way, repeat), one in asked.items():
            found[way][repeat] = one.result()
            print(f"{way}, {repeat}: {found[way][repeat]:.2f}", file=sys.stderr, flush=True)
    show_table(list(rows(found)))


if __name__ == "__main__":
    main()
