"""What the user asked for. Light: a laptop that only sends it on imports no PyTorch."""

from dataclasses import dataclass
from pathlib import Path

from haan.errors import InputError
from search.results.folder import RunFolder

STORAGE = "HAAN_STORAGE"  # the environment's default for search.storage


AGAIN = "HAAN_SEARCH_AGAIN"  # in a driver's environment: the laptop's command that goes on with its search


@dataclass(frozen=True)
class Request:
    """What the user asked for. overrides: `KEY=VALUE` each. None: the space's own, or for `name` one with the time."""

    path: Path
    name: str | None
    out: Path
    trials: int | None
    seed: int | None
    overrides: tuple[str, ...]
    resume: bool


def taken(folder: RunFolder) -> InputError:
    """Why a new run can't have that folder."""
    rule = "--name must be of a run that does not exist yet, unless --resume goes on with it"
    return InputError(f"{folder.root}: {rule}, got one that does")
