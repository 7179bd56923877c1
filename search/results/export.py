"""The winner leaves: best.yaml, which anyone can train again, its weights and its detections."""

from dataclasses import replace
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from haan.config import Config
from haan.data.table import Annotations, FeatureSource, split
from haan.errors import InputError
from haan.files import check_file, make_folder, remove, whole
from haan.predict import Predicted, predict
from haan.weights import WEIGHTS
from haan.yamlconfig import BEST, dump
from search.results import confirm
from search.results.checkpoints import AGAIN, TRIAL, of_run, place
from search.results.confirm import Confirmation
from search.results.folder import RunFolder
from search.results.winner import about, leaving
from search.space.model import Space


def write_config(
    folder: RunFolder, space: Space, study: optuna.Study, number: int | None = None, to: Path | None = None
) -> FrozenTrial:
    """Writes a configuration and its weights; the trial. Raises InputError.

    The winner leaves as it was trained last: on all training videos where that was done. A trial chosen by number
    leaves as it was searched.
    """
    known = confirm.read_confirmation(folder, space, study)
    trial = _find(folder, study, number, known, space)
    final = known.finals.get(trial.number) if number is None else None
    config = leaving(space, trial, final)
    target = to or folder.best_yaml
    weights = target.with_suffix(".safetensors")
    for path in (target, weights, _predictions(target)):
        check_file(path)
    make_folder(target.parent)
    with whole(target) as partial:
        rows = about(folder.name, study, space, trial, known, final)
        comment = "".join(f"# {key}: {text}\n" for key, text in rows.items())
        partial.write_text(comment + dump(config, whole=True), encoding="utf-8")
        remove(weights)  # never another trial's weights beside this configuration
    fetch_weights(folder, space, trial, final, weights)
    return trial


def fetch_weights(folder: RunFolder, space: Space, trial: FrozenTrial, final: FrozenTrial | None, to: Path) -> bool:
    """Copies the weights of a trial, or of its run on all training videos; whether they are there. Raises OSError."""
    checkpoints = of_run(place(folder, space), TRIAL if final is None else AGAIN)
    return checkpoints.fetch((final or trial).number, WEIGHTS, to)


def _find(folder: RunFolder, study: optuna.Study, number: int | None, known: Confirmation, space: Space) -> FrozenTrial:
    trials = study.get_trials(deepcopy=False)
    complete = {trial.number: trial for trial in trials if trial.state == TrialState.COMPLETE}
    if number is not None:
        if number not in complete:
            raise InputError(f"--trial: must be a COMPLETE trial of {folder.root} ({sorted(complete)}), got {number}")
        return complete[number]
    best = confirm.winner(space, trials, known)
    if best is None:
        raise InputError(f"{folder.root}: must have a COMPLETE trial, got none")
    return best


def _predictions(exported: Path) -> Path:
    return exported.with_name("predictions.json" if exported.name == BEST else f"{exported.stem}-predictions.json")


def write_predictions(
    exported: Path, config: Config, source: FeatureSource, annotations: Annotations
) -> Predicted | None:
    """Detections of an exported configuration on its validation videos, beside it; None where its weights are missing.

    They go into predictions.json beside best.yaml, into NAME-predictions.json beside any other NAME.yaml.
    """
    weights = exported.with_suffix(".safetensors")
    out = _predictions(exported)
    remove(out)
    if not weights.exists():
        return None
    videos = split(annotations, config.data).validation
    return predict(replace(config, device="auto"), source, annotations, videos, weights, out)
