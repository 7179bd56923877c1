"""A run folder in Python, for notebooks: `search.load_run("runs/demo")`."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import optuna
import pandas as pd
from optuna.trial import FrozenTrial

from haan.config import Config
from search.results import classes, confirm, curves, trialscsv, winner
from search.results.confirm import Confirmation
from search.results.folder import RunFolder, open_study
from search.space.model import Space
from search.space.read import read_kept


@dataclass(frozen=True)
class Run:
    """What a search found, as it stood when it was read; each part is read when it is asked for.

    folder: its files, by name. space: as run. study: Optuna's; it is true of a run that goes on, too.
    """

    folder: RunFolder
    space: Space
    study: optuna.Study

    @property
    def name(self) -> str:
        """Of the run."""
        return self.folder.root.name

    @cached_property
    def trials(self) -> pd.DataFrame:
        """A row a trial, as trials.csv has it; avg.mAP in percent."""
        return trialscsv.table(self.space, self.study.get_trials(deepcopy=False))

    @cached_property
    def curves(self) -> pd.DataFrame:
        """A row an epoch of each trial and repetition, as curves.csv has it; no rows where a run left none."""
        return curves.read(self.folder)

    @cached_property
    def classes(self) -> pd.DataFrame:
        """A row a fine class, as classes.csv has it: average precision in percent; no rows where a run left none."""
        found = classes.read(self.folder)
        return pd.DataFrame() if found is None else found.rows

    @cached_property
    def confirmation(self) -> Confirmation:
        """The best and the base with new seeds, and the runs on all training videos. Raises InputError."""
        return confirm.read_confirmation(self.folder, self.space, self.study)

    @cached_property
    def winner(self) -> FrozenTrial | None:
        """The trial that won: by its mean over new seeds, once all of them have run. None before one is COMPLETE."""
        trials = self.study.get_trials(deepcopy=False)
        return None if winner.no_choice(trials) else confirm.winner(self.space, trials, self.confirmation)

    @cached_property
    def best(self) -> Config | None:
        """The winner's configuration, complete, as it was searched; best.yaml has it as it was trained last."""
        return winner.trial_config(self.space, self.winner) if self.winner is not None else None


def load_run(folder: str | Path) -> Run:
    """A run folder, finished, interrupted or under way. Raises InputError where it holds no search."""
    place = RunFolder(Path(folder))
    study = open_study(place)
    return Run(place, read_kept(place.space_yaml), study)
