"""The file of a search on Slurm: what its jobs ask for. All errors come at once, each with its line."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from haan.checked import AT_LEAST_ONE, NON_NEGATIVE, Checked, Rule, RuleError, required, setting
from haan.errors import InputError
from haan.yamlconfig import build, items, join, place, read_tree, shown
from search.remote.clusterfile import PLACEHOLDER

_MEMORY = re.compile(r"([1-9][0-9]*)([KMGT]?)")
_TIME = re.compile(
    r"(?:(?P<d>\d+)-(?P<dh>\d+)(?::(?P<dm>\d+)(?::(?P<ds>\d+))?)?)|(?:(?:(?P<h>\d+):)?(?P<m>\d+):(?P<s>\d+))|(?P<min>\d+)"
)
_NAME, _WORD = re.compile(r"[a-z][a-z0-9-]*"), re.compile(r"[A-Za-z0-9_.,:@+=/-]+")
_UNITS = {"K": 2**10, "": 2**20, "M": 2**20, "G": 2**30, "T": 2**40}
_OURS = {  # options of sbatch that the file's keys, or the scripts themselves, set
    "account": "account", "partition": "partition", "time": "time", "mem": "memory", "cpus-per-task": "cpus",
    "array": "workers.most", "nodes": "workers.most", "signal": "notice", "requeue": "chain", "no-requeue": "chain",
    "dependency": "chain", "ntasks": "", "ntasks-per-node": "", "job-name": "", "output": "", "error": "",
    "open-mode": "", "chdir": "", "parsable": "", "test-only": "", "wrap": "", "wait": "", "hold": "",
}  # fmt: skip
GPU_OPTIONS = ("gres", "gpus", "gpus-per-node", "gpus-per-task")  # take the place of that made from workers.gpus


def seconds(time: str) -> int:
    """A time limit as sbatch reads it: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S."""
    known = _TIME.fullmatch(time)
    assert known is not None
    part = {name: int(text) for name, text in known.groupdict().items() if text is not None}
    days = (part.get("d", 0) * 24 + part.get("dh", 0)) * 3600 + part.get("dm", 0) * 60 + part.get("ds", 0)
    return days + part.get("h", 0) * 3600 + (part.get("m", 0) + part.get("min", 0)) * 60 + part.get("s", 0)


def num_bytes(memory: str) -> int:
    """A memory as sbatch reads it: MiB, or with K, M, G or T."""
    known = _MEMORY.fullmatch(memory)
    assert known is not None
    return int(known[1]) * _UNITS[known[2]]


_IS_MEMORY = Rule("must be a whole number and K, M, G or T, as in 60G", lambda v: _MEMORY.fullmatch(v) is not None)
_IS_TIME = Rule(
    'must be a time limit as sbatch takes it, as in "08:00:00" or "2-00:00:00"',
    lambda v: _TIME.fullmatch(v) is not None and seconds(v) > 0,
)
_IS_WORD = Rule("must be a name without blanks", lambda v: _WORD.fullmatch(v) is not None and v[0] != "-")
_ONE_LINE = Rule("must be one line", lambda v: v.strip() != "" and "\n" not in v)
_SETUP = Rule("must hold lines for a shell, none of them empty", lambda v: all(line.strip() for line in v))
_NOTICE = Rule("must be >= 10 and <= 65535 seconds, which Slurm can give", lambda v: 10 <= v <= 65535)


@dataclass(frozen=True)
class SbatchOption:
    """An option by its own name; value None: it takes none."""

    name: str
    value: str | None

    def __str__(self) -> str:
        return f"--{self.name}" if self.value is None else f"--{self.name}={self.value}"


@dataclass(frozen=True, kw_only=True)
class Provider(Checked):
    """What tells such a file from that of `ray up`."""

    type: str = required(Rule("must be slurm", lambda v: v == "slurm"))


@dataclass(frozen=True, kw_only=True)
class Workers(Checked):
    """The jobs that train, each on one node."""

    most: int = required(AT_LEAST_ONE)
    cpus: int = required(AT_LEAST_ONE)
    gpus: int = setting(0, NON_NEGATIVE)
    memory: str = required(_IS_MEMORY)
    time: str = required(_IS_TIME)
    partition: str | None = setting(None, _IS_WORD)
    sbatch: tuple[SbatchOption, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Driver(Checked):
    """The job that drives the search, and needs no GPU."""

    cpus: int = setting(2, AT_LEAST_ONE)
    memory: str = setting("8G", _IS_MEMORY)
    time: str = setting("2-00:00:00", _IS_TIME)
    partition: str | None = setting(None, _IS_WORD)
    sbatch: tuple[SbatchOption, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SlurmFile(Checked):
    """What the jobs of a search ask for.

    together: one allocation of `workers.most` nodes, of which the first drives as well. chain: so many drivers, one
    after the other; of 1 it requeues itself. notice: seconds before a time limit. setup: lines before Python. prefix:
    what stands before `python`.
    """

    provider: Provider
    workers: Workers
    driver: Driver = Driver()
    account: str | None = setting(None, _IS_WORD)
    together: bool = False
    chain: int = setting(1, AT_LEAST_ONE)
    notice: int = setting(120, _NOTICE)
    setup: tuple[str, ...] = setting((), _SETUP)
    prefix: str | None = setting(None, _ONE_LINE)
    sbatch: tuple[SbatchOption, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for role in ("workers",) if self.together else ("workers", "driver"):
            limit = getattr(self, role).time
            if seconds(limit) <= self.notice:
                raise RuleError(f"{role}.time", f"must be longer than notice ({self.notice} s)", limit)

    @property
    def driver_partition(self) -> str | None:
        """The driver's own, else that of the workers."""
        return self.driver.partition or self.workers.partition

    def options(self, role: str) -> tuple[SbatchOption, ...]:
        """The further options of a role's jobs: its own after those of all."""
        own = getattr(self, role).sbatch
        return (*(one for one in self.sbatch if one.name not in {each.name for each in own}), *own)


def read(file: Path) -> SlurmFile:
    """Raises InputError with every error found."""
    tree, errors = read_tree(file), list[str]()
    errors += _unedited(tree, "")
    sbatch = {key: _options(node, key, errors) for key, node in _taken(tree)}
    built = build(SlurmFile, tree, "", errors)
    if errors or built is None:
        raise InputError(errors)
    workers = replace(built.workers, sbatch=sbatch.get("workers.sbatch", ()))
    driver = replace(built.driver, sbatch=sbatch.get("driver.sbatch", ()))
    return replace(built, workers=workers, driver=driver, sbatch=sbatch.get("sbatch", ()))


def key_places(file: Path) -> Mapping[str, str]:
    """`file:line` of every key of a file, by its dotted name."""
    return dict(_places(read_tree(file), ""))


def _places(node: yaml.Node, key: str) -> Iterator[tuple[str, str]]:
    for name, (_, value) in items(node, key, []).items() if isinstance(node, yaml.MappingNode) else ():
        yield join(key, name), place(value)
        yield from _places(value, join(key, name))


def _taken(tree: yaml.MappingNode) -> Iterator[tuple[str, yaml.Node]]:
    """Takes the options out of the tree, whose names only sbatch knows."""
    for key, node in [("", tree), *((k.value, v) for k, v in tree.value if isinstance(v, yaml.MappingNode))]:
        if key in ("", "workers", "driver"):
            yield from ((join(key, "sbatch"), v) for k, v in node.value if k.value == "sbatch")
            node.value = [(k, v) for k, v in node.value if k.value != "sbatch"]


def _options(node: yaml.Node, key: str, errors: list[str]) -> tuple[SbatchOption, ...]:
    found = []
    for name, (name_node, value) in items(node, key, errors).items():
        rule = _broken(name, value)
        if rule is not None:
            errors.append(f"{place(name_node)}: {join(key, name)}: {rule}, got {shown(value)}")
        elif not (value.value == "false" and value.tag.endswith(":bool")):
            found.append(SbatchOption(name, None if value.value == "true" else str(value.value)))
    return tuple(found)


def _broken(name: str, value: yaml.Node) -> str | None:
    """The rule that an option breaks."""
    if name in _OURS:
        return f"must be set by {_OURS[name]}" if _OURS[name] else "is not the file's to set, for the search needs it"
    if not _NAME.fullmatch(name):
        return "must be an option of sbatch by its long name, without the dashes before it"
    if not isinstance(value, yaml.ScalarNode) or value.tag.endswith(":null") or not _ONE_LINE.holds(value.value):
        return "must be one line of text, a number, or true for an option without a value"
    return None


def _unedited(node: yaml.Node, key: str) -> Iterator[str]:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            yield from _unedited(value, join(key, str(name.value)))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _unedited(value, f"{key}[{index}]")
    else:
        placeholder = PLACEHOLDER.search(str(node.value))
        if placeholder:
            yield f"{place(node)}: {key}: must be edited, got {placeholder[0]!r}; put your own in its place"
