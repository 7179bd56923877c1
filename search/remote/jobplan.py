"""What the jobs of a run on Slurm know: what was asked for, and where the driver's Ray answers."""

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from haan.errors import InputError
from haan.files import read_json, whole
from haan.words import byte_size
from search.driver.request import Request
from search.results.jobfolder import JobFolder
from search.results.versions import version_of

_STORE_SLACK, _STORE_LEAST = 1.25, 256 * 2**20
PACKAGES = ("ray", "torch", "numpy", "optuna")  # what objects that travel between nodes are made of


@dataclass(frozen=True)
class Plan:
    """What the jobs of a run do. All paths are absolute.

    space: as it was handed in. out, name, trials, seed, overrides, official_seeds: as search.driver.request.Request has
    them. again: the user's command that goes on with it. budget_s: of all its drivers together. resources, most: of a
    worker, and how many. memory: bytes, of the driver's job and of a worker's. feature_bytes: None where the driver is
    to find out, for the login node lacks packages. chained: whether other drivers follow. notice: seconds before a time
    limit.
    """

    space: str
    out: str
    name: str
    trials: int | None
    seed: int | None
    overrides: tuple[str, ...]
    quiet: bool
    again: str
    budget_s: float | None
    resources: Mapping[str, float]
    most: int
    memory: Mapping[str, int]
    feature_bytes: int | None
    together: bool
    chained: bool
    notice: int
    official_seeds: int | None = None

    @classmethod
    def read(cls, folder: JobFolder) -> "Plan":
        """Of a job folder. Raises InputError."""
        known = read_json(folder.plan)
        return cls(**{**known, "overrides": tuple(known["overrides"])})

    def write(self, folder: JobFolder) -> None:
        """Into a job folder."""
        with whole(folder.plan) as partial:
            partial.write_text(json.dumps(asdict(self)), encoding="utf-8")

    def store(self, feature_bytes: int) -> int:
        """Bytes that each node's object store takes of its job's memory. Raises InputError where too little is left."""
        needed, memory = int(feature_bytes * _STORE_SLACK) + _STORE_LEAST, min(self.memory.values())
        if needed > memory // 2:
            raise InputError(
                f"workers.memory, driver.memory: must each be twice what the features take of a node's shared memory "
                f"({byte_size(needed)}), got {byte_size(memory)}"
            )
        return needed

    @property
    def asked(self) -> Request:
        """What the user asked for. A run that has not begun is gone on with as well, for its jobs lie there."""
        out, space = Path(self.out), Path(self.space)
        given = (self.trials, self.seed, self.overrides)
        return Request(space, self.name, out, *given, resume=True, official_seeds=self.official_seeds)

    @property
    def words(self) -> list[str]:
        """The same for search/run.py."""
        given = {"--name": self.name, "--out": self.out, "--trials": self.trials, "--seed": self.seed}
        given["--official-seeds"] = self.official_seeds
        words = [word for key, value in given.items() if value is not None for word in (key, str(value))]
        words += [word for one in self.overrides for word in ("--set", one)]
        return [self.space, *words, *["--quiet"] * self.quiet, "--resume"]


@dataclass(frozen=True)
class Head:
    """Where a driver's Ray answers, and what a worker has to be like. store: bytes of shared memory on each node."""

    address: str
    host: str
    versions: Mapping[str, str]
    store: int


def versions() -> dict[str, str]:
    """Of Python and the packages that have to be alike on all nodes."""
    return {"Python": platform.python_version()} | {name: version_of(name) for name in PACKAGES}


def unlike(own: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """Where versions differ, in words."""
    return [f"{name} {own[name]} in place of {version}" for name, version in wanted.items() if own[name] != version]
