"""What replays cost: `python -m tests.benchmarks.replay [--trials 2000] [--workers 64]`.

A pool of 200 made-up curves of 18 epochs, 2 s each, in the demo's space. For each sampler and pruner it prints virtual
hours of all workers per CPU second, and what the study itself takes, in real time, for a report and to begin or end a
trial.
"""

import argparse
import time

import optuna

from search.replays.pool import Pool, read_pool
from search.replays.simulation import Replay, simulate
from search.space.model import Space
from search.space.read import read_space
from search.study.algorithms import Component, make_pruner, make_sampler
from search.study.study import Study
from tests.paths import ROOT
from tests.search.curves import record

POOL, EPOCHS, EPOCH_S = 200, 18, 2.0
RANDOM, TPE = Component("random", {}), Component("tpe", {})
NONE = Component("none", {})
HALVING = Component("successive_halving", {"min_resource": 3, "reduction_factor": 3})
HYPERBAND = Component("hyperband", {"min_resource": 3, "reduction_factor": 3})
MEDIAN = Component("median", {"n_warmup_steps": 3})
SETUPS = ((RANDOM, NONE), (RANDOM, HALVING), (RANDOM, HYPERBAND), (RANDOM, MEDIAN), (TPE, NONE), (TPE, HYPERBAND))


def create(space: Space, sampler: Component, pruner: Component) -> Study:
    """A study in memory, as `search.replay` makes it."""
    return Study.create(
        name="demo",
        journal=None,
        sampler=make_sampler(sampler, 0, space.parameters),
        pruner=make_pruner(pruner, EPOCHS),
        parameters=space.parameters,
        epochs=EPOCHS,
    )


def made_up_pool(space: Space) -> Pool:
    """Complete trials at random places of the space."""
    study = create(space, RANDOM, NONE)
    for curve in record(POOL, EPOCHS):
        number = study.ask().number
        for epoch, value in enumerate(curve, start=1):
            study.report(number, epoch, value)
        study.complete(number, {"seconds": EPOCH_S * EPOCHS, "epochs": EPOCHS})
    return read_pool(study.trials(), space, "made up")


def run(trials: int, workers: int, setup: tuple[Component, Component]) -> tuple[Replay, float]:
    """One replay of one setup, and its CPU seconds: they hold on a busy machine."""
    space = read_space(ROOT / "spaces" / "demo.yaml")
    study, pool = create(space, *setup), made_up_pool(space)
    began = time.process_time()
    return simulate(study, pool, trials, workers), time.process_time() - began


def row(setup: tuple[Component, Component], one: Replay, cpu_s: float) -> list[str]:
    """The table's cells."""
    costs = one.costs
    return [
        " + ".join(part.name for part in setup),
        f"{cpu_s:.1f}",
        f"{one.busy_s / 3600 / cpu_s:.3g}",
        str(costs.reports),
        f"{1e6 * costs.report_s / costs.reports:.0f}",
        f"{1e3 * costs.other_s / costs.others:.2f}",
        f"{100 * one.pruned / one.trials:.0f}",
    ]


def say(cells: list[str]) -> None:
    """One aligned line, at once."""
    print(cells[0].ljust(28), *(cell.rjust(16) for cell in cells[1:]), flush=True)


def main() -> None:
    """Prints the table, a row as soon as it is known."""
    parser = argparse.ArgumentParser(description="What replays cost.", epilog="Example: --trials 10000 --workers 64")
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=64)
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print(f"{given.trials} trials of {EPOCHS} epochs, {given.workers} workers")
    say(["", "CPU s", "hours / CPU s", "reports", "us a report", "ms to begin, end", "pruned %"])
    for setup in SETUPS:
        say(row(setup, *run(given.trials, given.workers, setup)))


if __name__ == "__main__":
    main()
