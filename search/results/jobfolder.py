"""Every path inside runs/NAME/slurm/: what the jobs of a run that Slurm starts leave for each other."""

from dataclasses import dataclass
from pathlib import Path

from haan.files import make_folder

JOBS = "slurm"  # the folder, in that of its run


@dataclass(frozen=True)
class JobFolder:
    """What a run's jobs share. It holds a secret, so nobody else may look into it."""

    root: Path

    def make(self) -> None:
        """Makes the folder and those below it, for its user alone."""
        make_folder(self.root.parent)
        self.root.mkdir(mode=0o700, exist_ok=True)
        self.root.chmod(0o700)  # one that was there, and whatever the umask is
        for folder in (self.jobs, self.notes, self.orders, self.space):
            folder.mkdir(mode=0o700, exist_ok=True)

    @property
    def token(self) -> Path:
        """Ray's token of this run, which only its user may read."""
        return self.root / "token"

    @property
    def plan(self) -> Path:
        """What the jobs do."""
        return self.root / "plan.json"

    @property
    def space(self) -> Path:
        """A folder with the space as it was handed in."""
        return self.root / "space"

    def script(self, role: str) -> Path:
        """The job script of a role: driver, worker or together."""
        return self.root / f"{role}.sh"

    @property
    def jobs(self) -> Path:
        """A folder with an empty file a job, its name `driver-ID` or `workers-ID`."""
        return self.root / "jobs"

    @property
    def notes(self) -> Path:
        """A folder with a line a job that could not do its work: why."""
        return self.root / "notes"

    @property
    def told(self) -> Path:
        """The jobs of which that was shown."""
        return self.root / "told"

    @property
    def orders(self) -> Path:
        """A folder with a file a job that was given a signal; its name is the job's."""
        return self.root / "orders"

    @property
    def address(self) -> Path:
        """Where the head answers; there as long as it does."""
        return self.root / "address"

    @property
    def out(self) -> Path:
        """What all drivers say, one after the other."""
        return self.root / "driver.out"

    @property
    def queue(self) -> Path:
        """What squeue says of the workers' jobs, as the driver's job sees it now and then."""
        return self.root / "queue"

    @property
    def release(self) -> Path:
        """Jobs that the search has no use for; the driver's job script takes it away."""
        return self.root / "release"

    @property
    def ended(self) -> Path:
        """The exit code of the search, once it has ended for good."""
        return self.root / "ended"

    @property
    def spent(self) -> Path:
        """For how many seconds earlier drivers searched."""
        return self.root / "spent"

    def ids(self, kind: str) -> list[str]:
        """The jobs of a kind, driver or workers, the oldest first."""
        names = [one.name for one in self.jobs.iterdir()] if self.jobs.is_dir() else []
        return sorted((name.partition("-")[2] for name in names if name.startswith(f"{kind}-")), key=int)

    def note_job(self, kind: str, job: str) -> None:
        """Remembers a job."""
        (self.jobs / f"{kind}-{job}").touch()
