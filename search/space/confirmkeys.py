"""`search.confirm`: how much is trained again, on which videos, and what a run of before `holdouts` meant by it."""

from dataclasses import dataclass, replace
from typing import Literal

import yaml

from haan.checked import AT_LEAST_ONE, Checked, RuleError, setting
from haan.config import Config, Holdout
from haan.errors import InputError
from haan.yamlconfig import Option, child, override

_KEY = "holdouts"


@dataclass(frozen=True, kw_only=True)
class Repeats(Checked):
    """How many of the best configurations are trained again, with how many new seeds each.

    race: whether a configuration that is behind gets fewer; see search.results.race. holdouts: whether each
    seed has one of its own, the same for all configurations. official_seeds: how many the winner and the base have on
    all training videos; None: as many as `seeds`.
    """

    top: int = setting(5, AT_LEAST_ONE)
    seeds: int = 3
    race: bool = False
    holdouts: Literal["redraw", "fixed"] = "redraw"
    official_seeds: int | None = setting(None, AT_LEAST_ONE)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seeds < 2:
            raise RuleError("seeds", "must be >= 2, for one seed shows no spread", self.seeds)


@dataclass(frozen=True, kw_only=True)
class OlderRepeats(Repeats):
    """Those of a search that began before `holdouts`: on its holdout, each run's value that of its own best epoch.

    On all training videos the winner and the base had its seed alone.
    """

    holdouts: Literal["redraw", "fixed"] = "fixed"
    official_seeds: int | None = setting(1, AT_LEAST_ONE)


def said(tree: yaml.Node) -> bool:
    """Whether a space has nothing to confirm, or says of which holdouts: one that a run of today keeps does."""
    confirm = _confirm(tree)
    return not isinstance(confirm, yaml.MappingNode) or child(confirm, _KEY) is not None


def say(tree: yaml.Node) -> None:
    """Has a space say it, for the run that will keep it."""
    confirm = _confirm(tree)
    if isinstance(confirm, yaml.MappingNode) and not said(tree):
        key, value = (yaml.ScalarNode("tag:yaml.org,2002:str", text) for text in (_KEY, Repeats().holdouts))
        for node in (key, value):
            node.start_mark, node.end_mark = confirm.start_mark, confirm.end_mark
        confirm.value = [*confirm.value, (key, value)]


def set_official_seeds(tree: yaml.MappingNode, count: int) -> None:
    """What `--official-seeds` says. Raises InputError where nothing is confirmed, which takes one seed."""
    option = Option("--official-seeds")
    if isinstance(_confirm(tree), yaml.MappingNode):
        override(tree, ["search", "confirm", "official_seeds"], str(count), int, option)
    elif count != 1:
        raise InputError(f"{option}: must be 1 where search.confirm is null, got {count}")


def _confirm(tree: yaml.Node) -> yaml.Node | None:
    search = child(tree, "search")
    return child(search, "confirm") if search is not None else None


def older(repeats: Repeats) -> OlderRepeats:
    """What a run that says no `holdouts` meant."""
    official = repeats.official_seeds or 1
    return OlderRepeats(top=repeats.top, seeds=repeats.seeds, race=repeats.race, official_seeds=official)


def by_mean_curve(repeats: Repeats | None) -> bool:
    """Whether epoch and detection setting of a configuration come from the mean curve over its seeds."""
    return repeats is not None and not isinstance(repeats, OlderRepeats)


@dataclass(frozen=True)
class Block:
    """A seed with which all candidates are trained again, and on which split."""

    seed: int
    validation: Holdout | Literal["official"]


def blocks(base: Config, repeats: Repeats | None) -> tuple[Block, ...]:
    """Those of a confirmation; their seeds are new to the search, as are the holdouts that are drawn for them."""
    numbers = range(1, repeats.seeds + 1) if repeats is not None else ()
    redraw = repeats is not None and repeats.holdouts == "redraw"
    own = base.data.validation
    return tuple(
        Block(_later(base.seed, number), drawn(own, number) if redraw and isinstance(own, Holdout) else own)
        for number in numbers
    )


def drawn(own: Holdout, number: int) -> Holdout:
    """The holdout of so many draws after a search's own, which is number 0."""
    return replace(own, seed=_later(own.seed, number), classes="both") if number else own


def official_seeds(base: Config, repeats: Repeats | None) -> tuple[int, ...]:
    """Those on all training videos; where a confirmation chose the winner, none that it has seen."""
    if repeats is None:
        return (base.seed,)
    first = repeats.seeds + 1 if by_mean_curve(repeats) else 0
    return tuple(_later(base.seed, first + number) for number in range(repeats.official_seeds or repeats.seeds))


def _later(seed: int, number: int) -> int:
    return (seed + number) % 2**31
