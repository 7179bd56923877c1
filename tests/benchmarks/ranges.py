"""Whether a space should search more than it does: `python -m tests.benchmarks.ranges planted-hard --root FOLDER`.

What the space of a recorded pool (`tests.benchmarks.pools`) searches is searched alone, and with rates, dropout and
widths beside it: by its sampler under the median, on `recent`, each time for the epochs of as many whole trials. A pool
holds no such configurations, so every trial is trained. What counts is the true worth of what would be exported, its
mean over new seeds on the official videos.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import product
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch

from haan.cli import show_table
from haan.config import Holdout
from search.results.ranking import paired
from search.space.confirmkeys import drawn
from search.space.model import Space
from search.space.read import read_space
from search.study.algorithms import silent
from tests.benchmarks.pools import OFFICIAL, REDRAWN, SEEDS, SPACES, epochs_of, table_of
from tests.benchmarks.rivals import RIVALS, Pick, Rival
from tests.paths import ROOT

TRIALS = 20  # whole ones, whose epochs a search has
REPEATS = 12
NEW_SEEDS = 100, 101, 102
_RATE = "search.parameters.optim.lr={{float: [{low:g}, {high:g}], log: true}}"
_DROPOUT = "search.parameters.model.dropout={{float: [0.0, 0.6]}}"
_WIDTH = "search.parameters.model.width={{choice: [{half}, {width}, {twice}]}}"
WAYS = {
    "as the space has it": (),
    "and the rate": (_RATE,),
    "and the rate and dropout": (_RATE, _DROPOUT),
    "and the rate, dropout and width": (_RATE, _DROPOUT, _WIDTH),
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


def spend(
    rival: Rival, train: Callable[[Mapping[str, Any]], Iterator[tuple[float, ...]]], whole: int, budget: int
) -> tuple[Pick | None, list[Mapping[str, Any]], list[list[tuple[float, ...]]]]:
    """A search with one worker until its epochs are spent: what it would export; parameters and scores of its trials.

    train: scores of a trial's epochs, by its parameters.
    """
    params, scores = list[Mapping[str, Any]](), list[list[tuple[float, ...]]]()
    while sum(map(len, scores)) < budget:
        trial = len(params)
        params.append(rival.ask())
        scores.append([])
        for epoch, found in enumerate(train(params[-1]), start=1):
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
    table, own, whole = table_of(name, root), space.base.data.validation, space.base.optim.epochs
    assert isinstance(own, Holdout)
    holdout, seed = drawn(own, repeat % SEEDS[REDRAWN]), space.base.seed
    with silent():
        rival = RIVALS["as its space says"](replace(space, plan=replace(space.plan, objective="recent")), repeat)
        pick, params, scores = spend(
            rival, lambda one: epochs_of(space, table, one, seed, holdout), whole, TRIALS * whole
        )
    assert pick is not None
    setting = int(np.mean(scores[pick.trial][-pick.over :], axis=0).argmax())
    best = params[pick.trial]
    return fmean([*epochs_of(space, table, best, seed + new, OFFICIAL)][-1][setting] for new in NEW_SEEDS)


def rows(found: Mapping[str, Mapping[int, float]]) -> Iterator[list[str]]:
    """A way a row, of its worth by repeat: mean and sd, and the difference from the first way's."""
    yield ["searched", "worth", "against the first (95 %)"]
    first = next(iter(found.values()))
    for way, worths in found.items():
        values, against = list(worths.values()), "" if worths is first else str(paired(worths, first))
        yield [way, f"{fmean(values):.2f} ± {stdev(values):.2f}", against]


def main() -> None:
    """Prints the table of one pool's space."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(SPACES))
    parser.add_argument("--root", required=True, help="the data; planted there where nothing is")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    table_of(given.name, given.root)  # plants, before several would at once
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
