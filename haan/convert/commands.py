"""The commands that make data sets of published files: `python -m haan convert ...` and `python -m haan split`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer

from haan.activitynet import write_json
from haan.cli import say, warn
from haan.convert import deal, finegym
from haan.convert.deal import Dealt
from haan.convert.finegym import Sample
from haan.data import layout
from haan.data.layout import Classes, Video
from haan.errors import InputError
from haan.files import check_file, make_folder
from haan.yamlconfig import naming_lines, read_config

app = typer.Typer(no_args_is_help=True, help="Published data sets into the `haan` layout, and ground truth out.")

HIERARCHY = "hierarchy.json"
OPENPACK_HZ = 30.0  # what OpenPack's papers and configurations say
Out = Annotated[Path, typer.Option(help="Folder of the data set; features may lie there already.")]

FINEGYM_EXAMPLE = (
    "Example: python -m haan convert finegym finegym_annotation_info_v1.0.json gym99_categories.txt "
    "--train gym99_train_element_new.txt --val gym99_val_element_new.txt --out data/FineGym"
)
FINEACTION_EXAMPLE = (
    "Example: python -m haan convert fineaction annotations_gt.json labels_df.csv --out data/FineAction"
)
OPENPACK_EXAMPLE = (
    "Example: python -m haan convert openpack openpack-toolkit/samples/openpack/v1.0.0 --out data/OpenPack"
)
TRUTH_EXAMPLE = "Example: python -m haan convert truth trained/best.yaml --out truth.json"
SPLIT_EXAMPLE = (
    "Example: python -m haan split gym99_train_element_new.txt gym99_val_element_new.txt --by video --out by_video"
)


@app.command("finegym", epilog=FINEGYM_EXAMPLE)
def finegym_(
    info: Annotated[Path, typer.Argument(help="FineGym's temporal annotation, a .json.")],
    categories: Annotated[Path, typer.Argument(help="gym99_categories.txt")],
    train: Annotated[Path, typer.Option(help="The training elements, such as gym99_train_element_new.txt.")],
    val: Annotated[Path, typer.Option(help="The validation elements.")],
    out: Out,
    fps: Annotated[float, typer.Option(min=1e-6, help="Frames a second that features were taken from.")] = 24,
    frames: Annotated[int, typer.Option(min=1, help="Frames of a clip.")] = 16,
) -> None:
    """FineGym's annotation files into the `haan` layout: every event is a video."""
    layout.check_free(out, layout.FILES)
    videos, classes, num_train = finegym.convert(info, categories, train, val, fps / frames)
    with layout.filling(out, layout.FILES) as folder:
        layout.write_annotations(folder, videos, classes)
    _show(videos, classes, num_train, out)


@app.command("fineaction", epilog=FINEACTION_EXAMPLE)
def fineaction_(
    annotations: Annotated[Path, typer.Argument(help="annotations_gt.json")],
    hierarchy: Annotated[Path, typer.Argument(help='{"fine": "coarse", ...} as .json, or a .csv with such columns.')],
    out: Out,
    clips: Annotated[int, typer.Option(min=1, help="Clips of every video.")] = 100,
) -> None:
    """FineAction's ground truth into the `haan` layout."""
    from haan.convert import fineaction  # PyTorch, which `split` and --help need not wait for

    files = (*layout.FILES, HIERARCHY)
    layout.check_free(out, files)
    videos, classes, num_train = fineaction.convert(annotations, hierarchy, clips)
    pairs = {fine: classes.coarse_names[u] for fine, u in zip(classes.fine_names, classes.coarse_of_fine, strict=True)}
    with layout.filling(out, files) as folder:
        layout.write_annotations(folder, videos, classes)
        layout.write_json(folder / HIERARCHY, pairs)
    _show(videos, classes, num_train, out)


@app.command("openpack", epilog=OPENPACK_EXAMPLE)
def openpack_(
    source: Annotated[Path, typer.Argument(help="Folder with USER/annotation and USER/atr.")],
    out: Out,
    hz: Annotated[float, typer.Option(min=1e-6, help="Samples a second, to time clips by.")] = OPENPACK_HZ,
) -> None:
    """OpenPack's sensor recordings into the `haan` layout, features included (CC BY-NC-SA 4.0)."""
    from haan.convert import openpack  # pandas

    features = "features.npy"
    files = (*layout.FILES, features)
    layout.check_free(out, files)
    found = openpack.convert(source, hz / openpack.WINDOW)
    with layout.filling(out, files) as folder:
        layout.write_annotations(folder, found.videos, found.classes)
        layout.write_objects(folder / features, found.features)
    if found.left_out:
        note = f"{found.left_out} validation actions of classes that no training recording shows are left out"
        typer.echo(f"warning: {note}", err=True)
    if abs(found.hz / hz - 1) > 0.01:
        note = f"by their times there are {found.hz:.2f} samples a second; clips are timed by --hz {hz:g}"
        typer.echo(f"warning: {note}, so that late segments lie beside their clips", err=True)
    _show(found.videos, found.classes, found.num_train, out)


@app.command("truth", epilog=TRUTH_EXAMPLE)
def truth_(
    config: Annotated[Path, typer.Argument(help="A configuration, such as an exported best.yaml.")],
    out: Annotated[Path, typer.Option(help="Where the ActivityNet JSON goes.")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE with a dotted key; repeatable.")] = None,
) -> None:
    """The ground truth that a configuration trains and scores on, for `haan evaluate --subset validation`."""
    from haan.data.readers import open_data  # PyTorch
    from haan.data.table import split as split_of
    from haan.data.truth import truth as ground_truth

    check_file(out)
    settings = read_config(config, tuple(set_ or ()))
    with naming_lines(config, tuple(set_ or ())):
        source, annotations, warnings = open_data(settings.data)
        warn(warnings)
        parts = split_of(annotations, settings.data)
    make_folder(out.parent)
    write_json(out, ground_truth(annotations, source.num_clips, parts))
    say(f"{len(parts.train)} training and {len(parts.validation)} validation videos; written to {out}")


def _show(videos: Sequence[Video], classes: Classes, num_train: int, out: Path) -> None:
    segments = [sum(len(video.segments) for video in part) for part in (videos[:num_train], videos[num_train:])]
    counts = f"{num_train} + {len(videos) - num_train} videos, {segments[0]} + {segments[1]} segments"
    say(f"{counts}, {len(classes.fine_names)} classes in {len(classes.coarse_names)}; written to {out}")
    say(f"data: {{root: {out}, train_videos: {num_train}, features: ...}}")


def split(
    train: Annotated[Path, typer.Argument(help="Elements, a line `VIDEO_E_..._A_... CLASS` each.")],
    val: Annotated[Path, typer.Argument(help="More of them: both files are put together and split anew.")],
    out: Annotated[Path, typer.Option(help="Folder for gym99_train_element.txt and gym99_val_element.txt.")],
    by: Annotated[Literal["event", "video"], typer.Option(help="What stays whole.")] = "event",
    tries: Annotated[int, typer.Option(min=1, help="Of so many splits the best is taken.")] = deal.TRIES,
    share: Annotated[float, typer.Option(help="Of every class at least this share trains.")] = deal.SHARE,
    overall: Annotated[float, typer.Option(help="Of all samples at least this share trains.")] = deal.OVERALL,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same split.")] = 0,
) -> None:
    """Split FineGym's samples without a leak (Sec. 4.1 of the paper), and say what either way of it loses and wins."""
    for option, value in (("--share", share), ("--overall", overall)):
        if not 0 < value < 1:
            raise InputError(f"{option}: must be > 0 and < 1, got {value}")
    files = ("gym99_train_element.txt", "gym99_val_element.txt")
    layout.check_free(out, files)
    given = [finegym.read_samples(path) for path in (train, val)]
    samples = _together(given, val)
    asked = deal.split(samples, by, tries, seed, share, overall)
    with layout.filling(out, files) as folder:
        for file, training in zip(files, (True, False), strict=True):
            lines = [s.line for s, t in zip(asked.samples, asked.trains.tolist(), strict=True) if t == training]
            (folder / file).write_text("\n".join(sorted(lines)) + "\n", encoding="utf-8")
    other = "video" if by == "event" else "event"
    rows = {"as given": Dealt(asked.samples, np.arange(len(samples)) < len(given[0])), f"by {by}": asked}
    try:
        rows[f"by {other}"] = deal.split(samples, other, tries, seed, share, overall)
    except InputError as error:
        typer.echo(f"note: {error}", err=True)
    for line in (*_compared(rows), *_prices(rows)):
        say(line)
    say(f"by {by}; written to {out}")


def _together(given: Sequence[Sequence[Sample]], val: Path) -> list[Sample]:
    known = {(sample.routine, sample.action) for sample in given[0]}
    for sample in given[1]:
        if (sample.routine, sample.action) in known:
            raise InputError(f"{val}: must hold other samples than the first file, got {sample.line!r} in both")
    return [*given[0], *given[1]]


def _compared(rows: dict[str, Dealt]) -> list[str]:
    """A table: what trains, and what stands on both sides, of several splits."""
    lines = ["split      training samples         of each class      events      on both  source videos  on both"]
    for name in ("as given", "by event", "by video"):
        if name not in rows:
            continue
        found = rows[name]
        events, videos = ([len(found.on(side, group)) for side in (True, False)] for group in ("event", "video"))
        samples = f"{int(found.trains.sum())} of {len(found.trains)}, {100 * found.share:.1f} %"
        classes = f"{100 * found.shares.min():.1f} to {100 * found.shares.max():.1f} %"
        sizes = f"{events[0]} + {events[1]}", f"{videos[0]} + {videos[1]}"
        both = found.on_both("event"), found.on_both("video")
        lines.append(f"{name:9}  {samples:23}  {classes:17}  {sizes[0]:11} {both[0]:7}  {sizes[1]:13} {both[1]:8}")
    return lines


def _prices(rows: dict[str, Dealt]) -> list[str]:
    """What a split by source video wins and loses against one by event; nothing where there is none."""
    if len(rows) < 3:
        return []
    event, video = rows["by event"], rows["by video"]
    spread = [f"{100 * (one.shares.max() - one.shares.min()):.1f}" for one in (event, video)]
    return [
        f"By source video nothing seen in training is filmed in a source video of validation: by event "
        f"{event.on_both('video')} of {len(event.on(False, 'video'))} are. It costs {(~event.trains).sum()} - "
        f"{(~video.trains).sum()} = {(~event.trains).sum() - (~video.trains).sum()} validation samples, "
        f"and the classes' shares spread over {spread[1]} points instead of {spread[0]}."
    ]
