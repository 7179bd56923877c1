"""What a search found, as one page that needs no network: `python search/report.py runs/demo`; run.py ends with it.

Of several runs it compares what they won, how fast, and their settings; `haan-search runs` lists those that there are.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from haan.cli import run_script, say, show_table, tell, warn

EXAMPLE = "python search/report.py runs/demo"


def main(
    run_folders: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="A run folder, such as runs/demo; several are compared.")
    ],
) -> None:
    """Write a run's report.html anew: one file that needs no network. Several runs are compared instead."""
    from search.page.page import write_report  # these take seconds, which --help does not wait for
    from search.results import listing
    from search.results.folder import RunFolder, open_study
    from search.space.read import read_kept
    from search.study import journal

    folders = [RunFolder(one) for one in run_folders]
    for folder in folders:
        study = open_study(folder)
        if len(folders) == 1:
            goes_on = journal.is_driven(folder.lock)
            say(f"written to {write_report(folder, read_kept(folder.space_yaml), study, goes_on)}")
    if len(folders) > 1:
        known = [listing.listed(folder) for folder in folders]
        tables = (listing.gathered(known), listing.by_epoch(known), listing.differing(known))
        _show([listing.overview(known), *filter(None, tables)], (*listing.NOTES, *listing.CURVES_NOTES))
        warn(listing.incomparable(known))


def runs(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the runs lie.")] = Path("runs"),
) -> None:
    """List the runs in a folder: how each stands, and what it won."""
    from search.results import listing  # takes seconds, which --help does not wait for

    _show([listing.overview([listing.listed(one) for one in listing.runs_below(folder)])], listing.NOTES)


def _show(tables: Sequence[list[list[str]]], notes: Sequence[str]) -> None:
    for table in tables:
        show_table(table, texts=len(table[0]))
        say("")
    for line in notes:
        tell(line)


if __name__ == "__main__":
    run_script(main, EXAMPLE)
