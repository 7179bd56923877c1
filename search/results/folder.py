"""Every path inside runs/NAME/."""

from dataclasses import dataclass
from pathlib import Path

import optuna

from haan.errors import InputError
from haan.figures.folder import NAME, FigureFolder
from haan.yamlconfig import BEST
from search.results.jobfolder import JOBS, JobFolder
from search.study import journal


@dataclass(frozen=True)
class RunFolder:
    """One run's folder."""

    root: Path

    @property
    def name(self) -> str:
        """The run's."""
        return self.root.resolve().name

    @property
    def is_run(self) -> bool:
        """Whether it is a run's, or is empty, as a driver leaves it that was killed in its first moment.

        Jobs that are to start a search lie there before it.
        """
        return self.is_begun or (self.root.is_dir() and all(one.name == JOBS for one in self.root.iterdir()))

    @property
    def is_begun(self) -> bool:
        """Whether a driver has been there."""
        return any(mark.exists() for mark in (self.lock, self.space_yaml, self.journal))

    @property
    def jobs(self) -> JobFolder:
        """Of those that Slurm starts for it."""
        return JobFolder(self.root / JOBS)

    @property
    def space_yaml(self) -> Path:
        """The space as run."""
        return self.root / "space.yaml"

    @property
    def journal(self) -> Path:
        """The Optuna study."""
        return self.root / "study.journal"

    @property
    def confirm_journal(self) -> Path:
        """A study of its own for the confirmation, so that study.journal holds one."""
        return self.root / "confirm.journal"

    @property
    def lock(self) -> Path:
        """Held by the driver."""
        return self.root / "driver.lock"

    @property
    def trials_csv(self) -> Path:
        """A row a trial."""
        return self.root / "trials.csv"

    @property
    def confirm_csv(self) -> Path:
        """A row a configuration and seed."""
        return self.root / "confirm.csv"

    @property
    def curves_csv(self) -> Path:
        """A row an epoch of a trial or of a repetition."""
        return self.root / "curves.csv"

    @property
    def curves(self) -> Path:
        """The same for TensorBoard, a folder a run."""
        return self.root / "curves"

    @property
    def best_yaml(self) -> Path:
        """The winning configuration; its weights lie beside it."""
        return self.root / BEST

    @property
    def classes_csv(self) -> Path:
        """A row a fine class: what the winner and the base score on it."""
        return self.root / "classes.csv"

    @property
    def predictions(self) -> Path:
        """The winner's detections."""
        return self.root / "predictions.json"

    @property
    def figures(self) -> FigureFolder:
        """The paper's figures of the winner, once `python -m haan figures` has drawn them."""
        return FigureFolder(self.root / NAME)

    @property
    def report(self) -> Path:
        """What the search found, as one page."""
        return self.root / "report.html"

    @property
    def table_md(self) -> Path:
        """The run as a table of the paper, in Markdown; a row a figure beside it."""
        return self.root / "table.md"

    @property
    def table_csv(self) -> Path:
        """The same figures, one a row."""
        return self.root / "table.csv"

    @property
    def log(self) -> Path:
        """What Ray, Optuna and Python's warnings say."""
        return self.root / "log" / "search.log"


def open_study(folder: RunFolder) -> optuna.Study:
    """The study of a run folder. Raises InputError."""
    if not folder.journal.exists():
        raise InputError(f"{folder.journal}: no such file; name the folder of a search")
    study = journal.load(folder.journal)
    if study is None:
        raise InputError(f"{folder.journal}: must hold a study, got none; the search ended before it began")
    return study
