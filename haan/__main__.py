"""`python -m haan train | detect | evaluate | figures | plant | convert | split`."""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from haan import notebook
from haan.activitynet import TESTING, TRAINING, VALIDATION, Benchmark
from haan.alike import first_of, hint
from haan.checked import RuleError
from haan.cli import run, say, warn
from haan.config import Plant
from haan.convert import commands
from haan.errors import InputError
from haan.files import check_file, check_folder, make_folder, read_json
from haan.keys import shown
from haan.yamlconfig import dump, naming_lines, read_config

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)

app.add_typer(commands.app, name="convert")
app.command("split", epilog=commands.SPLIT_EXAMPLE)(commands.split)
Overrides = Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE with a dotted key; may be repeated.")]


@app.command("config", epilog="Example: python -m haan config spaces/demo.yaml")
def config_(
    file: Annotated[
        Path | None, typer.Argument(help="A configuration, or a search space, whose base is meant.")
    ] = None,
    set_: Overrides = None,
    keys: Annotated[
        bool, typer.Option("--keys", help="Print every key instead: default, values, meaning, source.")
    ] = False,
) -> None:
    """Print a configuration whole, every default in it, or every key that there is."""
    if keys and (file is not None or set_):
        raise InputError("--keys: must be given alone, got a configuration as well")
    if not keys and file is None:
        raise InputError("FILE: must be given unless --keys is, got none")
    say("\n".join(shown()) if file is None else dump(read_config(file, tuple(set_ or ())), whole=True).rstrip())


@app.command(epilog="Example: python -m haan train best.yaml --out trained")
def train(
    config: Annotated[
        Path,
        typer.Argument(help="A configuration, such as an exported best.yaml, or a search space, whose base is meant."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for weights, metrics and predictions.")],
    set_: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the interrupted training in --out.")] = False,
) -> None:
    """Train one configuration and write its best weights, metrics and predictions."""
    settings = read_config(config, tuple(set_ or ()))
    from haan.training_folder import fill  # PyTorch, which other commands need not wait for

    fill(out, settings, naming_lines(config, tuple(set_ or ())), resume)


@app.command(epilog="Example: python -m haan detect trained --out predictions.json")
def detect(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run or training folder.")],
    out: Annotated[Path, typer.Option(help="Where the ActivityNet JSON goes.")],
    data: Annotated[Path | None, typer.Option(help="Use the data of this configuration.")] = None,
    test: Annotated[bool, typer.Option("--test", help="Detect in the videos without labels (subset testing).")] = False,
    train_: Annotated[bool, typer.Option("--train", help="Detect in all training videos, to teach a student.")] = False,
    external_data: Annotated[str | None, typer.Option(help="What else was used, in the words for a server.")] = None,
    set_: Overrides = None,
) -> None:
    """Detect actions in validation videos with trained weights, or in testing videos for a server."""
    if test and train_:
        raise InputError("--train: must be given without --test, got both")
    check_file(out)
    from haan.predict import predict  # PyTorch
    from haan.training_folder import opened
    from haan.weights import WEIGHTS

    subset = TESTING if test else TRAINING if train_ else VALIDATION
    settings, source, annotations, videos = opened(folder, data, tuple(set_ or ()), subset)
    make_folder(out.parent)
    written = predict(settings, source, annotations, videos, folder / WEIGHTS, out, external_data)
    say(f"{len(written.found)} detections in {written.videos} videos; written to {out}")


@app.command(epilog="Example: python -m haan evaluate ground_truth.json predictions.json --tiou 0.5:0.95:0.05")
def evaluate(
    ground_truth: Annotated[Path, typer.Argument(help="ActivityNet JSON with `database`.")],
    predictions: Annotated[Path, typer.Argument(help="ActivityNet JSON with `results`.")],
    tiou: Annotated[str, typer.Option(help="Thresholds as low:high:step, or one.")] = "0.5:0.95:0.05",
    subset: Annotated[str | None, typer.Option(help="Score this subset of the ground truth alone.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Temporal mAP of predictions, in percent."""
    score = notebook.evaluate(ground_truth, predictions, tiou, subset, "--tiou")
    benchmark = score.benchmark
    warn([*_doubts(benchmark), *_nothing(score)])
    table = {f"{t:.2f}" if round(t, 2) == t else f"{t:g}": value for t, value in score.map.items()}
    if json_:
        counts = {"classes": len(benchmark.classes), "detections": len(benchmark.detections)}
        counts |= {"videos": benchmark.videos, "videos_predicted": benchmark.predicted}
        counts |= {"videos_unpredicted": benchmark.unpredicted}
        say(json.dumps({"avg_map": score.avg_map, "map": table, **counts}))
        return
    for threshold, value in table.items():
        say(f"mAP@{threshold}  {value:6.2f}")
    say(f"avg.mAP   {score.avg_map:6.2f}  ({len(benchmark.classes)} classes, {len(benchmark.detections)} detections)")
    of_them = f"{benchmark.unpredicted} of the ground truth without"
    say(f"videos    {benchmark.videos} with ground truth, {benchmark.predicted} with predictions, {of_them}")


def _doubts(benchmark: Benchmark) -> Iterator[str]:
    """What may make a score another than was meant."""
    if benchmark.strangers:
        videos = benchmark.strange_videos
        lie = f"{benchmark.strangers} predictions lie in {len(videos)} videos without ground truth and count as false"
        yield f"{lie}: {first_of(videos)}{hint(videos, benchmark.names)}"
    if benchmark.unknown:
        classes = benchmark.unknown_classes
        name = f"{benchmark.unknown} predictions name a class without ground truth and are left out"
        yield f"{name}: {first_of(classes)}{hint(classes, benchmark.classes)}"
    if benchmark.unsound:
        segments = f"{benchmark.unsound} of {len(benchmark.truth)} segments of the ground truth have end <= start"
        yield f"{segments}: they count as missed, as on ActivityNet's server"
    if benchmark.outside:
        segments = f"{benchmark.outside} of {len(benchmark.truth)} segments of the ground truth lie outside their video"
        yield f"{segments} (before 0 s, or after its duration)"
    if benchmark.unpredicted:
        videos = f"{benchmark.unpredicted} of {benchmark.videos} videos of the ground truth have no prediction"
        parts = [f"{name}: {without} of {count}" for name, (count, without) in benchmark.subsets.items() if name]
        subsets = f" ({', '.join(parts)}; --subset NAME scores one alone)" if len(parts) > 1 else ""
        yield f"{videos}, and their segments count as missed{subsets}"


def _nothing(score: notebook.Evaluation) -> Iterator[str]:
    """Why nothing was scored."""
    truth, found = score.benchmark.truth, score.benchmark.detections
    if score.avg_map == 0 and len(found):
        ends = f"predictions end by {found.end_s.max():.6g} s, the ground truth's segments by {truth.end_s.max():.6g} s"
        rule = f"no prediction has a tIoU of {min(score.map):g} with a segment of its video and class"
        yield f"an avg.mAP of 0: {rule}; {ends}"


@app.command("figures", epilog="Example: python -m haan figures trained --clips 3")
def figures_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run or training folder.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the figures; by default DIR/figures.")] = None,
    coarse: Annotated[
        str | None,
        typer.Option(
            help="Coarse class, or its index, of Figure 3 and of 5's videos; by default that of most segments."
        ),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Figure 3 of every coarse class.")] = False,
    concepts: Annotated[
        str | None, typer.Option(help="Concepts of Figure 4, as 3,17; by default the most used of the coarse class.")
    ] = None,
    clips: Annotated[int | None, typer.Option(help="Clips of each concept; by default 4.")] = None,
    videos: Annotated[
        str | None, typer.Option(help="Videos of Figure 5, as A,B; by default some with right detections.")
    ] = None,
    frames: Annotated[Path | None, typer.Option(help="Pictures: a folder VIDEO of .jpg or .png frames each.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames a second in --frames.")] = None,
    data: Annotated[Path | None, typer.Option(help="Use the data of this configuration.")] = None,
    set_: Overrides = None,
) -> None:
    """Draw the paper's Figure 5, and HAAN's 3 and 4, on validation videos with trained weights: PNG, SVG, PDF."""
    from haan.figures import choose  # Matplotlib, which no other command needs to wait for
    from haan.figures.folder import NAME
    from haan.figures.observe import observe
    from haan.methods.names import HAAN
    from haan.training_folder import opened
    from haan.weights import WEIGHTS

    wanted = choose.Wanted(
        coarse=coarse,
        all=all_,
        concepts=None if concepts is None else _whole_numbers("--concepts", concepts),
        clips=clips,
        videos=None if videos is None else tuple(name for name in videos.split(",") if name),
        frames=frames,
        fps=fps,
    )
    target = out or folder / NAME
    check_folder(target)
    settings, source, annotations, validation = opened(folder, data, tuple(set_ or ()))
    wanted.check_method(settings.method)
    seen = observe(settings, source, annotations, validation, folder / WEIGHTS)
    count = choose.write(seen, settings, wanted, folder / WEIGHTS, target)
    say(f"{count} figures of {len(validation)} validation videos; written to {target}")
    if settings.method != HAAN:
        say(f"Figures 3 and 4 are HAAN's: {settings.method} has no visual concepts")


def _whole_numbers(option: str, text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"-?[0-9]+", part) for part in parts):
        raise InputError(f"{option}: must be whole numbers with commas between, got {text!r}")
    return tuple(int(part) for part in parts)


def _counts(text: str) -> tuple[int, int]:
    parts = text.split(",")
    if len(parts) != 2 or not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise InputError(f"--videos: must be TRAIN,VALIDATION, two whole numbers > 0, got {text!r}")
    return int(parts[0]), int(parts[1])


@app.command("plant", epilog="Example: python -m haan plant --out data/planted --videos 120,40 --seed 0")
def plant_(
    out: Annotated[Path, typer.Option(help="Folder to write; it must not exist.")],
    like: Annotated[Path | None, typer.Option(help="Annotations whose real timelines to use.")] = None,
    train_videos: Annotated[int | None, typer.Option(help="How many first rows of --like train.")] = None,
    clips: Annotated[int | None, typer.Option(help="With --like: this many clips for every video.")] = None,
    videos: Annotated[str | None, typer.Option(help="TRAIN,VALIDATION: how many videos.")] = None,
    dim: Annotated[int | None, typer.Option(help="Feature size.")] = None,
    noise: Annotated[float | None, typer.Option(help="Noise of a clip, relative to an atom.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed writes the same bytes.")] = 0,
) -> None:
    """Write a data set with planted features in the `haan` layout."""
    from haan.data.plant import Like, plant  # PyTorch
    from haan.data.planted import PLANTED

    given: dict[str, float | int] = {"seed": seed}
    given |= {"dim": dim} if dim is not None else {}
    given |= {"noise": noise} if noise is not None else {}
    if videos is not None:
        given["train_videos"], given["validation_videos"] = _counts(videos)
    if clips is not None and like is None:
        raise InputError(f"--clips: must be given with --like, got {clips} without it")
    if like is not None and not like.is_dir():
        raise InputError(f"--like: must be a folder, got '{like}'")
    if (like is None) != (train_videos is None):
        raise InputError("--train-videos: must be given with --like and only with it")
    try:
        settings = Plant(**given)  # type: ignore[arg-type]  # checked by Plant itself
        chosen = None
        if like is not None and train_videos is not None:
            chosen = Like(annotations=like, train_videos=train_videos, clips=clips)
    except RuleError as error:
        raise InputError(f"--{error}") from None
    written = plant(out, settings, chosen)
    say(f"{settings.train_videos} + {settings.validation_videos} videos, {settings.dim}-d; written to {written}")
    record = read_json(written / PLANTED)  # real timelines have classes of their own
    say("settings: " + str({key: record[key] for key in asdict(settings)}))


def main() -> None:
    """`haan`, the command."""
    run(app)


if __name__ == "__main__":
    main()
