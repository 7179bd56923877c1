"""The winner leaves: best.yaml, which anyone can train again, and its weights. Also a command line."""

import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import optuna
import pandas as pd
import typer
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from haan.cli import run, say
from haan.config import Config, Holdout
from haan.errors import InputError
from haan.yamlconfig import dump
from search.runfolder import RunFolder
from search.space import Space, read_space, with_values

_PACKAGES = ("haan-search", "torch", "numpy", "faiss-gpu", "optuna", "ray")
_RECORD = "haan.fingerprint"


def winning_config(space: Space, trial: FrozenTrial) -> Config:
    """The configuration of a trial, complete: its parameters, and the detection setting that scored best."""
    values: dict[str, Any] = dict(trial.params)
    by_detect = trial.user_attrs["avg_map_by_detect"]
    chosen = space.detects[by_detect.index(max(by_detect))]
    config = with_values(replace(space.base, detect=chosen), values)
    device = trial.user_attrs.get("device") or config.device
    return replace(config, threads=config.threads or space.plan.resources.cpu, device=device)


def header(
    study_name: str, space: Space, trial: FrozenTrial, base: FrozenTrial | None, fingerprint: str, config: Config
) -> str:
    """The comment block above an exported configuration."""
    rows: dict[str, object] = {
        "study": study_name,
        "trial": trial.number,
        # Of the best epoch whatever the objective, for that is what training it again reports.
        "avg_map_at_seed": repr(max(trial.user_attrs["avg_map_by_detect"])),
        "best_epoch": trial.user_attrs["best_epoch"],
        "seed": config.seed,
    }
    if base is not None and base.value is not None and trial.value is not None:
        own = own_setting_avg_map(space, base)
        rows["base_avg_map"] = f"{base.value:.3f} at its best detection setting, {own:.3f} at its own"
        rows["gain_over_base"] = f"{trial.value - base.value:+.3f} on one seed, not confirmed over seeds"
    if not isinstance(config.data.validation, Holdout):
        rows["tuned_on"] = "the official validation videos: this avg.mAP is of the set it was tuned on"
    rows["data_fingerprint"] = fingerprint
    rows["versions"] = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    rows["python"] = f"{platform.python_version()} on {platform.machine()}"
    rows["git_commit"] = git_commit() or "none"
    return "".join(f"# {key}: {value}\n" for key, value in rows.items())


def own_setting_avg_map(space: Space, trial: FrozenTrial) -> float:
    """A trial's best avg.mAP over its epochs at the base's own detection setting."""
    return trial.user_attrs["best_avg_map_by_detect"][space.detects.index(space.base.detect)]


def git_commit() -> str | None:
    """The commit of this checkout, marked where files differ from it; None outside a checkout."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.stdout.strip() or None


def export(folder: RunFolder, space: Space, study: optuna.Study, number: int | None, to: Path | None) -> FrozenTrial:
    """Writes the configuration of a trial (by default the best) and its weights; the trial. Raises InputError."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    by_number = {trial.number: trial for trial in complete}
    if number is not None and number not in by_number:
        raise InputError(f"--trial: must be a COMPLETE trial of {folder.root} ({sorted(by_number)}), got {number}")
    if not complete:
        raise InputError(f"{folder.root}: must have a COMPLETE trial, got none")
    trial = by_number[number] if number is not None else max(complete, key=lambda t: (t.value, -t.number))
    config = winning_config(space, trial)
    target = to or folder.best_yaml
    target.parent.mkdir(parents=True, exist_ok=True)
    comments = header(study.study_name, space, trial, by_number.get(0), study.user_attrs[_RECORD], config)
    partial = target.with_name(target.name + ".partial")
    partial.write_text(comments + dump(config), encoding="utf-8")
    weights, weights_to = folder.weights_of(trial.number), target.with_suffix(".safetensors")
    weights_to.unlink(missing_ok=True)  # never another trial's weights beside this configuration
    partial.replace(target)
    if weights is not None:
        shutil.copyfile(weights, weights_to)
    return trial


def record_data(study: optuna.Study, fingerprint: str) -> None:
    """Keeps the fingerprint of the data with the study."""
    study.set_user_attr(_RECORD, fingerprint)


def open_study(folder: RunFolder) -> optuna.Study:
    """The study of a run folder. Raises InputError."""
    if not folder.journal.exists():
        raise InputError(f"{folder.journal}: no such file; name the folder of a search")
    storage = JournalStorage(JournalFileBackend(str(folder.journal)))
    (summary, *_) = optuna.get_all_study_summaries(storage)
    return optuna.load_study(study_name=summary.study_name, storage=storage)


def _row(space: Space, trial: FrozenTrial) -> Mapping[str, Any]:
    known = trial.user_attrs
    row: dict[str, Any] = {
        "number": trial.number,
        "state": trial.state.name,
        "avg_map": trial.value,
        "best_epoch": known.get("best_epoch"),
        "epochs": known.get("epochs"),
        "seconds": known.get("seconds"),
        "node": known.get("node"),
        "seed": space.base.seed,
        "failure": known.get("failure"),
    }
    row |= {f"params.{key}": trial.params.get(key) for key in space.parameters}
    by_detect = known.get("avg_map_by_detect")
    if by_detect:
        chosen = space.detects[by_detect.index(max(by_detect))]
        row |= {f"detect.{key}": value for key, value in vars(chosen).items()}
    return row


def write_trials(folder: RunFolder, space: Space, trials: list[FrozenTrial]) -> None:
    """trials.csv: a row a trial."""
    partial = folder.trials_csv.with_name("trials.csv.partial")
    pd.DataFrame([_row(space, trial) for trial in trials]).to_csv(partial, index=False)
    partial.replace(folder.trials_csv)


def main(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, such as runs/demo.")],
    trial: Annotated[int | None, typer.Option(help="This trial instead of the best.")] = None,
    to: Annotated[Path | None, typer.Option(help="Write here instead of RUN/best.yaml.")] = None,
) -> None:
    """Export a search's best configuration again, or another trial's."""
    folder = RunFolder(run_folder)
    study = open_study(folder)
    chosen = export(folder, read_space(folder.space_yaml), study, trial, to)
    say(f"trial {chosen.number}, avg.mAP {chosen.value:.3f}; written to {to or folder.best_yaml}")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(epilog="Example: python search/export.py runs/demo --trial 3 --to trial3.yaml")(main)
    run(app)
