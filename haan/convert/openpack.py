"""OpenPack's sensor recordings (open-pack/openpack-toolkit's sample, or its full data set) -> the `haan` layout.

Read are `USER/annotation/openpack-actions/SESSION.csv` (box, id, operation, action, start, end) and
`USER/atr/atr01 .. atr04/SESSION.csv` (unixtime in milliseconds, then 10 channels of one IMU).

- Actions are the fine classes, operations the coarse ones; both are numbered in the order of OpenPack's own ids. What
  belongs to no operation (`Null`) is left out.
- A box's actions are cut into recordings of ACTIONS, with MARGIN_S before the first and after the last. A remainder of
  fewer than half as many is left out. Every fourth box is a validation box.
- A clip is a window of WINDOW samples of the 40 channels: their means, standard deviations, and last minus first
  (120-d), standardised by mean and standard deviation of the training clips.

OpenPack is CC BY-NC-SA 4.0: what is converted from it stays under that licence.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from haan.data.layout import Classes, Video
from haan.errors import InputError
from haan.files import read_text

DEVICES = ("atr01", "atr02", "atr03", "atr04")
CHANNELS = (*(f"{kind}_{axis}" for kind in ("acc", "gyro") for axis in "xyz"), *(f"quat_{axis}" for axis in "wxyz"))
ACTIONS = 9  # of a recording
MARGIN_S = 1.0
WINDOW = 10  # samples of a clip
VALIDATION_EVERY = 4
SMALLEST = 1e-6  # added to a standard deviation: a channel that never changes stays 0

_COLUMNS = ("box", "id", "operation", "action", "start", "end")


@dataclass(frozen=True)
class Recording:
    """One video to be. clips: [clips, 120], not standardised. segments: [start_s, end_s]; ids: OpenPack's, one each."""

    name: str
    box: int
    clips: NDArray[np.float64]
    segments: list[list[float]]
    ids: list[int]

    @property
    def validates(self) -> bool:
        """Whether it is one for validation."""
        return self.box % VALIDATION_EVERY == 0


@dataclass(frozen=True)
class Converted:
    """Videos, training first, their features [clips, 120] float32, the classes, how many train.

    hz: samples a second, from their times. left_out: validation actions of classes that no training video shows.
    """

    videos: list[Video]
    features: list[NDArray[np.float32]]
    classes: Classes
    num_train: int
    hz: float
    left_out: int


def convert(root: Path, clips_per_s: float) -> Converted:
    """All sessions below a folder. Raises InputError."""
    tables = sorted(root.glob("*/annotation/openpack-actions/*.csv"))
    if not tables:
        raise InputError(f"{root}: must hold USER/annotation/openpack-actions/SESSION.csv, got none")
    recordings: list[Recording] = []
    names: dict[int, tuple[str, str]] = {}
    steps: list[NDArray[np.float64]] = []
    for table in tables:
        actions = _actions(table)
        samples = _samples(table.parents[2], table.stem)
        steps.append(np.diff(samples.index.to_numpy(dtype=np.float64)))
        rows = actions[["id", "operation", "action"]].itertuples(index=False)
        names |= {int(number): (str(operation), str(action)) for number, operation, action in rows}
        for box, of_box in actions.groupby("box", sort=True):
            prefix = f"{table.parents[2].name}_{table.stem}_box{box:02d}"
            recordings += _recordings(prefix, int(str(box)), of_box, samples, table)
    return _packed(root, recordings, names, clips_per_s, 1000 / float(np.median(np.concatenate(steps))))


def _read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Some columns of a table. Raises InputError."""
    try:
        found = pd.read_csv(io.StringIO(read_text(path)))
    except ValueError as error:  # pandas' own errors are ValueErrors
        raise InputError(f"{path}: must be a table, got {' '.join(str(error).split())}") from None
    missing = [column for column in columns if column not in found]
    if missing:
        raise InputError(f"{path}: must have the column(s) {', '.join(missing)}, got {', '.join(map(str, found))}")
    return found.loc[:, list(columns)]


def _actions(path: Path) -> pd.DataFrame:
    """The actions of a session, in the order of time; `start` and `end` in Unix milliseconds."""
    found = _read(path, _COLUMNS)
    for column in ("box", "id"):
        if not pd.api.types.is_integer_dtype(found[column]):
            raise InputError(f"{path}: {column}: must be whole numbers, got {found[column].dtype}")
    for column in ("operation", "action"):
        found[column] = found[column].fillna("Null").astype(str)  # pandas reads the word Null as nothing
    for column in ("start", "end"):
        try:
            times = pd.to_datetime(found[column], format="ISO8601", utc=True)
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}: {column}: must be times, got {error}") from None
        if times.isna().any():
            raise InputError(f"{path}: {column}: must be times, got none in row {int(times.isna().argmax()) + 1}")
        found[column] = (times - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(milliseconds=1)
    return found.loc[found["operation"] != "Null"].sort_values(by="start", kind="stable")


def _samples(user: Path, session: str) -> pd.DataFrame:
    """The channels of all IMUs at the times that they share: [samples, 40], indexed by Unix milliseconds."""
    parts = []
    for device in DEVICES:
        path = user / "atr" / device / f"{session}.csv"
        found = _read(path, ("unixtime", *CHANNELS))
        for column in found:
            if not pd.api.types.is_numeric_dtype(found[column]) or not np.isfinite(found[column]).all():
                raise InputError(f"{path}: {column}: must be finite numbers, got {found[column].dtype}")
        found = found.set_index("unixtime")
        if not (found.index.is_monotonic_increasing and found.index.is_unique):
            raise InputError(f"{path}: unixtime: must rise from row to row, got times out of order")
        parts.append(found.add_prefix(f"{device}/"))
    samples = pd.concat(parts, axis=1, join="inner")
    if len(samples) < WINDOW:
        raise InputError(f"{user / 'atr'}: the IMUs must share {WINDOW} sample times in {session}, got {len(samples)}")
    return samples


def _recordings(prefix: str, box: int, actions: pd.DataFrame, samples: pd.DataFrame, table: Path) -> list[Recording]:
    found = []
    times = samples.index.to_numpy()
    for i, first in enumerate(range(0, len(actions), ACTIONS)):
        part = actions.iloc[first : first + ACTIONS]
        if len(part) < ACTIONS / 2:
            break
        bounds = part["start"].min() - 1000 * MARGIN_S, part["end"].max() + 1000 * MARGIN_S
        start, stop = np.searchsorted(times, bounds[0], "left"), np.searchsorted(times, bounds[1], "right")
        if stop - start < WINDOW:
            raise InputError(f"{table}: box {box}: must have IMU samples during its actions, got {stop - start}")
        segments = ((part[["start", "end"]].to_numpy() - times[start]) / 1000).tolist()
        clips = _pooled(samples.iloc[start:stop].to_numpy(dtype=np.float64))
        found.append(Recording(f"{prefix}_{i}", box, clips, segments, part["id"].tolist()))
    return found


def _pooled(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """[clips, 3 * channels]: means, standard deviations, last minus first of each whole window."""
    windows = samples[: len(samples) // WINDOW * WINDOW].reshape(-1, WINDOW, samples.shape[1])
    return np.concatenate([windows.mean(axis=1), windows.std(axis=1), windows[:, -1] - windows[:, 0]], axis=1)


def _packed(
    root: Path, recordings: list[Recording], names: dict[int, tuple[str, str]], clips_per_s: float, hz: float
) -> Converted:
    """Recordings standardised, their actions numbered, training first."""
    training = [one for one in recordings if not one.validates]
    ordered = training + [one for one in recordings if one.validates]
    if not training or len(ordered) == len(training):
        rule = f"must hold a box of at least {-(-ACTIONS // 2)} actions for training and one for validation"
        raise InputError(f"{root}: {rule}, got {len(training)} and {len(ordered) - len(training)}")
    ids = sorted({number for one in training for number in one.ids})
    operations = tuple(dict.fromkeys(names[number][0] for number in ids))
    coarse_of_fine = tuple(operations.index(names[number][0]) for number in ids)
    fine_names = tuple("{}/{} ({})".format(*names[number], number) for number in ids)
    classes = Classes(coarse_of_fine, fine_names, operations)
    clips = np.concatenate([one.clips for one in training])
    mean, scale = clips.mean(axis=0), clips.std(axis=0) + SMALLEST
    videos, left_out = [], 0
    for one in ordered:
        kept = [i for i, number in enumerate(one.ids) if number in ids]
        left_out += len(one.ids) - len(kept)
        fine = [ids.index(one.ids[i]) for i in kept]
        labels = [[coarse_of_fine[j], j] for j in fine]
        videos.append(Video(one.name, clips_per_s, [one.segments[i] for i in kept], labels))
    features = [((one.clips - mean) / scale).astype(np.float32) for one in ordered]
    return Converted(videos, features, classes, len(training), hz, left_out)
