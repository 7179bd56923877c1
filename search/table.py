"""A table of the paper: `python search/table.py spaces/table2-finegym.yaml` runs and prints one in its own form.

Or one of several methods, each searched with the same budget: `python search/table.py spaces/compare-demo.yaml`.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from haan.cli import on_terminal, run_script, say, show_table, tell
from haan.errors import InputError
from haan.words import clean, seconds
from search.driver import comparing
from search.driver.request import Request, run_name
from search.driver.session import search
from search.results import comparison
from search.results.comparison import Compared
from search.results.folder import RunFolder, open_study
from search.results.papertable import cells, markdown, notes, num_names, title, write_table
from search.space.comparisons import is_comparison
from search.space.read import read_kept, read_space

_RUN_ONLY = "must stand with a space to run, not with a run folder, whose table is only printed"

EXAMPLE = "python search/table.py spaces/table-demo.yaml --name table"


def main(
    space: Annotated[
        Path, typer.Argument(metavar="SPACE", help="A file with `table:` or `compare:`, or a folder to print again.")
    ],
    name: Annotated[str | None, typer.Option(help="Name of the run; default: the space's and the time.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of all runs.")] = Path("runs"),
    time_budget: Annotated[str | None, typer.Option(help="End in order after so long, as in 90m, 1.5h or 2d.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster; default: RAY_ADDRESS, else yours here, else its own.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run of that --name.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE, as in data.root=/data.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the result.")] = False,
) -> None:
    """Run a table of the paper, a grid with seeds, and print it beside the paper's figures; or search each of several
    methods with one budget and print what that gave; or print a run's table again.
    """
    if space.is_dir():
        _only_print(space, {"--name": name, "--time-budget": time_budget, "--resume": resume, "--set": set_})
        return
    if is_comparison(space):
        if time_budget is not None:
            raise InputError(
                f"--time-budget: must not stand with a comparison, whose budget is equal, got {time_budget!r}"
            )
        if resume and name is None:
            raise InputError("--resume: must come with the --name of the comparison to go on with, got none")
        named, overrides = run_name(name, space.stem), tuple(set_ or ())
        code, made = comparing.compare(comparing.Asked(space, named, out, overrides, address, resume, quiet))
        if made is not None:
            _show_compared(made)
        sys.exit(code)
    if read_space(space, tuple(set_ or ())).table is None:
        raise InputError(f"{space}: must have the key table:, or compare:, which says what table this is, got none")
    deadline = None if time_budget is None else time.monotonic() + seconds(time_budget, "--time-budget")
    asked = Request(space, name, out, None, None, tuple(set_ or ()), resume)
    code, folder = search(asked, address, deadline, quiet, "search/table.py")
    if code != 3:  # a search that was cut short may have lines already
        _show(folder, strict=code == 0)
    sys.exit(code)


def _only_print(folder: Path, given: dict[str, object]) -> None:
    for option, value in given.items():
        if value:
            raise InputError(f"{option}: {_RUN_ONLY}, got {folder}")
    if comparison.kept_file(folder).exists():
        _show_compared(comparison.write(folder, comparison.read_kept(folder)))
        return
    _show(RunFolder(folder))


def _show(folder: RunFolder, strict: bool = True) -> None:
    """Writes and prints the table of a run folder; of a run that was cut short, as much of it as there is."""
    try:
        made = write_table(folder, read_kept(folder.space_yaml), open_study(folder))
    except InputError as error:
        if strict:
            raise
        tell(f"No table yet: {error}")
        return
    _print(title(made), cells(made), num_names(made), notes(made), markdown(made))
    say(clean(f"Table: {folder.table_md} and {folder.table_csv}"))


def _show_compared(made: Compared) -> None:
    """Prints the table of a comparison, which is written already."""
    _print(
        made.kept.title, comparison.cells(made), comparison.NUM_NAMES, comparison.notes(made), comparison.markdown(made)
    )
    say(clean(f"Table: {made.root / 'compare.md'} and {made.root / 'compare.csv'}"))


def _print(title: str, table: Sequence[Sequence[str]], names: int, said: Sequence[str], page: str) -> None:
    """A table, drawn on a terminal, elsewhere as its page has it; and an empty line around it."""
    say("")
    if on_terminal():
        say(clean(title))
        show_table([[clean(cell) for cell in row] for row in table], texts=names)
        for note in said:
            tell(clean(note))
    else:
        for line in page.splitlines():
            say(clean(line))
    say("")


if __name__ == "__main__":
    run_script(main, EXAMPLE)
