"""What a setting does to avg.mAP and to an epoch's time: `python -m tests.benchmarks.seeds concepts.warm_start=true`.

The demo's base against the same with the settings given, over paired seeds (10 by default) on planted data of 300
training and 600 validation videos, official split, 12 epochs, the best of 41 alphas. Prints both means, the mean of the
differences and its 95 % interval (Student's t), and the CPU time of both. `precision=tf32`, which changes nothing on a
CPU, is trained with every product rounded as a GPU rounds it (`tests.benchmarks.tf32`).
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import yaml
from scipy import stats

from haan.config import Plant
from haan.data.readers import open_data
from haan.data.table import ClipTable, Split, pack, split
from haan.methods.haan.config import HaanConfig
from haan.train import Trainer
from search.space.model import with_values
from search.space.read import read_space
from tests.benchmarks.activations import ALPHAS
from tests.benchmarks.tf32 import Tf32Products
from tests.paths import ROOT

TRAIN, VALIDATION, EPOCHS = 300, 600, 12


def base(folder: str) -> HaanConfig:
    """The demo's base on more videos, for a figure that depends less on which they are."""
    demo = read_space(ROOT / "spaces" / "demo.yaml").base
    assert demo.data.plant is not None
    plant: Plant = replace(demo.data.plant, train_videos=TRAIN, validation_videos=VALIDATION)
    data = replace(demo.data, root=f"{folder}/data", train_videos=TRAIN, validation="official", plant=plant)
    return replace(demo, data=data, optim=replace(demo.optim, epochs=EPOCHS), device="cpu", threads=1)


def train(config: HaanConfig, table: ClipTable, parts: Split) -> float:
    """avg.mAP of the best epoch and alpha, in percent."""
    trainer = Trainer(config, table, parts, [replace(config.detect, alpha=alpha) for alpha in ALPHAS])
    with Tf32Products() if config.precision == "tf32" else nullcontext():
        for _ in trainer.epochs():
            pass
    assert trainer.best is not None
    return trainer.best.avg_map


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, and its 95 % interval."""
    array = np.array(values)
    half = stats.t.ppf(0.975, len(array) - 1) * array.std(ddof=1) / len(array) ** 0.5
    return float(array.mean()), float(array.mean() - half), float(array.mean() + half)


def main() -> None:
    """Trains both with every seed, in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="+", metavar="KEY=VALUE", help="such as precision=bfloat16")
    parser.add_argument("--seeds", type=int, default=10)
    given = parser.parse_args()
    values = {key: yaml.safe_load(value) for key, _, value in (one.partition("=") for one in given.settings)}
    with tempfile.TemporaryDirectory() as folder:
        plain = base(folder)
        source, annotations, _ = open_data(plain.data)
        table, parts = pack(source, annotations, plain.data.dtype), split(annotations, plain.data)
        found: list[list[float]] = [[], []]
        seconds = [0.0, 0.0]
        for seed in range(1, given.seeds + 1):
            for side, config in enumerate((plain, with_values(plain, values))):
                began = time.process_time()
                found[side].append(train(replace(config, seed=seed), table, parts))
                seconds[side] += time.process_time() - began
    mean, low, high = interval([b - a for a, b in zip(*found, strict=True)])
    print(f"base {np.mean(found[0]):.2f}, with {', '.join(given.settings)} {np.mean(found[1]):.2f} avg.mAP")
    print(f"difference over {given.seeds} paired seeds {mean:+.2f} (95 % interval {low:+.2f} to {high:+.2f})")
    print(f"CPU time {seconds[1] / seconds[0]:.2f} of the base's")


if __name__ == "__main__":
    main()
