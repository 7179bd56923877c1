"""What data a run's figures are of, in words: planted ones must never pass for those of a paper."""

import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from haan import __version__
from haan.config import Data
from haan.data.planted import MADE_UP, planted
from search.results.versions import version_of
from search.space.tableform import Dataset

if TYPE_CHECKING:  # a listing and a report do without PyTorch
    from haan.data.table import Annotations, FeatureSource

_MOST_DROPPED = 0.01  # of the segments; the readers drop those whose times make no sense


_PACKAGES = ("torch", "numpy", "faiss-gpu", "optuna", "ray")


def record(data: Data, source: "FeatureSource", annotations: "Annotations") -> dict[str, Any]:
    """What the study keeps of its data: where they lie, their counts, and how they were planted, if they were."""
    offsets, num_train = annotations.segment_offsets, annotations.num_train
    return {
        "root": data.root,
        "validation": "official" if data.validation == "official" else "holdout",
        "train_videos": num_train,
        "validation_videos": len(annotations.names) - num_train,
        "train_segments": int(offsets[num_train]),
        "validation_segments": int(offsets[-1] - offsets[num_train]),
        "fine_classes": len(annotations.fine_names),
        "coarse_classes": len(annotations.coarse_names),
        "clips": int(source.num_clips.sum()),
        "dim": source.dim,
        "planted": planted(data),
    }


def made_up(data: Data, known: Mapping[str, Any] | None = None) -> list[str]:
    """What every output of planted data says; nothing of others. known: their record, once there is one."""
    found = known["planted"] if known is not None else data.plant or planted(data)
    return [] if found is None else [MADE_UP]


def name(known: Mapping[str, Any], dataset: Dataset | None) -> str:
    """What the data are called: never as the published set unless they have its counts and were not planted.

    With its counts, but scored on held-out training videos, its name says so: no published figure is of these.
    """
    if known["planted"] is not None:
        over = known["planted"].get("like")
        return f"features planted over the timelines of {over['folder']}" if over else "planted features"
    if dataset is not None and _is_published(known, dataset):
        return dataset.name if known["validation"] == "official" else f"{dataset.name} (held-out training videos)"
    folder = Path(known["root"]).name
    likened = dataset is not None and folder.casefold() in dataset.name.casefold()
    return f"other data than published ({known['root']})" if likened else folder


def is_published(known: Mapping[str, Any], dataset: Dataset | None) -> bool:
    """Whether these are the data that were published, as far as counts can tell, scored on their validation videos."""
    official = known["validation"] == "official"
    return official and known["planted"] is None and dataset is not None and _is_published(known, dataset)


def _is_published(known: Mapping[str, Any], dataset: Dataset) -> bool:
    return all(
        0 <= wanted - known[key] <= (_MOST_DROPPED * wanted if key.endswith("segments") else 0)
        for key, wanted in vars(dataset).items()
        if key != "name"
    )


def sentences(
    known: Mapping[str, Any] | None, fingerprint: str, dataset: Dataset | None, scored_on: str = ""
) -> list[str]:
    """The data of a run, a sentence a line. scored_on: in words; empty: what its trials were scored on."""
    if known is None:
        return [f"Data: not recorded by this run (fingerprint {fingerprint[:12]})."]
    lines = [
        f"Data: {name(known, dataset)} ({known['root']}), {_counts(known)}, {known['clips']} clips of "
        f"{known['dim']}-d features, fingerprint {fingerprint[:12]}; scored on {scored_on or _scored_on(known)}."
    ]
    if known["planted"] is not None:
        lines.insert(0, MADE_UP)
    if dataset is not None:
        lines.append(_compared(known, dataset))
    return lines


def _counts(known: Mapping[str, Any]) -> str:
    return (
        f"{known['train_videos']} training and {known['validation_videos']} validation videos with "
        f"{known['train_segments']} and {known['validation_segments']} segments of {known['fine_classes']} fine and "
        f"{known['coarse_classes']} coarse classes"
    )


def _scored_on(known: Mapping[str, Any]) -> str:
    if known["validation"] == "official":
        return "the official validation videos, which choose the epoch, too"
    return "training videos that were held out"


def _compared(known: Mapping[str, Any], dataset: Dataset) -> str:
    if not _is_published(known, dataset):
        return f"Annotations: NOT those published for {dataset.name}, which are {_counts(vars(dataset))}."
    keys = ("train_segments", "validation_segments")
    dropped = sum(getattr(dataset, key) - known[key] for key in keys)
    less = f", less {dropped} segments whose times make no sense" if dropped else ""
    return f"Annotations: the counts are those published for {dataset.name}{less}."


def versions() -> dict[str, str]:
    """What a figure depends on beside the configuration; this project's own version is known without an install."""
    packages = ", ".join([f"haan-search {__version__}", *(f"{name} {version_of(name)}" for name in _PACKAGES)])
    python = f"{platform.python_version()} on {platform.machine()}"
    return {"versions": packages, "python": python, "git_commit": git_commit() or "none"}


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
