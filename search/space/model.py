"""A search space as checked data: what may be tried, how often, and with what."""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from haan.checked import AT_LEAST_ONE, NON_NEGATIVE, NOT_EMPTY, Checked, RuleError, setting
from haan.config import Config, Detect
from haan.methods.names import CONFIGS
from haan.yamlconfig import METHOD, declared, plain
from search.space.confirmkeys import Repeats
from search.space.tableform import Table
from search.study import algorithms
from search.study.conditions import Conditions
from search.study.record import RECENT, Objective
from search.study.stagnation import Expectation, FirstOf, Rule, Spent, Stagnation, by_their_ends

SEED = "seed"  # the key that a grid may list beside its settings
EPOCHS = "optim.epochs"
LABELS = "labels: weak is told of a training video which classes it shows, full also when."
# What another method, or another search, leaves as it is.
COMMON = ("data", "eval", "seed", "device", "precision", "threads")
_PATIENCE = 40  # trials of a search's `stop:` that says nothing else
ConfigT = TypeVar("ConfigT", bound=Config)


@dataclass(frozen=True, kw_only=True)
class Resources(Checked):
    """What one trial takes. gpu: a share of one GPU, or auto: what memory and cores allow where there are any."""

    cpu: int = setting(1, AT_LEAST_ONE)
    gpu: float | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gpu != "auto" and not 0 <= self.gpu <= 1:
            raise RuleError("gpu", "must be auto, or >= 0 and <= 1 (a trial uses one GPU at most)", self.gpu)


@dataclass(frozen=True, kw_only=True)
class Stop(Checked):
    """When the search has enough before its trials are spent; see search.study.stagnation.

    patience: None: 40, unless `epochs` alone ends it. gain: so many trials in a row without it; `noise`: so many more
    whose expected gain no confirmation can tell. epochs: that the trials have trained in all.
    """

    patience: int | None = setting(None, AT_LEAST_ONE)
    gain: float | Literal["noise"] | None = None
    epochs: int | None = setting(None, AT_LEAST_ONE)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.gain, float | int) and self.gain < 0:
            raise RuleError("gain", "must be noise or >= 0", self.gain)

    @property
    def waits(self) -> int | None:
        """For so many trials without the gain; None where `epochs` alone ends the search."""
        alone = self.epochs is not None and self.gain is None
        return _PATIENCE if self.patience is None and not alone else self.patience


@dataclass(frozen=True, kw_only=True)
class Plan(Checked):
    """The keys of `search:` that are plain values."""

    trials: int = setting(100, AT_LEAST_ONE)
    concurrent: int | Literal["auto"] = "auto"
    max_failures: int = setting(3, NON_NEGATIVE)
    storage: str | None = setting(None, NOT_EMPTY, path=True)
    objective: Objective = "best"
    resources: Resources = Resources()
    gpus: Literal["all"] | tuple[int, ...] = "all"
    mps: Literal["auto", "on", "off"] = "auto"
    confirm: Repeats | None = None
    stop: Stop | None = None
    learn_from: tuple[str, ...] = setting((), path=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.concurrent != "auto" and self.concurrent < 1:
            raise RuleError("concurrent", "must be auto or >= 1", self.concurrent)
        scheme, mark, rest = (self.storage or "").partition("://")
        if mark and ("@" in rest.partition("/")[0] or "secret" in rest.lower()):
            rule = "must not hold a key, for it would stand in run folders; AWS_SECRET_ACCESS_KEY or a role has it"
            raise RuleError("storage", rule, f"{scheme}://...")
        if self.stop is not None and self.stop.gain == "noise" and self.confirm is None:
            raise RuleError("stop.gain", "must be a number where search.confirm is null, which has no noise", "noise")

    def enough(self, ended: Iterable[FrozenTrial] = ()) -> Rule | None:
        """What ends the search before its trials are spent. ended: trials that an earlier driver saw end."""
        if self.stop is None:
            return None
        ended, rules = by_their_ends(ended), list[Rule]()
        if self.stop.waits is not None and self.stop.gain != "noise":
            rules.append(Stagnation(self.stop.waits, self.stop.gain or 0.0, ended))
        elif self.stop.waits is not None:
            assert self.confirm is not None
            averaged = RECENT if self.objective == "recent" else 1
            rules.append(Expectation(self.stop.waits, self.confirm.seeds, averaged, ended))
        if self.stop.epochs is not None:
            rules.append(Spent(self.stop.epochs, ended))
        return rules[0] if len(rules) == 1 else FirstOf(rules)

    @property
    def epoch(self) -> Literal["best", "last"]:
        """Whose weights count, as `eval.epoch` says it."""
        return "best" if self.objective == "best" else "last"

    @property
    def valued(self) -> str:
        """What a trial's value is, in words."""
        if self.objective == "recent":
            return f"the mean of its last {RECENT} scored epochs"
        return f"that of its {self.objective} epoch"


@dataclass(frozen=True, kw_only=True)
class Space:
    """A search space, complete.

    parameters: dotted key of the configuration -> distribution. conditions: where some of them are drawn alone. starts:
    points that are tried first. detects: the detection settings that score every epoch, the base's own among them.
    document: the space as YAML, overrides applied. rows: of a grid, named sets of values; each has a value for every
    key that any of them sets (None where its method has no such key), and these keys are parameters, too.
    own_detects, other_detects: by method, of rows of another method than the base's, the setting that these start from,
    and all that score them. table: what it makes.
    """

    name: str
    base: Config
    plan: Plan
    sampler: algorithms.Component
    pruner: algorithms.Component
    parameters: Mapping[str, BaseDistribution]
    conditions: Conditions
    starts: tuple[Mapping[str, Any], ...]
    detects: tuple[Detect, ...]
    document: str
    rows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    own_detects: Mapping[str, Detect] = field(default_factory=dict)
    other_detects: Mapping[str, tuple[Detect, ...]] = field(default_factory=dict)
    table: Table | None = None


def with_method(config: Config, method: str) -> Config:
    """Where another method starts from: at its own defaults, with a configuration's data, epochs, scores and device."""
    if config.method == method:
        return config
    kept = {name: getattr(config, name) for name in COMMON}
    made: Config = CONFIGS[method](**kept)
    epochs = config.optim.epochs
    return replace(
        made, optim=replace(made.optim, epochs=epochs, warmup_epochs=min(made.optim.warmup_epochs, epochs - 1))
    )


def with_values(config: ConfigT, values: Mapping[str, Any]) -> ConfigT:
    """A configuration with some dotted keys replaced. Raises RuleError, its key dotted from the top.

    `method` among them comes first: the others are of that method then, and those that it has not are passed over.
    """
    if METHOD in values:
        other = with_method(config, values[METHOD])
        own = {key: value for key, value in values.items() if key != METHOD and declared(type(other), key) is not None}
        return with_values(other, own)  # type: ignore[return-value]  # of the method's own class
    by_section: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        by_section.setdefault(section, {})[name] = value
    changes: dict[str, Any] = by_section.pop("", {})
    for section, part in by_section.items():
        try:
            changes[section] = replace(getattr(config, section), **part)
        except RuleError as error:
            raise RuleError(f"{section}.{error.key}", error.rule, error.value) from None
    return replace(config, **changes)


def base_value(config: Config, key: str) -> Any:
    """The value of a dotted key; None where the configuration's method has no such key."""
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part, None)
    return value


def base_values(config: Config, keys: Iterable[str]) -> dict[str, Any]:
    """A configuration's values of some parameters."""
    return {key: base_value(config, key) for key in keys}


def base_point(space: Space) -> dict[str, Any]:
    """The base's value of every parameter."""
    return base_values(space.base, space.parameters)


def detects_of(space: Space, params: Mapping[str, Any]) -> tuple[Detect, ...]:
    """The detection settings that score a trial with these parameters."""
    return space.other_detects.get(params.get(METHOD, space.base.method), space.detects)


def own_detect(space: Space, params: Mapping[str, Any]) -> Detect:
    """The detection setting that a trial starts from: the base's, or that of the trial's own method."""
    return space.own_detects.get(params.get(METHOD, space.base.method), space.base.detect)


def of_several_methods(space: Space) -> bool:
    """Whether its rows are."""
    return any(METHOD in row for row in space.rows.values())


def methods_of(space: Space) -> list[Config]:
    """A configuration of each method that its trials have, in the order of the rows."""
    own = space.base.method
    names = dict.fromkeys(row.get(METHOD, own) for row in space.rows.values()) or [own]
    return [with_method(space.base, name) for name in names]


def in_words(space: Space) -> str:
    """Its methods, and what each is told of the training videos."""
    return "; ".join(one.in_words for one in methods_of(space))


def detect_values(space: Space, detect: Detect) -> dict[str, Any]:
    """A detection setting by dotted key; without keys that came later and have their default in the whole space."""
    settings = [one for several in (space.detects, *space.other_detects.values()) for one in several]
    said = {key for one in settings for key in plain(one)}
    return {f"detect.{key}": value for key, value in vars(detect).items() if key in said}


def points_of(
    parameters: Mapping[str, BaseDistribution], rows: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str | None, dict[str, Any]]]:
    """Every point of a grid with the name of its row, row by row, the last parameter varying fastest."""
    named: list[tuple[str | None, Mapping[str, Any]]] = [*rows.items()] or [(None, {})]
    listed = {key: ends_of(one) for key, one in parameters.items() if key not in named[0][1]}
    for name, row in named:
        for point in itertools.product(*listed.values()):
            yield name, {**row, **dict(zip(listed, point, strict=True))}


def ends_of(distribution: BaseDistribution) -> tuple[Any, ...]:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return (distribution.low, distribution.high)


def grid_points(space: Space) -> list[dict[str, Any]]:
    """Every point of a grid once, row by row, the last parameter varying fastest; none unless the sampler is `grid`."""
    if space.sampler.name != algorithms.GRID:
        return []
    return [point for _, point in points_of(space.parameters, space.rows)]


def listed_keys(space: Space) -> list[str]:
    """The parameters that no row sets."""
    in_rows = next(iter(space.rows.values()), {})
    return [key for key in space.parameters if key not in in_rows]


def row_of(space: Space, params: Mapping[str, Any]) -> str | None:
    """The name of the row that a trial's parameters are of; None in a space without rows."""
    return next((name for name, row in space.rows.items() if all(params.get(k) == v for k, v in row.items())), None)


def named_params(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's parameters as a user knows them: the row's name in place of what it sets."""
    row = row_of(space, params)
    if row is None:
        return dict(params)
    return {"row": row} | {key: value for key, value in params.items() if key not in space.rows[row]}


def front(space: Space) -> list[dict[str, Any]]:
    """What is tried before the sampler is asked: `search.start_with`, or the points of a grid, the base first.

    Where the base is not among them there is no base to compare with.
    """
    base = base_point(space)
    points = grid_points(space) or [dict(point) for point in space.starts]
    return [base, *(point for point in points if point != base)] if base in points else points


def base_number(space: Space) -> int | None:
    """Which trial is the base: the first, but where a grid or `search.start_with` leaves it out."""
    return 0 if front(space)[0] == base_point(space) else None


def is_base(space: Space, number: int, params: Mapping[str, Any]) -> bool:
    """Whether a trial is the base. A grid over seeds has one a seed, for only equal seeds compare."""
    if SEED not in space.parameters:
        return number == base_number(space)
    base = base_point(space)
    return dict(params) | {SEED: None} == base | {SEED: None}


def num_wanted(space: Space, ended: Collection[FrozenTrial]) -> int:
    """How many trials of a search are to end in all, where these have: no more once `search.stop` has enough."""
    rule = space.plan.enough(ended)
    return space.plan.trials if rule is None or not rule.is_enough else len(ended)


def epochs_of(space: Space, params: Mapping[str, Any]) -> int:
    """How many epochs a trial with these parameters has."""
    return int(params.get(EPOCHS, space.base.optim.epochs))


def most_epochs(space: Space) -> int:
    """The largest number of epochs that a trial can have."""
    ends = ends_of(space.parameters[EPOCHS]) if EPOCHS in space.parameters else ()
    return max((space.base.optim.epochs, *ends))


def most_demanding(space: Space) -> list[Config]:
    """The base with what asks for most training videos, of all that a trial can have; each row where methods differ."""
    if of_several_methods(space):
        return [with_values(space.base, row) for row in space.rows.values()]
    values = {
        key: most((base_value(space.base, key), *(ends_of(space.parameters[key]) if key in space.parameters else ())))
        for key, most in space.base.scarce.items()
    }
    return [with_values(space.base, values)]
