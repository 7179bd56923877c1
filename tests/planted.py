"""A tiny planted data set and a configuration that learns it in a second or two."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from haan.config import Data, Eval, Holdout, Optim, Plant
from haan.data.readers import open_data
from haan.data.table import ClipTable, Split, pack, split
from haan.detectors.runs import RunsDetect
from haan.methods.haan.config import Concepts, HaanConfig, Loss, Model

TIOU = tuple(round(0.1 + 0.05 * i, 2) for i in range(9))


def tiny_config(root: Path, **optim: Any) -> HaanConfig:
    """24 + 12 videos of 4 fine classes; a quarter of the training videos held out."""
    plant = Plant(train_videos=24, validation_videos=12, dim=16, fine_classes=4, coarse_classes=2, noise=0.3)
    return HaanConfig(
        data=Data(
            root=str(root), features="features.npy", train_videos=24, validation=Holdout(holdout=0.25), plant=plant
        ),
        model=Model(width=16, dropout=0.3),
        concepts=Concepts(clusters=8, top_k=3, refresh_epochs=2, sample_rate=0.5),
        loss=Loss(coarse=0.1, coarse_pooling="mean"),
        optim=replace(Optim(lr=3e-3, epochs=4), **optim),
        detect=RunsDetect(alpha=0.0),
        eval=Eval(tiou=TIOU, report=(0.1, 0.3, 0.5)),
        device="cpu",
        threads=1,
    )


def load(data: Data) -> tuple[ClipTable, tuple[str, ...]]:
    """The packed table of a data set, and the warnings of its reader."""
    source, annotations, warnings = open_data(data)
    return pack(source, annotations, data.dtype), warnings


def tiny_table(config: HaanConfig) -> tuple[ClipTable, Split]:
    """The planted table of a configuration, and its split."""
    table, _ = load(config.data)
    return table, split(table.annotations, config.data)
