"""The winner leaves: best.yaml, which anyone can train again, its weights and its detections. Also a command line."""

from pathlib import Path
from typing import Annotated

import typer

from haan.cli import run_script, say
from haan.errors import InputError

EXAMPLE = "python search/export.py runs/demo --trial 0 --to base.yaml"


def main(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, such as runs/demo.")],
    trial: Annotated[int | None, typer.Option(help="This trial as searched, instead of the winner.")] = None,
    to: Annotated[Path | None, typer.Option(help="Write here instead of RUN/best.yaml.")] = None,
) -> None:
    """Export a search's best configuration again, or another trial's, with its weights and detections."""
    from haan.data.readers import open_data  # these take seconds, which --help does not wait for
    from haan.yamlconfig import read_config
    from search.results import classescsv, export
    from search.results.folder import RunFolder, open_study
    from search.space.read import read_kept

    folder = RunFolder(run_folder)
    study = open_study(folder)
    space = read_kept(folder.space_yaml)
    chosen = export.write_config(folder, space, study, trial, to)
    target = to or folder.best_yaml
    weights = target.with_suffix(".safetensors")
    files = f"{target}, its weights to {weights}" if weights.exists() else str(target)
    say(f"trial {chosen.number}, avg.mAP {chosen.value:.3f}; written to {files}")
    try:
        source, annotations, _ = open_data(space.base.data)
    except InputError as error:
        say(f"no predictions written: {error}")
        return
    written = export.write_predictions(target, read_config(target), source, annotations)
    if written is None:
        say("no weights and no predictions: its checkpoint is not there")
        return
    say(f"detections written to {written.path}")
    if target == folder.best_yaml and trial is None:
        missing = classescsv.write_csv(folder, space, study, written.found, source, annotations)
        say(f"figures by class written to {folder.classes_csv}" + (f", {missing}" if missing else ""))


if __name__ == "__main__":
    run_script(main, EXAMPLE)
