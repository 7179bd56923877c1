"""The folder of a training: `haan train` fills it, `haan detect` and `haan figures` open it."""

import csv
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray

from haan.activitynet import TESTING, TRAINING, VALIDATION
from haan.cli import say, warn
from haan.config import Config
from haan.data import cache
from haan.data.planted import MADE_UP, planted
from haan.data.readers import open_data, open_unlabelled
from haan.data.table import Annotations, ClipTable, Packed, Split, pack, split
from haan.errors import InputError
from haan.files import check_folder, make_folder, whole
from haan.predict import predict
from haan.train import EpochResult, Trainer
from haan.weights import STATE, WEIGHTS, write_weights
from haan.words import why_zero
from haan.yamlconfig import BEST, dump, naming_lines, read_config

METRICS = "metrics.csv"


def fill(out: Path, settings: Config, places: AbstractContextManager[None], resume: bool) -> None:
    """Trains one configuration; `resume` goes on with what an interrupted training left there.

    places: names the lines of what only the data can tell (haan.yamlconfig.naming_lines). Raises InputError.
    """
    check_folder(out)
    state = out / STATE
    if out.exists() and any(out.iterdir()) and not resume:
        raise InputError(f"{out}: --out must be a new or empty folder unless --resume is given, got one with files")
    if resume and not state.exists():
        raise InputError(f"{out}: --resume needs {STATE} of an interrupted training, got none")
    with places:
        table, parts, mark = _packed(settings)
        trainer = Trainer(settings, table, parts, alone=True, data=mark)
    make_folder(out)
    if resume:
        trainer.load(state)
        _cut(out / METRICS, trainer.epoch)
    else:
        trainer.save(state)
    with whole(out / BEST) as partial:
        partial.write_text(dump(settings, whole=True), encoding="utf-8")
    if planted(settings.data) is not None:
        say(MADE_UP)
    say(f"{len(parts.train)} training and {len(parts.validation)} validation videos, {trainer.device.type}")
    try:
        for result in trainer.epochs():
            _log(out / METRICS, result, settings)
            trainer.save(state)
            _show(result)
    except KeyboardInterrupt:
        typer.echo(f"interrupted after epoch {trainer.epoch}; the same command with --resume goes on", err=True)
        raise typer.Exit(130) from None
    finally:
        trainer.close()
    best = trainer.best
    assert best is not None
    write_weights(out / WEIGHTS, best.tensors, best.epoch, table.annotations.fine_names, settings.method)
    packed = Packed(Path(settings.data.root, settings.data.features), table.chunks[0], table.num_clips)
    found = predict(
        settings, packed, table.annotations, parts.validation, out / WEIGHTS, out / "predictions.json"
    ).found
    state.unlink()
    say(f"{settings.eval.epoch} epoch {best.epoch}: avg.mAP {best.avg_map!r}; written to {out}")
    if not best.avg_map:
        warn([f"an avg.mAP of 0: {why_zero(len(found) > 0)}"])


def opened(
    folder: Path, data: Path | None, overrides: tuple[str, ...], subset: str = VALIDATION
) -> tuple[Config, cache.OnDisk, Annotations, NDArray[np.int64]]:
    """The configuration of a run or training folder, its data (or those of another), and the videos to detect in.

    subset: for training all that the data set has for it, held-out ones too.
    """
    settings = read_config(folder / BEST, () if data else overrides)
    if data is not None:
        settings = replace(settings, data=read_config(data, overrides).data)
    with naming_lines(data or folder / BEST, overrides):
        source, annotations, warnings = (open_unlabelled if subset == TESTING else open_data)(settings.data)
        warn(warnings)
        if subset == VALIDATION:
            videos = split(annotations, settings.data).validation
        else:
            videos = np.arange(annotations.num_train if subset == TRAINING else len(annotations.names))
    return settings, source, annotations, videos


def _show(result: EpochResult) -> None:
    if not result.avg_map:
        say(f"epoch {result.epoch:3d}  loss {result.losses['total']:.4f}")
        return
    shown = "  ".join(f"mAP@{tiou:g} {value:.2f}" for tiou, value in result.map.items())
    say(f"epoch {result.epoch:3d}  loss {result.losses['total']:.4f}  {shown}  avg.mAP {result.avg_map[0]:.3f}")
    if result.collapsed:
        say("  warning: the network scores every clip the same; a lower optim.lr may help")
    if result.empty_clusters:
        say(f"  warning: {result.empty_clusters} of the clusters hold no clip")


def _packed(settings: Config) -> tuple[ClipTable, Split, str]:
    """The table, its split and the data's fingerprint.

    Nothing holds on to the features as they were read: they may be as large again.
    """
    features, annotations, warnings = open_data(settings.data)
    warn(warnings)
    parts = split(annotations, settings.data)
    source, kept = cache.keep(settings.data, features, annotations)
    if kept:
        typer.echo(f"note: {kept}", err=True)
    table = pack(source, annotations, settings.data.dtype)
    return table, parts, cache.packed_fingerprint(source, table)


def _cut(path: Path, epochs: int) -> None:
    """Takes out rows of epochs that the checkpoint does not know yet; they will be trained again."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        with whole(path) as partial:
            partial.write_text("".join(lines[: 1 + epochs]), encoding="utf-8")


def _log(path: Path, result: EpochResult, settings: Config) -> None:
    scored = bool(result.avg_map)
    row = {"epoch": result.epoch, "avg_map": result.avg_map[0] if scored else "", "detections": result.detections}
    row |= {"empty_clusters": result.empty_clusters}
    row |= {f"map@{tiou:g}": result.map.get(tiou, "") for tiou in settings.eval.report}
    row |= {f"loss.{name}": value for name, value in result.losses.items()}
    row |= {f"seconds.{name}": result.seconds.get(name, "") for name in ("cluster", "train", "detect", "score")}
    new = result.epoch == 1
    with path.open("w" if new else "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)
