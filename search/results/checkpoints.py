"""Where trials keep their checkpoints: below the run folder, or in a place that all nodes reach."""

import re
from dataclasses import dataclass
from pathlib import Path

from pyarrow.fs import FileSelector, FileSystem, FileType, copy_files

from haan.files import whole
from search.results.folder import RunFolder
from search.space.model import Space

RESULT = "result.json"
_CHECKPOINT = re.compile(r"checkpoint_(\d+)")


FOLDER = "trials"  # of all checkpoints of a run
TRIAL, AGAIN = "trial", "confirm"  # what the folders of the search's trials are called, and of their repetitions
_OLD_AGAIN = "confirm"  # a folder of its own that older versions had for repetitions, there called as trials are


def below(place: str, name: str) -> str:
    """A folder below a place, which is a folder or a URI; of an S3 server other than AWS's a URI has `?options`."""
    path, mark, options = place.partition("?") if "://" in place else (place, "", "")
    return f"{path.rstrip('/')}/{name}{mark}{options}"


def trial_folder(number: int, session: int, kind: str = TRIAL) -> str:
    """The name of a trial's folder; each driver writes into its own, so that none writes over another's checkpoint."""
    return f"{kind}-{number:05d}" + (f"-{session}" if session > 1 else "")


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of all trials of one study.

    place: an absolute folder or a URI such as s3://bucket/run/trials, its ?options included. sessions: how many drivers
    the run has had, which spares listing the folders of all trials to find one's: 40 ms of CPU for 10,000. None where
    that isn't known. kind: what their folders are called. older: those of the same trials that an older version left.
    """

    place: str
    sessions: int | None = None
    kind: str = TRIAL
    older: "Checkpoints | None" = None

    def of(self, number: int) -> list[str]:
        """The checkpoint folders of a trial as `FileSystem.from_uri` takes them, the newest first."""
        head, mark, rest = self.place.partition("://")
        scheme = head + mark if mark else ""
        options = "".join(rest.partition("?")[1:])
        return [f"{scheme}{path}{options}" for path in self.paths(number)]

    def fetch(self, number: int, name: str, to: Path) -> bool:
        """Copies a file of a trial's newest checkpoint that has it; whether there was one. Raises OSError."""
        system, _ = FileSystem.from_uri(self.place)
        for path in self.paths(number):
            if system.get_file_info(f"{path}/{name}").type == FileType.File:
                with whole(to) as partial:
                    copy_files(f"{path}/{name}", str(partial.resolve()), source_filesystem=system)
                return True
        return False

    def remove(self, number: int, keep: int) -> None:
        """Removes a trial's checkpoints but the newest so many. Raises OSError."""
        system, _ = FileSystem.from_uri(self.place)
        for path in self.paths(number)[keep:]:
            system.delete_dir(path)

    def paths(self, number: int) -> list[str]:
        """The checkpoint folders of a trial on their own file system, the newest first."""
        system, root = FileSystem.from_uri(self.place)
        if self.sessions is None:
            folders = system.get_file_info(FileSelector(root, allow_not_found=True))
        else:
            sessions = range(1, self.sessions + 1)
            names = [trial_folder(number, session, self.kind) for session in sessions]
            folders = system.get_file_info([f"{root}/{name}" for name in names])
        found = []
        for folder in folders:
            match = re.fullmatch(rf"{self.kind}-{number:05d}(?:-(\d+))?", folder.base_name)
            if match is None or folder.type != FileType.Directory:
                continue
            for one in system.get_file_info(FileSelector(folder.path, allow_not_found=True)):
                index = _CHECKPOINT.fullmatch(one.base_name)
                if index and one.type == FileType.Directory:
                    found.append(((int(match[1] or 1), int(index[1])), one.path))
        return [path for _, path in sorted(found, reverse=True)] + (self.older.paths(number) if self.older else [])


def of_run(place: str, kind: str, sessions: int | None = None) -> Checkpoints:
    """The checkpoints of the trials of one kind in a run, whose place is a folder or a URI."""
    older = Checkpoints(below(place, _OLD_AGAIN), sessions) if kind == AGAIN else None
    return Checkpoints(below(place, FOLDER), sessions, kind, older)


def download(checkpoint: str, to: Path) -> None:
    """Copies one of `Checkpoints.of` into a folder. Raises OSError."""
    system, path = FileSystem.from_uri(checkpoint)
    copy_files(path, str(to.resolve()), source_filesystem=system)


def place(folder: RunFolder, space: Space) -> str:
    """Where the run's checkpoints lie: a folder or a URI."""
    if space.plan.storage is None:
        return str(folder.root.resolve())
    return below(storage(space.plan.storage), folder.root.name)


def storage(place: str) -> str:
    """What search.storage names, as a URI or an absolute folder."""
    return place if "://" in place else str(Path(place).resolve())
