"""FineGym's own files -> the `haan` layout, with events as videos.

- The temporal annotation (`finegym_annotation_info_v1.0.json`, and v1.1): {video: {event: {"event": number,
  "timestamps": [[start_s, end_s]] in the video, "segments": {action: {"stages": n, "timestamps": [[start_s, end_s],
  ...] in the event}} or null}}}. An action of several stages goes from the start of the first to the end of the last.
- The two parts of a split (`gym99_train_element.txt`, `gym99_val_element.txt`, the authors' `..._new.txt`, or those of
  `haan split`): a line a sample, `video_event_action class`.
- The categories (`gym99_categories.txt`): a line a class, `Clabel: 7; set: 21; Glabel: 68; (FX) switch leap 1 turn`.
  Elements are the fine classes, sets the coarse ones, numbered in the order of FineGym's own numbers.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from haan.activitynet import is_number, member, typed
from haan.data.layout import Classes, Video
from haan.errors import InputError
from haan.files import read_json, read_lines

_SAMPLE = re.compile(r"(?P<video>\S+)_(?P<event>E_\d+_\d+)_(?P<action>A_\d+_\d+)\s+(?P<label>\d+)")
_CATEGORY = re.compile(r"Clabel:\s*(?P<element>\d+);\s*set:\s*(?P<set>\d+);.*;\s*(?P<name>[^;]*\S)\s*")


@dataclass(frozen=True)
class Sample:
    """One action of a list of elements. video: where it was filmed. event: the routine, as `E_...`. action: `A_...`."""

    video: str
    event: str
    action: str
    label: int

    @property
    def routine(self) -> str:
        """The event's full name, which is that of one of our videos."""
        return f"{self.video}_{self.event}"

    @property
    def line(self) -> str:
        """As it stands in a list of elements."""
        return f"{self.routine}_{self.action} {self.label}"


def read_samples(path: Path) -> list[Sample]:
    """A list of elements. Raises InputError, also when a sample stands twice."""
    samples, lines = [], {}
    for number, line in read_lines(path):
        match = _SAMPLE.fullmatch(line)
        if match is None:
            raise InputError(f"{path}:{number}: must be VIDEO_E_START_END_A_START_END CLASS, got {line!r:.80}")
        sample = Sample(match["video"], match["event"], match["action"], int(match["label"]))
        key = (sample.routine, sample.action)
        if key in lines:
            raise InputError(f"{path}:{number}: must be another sample than line {lines[key]}, got {line!r:.80}")
        lines[key] = number
        samples.append(sample)
    if not samples:
        raise InputError(f"{path}: must hold a sample, got none")
    return samples


def read_categories(path: Path) -> Classes:
    """Elements and sets. Raises InputError."""
    sets: list[int] = []
    names: list[str] = []
    for number, line in read_lines(path):
        match = _CATEGORY.fullmatch(line)
        if match is None:
            raise InputError(f"{path}:{number}: must be `Clabel: N; set: N; ...; name`, got {line!r:.80}")
        if int(match["element"]) != len(names):
            raise InputError(f"{path}:{number}: Clabel: must be {len(names)}, for they count from 0, got {line!r:.80}")
        sets.append(int(match["set"]))
        names.append(match["name"])
    if not names:
        raise InputError(f"{path}: must hold a category, got none")
    numbers = sorted(set(sets))
    coarse_of_fine = tuple(numbers.index(one) for one in sets)
    return Classes(coarse_of_fine, tuple(_distinct(names)), tuple(_set_name(n, sets, names) for n in numbers))


def _distinct(names: list[str]) -> list[str]:
    """Class names, with the number of the class behind those that stand twice."""
    return [f"{name} ({j})" if names.count(name) > 1 else name for j, name in enumerate(names)]


def _set_name(number: int, sets: list[int], names: list[str]) -> str:
    """`FX set 21` where all elements of the set begin with `(FX)`, else `set 21`."""
    of_set = (name for name, one in zip(names, sets, strict=True) if one == number)
    found = {match[1] if (match := re.match(r"\((\w+)\)", name)) else "" for name in of_set}
    return f"{found.pop() if len(found) == 1 else ''} set {number}".strip()


def convert(
    info: Path, categories: Path, train: Path, val: Path, clips_per_s: float
) -> tuple[list[Video], Classes, int]:
    """Events with their actions, training first, each part in the order of names; classes; how many train.

    Actions of an event are in the order of time. Raises InputError.
    """
    classes = read_categories(categories)
    database = typed(read_json(info), dict, info, "the file")
    parts = [_events(path, len(classes.fine_names)) for path in (train, val)]
    both = sorted(parts[0].keys() & parts[1].keys())
    if both:
        raise InputError(f"{val}: must hold no event of {train.name}, got {both[0]!r} and {len(both) - 1} more")
    videos = [
        _video(name, events[name], info, database, classes, clips_per_s) for events in parts for name in sorted(events)
    ]
    return videos, classes, len(parts[0])


def _events(path: Path, num_fine: int) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for sample in read_samples(path):
        if sample.label >= num_fine:
            raise InputError(f"{path}: must name a class below {num_fine}, as the categories do, got {sample.line!r}")
        found.setdefault(sample.routine, []).append(sample)
    return found


def _video(
    name: str, samples: list[Sample], info: Path, database: dict[str, Any], classes: Classes, clips_per_s: float
) -> Video:
    video, event = samples[0].video, samples[0].event
    about = member(database.get(video, {}), event, dict, info, video)
    actions = member(about, "segments", dict, info, f"{video}.{event}")
    rows = []
    for sample in samples:
        where = f"{video}.{event}.segments"
        action = member(actions, sample.action, dict, info, where)
        stages = member(action, "timestamps", list, info, f"{where}.{sample.action}")
        rows.append((*_span(stages, info, f"{where}.{sample.action}.timestamps"), sample.label))
    rows.sort()
    segments = [[start, end] for start, end, _ in rows]
    return Video(name, clips_per_s, segments, [[classes.coarse_of_fine[fine], fine] for _, _, fine in rows])


def _span(stages: list[Any], info: Path, where: str) -> tuple[float, float]:
    """From the start of the first stage to the end of the last, in seconds after the start of the event."""
    sound = [isinstance(pair, list) and len(pair) == 2 and all(is_number(value) for value in pair) for pair in stages]
    if not stages or not all(sound):
        raise InputError(f"{info}: {where}: must be pairs of finite numbers, got {stages!r:.80}")
    return float(stages[0][0]), float(stages[-1][1])
