"""Recorded pools of `tests.benchmarks.efficiency`: what many configurations of a space scored, epoch by epoch.

`python -m tests.benchmarks.pools planted-easy` records one, `--workers` at once, or goes on with one cut short. Every
configuration is trained whole, on three kinds of videos: held out anew for each seed, held out as the search has
them with other seeds, and the official ones. The latter chose nothing: their mean over seeds is a configuration's true
worth, at the epoch and the detection setting with which it would be exported.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from jaxtyping import Float

from haan.config import Holdout
from haan.data.readers import open_data
from haan.data.table import ClipTable, pack, split
from haan.files import whole
from haan.train import Trainer
from search.replays.pool import nearest_row
from search.space.confirmkeys import drawn
from search.space.model import Space, base_point, with_values
from search.space.read import read_space
from search.study.alike import Scale
from tests.paths import ROOT

POOLS = Path(__file__).with_name("recorded")
REDRAWN, FIXED, OFFICIAL = "redrawn", "fixed", "official"
SEEDS = {REDRAWN: 3, FIXED: 2, OFFICIAL: 3}  # of each configuration; the first redrawn one has the search's own holdout
CONFIGS = 150
AVERAGED = "-ema"  # behind the name of a pool: the same configurations with averaged weights
_SEARCHED = (  # what they were drawn from, whatever the demo searches today
    "concepts.clusters: {int: [10, 80], log: true}",
    "concepts.top_k: {int: [1, 10]}",
    "loss.pseudo: {float: [1.0e-4, 1.0], log: true}",
    "loss.concept: {float: [1.0e-3, 1.0], log: true}",
    "loss.coarse: {float: [1.0e-2, 10.0], log: true}",
    "loss.coarse_pooling: {choice: [max, mean]}",
    "detect.alpha: {sweep: '-0.2:0.2:0.1'}",
)
_PLANTED = (
    "data.train_videos=48", "model.width=48", "optim.epochs=15", "optim.batch_videos=4", "optim.lr=2e-3",
    "concepts.clusters=30", f"search.parameters={{{', '.join(_SEARCHED)}}}",
)  # fmt: skip


def _planted(noise: float) -> tuple[str, ...]:
    plant = f"{{train_videos: 48, validation_videos: 60, dim: 32, fine_classes: 8, coarse_classes: 3, noise: {noise}}}"
    return (*_PLANTED, f"data.plant={plant}")


SPACES: Mapping[str, tuple[str, tuple[str, ...]]] = {  # a file of spaces/, and what is set of it
    "planted-easy": ("demo.yaml", _planted(0.5)),
    "planted-hard": ("demo.yaml", _planted(1.0)),
    "planted-easy-ema": ("demo.yaml", (*_planted(0.5), "optim.ema_epochs=2")),
    "planted-hard-ema": ("demo.yaml", (*_planted(1.0), "optim.ema_epochs=2")),
    "openpack": ("openpack.yaml", ()),
}


@dataclass(frozen=True, eq=False)
class Recorded:
    """A pool. params: of each configuration, the base first.

    scores: by kind of videos, avg.mAP in percent, [configs, seeds, epochs, detects] in the order of the space's.
    """

    name: str
    space: Space
    params: tuple[Mapping[str, Any], ...]
    scores: Mapping[str, Float[np.ndarray, "configs seeds epochs detects"]]

    def worth(self, config: int, epoch: int, detect: int) -> float:
        """The true one, of a configuration that leaves so; epoch from 0."""
        return float(self.scores[OFFICIAL][config, :, epoch, detect].mean())


def space_of(name: str, root: str | None = None) -> Space:
    """The space of a pool. root: of its data."""
    file, overrides = SPACES[name]
    data = () if root is None else (f"data.root={root}",)
    return read_space(ROOT / "spaces" / file, (*data, *overrides))


def path_of(name: str, folder: Path = POOLS) -> Path:
    """The file of a pool."""
    return folder / f"{name}.npz"


def recorded(folder: Path = POOLS) -> list[str]:
    """The names of those that are there, of weights that were not averaged."""
    return [name for name in SPACES if path_of(name, folder).exists() and not name.endswith(AVERAGED)]


def read(name: str, folder: Path = POOLS) -> Recorded:
    """A pool, as far as it is recorded."""
    with np.load(path_of(name, folder)) as held:
        params = json.loads(str(held["params"]))
        return Recorded(name, space_of(name), tuple(params), {kind: held[kind] / 100 for kind in SEEDS})


def nearest_of(pool: Recorded) -> Callable[[Mapping[str, object]], int]:
    """Which configuration of a pool stands for parameters."""
    scale = Scale(pool.space.parameters, base_point(pool.space))
    points = np.stack([scale.point(one) for one in pool.params])
    return lambda params: nearest_row(points, scale.point(params))


def write(name: str, params: list[Mapping[str, Any]], scores: list[Mapping[str, Any]], folder: Path = POOLS) -> None:
    """Kept are whole hundredths of a percent."""
    arrays = {kind: np.rint(100 * np.array([one[kind] for one in scores])).astype(np.int16) for kind in SEEDS}
    folder.mkdir(exist_ok=True)
    with whole(path_of(name, folder)) as partial, partial.open("wb") as file:
        np.savez_compressed(file, params=np.array(json.dumps(params)), **arrays)


def configurations(space: Space, count: int) -> list[dict[str, Any]]:
    """The base, and random ones."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [base_point(space), *(study.ask(dict(space.parameters)).params for _ in range(count - 1))]


@cache
def table_of(name: str, root: str) -> ClipTable:
    """The data of a pool, planted where they are not there; once a process."""
    data = space_of(name, root).base.data
    source, annotations, _ = open_data(data)
    return pack(source, annotations, data.dtype)


def epochs_of(
    space: Space, table: ClipTable, params: Mapping[str, Any], seed: int, validation: Holdout | str
) -> Iterator[tuple[float, ...]]:
    """Scores of one configuration's epochs on a CPU, one after the other: at each of the space's settings."""
    config = with_values(space.base, {**params, "seed": seed})
    config = replace(config, data=replace(config.data, validation=validation), threads=1, device="cpu")
    trainer = Trainer(config, table, split(table.annotations, config.data), space.detects, every_epoch=True)
    return (epoch.avg_map for epoch in trainer.epochs())


def train(name: str, root: str, params: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Scores of one configuration, by kind of videos: [seeds][epochs][detects]."""
    space = space_of(name, root)
    base, own = space.base, space.base.data.validation
    assert isinstance(own, Holdout)
    runs = [(REDRAWN, number, drawn(own, number)) for number in range(SEEDS[REDRAWN])]
    runs += [(FIXED, 1 + number, own) for number in range(SEEDS[FIXED])]
    runs += [(OFFICIAL, 100 + number, OFFICIAL) for number in range(SEEDS[OFFICIAL])]
    found: dict[str, list[Any]] = {kind: [] for kind in SEEDS}
    for kind, number, validation in runs:
        scores = epochs_of(space, table_of(name, root), params, base.seed + number, validation)
        found[kind].append([list(one) for one in scores])
    return found


def _recorded(name: str, root: str, configs: int, workers: int) -> Iterator[tuple[Mapping[str, Any], dict[str, Any]]]:
    """What is left to be trained, one configuration after the other."""
    every = configurations(space_of(name, root), configs)
    before = len(read(name).params) if path_of(name).exists() else 0
    table_of(name, root)  # plants, before several would at once
    with ProcessPoolExecutor(workers) as pool:
        rest = every[before:]
        yield from zip(rest, pool.map(train, [name] * len(rest), [root] * len(rest), rest), strict=True)


def main() -> None:
    """Records; what is there is kept after every tenth configuration."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(SPACES))
    parser.add_argument("--root", required=True, help="the data; planted there where nothing is")
    parser.add_argument("--configs", type=int, default=CONFIGS)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    params, scores = list[Mapping[str, Any]](), list[Mapping[str, Any]]()
    if path_of(given.name).exists():
        known = read(given.name)
        params += known.params
        scores += [{kind: known.scores[kind][i] for kind in SEEDS} for i in range(len(params))]
    for one, found in _recorded(given.name, given.root, given.configs, given.workers):
        params.append(one)
        scores.append(found)
        if len(params) % 10 == 0:
            write(given.name, params, scores)
            print(f"{len(params)} of {given.configs}", file=sys.stderr, flush=True)
    write(given.name, params, scores)


if __name__ == "__main__":
    main()
