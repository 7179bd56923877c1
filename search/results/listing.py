"""Runs side by side: how each stands, what it won, how fast, and in which settings their winners differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from haan.errors import InputError
from haan.words import clean, duration, short
from haan.yamlconfig import flat, plain
from search.results import confirm, winner
from search.results.folder import RunFolder, open_study
from search.results.ranking import in_short
from search.results.unseen import unseen
from search.space.model import LABELS, Space, methods_of, num_wanted
from search.space.read import read_kept
from search.study import journal
from search.study.record import FINGERPRINT, SESSIONS, TrialRecord
from search.study.study import FINISHED

_UNKNOWN = "–"
Point = tuple[int, float | None]  # epochs, and avg.mAP in percent


@dataclass(frozen=True)
class Listed:
    """A run in a row. state: done, running, interrupted, no winner, or why it can't be read. settings: the winner's.

    cells: method, began, trials, what was won, cost; in words, as `HEAD` has them. path: after each trial that has
    ended, in the order of their ends, the epochs that all so far had, and the best value of those COMPLETE (None: no
    one yet). curve: the winner's avg.mAP by epoch. scored_on: what two runs share whose avg.mAP can be compared.
    """

    name: str
    state: str
    cells: tuple[str, ...] = (_UNKNOWN,) * 8
    settings: Mapping[str, Any] = field(default_factory=dict)
    path: Sequence[Point] = ()
    curve: Sequence[Point] = ()
    scored_on: Mapping[str, Any] = field(default_factory=dict)


HEAD = (
    *("run", "state", "method (labels)", "began", "trials", "official (base)", "official gain (95 %)"),
    *("confirmed", "confirmed gain (95 %)", "time of trials"),
)
NOTES = (
    LABELS,
    "official: avg.mAP on the official validation videos, which chose nothing, mean over seeds; its gain over the base "
    "is the one to publish.",
    "confirmed: mean ± sd over new seeds, and its gain over the base's.",
    "noise: the interval of the gain holds 0, so it is not distinguishable from noise.",
)
CURVES_NOTES = (
    "best after trial-epochs: avg.mAP of the search, once all its trials together had trained for so many epochs.",
)


def runs_below(folder: Path) -> list[RunFolder]:
    """The runs in a folder, by name. Raises InputError where there is none."""
    found = [RunFolder(one) for one in sorted(folder.iterdir()) if one.is_dir()] if folder.is_dir() else []
    runs = [one for one in found if one.space_yaml.exists() or one.journal.exists()]
    if not runs:
        raise InputError(f"{folder}: must be a folder with runs in it, as search/run.py makes them; got none")
    return runs


def listed(folder: RunFolder) -> Listed:
    """What a run has come to so far; one that can't be read says why."""
    name = folder.root.name
    try:
        space, study = read_kept(folder.space_yaml), open_study(folder)
        known = confirm.read_confirmation(folder, space, study)
    except (InputError, OSError) as error:
        return Listed(name, clean(str(error)))
    trials = study.get_trials(deepcopy=False)
    best = confirm.winner(space, trials, known) if winner.no_choice(trials) is None else None
    methods = ", ".join(f"{one.method} ({one.supervision})" for one in methods_of(space))
    cells = (methods, _began(study), _trials(space, trials), *_scores(space, trials, best, known), _cost(trials, known))
    settings = flat(plain(winner.trial_config(space, best))) if best is not None else {}
    curve = sorted(best.intermediate_values.items()) if best is not None else []
    base = space.base
    scored = {"the data": study.user_attrs.get(FINGERPRINT), "eval.tiou": base.eval.tiou}
    scored |= {"the videos of the search (data.validation)": base.data.validation}
    scored |= {"what a trial's value is (search.objective)": space.plan.objective}
    return Listed(name, _state(folder, space, trials, best, known), cells, settings, _path(trials), curve, scored)


def _path(trials: Sequence[FrozenTrial]) -> list[Point]:
    path: list[Point] = [(0, None)]
    ended = [trial for trial in trials if trial.state in FINISHED]
    for trial in sorted(ended, key=lambda trial: (trial.datetime_complete or datetime.max, trial.number)):
        epochs, best = path[-1]
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            best = trial.value if best is None else max(best, trial.value)
        path.append((epochs + (trial.last_step or 0), best))
    return path[1:]


def _state(
    folder: RunFolder,
    space: Space,
    trials: Sequence[FrozenTrial],
    best: FrozenTrial | None,
    known: confirm.Confirmation,
) -> str:
    if journal.is_driven(folder.lock):
        return "running"
    ended = [trial for trial in trials if trial.state in FINISHED]
    if len(ended) < num_wanted(space, ended) or any(trial.state == TrialState.RUNNING for trial in trials):
        return "interrupted"
    if best is None:
        return "no winner"
    return "interrupted" if space.plan.confirm is not None and known.ranking is None else "done"


def _began(study: optuna.Study) -> str:
    sessions = study.user_attrs.get(SESSIONS) or []
    return f"{datetime.fromtimestamp(sessions[0]['started']):%Y-%m-%d %H:%M}" if sessions else _UNKNOWN


def _trials(space: Space, trials: Sequence[FrozenTrial]) -> str:
    counts = {state: sum(trial.state == state for trial in trials) for state in FINISHED}
    parts = [f"{sum(counts.values())} of {space.plan.trials}"]
    parts += [f"{counts[TrialState.PRUNED]} pruned"] * bool(counts[TrialState.PRUNED])
    parts += [f"{counts[TrialState.FAIL]} failed"] * bool(counts[TrialState.FAIL])
    return ", ".join(parts)


def _scores(
    space: Space, trials: Sequence[FrozenTrial], best: FrozenTrial | None, known: confirm.Confirmation
) -> tuple[str, str, str, str]:
    """On the official videos, and the gain there; confirmed, and the gain of that."""
    if best is None:
        return _UNKNOWN, _UNKNOWN, _UNKNOWN, _UNKNOWN
    official, standing = unseen(known, best.number), known.standing(best.number)
    shown = _UNKNOWN if official is None else f"{official.winner.mean:.2f}"
    shown += f" ({official.base.mean:.2f})" if official is not None and official.base is not None else ""
    there = in_short(official.gain if official is not None else None)
    if standing is None:
        return shown, there, _UNKNOWN, _UNKNOWN
    spread = f" ± {standing.sd:.2f}" if standing.sd is not None else ""
    return shown, there, f"{standing.mean:.2f}{spread}", in_short(standing)


def _cost(trials: Sequence[FrozenTrial], known: confirm.Confirmation) -> str:
    return duration(sum(TrialRecord.of(trial).ran_s for trial in trials) + known.seconds)


def overview(runs: Sequence[Listed]) -> list[list[str]]:
    """A row a run, below a row of names."""
    return [list(HEAD), *([run.name, run.state, *run.cells] for run in runs)]


def incomparable(runs: Sequence[Listed]) -> list[str]:
    """Warnings where avg.mAP of one run is of something else than that of another."""
    known = [run.scored_on for run in runs if run.scored_on]
    apart = [what for what in (known[0] if known else ()) if any(one[what] != known[0][what] for one in known)]
    return [f"the runs differ in {', '.join(apart)}: their avg.mAP can't be compared"] if apart else []


def gathered(runs: Sequence[Listed]) -> list[list[str]]:
    """The best of each search so far, after as many epochs of all its trials as any of them had, and fewer.

    A row a run, below a row of names; empty where no trial has ended. The last column is of each at its own end.
    """
    known = [run for run in runs if run.path]
    marks = _marks([run.path for run in known], (1 / 8, 1 / 4, 1 / 2, 1))
    ends = [run.path[-1] for run in known]
    rows = [
        [run.name, *(_at(run.path, mark) for mark in marks), f"{_percent(best)} ({epochs})"]
        for run, (epochs, best) in zip(known, ends, strict=True)
    ]
    return [["best after trial-epochs", *map(str, marks), "at its end"], *rows] if rows else []


def by_epoch(runs: Sequence[Listed]) -> list[list[str]]:
    """avg.mAP of each run's winner by epoch, in the search; a row a run, below a row of names."""
    known = [run for run in runs if run.curve]
    marks = _marks([run.curve for run in known], [part / 6 for part in range(1, 7)])
    rows = [[run.name, *(_at(run.curve, mark) for mark in marks)] for run in known]
    return [["winner's avg.mAP at epoch", *map(str, marks)], *rows] if rows else []


def _marks(paths: Sequence[Sequence[Point]], shares: Sequence[float]) -> list[int]:
    """Numbers of epochs: shares of the most that any has."""
    last = max((path[-1][0] for path in paths), default=0)
    return sorted({max(1, round(share * last)) for share in shares}) if last else []


def _at(path: Sequence[Point], mark: int) -> str:
    """What was known after so many epochs; unknown beyond the end."""
    values = [value for epochs, value in path if epochs <= mark <= path[-1][0]]
    return _percent(values[-1] if values else None)


def _percent(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.2f}"


def differing(runs: Sequence[Listed]) -> list[list[str]]:
    """The settings in which the runs' winners differ, a row each, below a row of names; empty where in none."""
    known = [run for run in runs if run.settings]
    keys = {key: None for run in known for key in run.settings}
    rows = [[key, *(short(run.settings.get(key, _UNKNOWN)) for run in known)] for key in keys]
    rows = [row for row in rows if len(set(row[1:])) > 1]
    return [["winner's setting", *(run.name for run in known)], *rows] if rows else []
