"""What a search found, as one page that needs no network: `python search/report.py runs/demo`; run.py ends with it."""

from pathlib import Path
from typing import Annotated

import typer

from haan.cli import run_script, say
from search.page.page import write_report
from search.results.folder import RunFolder, open_study
from search.space.read import read_space

EXAMPLE = "python search/report.py runs/demo"


def main(run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, such as runs/demo.")]) -> None:
    """Write a run's report.html anew: one file that needs no network."""
    folder = RunFolder(run_folder)
    study = open_study(folder)
    say(f"written to {write_report(folder, read_space(folder.space_yaml), study)}")


if __name__ == "__main__":
    run_script(main, EXAMPLE)
