"""The winner: its configuration, what it won over the base, and what is said of it; `export` writes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from haan.cli import python
from haan.config import Config, Detect, Holdout
from haan.errors import InputError
from haan.words import short, why_zero
from haan.yamlconfig import read_config
from search.results import confirm, retraining
from search.results.beside import Scored, beside
from search.results.confirm import Confirmation, Confirmed
from search.results.folder import RunFolder
from search.results.provenance import made_up
from search.results.retraining import chosen_detect
from search.results.unseen import Unseen, unseen
from search.space.model import SEED, Space, base_value, is_base, with_values
from search.space.studies import scores_of
from search.study.record import DATA, FINGERPRINT, SESSIONS, TrialRecord
from search.study.study import ranked

_ALIKE_FROM = 3  # different settings
ON_OFFICIAL, SEARCHED = "On the official videos, which chose nothing", "In the search, which chose by it"


def trial_config(space: Space, trial: FrozenTrial) -> Config:
    """The configuration of a trial, complete: its parameters, and the detection setting that scored best."""
    config = replace(with_values(space.base, trial.params), detect=chosen_detect(space, trial))
    counted = replace(config.eval, epoch=space.plan.epoch)
    return _pinned(replace(config, eval=counted), space, trial)


def _pinned(config: Config, space: Space, ran: FrozenTrial) -> Config:
    """With the device type and the CPU threads that it was trained with: rounding depends on them."""
    device = TrialRecord.of(ran).device or config.device
    return replace(config, threads=config.threads or space.plan.resources.cpu, device=device)


def detect_of(space: Space, trial: FrozenTrial, known: Confirmation) -> Detect:
    """The detection setting of a trial as it leaves: on all training videos where that was done."""
    final = known.finals.get(trial.number)
    return chosen_detect(space, trial) if final is None else confirm.final_config(space, trial, final).detect


def own_setting_avg_map(space: Space, trial: FrozenTrial) -> float | None:
    """A trial's avg.mAP at the base's own detection setting, over the same epochs as its value.

    With `best` in the best of all its epochs for that setting, else in the epochs that count.
    """
    scores, own = scores_of(space, trial), space.base.detect
    return scores.best_at(own) if space.plan.objective == "best" else dict(scores.by_detect).get(own)


@dataclass(frozen=True)
class Gain:
    """What a configuration won over the base, in avg.mAP and in a sentence; None where the base has no such value.

    over_seeds: between means over new seeds; else between one run each, in the search.
    """

    avg_map: float | None
    over_seeds: bool
    sentence: str


def gain_over_base(space: Space, trials: Sequence[FrozenTrial], trial: FrozenTrial, known: Confirmation) -> Gain | None:
    """None where there is nothing to compare, or another configuration won over the seeds."""
    standing = known.standing(trial.number)
    if standing is not None and known.ranking is not None:
        won = standing is known.ranking.winner
        return Gain(known.ranking.gain, True, known.ranking.sentence()) if won else None
    base = base_of(space, trials, trial)
    if base is None or base.value is None or trial.value is None:
        return None
    if trial.number == base.number:
        return Gain(0.0, False, "the base itself scored highest; nothing found is better, on one seed")
    gain = trial.value - base.value
    return Gain(gain, False, f"{gain:+.3f} on one seed, not confirmed over seeds")


def differences(
    space: Space, trial: FrozenTrial, base: FrozenTrial | None, known: Confirmation
) -> list[tuple[str, str, str]]:
    """The settings in which a trial differs from the base, its seed left out: key, its value, the base's.

    base: its trial. Of what is swept, its value is the one that was chosen for it, for its figures are of that; both
    are said where it isn't the one in the file.
    """
    other = space.base.detect if base is None or base.number == trial.number else detect_of(space, base, known)
    detect = {f"detect.{key}": value for key, value in vars(detect_of(space, trial, known)).items()}
    values = {key: value for key, value in {**trial.params, **detect}.items() if key != SEED}
    bases = {f"detect.{key}": value for key, value in vars(other).items()}
    rows = []
    for key, value in values.items():
        own = base_value(space.base, key)
        best = bases.get(key, own)
        if value != best:
            rows.append((key, short(value), short(own) if best == own else _in_file_and_best(own, best)))
    return rows


def _in_file_and_best(own: object, best: object) -> str:
    """The base's value of what is swept: the one that it was given, and the one at which it scored best."""
    return f"{short(own)} in the file, {short(best)} at its best"


def set_apart(space: Space, trial: FrozenTrial, base: FrozenTrial | None, known: Confirmation) -> str:
    """The same in words; empty where there is none."""
    return ", ".join(f"{key} {value} (base {old})" for key, value, old in differences(space, trial, base, known))


def no_choice(trials: Sequence[FrozenTrial]) -> str | None:
    """Why COMPLETE trials name no winner: not one of them scored. None where one did, or none is there."""
    complete = ranked(trials)
    if not complete or complete[0].value:
        return None
    detected = any(TrialRecord.of(trial).detections != 0 for trial in complete)
    why = why_zero(detected, "none of them detected anything in any epoch")
    return f"All {len(complete)} COMPLETE trials have an avg.mAP of 0, so there is no winner: {why}"


def called(space: Space, number: int, params: Mapping[str, Any], width: int = 0, sources: Sequence[str] = ()) -> str:
    """A trial by its number, and whether it is the base; a grid over seeds has one a seed. sources: that it won."""
    if sources:
        return retraining.named(number, is_base(space, number, params), sources)
    if not is_base(space, number, params):
        return f"trial {number:{width}d}"
    seed = f", seed {params[SEED]}" if SEED in params else ""
    return f"trial {number:{width}d} (base{seed})"


def all_alike(trials: Sequence[FrozenTrial]) -> list[str]:
    """A warning where different settings all scored the same: then the search chose nothing."""
    complete = ranked(trials)
    settings = {tuple(sorted((key, value) for key, value in one.params.items() if key != SEED)) for one in complete}
    if len(settings) < _ALIKE_FROM or len({one.value for one in complete}) > 1:
        return []
    keys = ", ".join(key for key in complete[0].params if key != SEED)
    return [f"all {len(complete)} COMPLETE trials have the same avg.mAP: what was searched ({keys}) changed nothing"]


def base_of(space: Space, trials: Sequence[FrozenTrial], trial: FrozenTrial) -> FrozenTrial | None:
    """The base, trained with a trial's seed: a gain is between equal seeds, or it isn't said."""
    alike = (one for one in trials if seed_of(space, one) == seed_of(space, trial))
    return next((one for one in alike if is_base(space, one.number, one.params)), None)


def about(
    run: str, study: optuna.Study, space: Space, trial: FrozenTrial, known: Confirmation, final: FrozenTrial | None
) -> dict[str, str]:
    """What is to be said of an exported configuration, and stands above it as a comment.

    run: the search's name. final: the configuration's run on all training videos, if that is exported.
    """
    trained = final or trial
    avg_map = trained.value if final else scores_of(space, trial).at_seed
    sessions = study.user_attrs.get(SESSIONS) or [{}]
    rows: dict[str, object] = {
        "run": run,
        "study": study.study_name,
        "trial": trial.number,
        # Of the epoch that counts, for that is what training it again reports.
        "avg_map_at_seed": "unknown" if avg_map is None else repr(avg_map),
        "epoch": TrialRecord.of(trained).best_epoch or "unknown",
        "seed": final.params["seed"] if final else seed_of(space, trial),
    }
    own = TrialRecord.of(trial).winner_of
    rows |= {"source": f"the winner of {' and '.join(own)}"} if own else {}
    rows |= _against_base(space, study.get_trials(deepcopy=False), trial, known)
    rows |= _against_sources(known, trial)
    if final is not None:
        rows["trained_on"] = "all training videos; scored once, on the official validation videos"
        count = sum(run.trial == trial.number for run in known.official)
        if count > 1:
            rows["trained_on"] += f"; these weights are of seed {final.params['seed']}, the first of {count}"
        chose = "the settings" if "epochs" in final.params else "the settings and the epochs"
        scored = "none" if trial.value is None else repr(trial.value)
        rows["holdout_avg_map"] = f"{scored} in the search, which chose {chose} by it"
        if "base_avg_map" in rows:  # it is of the holdout, too, and not to be read beside avg_map_at_seed
            rows["holdout_base_avg_map"] = rows.pop("base_avg_map")
    elif isinstance(space.base.data.validation, Holdout):
        rows["trained_on"] = "the training videos but those held out; scored on these"
    else:
        rows["tuned_on"] = "the official validation videos: this avg.mAP is of the set it was tuned on"
    notes = made_up(space.base.data, study.user_attrs.get(DATA))
    rows |= {"data": notes[0]} if notes else {}
    rows["data_fingerprint"] = study.user_attrs.get(FINGERPRINT, "unknown")
    rows |= {key: sessions[-1].get(key, "unknown") for key in ("versions", "python", "git_commit")}
    return {key: " ".join(str(value).split()) for key, value in rows.items()}


def seed_of(space: Space, trial: FrozenTrial) -> int:
    """What a trial was trained with: a grid may vary it."""
    return trial.params.get(SEED, space.base.seed)


def _against_base(
    space: Space, trials: Sequence[FrozenTrial], trial: FrozenTrial, known: Confirmation
) -> dict[str, str]:
    """What a configuration won over the base: on the official validation videos, over new seeds, and in the search."""
    found = unseen(known, trial.number)
    rows = _official(found) if found is not None else {}
    where = retraining.on_videos(space)
    choice = known.choices.get(trial.number)
    base, standing = base_of(space, trials, trial), known.standing(trial.number)
    if base is not None and base.state == TrialState.COMPLETE and base.value is not None:
        rows["base_avg_map"] = _at_settings(base.value, own_setting_avg_map(space, base))
    if standing is not None:
        spread = f" ± {standing.sd:.3f} (sd)" if standing.sd is not None else ""
        most = known.ranking.most if known.ranking is not None else None
        raced = "" if most is None else f" in a race of up to {most}"
        at = "" if choice is None else f", at epoch {choice.epochs}"
        rows["confirmation"] = f"mean {standing.mean:.3f}{spread} over {standing.n} new seeds{raced}{where}{at}"
    gain = gain_over_base(space, trials, trial, known)
    if gain is not None:
        key = "confirmed_gain_over_base" if gain.over_seeds else "gain_over_base"
        rows[key] = gain.sentence + retraining.on_videos(space, gain.over_seeds)
    return rows


def _against_sources(known: Confirmation, trial: FrozenTrial) -> dict[str, str]:
    """What it won over the winners of earlier searches, and what these scored."""
    others = [row for row in beside(known, trial.number) if row.sources and row.number != trial.number]

    def said(scored: Sequence[Scored | None]) -> str:
        known = [one for one in scored if one is not None and one.sentence]
        return "; ".join(f"{one.sentence}, whose mean is {_mean(one.seeds)}" for one in known)

    rows = {
        "official_gain_over_sources": said([row.official for row in others]),
        "confirmed_gain_over_sources": said([row.confirmed for row in others]),
    }
    return {key: text for key, text in rows.items() if text}


def _official(found: Unseen) -> dict[str, str]:
    count = len(found.winner.scores)
    said = _mean(found.winner)
    if count > 1:
        said = f"mean {said} (sd) over {count} seeds"
    if found.base is not None:
        own = found.own.mean if found.own is not None else None
        said += f", the base {_mean(found.base)} at its best detection setting" + _at_own(own)
    if count == 1 and found.gain is not None:
        said += f": {found.gain.gain:+.3f} on one seed"
    return {"official_avg_map": said} | ({"official_gain_over_base": found.sentence} if found.sentence else {})


def _mean(one: Confirmed) -> str:
    return f"{one.mean:.3f}" + ("" if one.sd is None else f" ± {one.sd:.3f}")


def _at_settings(best: float, own: float | None) -> str:
    """What the base scored at the detection setting that was chosen for it, and at its own."""
    return f"{best:.3f} at its best detection setting" + _at_own(own)


def _at_own(own: float | None) -> str:
    return "" if own is None else f", {own:.3f} at its own"


def comparison(space: Space, study: optuna.Study, trial: FrozenTrial, known: Confirmation) -> list[str]:
    """The same in lines for the terminal: first what the official videos say, last what those say that chose."""
    rows = _against_base(space, study.get_trials(deepcopy=False), trial, known)
    rows["search"] = "none, for it failed" if trial.value is None else f"{trial.value:.3f}"
    rows["search"] += f"; the base {rows['base_avg_map']}" if "base_avg_map" in rows else ""
    names = {
        "official_avg_map": f"{ON_OFFICIAL}, after training on all training videos: avg.mAP",
        "official_gain_over_base": "Gain on the official videos:",
        "confirmation": "Confirmed: avg.mAP",
        "confirmed_gain_over_base": "Confirmed gain:",
        "gain_over_base": "Gain:",
        "search": f"{SEARCHED}: avg.mAP",
    }
    return [f"{name} {rows[key]}" for key, name in names.items() if key in rows]


def train_again(folder: RunFolder) -> str:
    """The command that trains what was exported; from the folder in which the search ran, for paths are as it had."""
    return python("-m", "haan", "train", folder.best_yaml, "--out", f"trained-{folder.name}")


def leaving(space: Space, trial: FrozenTrial, final: FrozenTrial | None) -> Config:
    """A trial's configuration as it is exported."""
    if final is None:
        return trial_config(space, trial)
    return _pinned(confirm.final_config(space, trial, final), space, final)


def exported(folder: RunFolder, space: Space, trials: Sequence[FrozenTrial], known: Confirmation) -> FrozenTrial | None:
    """The trial whose configuration best.yaml holds, the winner before any other.

    None where it holds none's: it was changed by hand, or written before the search went on under other settings.
    """
    best = confirm.winner(space, trials, known)
    if best is None or not folder.best_yaml.exists():
        return None
    try:
        config = read_config(folder.best_yaml)
    except (InputError, OSError):
        return None
    complete = (trial for trial in trials if trial.state == TrialState.COMPLETE)
    return next((trial for trial in (best, *complete) if config in _exports(space, trial, known)), None)


def _exports(space: Space, trial: FrozenTrial, known: Confirmation) -> tuple[Config, Config]:
    """A trial's configuration as it leaves by its number, and as the winner."""
    return trial_config(space, trial), leaving(space, trial, known.finals.get(trial.number))
