"""Replays the recorded curves of a run under another sampler, pruner and number of workers, in virtual time.

`search.replays.pool` says which curve a proposed trial gets, `search.replays.simulation` how virtual time passes. No
replay finds anything better than its pool holds, and a pool of few trials says little.
"""

from pathlib import Path
from typing import Annotated

import optuna
import typer

from haan.cli import python, run_script
from haan.errors import InputError
from search.replays.compare import REPEATS, compare, setups
from search.results.folder import RunFolder, open_study

EXAMPLE = "python search/replay.py runs/demo --pruner '{name: hyperband, min_resource: 3}' --workers 64"


def main(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, such as runs/demo.")],
    sampler: Annotated[str | None, typer.Option(help="A name, or YAML as in a space. Default: the run's.")] = None,
    pruner: Annotated[str | None, typer.Option(help="A name, or YAML as in a space. Default: the run's.")] = None,
    workers: Annotated[str, typer.Option(metavar="INTEGER", help="Trials at once.")] = "8",
    trials: Annotated[int | None, typer.Option(help="Trials in each replay. Default: the run's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the first repeat. Default: the run's.")] = None,
    repeats: Annotated[int, typer.Option(help="Replays of each setup, with one seed after another.")] = REPEATS,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Replay a run's recorded curves under another sampler, pruner and number of workers, in virtual time.

    Compares the run's own sampler and pruner, those asked for, and random search without pruning. A proposed trial
    gets the curve of the recorded trial that is nearest in the space; a pruned trial's curve goes on like that of the
    nearest complete one. So nothing better than the best recorded trial can be found, and few trials tell little.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    count = _count(workers, run_folder)
    if repeats < 1:
        raise InputError(f"--repeats: must be >= 1, got {repeats}")
    folder = RunFolder(run_folder)
    recorded = open_study(folder)
    compare(folder, recorded, setups(folder.space_yaml, sampler, pruner, trials, seed), count, repeats, as_json)


def _count(workers: str, run_folder: Path) -> int:
    """One number of workers. Raises InputError, which says where several belong."""
    if "," in workers:
        several = f"for several: {python('-m', 'tests.benchmarks.scale', run_folder, '--workers', workers)}"
        raise InputError(f"--workers: must be one whole number, got {workers!r}; {several}")
    try:
        count = int(workers)
    except ValueError:
        raise InputError(f"--workers: must be one whole number, got {workers!r}") from None
    if count < 1:
        raise InputError(f"--workers: must be >= 1, got {count}")
    return count


if __name__ == "__main__":
    run_script(main, EXAMPLE)
