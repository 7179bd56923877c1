"""What the user asked for. Light: a laptop that only sends it on imports no PyTorch."""

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import yaml

from haan.errors import InputError
from haan.yamlconfig import read_tree
from search.results.folder import RunFolder
from search.space import confirmkeys, rhythm
from search.space.model import Space
from search.space.read import STORAGE, space_of, space_tree

AGAIN = "HAAN_SEARCH_AGAIN"  # in a driver's environment: the laptop's command that goes on with its search


@dataclass(frozen=True)
class Request:
    """What the user asked for. overrides: `KEY=VALUE` each. None: the space's own, or for `name` one with the time.

    official_seeds: in place of `search.confirm.official_seeds`.
    """

    path: Path
    name: str | None
    out: Path
    trials: int | None
    seed: int | None
    overrides: tuple[str, ...]
    resume: bool
    official_seeds: int | None = None

    def options(self, name: str, time_budget: str | None, quiet: bool) -> tuple[str, ...]:
        """What a driver elsewhere is given beside the space and the folder of all runs."""
        given: list[tuple[str, object]] = [("--name", name), ("--trials", self.trials), ("--seed", self.seed)]
        given += [("--official-seeds", self.official_seeds), ("--time-budget", time_budget)]
        given += [("--set", one) for one in self.overrides]
        words = tuple(word for key, value in given if value is not None for word in (key, str(value)))
        return words + (("--quiet",) if quiet else ())


def taken(folder: RunFolder) -> InputError:
    """Why a new run can't have that folder."""
    rule = "--name must be of a run that does not exist yet, unless --resume goes on with it"
    return InputError(f"{folder.root}: {rule}, got one that does")


def named(asked: Request) -> tuple[Space, str, yaml.MappingNode]:
    """The space, the name of its run, and the space's nodes. Raises InputError."""
    if asked.trials is not None and asked.trials < 1:
        raise InputError(f"--trials: must be >= 1, got {asked.trials}")
    if asked.resume and asked.name is None:
        raise InputError("--resume: must come with the --name of the run to go on with, got none")
    space, tree = _space(asked)
    if space.plan.storage is None and os.environ.get(STORAGE):  # set on a cluster's nodes, and kept with the run
        space, tree = _space(asked, os.environ[STORAGE])
    return space, run_name(asked.name, space.name), tree


def run_name(asked: str | None, stem: str) -> str:
    """The name asked for, else one with the time. Raises InputError where no folder can be called so."""
    name = asked or f"{stem}-{datetime.now():%Y%m%d-%H%M%S}"
    if Path(name).name != name or name in ("", ".", ".."):
        raise InputError(f"--name: must be a plain folder name, got {name!r}")
    return name


def _space(asked: Request, storage: str | None = None) -> tuple[Space, yaml.MappingNode]:
    """The space and its nodes, which say all that the run will have to know of it. Raises InputError."""
    trials = () if asked.trials is None else (f"search.trials={asked.trials}",)
    tree = space_tree(asked.path, (*asked.overrides, *trials), asked.seed, storage)
    if asked.official_seeds is not None:
        confirmkeys.set_official_seeds(tree, asked.official_seeds)
    before = RunFolder(asked.out / (asked.name or "")).space_yaml
    begun = read_tree(before) if asked.resume and before.exists() else None
    older = begun is not None and not confirmkeys.said(begun)
    if not older:
        confirmkeys.say(tree)
    follow = begun is None or rhythm.said(begun)
    return rhythm.keep(space_of(tree, asked.path.stem, kept=older, follow=follow), tree), tree
