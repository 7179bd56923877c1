"""Trials of earlier searches that a sampler sees beside this one's, as long as they agree with what is seen here.

They are no trials of the study: it keeps them in an attribute, and they are shown to the sampler alone. Data sets
differ in how high they score and in what suits them. So each source's values are moved to where this study's trials
lie, and a source is left out once this study's trials contradict it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.study import internals
from search.study.adapters import Adapter
from search.study.alike import Scale, lies_in

EARLIER = "haan.earlier"  # attribute of the study
JUDGED = 6  # so many trials of a study can contradict a source
_LEAST_AGREEMENT = 0.5  # rank correlation of what a source foretells and what is seen
_SCORED = (TrialState.COMPLETE, TrialState.PRUNED)
_NEIGHBOURS = 3  # of a trial, among a source's, foretell its value


@dataclass(frozen=True)
class Tried:
    """A trial of a source. value: avg.mAP, of a pruned one that of its last epoch, which was `step`."""

    params: Mapping[str, Any]
    value: float
    step: int
    pruned: bool


@dataclass(frozen=True)
class Winner:
    """What won an earlier search. number: its trial there. params: what it is in this space; None where it lies beyond.

    apart: why it does; else what is otherwise here, for this space does not vary it. A setting each, in words.
    """

    number: int
    params: Mapping[str, Any] | None
    apart: Sequence[str] = ()

    def __str__(self) -> str:
        apart = ", ".join(self.apart)
        if self.params is None:
            return f"its winner (trial {self.number}) lies beyond: {apart}"
        which = f"its winner (trial {self.number}) first of all, and again when the best are confirmed"
        return which + (f", though not with its {apart}" if apart else "")


@dataclass(frozen=True)
class Source:
    """An earlier search. count: its trials with a value. best: what of them is tried first here. tried: what is kept.

    Both lie in this space, the best first, but its winner before them. winner: None where it has none, or a run of
    before kept none.
    """

    name: str
    count: int
    best: Sequence[Mapping[str, Any]]
    tried: Sequence[Tried] = field(repr=False)
    winner: Winner | None = None

    def remark(self, learns: bool) -> str:
        """What a search has of it. learns: whether its sampler can learn from trials that it did not propose."""
        return self._taken(learns) + (f"; {self.winner}" if self.winner is not None else "")

    def _taken(self, learns: bool) -> str:
        if not self.best:
            return f"learns nothing from {self.name}: none of its {self.count} trials lies in these ranges"
        if not learns:
            which = f"the best {len(self.best)} of its {self.count} trials are tried first"
            return f"takes from {self.name}: {which}; this sampler learns nothing from the others"
        which = f"{len(self.tried)} of its {self.count} trials, those in these ranges"
        return f"learns from {self.name}: {which}; the best {len(self.best)} of them are tried first"


def keep(study: Study, sources: Sequence[Source]) -> None:
    """Puts sources into a study, where there are any."""
    if sources:
        study.set_user_attr(EARLIER, [asdict(source) for source in sources])


def kept(attributes: Mapping[str, Any]) -> list[Source]:
    """Those that a study holds."""
    return [
        Source(
            one["name"],
            one["count"],
            one["best"],
            [Tried(**tried) for tried in one["tried"]],
            Winner(**one["winner"]) if one.get("winner") else None,
        )
        for one in attributes.get(EARLIER, ())
    ]


def front(
    sources: Sequence[Source], own: Sequence[Mapping[str, Any]], base: Mapping[str, Any] | None = None
) -> list[Mapping[str, Any]]:
    """What a study tries first: its own points, then the best of its sources, in turns.

    base: the value that a point has of a parameter that it doesn't name.
    """
    turns = zip_longest(*(source.best for source in sources))
    points = [*own, *(point for several in turns for point in several if point is not None)]
    wholes = [{**(base or {}), **point} for point in points]
    return [point for number, point in enumerate(points) if wholes[number] not in wholes[:number]]


def winners(sources: Sequence[Source]) -> dict[str, Mapping[str, Any]]:
    """What won each of them, as far as that lies in the space."""
    found = {source.name: source.winner for source in sources if source.winner is not None}
    return {name: one.params for name, one in found.items() if one.params is not None}


class _Prior:
    """A source's trials, placed by their parameters; without those beyond ranges that a resume narrowed."""

    def __init__(self, source: Source, scale: Scale):
        self._scale = scale
        self._tried = [one for one in source.tried if _lies_in(scale.parameters, one.params)]
        self._complete = [one for one in self._tried if not one.pruned]
        self._points = np.array([scale.point(one.params) for one in self._complete])
        self._values = np.array([one.value for one in self._complete])

    def shown(self, own: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """As trials beside a study's own, COMPLETE and PRUNED; none where these contradict it, or it holds none."""
        if not self._complete:
            return []
        foretold = np.array([self._foretold(one.params) for one in own])
        seen = np.array([list(one.intermediate_values.values())[-1] if one.value is None else one.value for one in own])
        if len(own) >= JUDGED and not _agree(seen, foretold):
            return []
        whole = np.array([one.state == TrialState.COMPLETE for one in own], dtype=bool)
        shift = float(np.median((seen - foretold)[whole])) if whole.any() else 0.0
        return [_as_trial(one, one.value + shift, self._scale.parameters) for one in self._tried]

    def _foretold(self, params: Mapping[str, Any]) -> float:
        """The mean of those nearest to a point."""
        apart = np.square(self._points - self._scale.point(params)).sum(axis=1)
        return float(self._values[np.argsort(apart, kind="stable")[:_NEIGHBOURS]].mean())


def _lies_in(parameters: Mapping[str, BaseDistribution], params: Mapping[str, Any]) -> bool:
    return all(lies_in(parameters[key], value) for key, value in params.items())


def _agree(seen: np.ndarray, foretold: np.ndarray) -> bool:
    """Whether values rise together."""
    from scipy.stats import rankdata  # slow to import, and a report does without

    if np.ptp(seen) == 0 or np.ptp(foretold) == 0:
        return False
    return float(np.corrcoef(rankdata(seen), rankdata(foretold))[0, 1]) >= _LEAST_AGREEMENT


def _as_trial(one: Tried, value: float, parameters: Mapping[str, BaseDistribution]) -> FrozenTrial:
    state = TrialState.PRUNED if one.pruned else TrialState.COMPLETE
    return create_trial(
        state=state,
        value=None if one.pruned else value,
        params=dict(one.params),
        distributions={key: parameters[key] for key in one.params},
        intermediate_values={one.step: value} if one.step else {},
    )


class Informed(Adapter):
    """Shows another sampler the trials of the sources that the study keeps, before its own.

    base: the value that a trial has of a parameter that it doesn't name.
    """

    def __init__(self, inner: BaseSampler, parameters: Mapping[str, BaseDistribution], base: Mapping[str, Any] | None):
        self._inner, self._scale = inner, Scale(dict(parameters), dict(base or {}))
        self._priors: list[_Prior] | None = None
        self._known: tuple[int, list[FrozenTrial]] = (-1, [])

    def sampler(self, study: Study) -> BaseSampler:
        """The other one."""
        return self._inner

    def seen(self, study: Study) -> Study:
        """The study with those trials, where there are any."""
        if self._priors is None:
            self._priors = [_Prior(source, self._scale) for source in kept(internals.attributes(study))]
        if not self._priors:
            return study
        own = [one for one in internals.trials_of(study, _SCORED) if one.value is not None or one.intermediate_values]
        if self._known[0] != len(own):
            found = [one for prior in self._priors for one in prior.shown(own)]
            for number, one in enumerate(found):
                one.number = number - len(found)
            self._known = len(own), found
        shown: Any = internals.Shown(study, self._beside)
        return shown

    def _beside(self, trials: list[FrozenTrial], states: Sequence[TrialState] | None) -> list[FrozenTrial]:
        return [one for one in self._known[1] if states is None or one.state in states] + trials
