"""Replays the recorded curves of a run under another sampler, pruner and number of workers, in virtual time.

`search.replays.pool` says which curve a proposed trial gets, `search.replays.simulation` how virtual time passes. With
several numbers of workers the driver's own cost is counted as well: `search.replays.plan`. No replay finds anything
better than its pool holds, and a pool of few trials says little.
"""

import math
from pathlib import Path
from typing import Annotated

import optuna
import typer

from haan.cli import run
from haan.errors import InputError
from search.replays import plan
from search.replays.compare import REPEATS, compare, plan_workers, setups
from search.replays.simulation import Driver
from search.results.folder import RunFolder, open_study
from search.space.read import read_space


def main(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, such as runs/demo.")],
    sampler: Annotated[str | None, typer.Option(help="A name, or YAML as in a space. Default: the run's.")] = None,
    pruner: Annotated[str | None, typer.Option(help="A name, or YAML as in a space. Default: the run's.")] = None,
    workers: Annotated[
        str, typer.Option(help="Trials at once; with several numbers (8,64,1000) a plan for them.")
    ] = "8",
    trials: Annotated[
        int | None, typer.Option(help="Trials in each replay. Default: the run's; in a plan at least two a worker.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the first repeat. Default: the run's.")] = None,
    repeats: Annotated[
        int | None, typer.Option(help="Replays of each setup, with one seed after another. Default: 5, in a plan 1.")
    ] = None,
    epoch_seconds: Annotated[
        float | None, typer.Option(help="In a plan: what the median epoch lasts. Default: as recorded.")
    ] = None,
    driver_ms: Annotated[
        float | None, typer.Option(help=f"In a plan: Ray Tune's time for a result. Default: {plan.RESULT_MS}.")
    ] = None,
    turnover_ms: Annotated[
        float | None,
        typer.Option(help=f"In a plan: Ray Tune's time to end a trial and begin one. Default: {plan.TURNOVER_MS}."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="In a plan: an SVG to draw it into.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Replay a run's recorded curves under another sampler, pruner and number of workers, in virtual time.

    Compares the run's own sampler and pruner, those asked for, and random search without pruning. A proposed trial
    gets the curve of the recorded trial that is nearest in the space; a pruned trial's curve goes on like that of the
    nearest complete one. So nothing better than the best recorded trial can be found, and few trials tell little.

    With several numbers of workers: a plan. The driver is one process whose time counts too, so workers wait for it.
    The table says at how many workers it is always at work, and what is lost against a serial search.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    counts = _counts(workers)
    given = {"--repeats": repeats, "--epoch-seconds": epoch_seconds}
    for option, value in given.items():
        if value is not None and not (value >= 1 if option == "--repeats" else 0 < value < math.inf):
            raise InputError(f"{option}: must be {'>= 1' if option == '--repeats' else '> 0'}, got {value}")
    of_plan = {"--epoch-seconds": epoch_seconds, "--driver-ms": driver_ms, "--turnover-ms": turnover_ms, "--plot": plot}
    for option, value in of_plan.items():
        if value is not None and len(counts) == 1:
            raise InputError(f"{option}: must stand with several --workers, got {workers}; give such as 8,64,1000")
    folder = RunFolder(run_folder)
    recorded = open_study(folder)
    if len(counts) > 1:
        cost = Driver(
            result_s=_ms("--driver-ms", driver_ms, plan.RESULT_MS),
            trial_s=_ms("--turnover-ms", turnover_ms, plan.TURNOVER_MS),
            study=True,
        )
        least = plan.TRIALS_A_WORKER * max(counts)
        budget = max(least, read_space(folder.space_yaml).plan.trials) if trials is None else trials
        asked = setups(folder.space_yaml, sampler, pruner, budget, seed)
        setup = next((one for one in asked if one.name == "asked for"), asked[0])
        plan_workers(folder, recorded, setup, counts, repeats or 1, epoch_seconds, cost, plot, as_json)
        return
    compared = setups(folder.space_yaml, sampler, pruner, trials, seed)
    compare(folder, recorded, compared, counts[0], REPEATS if repeats is None else repeats, as_json)


def _counts(text: str) -> list[int]:
    """Numbers of workers, by size, each once. Raises InputError."""
    try:
        counts = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise InputError(f"--workers: must be numbers such as 8 or 8,64,1000, got {text!r}") from None
    if counts[0] < 1:
        raise InputError(f"--workers: must be >= 1, got {counts[0]}")
    return counts


def _ms(option: str, given: float | None, default: float) -> float:
    """Seconds from an option in milliseconds. Raises InputError."""
    found = default if given is None else given
    if not 0 <= found < math.inf:
        raise InputError(f"{option}: must be >= 0, got {found}")
    return found / 1e3


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    example = "python search/replay.py runs/demo --pruner '{name: hyperband, min_resource: 3}' --workers 64"
    app.command(epilog=f"Example: {example}")(main)
    run(app)
