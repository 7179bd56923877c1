"""Replays the recorded curves of a run under other samplers, pruners and another number of workers, in virtual time.

`search.replays.pool` says which curve a proposed trial gets, `search.replays.simulation` how virtual time passes. No
replay finds anything better than its pool holds, and a pool of few trials says little.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import optuna
import typer

from haan.cli import python, run_script
from haan.errors import InputError
from search.replays.compare import REPEATS, compare, setups
from search.results.folder import RunFolder, open_study
from search.study.algorithms import PRUNERS, SAMPLERS

_COMPONENTS = "{}; or YAML as in a space. Several: with commas between, or the option again. Default: the run's."
EXAMPLE = "python search/replay.py runs/demo --pruner '{name: median, n_warmup_steps: 6}' --workers 64"


def main(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, such as runs/demo.")],
    sampler: Annotated[list[str] | None, typer.Option(help=_COMPONENTS.format(", ".join(SAMPLERS)))] = None,
    pruner: Annotated[list[str] | None, typer.Option(help=_COMPONENTS.format(", ".join(PRUNERS)))] = None,
    workers: Annotated[str, typer.Option(metavar="INTEGER", help="Trials at once.")] = "8",
    trials: Annotated[int | None, typer.Option(help="Trials in each replay. Default: the run's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the first repeat. Default: the run's.")] = None,
    repeats: Annotated[int, typer.Option(help="Replays of each setup, with one seed after another.")] = REPEATS,
    level: Annotated[
        float | None, typer.Option(help="avg.mAP to be reached. Default: 99 % of the best recorded.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Replay a run's recorded curves under other samplers, pruners and another number of workers, in virtual time.

    Compares the run's own sampler and pruner, all pairs of those asked for, and random search without pruning: how long
    each takes, how many trial-epochs it trains, and when a first trial completes at a level. A proposed trial
    gets the curve of the recorded trial that is nearest in the space; a pruned trial's curve goes on like that of the
    nearest complete one. So nothing better than the best recorded trial can be found, and few trials tell little.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    count = _count(workers, run_folder)
    if repeats < 1:
        raise InputError(f"--repeats: must be >= 1, got {repeats}")
    if level is not None and not 0 < level <= 100:
        raise InputError(f"--level: must be > 0 and <= 100, got {level:g}")
    folder = RunFolder(run_folder)
    recorded = open_study(folder)
    asked = setups(folder.space_yaml, _each(sampler or ()), _each(pruner or ()), trials, seed)
    compare(folder, recorded, asked, count, repeats, level, as_json)


def _each(given: Sequence[str]) -> list[str]:
    """What an option names, once or several times; in one text with commas between, but for those within braces."""
    found = []
    for text in given:
        depth, start = 0, 0
        for place, letter in enumerate(text):
            depth += (letter in "{[") - (letter in "}]")
            if letter == "," and depth == 0:
                found.append(text[start:place])
                start = place + 1
        found.append(text[start:])
    return found


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
