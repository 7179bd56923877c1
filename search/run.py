"""The main job: `python search/run.py spaces/demo.yaml`. Read it top to bottom."""

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from haan.cli import run_script
from haan.errors import InputError
from haan.words import seconds
from search.driver.request import Request

EXAMPLE = "python search/run.py spaces/demo.yaml --trials 8 --name first"


def main(
    space: Annotated[Path, typer.Argument(help="A search space, such as spaces/demo.yaml.")],
    name: Annotated[str | None, typer.Option(help="Name of the run; default: the space's and the time.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of all runs.")] = Path("runs"),
    trials: Annotated[int | None, typer.Option(help="How many trials, in place of search.trials.")] = None,
    time_budget: Annotated[str | None, typer.Option(help="End in order after so long, as in 90m, 1.5h or 2d.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster; default: RAY_ADDRESS, else yours here, else its own.")
    ] = None,
    cluster_file: Annotated[
        Path | None,
        typer.Option(
            "--cluster", help="Run on the cluster of that `ray up` file, or on Slurm by such a file, detached."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run of that --name.")] = False,
    seed: Annotated[int | None, typer.Option(help="Seed of training and sampler, in place of base.seed.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE, as in data.root=/data.")] = None,
    official_seeds: Annotated[
        int | None, typer.Option(help="Seeds of the winner and the base on all training videos.")
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="Earlier runs to learn from: runs/A,runs/B; for search.learn_from.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the result.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check all, time an epoch, and say the plan.")] = False,
) -> None:
    """Search, prune, confirm over seeds, and export the best configuration of a space."""
    deadline = None if time_budget is None else time.monotonic() + seconds(time_budget, "--time-budget")
    learned = () if from_ is None else (f"search.learn_from={json.dumps(from_.split(','))}",)
    asked = Request(space, name, out, trials, seed, (*(set_ or ()), *learned), resume, official_seeds)
    if cluster_file is not None:
        if address is not None:
            raise InputError(f"--address: must not stand beside --cluster, which says where to run, got {address!r}")
        from search.remote import clusterfile

        if clusterfile.is_for_slurm(cluster_file):
            from search.remote.slurm import submit
        else:
            from search.remote.submit import submit  # Ray's launcher is not installed everywhere

        sys.exit(submit(asked, cluster_file, time_budget, quiet, dry_run))
    from search.driver.session import search, show_plan  # with PyTorch, which a laptop that only submits can do without

    if dry_run:
        show_plan(asked, address, quiet)
        return
    code, _ = search(asked, address, deadline, quiet)
    sys.exit(code)


if __name__ == "__main__":
    run_script(main, EXAMPLE)
