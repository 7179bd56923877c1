"""Every path inside runs/NAME/."""

from dataclasses import dataclass
from pathlib import Path

from search.trial import WEIGHTS

TRIALS = "trials"


@dataclass(frozen=True)
class RunFolder:
    """One run's folder."""

    root: Path

    @property
    def space_yaml(self) -> Path:
        """The space as run."""
        return self.root / "space.yaml"

    @property
    def journal(self) -> Path:
        """The Optuna study."""
        return self.root / "study.journal"

    @property
    def trials_csv(self) -> Path:
        """A row a trial."""
        return self.root / "trials.csv"

    @property
    def best_yaml(self) -> Path:
        """The winning configuration."""
        return self.root / "best.yaml"

    @property
    def log(self) -> Path:
        """What Ray, Optuna and Python's warnings say."""
        return self.root / "log" / "search.log"

    def weights_of(self, number: int) -> Path | None:
        """Best weights of a finished trial, where the checkpoint lies on this machine."""
        found = sorted((self.root / TRIALS).glob(f"{trial_folder(number)}/checkpoint_*/{WEIGHTS}"))
        return found[-1] if found else None


def trial_folder(number: int) -> str:
    """The name of a trial's folder."""
    return f"trial-{number:05d}"
