"""ActivityNet JSON: ground truth (`database`) and predictions (`results`), read with care and written."""

import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haan import __version__
from haan.config import Config
from haan.errors import InputError
from haan.files import read_json, whole
from haan.methods.names import HAAN
from haan.metrics import Detections, Segments
from haan.words import plain_number

TRAINING, VALIDATION, TESTING = "training", "validation", "testing"
SUBSETS = (TRAINING, VALIDATION, TESTING)
_VERSION = re.compile(r"haan \S+?(, method \w+, (?P<supervision>weak|full) supervision)?")


@dataclass(frozen=True)
class Benchmark:
    """Ground truth and predictions on common indices.

    names: videos with ground truth. strange_videos, strangers: those outside it and the predictions there, which count
    as false, as in ActivityNet's own evaluation.
    unknown_classes, unknown: those without ground truth and their predictions, which take no part.
    unsound: segments of the ground truth with end <= start, which none can match; they count as missed, as there.
    outside: those that lie before their video or after its duration, which none should match.
    subsets: of each (None: the file names none) the videos with ground truth, and those of them without a prediction.
    predicted: videos with a prediction, wherever.
    """

    truth: Segments
    detections: Detections
    classes: tuple[str, ...]
    names: tuple[str, ...]
    strange_videos: tuple[str, ...]
    strangers: int
    unknown_classes: tuple[str, ...]
    unknown: int
    unsound: int
    outside: int
    subsets: dict[str | None, tuple[int, int]]
    predicted: int

    @property
    def videos(self) -> int:
        """Those with ground truth."""
        return sum(videos for videos, _ in self.subsets.values())

    @property
    def unpredicted(self) -> int:
        """Those of them without a prediction."""
        return sum(without for _, without in self.subsets.values())


def version_of(config: Config) -> str:
    """The version of a file of detections: what trained on what supervision found them. HAAN's doesn't say so."""
    more = "" if config.method == HAAN else f", method {config.method}, {config.supervision} supervision"
    return f"haan {__version__}{more}"


def supervision_of(version: str) -> str | None:
    """On what supervision trained what wrote a file of that version; None where that is none of ours."""
    written = _VERSION.fullmatch(version)
    return None if written is None else written["supervision"] or "weak"


def write_predictions(
    path: Path,
    names: Sequence[str],
    classes: Sequence[str],
    detections: Detections,
    version: str,
    external: str | None = None,
) -> None:
    """Detections as `results`; names and classes give the text of each video and label index.

    external: what else than the data set was used, in the words for a server. What is written is checked first.
    """
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    order = np.lexsort((-detections.score, detections.video))
    for i in order.tolist():
        segment = [float(detections.start_s[i]), float(detections.end_s[i])]
        entry = {"label": classes[int(detections.label[i])], "score": float(detections.score[i]), "segment": segment}
        results[names[int(detections.video[i])]].append(entry)
    used = {} if external is None else {"used": True, "details": external}
    submission = {"version": version, "results": results, "external_data": used}
    check_submission(path, submission, names, classes)
    write_json(path, submission)


def check_submission(path: Path, value: Any, names: Sequence[str], classes: Sequence[str]) -> None:
    """Raises InputError unless a value is what an ActivityNet server takes.

    That is an object of `version` (text), `external_data` (an object; `used` true or false, `details` text) and
    `results`: for each of the videos `names` and no other a list of `label` (one of `classes`), `score` (a finite
    number) and `segment` ([start_s, end_s], 0 <= start <= end).
    """
    _part(value, "version", str, path)
    external = _part(value, "external_data", dict, path)
    if "details" in external:
        member(external, "details", str, path, "external_data")
    if not isinstance(external.get("used", False), bool):
        raise InputError(f"{path}: external_data.used: must be true or false, got {external['used']!r:.80}")
    results = _part(value, "results", dict, path)
    known = frozenset(classes)
    for wrong in sorted(results.keys() ^ set(names)):
        rule = "must have a list for each video" if wrong in names else "must be one of the videos to detect in"
        raise InputError(f"{path}: results.{wrong}: {rule}, got {'one more' if wrong in results else 'none'}")
    for name, entries in results.items():
        for i, entry in enumerate(typed(entries, list, path, f"results.{name}")):
            _check_detection(path, entry, f"results.{name}[{i}]", known)


def _check_detection(path: Path, entry: Any, where: str, classes: frozenset[str]) -> None:
    label = member(entry, "label", str, path, where)
    if label not in classes:
        raise InputError(f"{path}: {where}.label: must be a class of the data set, got {label!r}")
    number(entry, "score", path, where)
    start, end = segment(entry, path, where)
    if not 0 <= start <= end:
        raise InputError(f"{path}: {where}.segment: must have 0 <= start <= end, got [{start}, {end}]")


def write_json(path: Path, value: Any) -> None:
    """A JSON file that is whole or absent."""
    with whole(path) as partial:
        partial.write_text(json.dumps(value, ensure_ascii=False, allow_nan=False), encoding="utf-8")


def read_benchmark(truth_path: Path, predictions_path: Path, subset: str | None) -> Benchmark:
    """Reads both files. Raises InputError."""
    database = read_part(truth_path, "database", dict)
    actions = {
        video: found
        for video, about in database.items()
        if subset is None or member(about, "subset", str, truth_path, f"database.{video}") == subset
        if (found := read_actions(about, truth_path, f"database.{video}"))
    }
    if subset is not None and not actions:
        subsets = sorted({str(about.get("subset")) for about in database.values() if isinstance(about, dict)})
        raise InputError(f"{truth_path}: subset: must be one of {subsets} and have annotations, got {subset!r}")
    if not actions:
        raise InputError(f"{truth_path}: database: must have an annotation, got none")
    results = read_part(predictions_path, "results", dict)
    predictions = [
        (video, entry, f"results.{video}[{i}]")
        for video, entries in results.items()
        for i, entry in enumerate(typed(entries, list, predictions_path, f"results.{video}"))
    ]
    annotations = [(video, *action) for video, found in actions.items() for action in found]
    classes = tuple(sorted({name for _, name, _ in annotations}))
    class_index = {name: i for i, name in enumerate(classes)}
    videos = {name: i for i, name in enumerate(actions)}
    strange = [video for video, _, _ in predictions if video not in videos]
    for video, _, _ in predictions:
        videos.setdefault(video, len(videos))
    truth_times = np.array([times for _, _, times in annotations], dtype=np.float64)
    times = _segments(predictions, predictions_path)
    predicted = [member(entry, "label", str, predictions_path, key) for _, entry, key in predictions]
    scores = np.array([number(entry, "score", predictions_path, key) for _, entry, key in predictions], dtype=float)
    known = np.array([label in class_index for label in predicted], dtype=bool)
    video = np.array([videos[v] for v, _, _ in predictions], dtype=np.int64)
    label = np.array([class_index.get(name, 0) for name in predicted], dtype=np.int64)
    truth = Segments(
        np.array([videos[v] for v, _, _ in annotations], dtype=np.int64),
        np.array([class_index[name] for _, name, _ in annotations], dtype=np.int64),
        truth_times[:, 0],
        truth_times[:, 1],
    )
    return Benchmark(
        truth,
        Detections(video[known], label[known], times[known, 0], times[known, 1], scores[known]),
        classes,
        tuple(actions),
        strange_videos=tuple(dict.fromkeys(strange)),
        strangers=len(strange),
        unknown_classes=tuple(dict.fromkeys(name for name in predicted if name not in class_index)),
        unknown=int((~known).sum()),
        unsound=int((truth.end_s <= truth.start_s).sum()),
        outside=sum(_is_outside(times, database[video].get("duration")) for video, _, times in annotations),
        subsets=_covered({name: database[name].get("subset") for name in actions}, results),
        predicted=sum(map(bool, results.values())),
    )


def _is_outside(times: list[float], duration: Any) -> bool:
    """Whether a segment lies before its video, or after it where a duration is given. Not one with end <= start."""
    start, end = times
    length = as_time(duration)
    return start < end and (end <= 0 or (is_number(length) and start >= length > 0))


def _covered(subset_of: dict[str, Any], results: dict[str, list[Any]]) -> dict[str | None, tuple[int, int]]:
    """`Benchmark.subsets`. subset_of: by the names of videos with ground truth."""
    named = {video: subset if isinstance(subset, str) else None for video, subset in subset_of.items()}
    total = Counter(named.values())
    without = Counter(subset for video, subset in named.items() if not results.get(video))
    return {subset: (count, without[subset]) for subset, count in total.items()}


def _segments(predictions: list[tuple[str, Any, str]], path: Path) -> NDArray[np.float64]:
    """[predictions, 2] start and end in seconds."""
    times = np.zeros((len(predictions), 2))
    for i, (_, entry, key) in enumerate(predictions):
        pair = times[i] = segment(entry, path, key)
        if pair[1] < pair[0]:
            raise InputError(f"{path}: {key}.segment: must have end >= start, got {pair}")
    return times


def read_actions(about: Any, path: Path, where: str) -> list[tuple[str, list[float]]]:
    """Label and [start_s, end_s] of each annotation of a ground truth's video, whatever the times say.

    Only testing videos may have no key `annotations`. Raises InputError.
    """
    if isinstance(about, dict) and about.get("subset") == TESTING and "annotations" not in about:
        return []
    entries = member(about, "annotations", list, path, where)
    return [_action(entry, path, f"{where}.annotations[{i}]") for i, entry in enumerate(entries)]


def _action(entry: Any, path: Path, where: str) -> tuple[str, list[float]]:
    label = member(entry, "label", str, path, where)
    times = [as_time(value) for value in member(entry, "segment", list, path, where)]
    return label, segment({"segment": times}, path, where)


def as_time(value: Any) -> Any:
    """A time of a ground truth as a number where it is one in text, as in THUMOS14's; whatever else as it is."""
    found = plain_number(value.strip()) if isinstance(value, str) else None
    return value if found is None else found


def segment(entry: Any, path: Path, where: str) -> list[float]:
    """Start and end in seconds, in the order in which they are given. Raises InputError unless they are numbers."""
    pair = member(entry, "segment", list, path, where)
    if len(pair) != 2 or not all(is_number(value) for value in pair):
        raise InputError(f"{path}: {where}.segment: must be [start_s, end_s], finite numbers, got {pair!r:.80}")
    return pair


def is_number(value: Any) -> bool:
    """Whether it is a finite number, and no truth value."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max  # False for NaN, and for a whole number too large for a float


def number(entry: Any, key: str, path: Path, where: str) -> float:
    """A number under a key. Raises InputError unless it is finite."""
    if not isinstance(entry, dict) or not is_number(entry.get(key)):
        got = entry.get(key) if isinstance(entry, dict) else entry
        raise InputError(f"{path}: {where}.{key}: must be a finite number, got {got!r:.80}")
    return float(entry[key])


def member(entry: Any, key: str, kind: type, path: Path, where: str) -> Any:
    """What stands under a key. Raises InputError unless it is there and of that kind."""
    if not isinstance(entry, dict):
        raise InputError(f"{path}: {where}: must be an object, got {entry!r:.80}")
    if key not in entry:
        raise InputError(f"{path}: {where}.{key}: is required and missing")
    return typed(entry[key], kind, path, f"{where}.{key}")


_WORDS = {str: "text", list: "a list", dict: "an object"}


def typed(value: Any, kind: type, path: Path, where: str) -> Any:
    """The value itself. Raises InputError unless it is of that kind."""
    if not isinstance(value, kind):
        raise InputError(f"{path}: {where}: must be {_WORDS[kind]}, got {value!r:.80}")
    return value


def read_part(path: Path, key: str, kind: type) -> Any:
    """What stands under a key of a JSON file. Raises InputError unless it is there and of that kind."""
    return _part(read_json(path), key, kind, path)


def _part(content: Any, key: str, kind: type, path: Path) -> Any:
    if not isinstance(content, dict) or key not in content:
        raise InputError(f"{path}: {key}: is required and missing")
    return typed(content[key], kind, path, key)
