"""What a search learns from earlier ones (`search.learn_from`): their best configurations, and all that they tried.

Both are read once, when the search begins, and kept in its study, so that it goes on without those runs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from haan.checked import RuleError
from haan.errors import InputError
from haan.files import at_home
from haan.words import short
from haan.yamlconfig import flat, plain
from search.results import confirm, winner
from search.results.folder import RunFolder, open_study
from search.space.model import COMMON, Space, base_point, base_value, of_several_methods, with_values
from search.space.read import read_kept
from search.study import journal
from search.study.alike import lies_in
from search.study.conditions import drawn
from search.study.earlier import EARLIER, Source, Tried, Winner
from search.study.rehearsal import described
from search.study.study import ranked

FIRST = 3  # of a source's best, so many are tried first
MOST = 500  # trials of a source that a study keeps
_KEY = "search.learn_from"


def read_sources(space: Space, folder: RunFolder) -> tuple[Source, ...]:
    """Those of a search that begins; none where its study holds them already. Raises InputError."""
    if not space.plan.learn_from:
        return ()
    study = journal.load(folder.journal) if folder.journal.exists() else None
    if study is not None and EARLIER in study.user_attrs:
        return ()
    return tuple(_source(space, name) for name in space.plan.learn_from)


def _source(space: Space, name: str) -> Source:
    run = RunFolder(Path(at_home(name)))
    try:
        study, own = open_study(run), read_kept(run.space_yaml)
        confirmed = confirm.read_confirmation(run, own, study)
    except InputError as error:
        raise InputError(f"{_KEY}: must be folders of searches, got {name!r}: {error}") from None
    if of_several_methods(own) or own.base.method != space.base.method:
        methods = "several methods" if of_several_methods(own) else own.base.method
        raise InputError(f"{_KEY}: must be of searches of {space.base.method}, got {name!r} of {methods}")
    trials = study.get_trials(deepcopy=False)
    complete = ranked(trials)
    if not complete:
        raise InputError(f"{_KEY}: must be of searches with a COMPLETE trial, got {name!r} with none of {len(trials)}")
    known = [trial for trial in trials if trial.state == TrialState.PRUNED and trial.intermediate_values]
    points = {trial.number: _placed(space, own, trial)[0] for trial in (*complete, *known)}
    won = _winner(space, own, trials, confirmed)
    best = [point for trial in complete if (point := points[trial.number]) is not None]
    tried = [
        Tried(point, *_value(trial), trial.state == TrialState.PRUNED)
        for trial in (*complete, *known)
        if (point := points[trial.number]) is not None
    ]
    every = -(-len(tried) // MOST) if tried else 1  # the best of all among them, for they stand first
    first = [won.params] if won is not None and won.params is not None else []
    return Source(name, len(complete) + len(known), _distinct([*first, *best])[:FIRST], tried[::every], won)


def _winner(space: Space, own: Space, trials: Sequence[FrozenTrial], known: confirm.Confirmation) -> Winner | None:
    """What won another search, as it is in this space; None where nothing did."""
    won = confirm.winner(own, trials, known) if winner.no_choice(trials) is None else None
    if won is None:
        return None
    point, beyond = _placed(space, own, won)
    if point is None:
        return Winner(won.number, None, beyond)
    there, here = (
        flat({section: value for section, value in plain(one, whole=True).items() if section not in COMMON})
        for one in (winner.trial_config(own, won), with_values(space.base, point))
    )
    base = vars(space.base.detect)
    swept = {f"detect.{key}" for one in space.detects for key, value in vars(one).items() if value != base[key]}
    apart = [key for key in there if key not in swept and there[key] != here[key]]
    return Winner(won.number, point, [f"{key} {short(there[key])} (here {short(here[key])})" for key in apart])


def _placed(space: Space, own: Space, trial: FrozenTrial) -> tuple[dict[str, Any] | None, list[str]]:
    """What a trial of another search is in this space; None where it lies beyond a range or breaks a rule, and why."""
    point = {key: trial.params.get(key, base_value(own.base, key)) for key in space.parameters}
    beyond = {key: value for key, value in point.items() if not lies_in(space.parameters[key], value)}
    if beyond:
        return None, [
            f"{key} {short(value)} (here {described(space.parameters[key])})" for key, value in beyond.items()
        ]
    try:
        with_values(space.base, point)
    except RuleError as error:
        return None, [str(error)]
    return drawn(space.conditions, point, base_point(space)), []


def _value(trial: FrozenTrial) -> tuple[float, int]:
    """What a trial scored, and in which epoch."""
    step, value = max(trial.intermediate_values.items()) if trial.intermediate_values else (0, 0.0)
    return (value if trial.value is None else trial.value), step


def _distinct(points: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [point for number, point in enumerate(points) if point not in points[:number]]
