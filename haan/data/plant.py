"""Planted features: a data set whose answer is known, in the layout that the `haan` reader reads.

Real I3D features of the paper's data sets can't be shipped, so clips are made up here, over made timelines or over
real ones. What is planted:

- *Atoms* are random unit vectors in d dimensions. A fine class is a short sequence of them. Most come from a pool that
  it shares with its coarse siblings, one or two are its own. An action walks through its sequence once, in equal parts.
- Clips are cut from that walk every 1 / clips_per_s seconds: a clip shows the mean over its time, so parts of an action
  that are shorter than a clip, and the clips at its two ends, are mixtures.
- *Contexts* are atoms of the background: a general pool, and favourites of each coarse class. Favourites stand only in
  videos of that class, so they are a shortcut that multiple-instance learning falls for. Contexts also shine through
  actions.
- Every video adds one offset to all of its clips, every clip adds Gaussian noise.

The same settings give the same bytes. Random numbers come from one stream per purpose (and per video), so that a change
of `noise` leaves the timelines as they were.
"""

import math
import os
import shutil
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from haan.checked import AT_LEAST_ONE, Checked, Rule, required, setting
from haan.config import Data, Plant
from haan.data.annotation_files import Published, read_annotations, read_names
from haan.data.layout import (
    Classes,
    Video,
    write_annotations,
    write_json,
    write_objects,
)
from haan.data.planted import PLANTED
from haan.errors import InputError
from haan.files import check_folder, make_folder, read_json

# Difficulty. Norms are relative to an atom's, which is 1.
NOISE_NORM = 2.0  # norm of a clip's noise at `noise` 1; each of d dimensions gets noise * NOISE_NORM / sqrt(d)
VIDEO_OFFSET_NORM = 0.5  # norm of the vector that a video adds to all its clips: what differs between videos
SEQUENCE_LENGTHS = (3, 4, 5)  # atoms of a fine class: longer ones are harder to gather into one detection
SHARED_POOL = 5  # atoms shared by the fine classes of a coarse one: fewer make siblings harder to tell apart
GENERAL_CONTEXTS = 6  # contexts that any video shows
COARSE_CONTEXTS = 3  # favourite contexts of each coarse class
SHORTCUT = 0.3  # probability that a new context is a favourite of the video's coarse class: higher misleads more
CONTEXT_CHANGE = 0.3  # probability that the context changes from one clip to the next
CONTEXT_IN_ACTION = 0.3  # at most this share of a clip inside an action is context (uniform from 0)

# Made timelines.
CLIPS_PER_S = 1.5  # as FineGym: 24 frames a second, 16 a clip
MADE_CLIPS = (20, 60)  # clips of a video, least and most
MADE_SEGMENTS = (1, 5)  # actions of a video, least and most
MADE_SEGMENT_CLIPS = (3.0, 9.0)  # duration of an action in clips, least and most, before MADE_ACTION_SHARE
MADE_ACTION_SHARE = 0.7  # at most this share of a video is action: longer actions are shortened together
TWO_COARSE = 0.3  # probability that a video shows two coarse classes
MIN_TRAIN_VIDEOS = 2  # training videos of every fine class: a holdout must leave one

# Real timelines.
TRAILING_CLIPS = (1, 6)  # background clips after the last action, least and most

RECIPE = 1  # raise it with every change that gives other bytes: `ensure` then refuses older folders
FEATURES = "features.npy"
VOCABULARY_STREAM, TIMELINE_STREAM, RENDER_STREAM = range(3)

Floats = NDArray[np.float32]


class AlreadyThereError(InputError):
    """A data set is never planted over what stands there."""


@dataclass(frozen=True, kw_only=True)
class Like(Checked):
    """Real timelines to plant over.

    annotations: folder of published annotation files, without features.
    train_videos: its first so many rows are training videos.
    clips: number of clips of every video, for data such as FineAction (100); None: what each timeline needs.
    """

    annotations: Path = required(Rule("must be a folder", lambda v: v.is_dir()))
    train_videos: int = required(AT_LEAST_ONE)
    clips: int | None = setting(None, AT_LEAST_ONE)


@dataclass(frozen=True)
class Timeline(Video):
    """One video without its features, and how many clips it is to have."""

    num_clips: int


@dataclass(frozen=True)
class Vocabulary:
    """What there is to see: the rows of `atoms` [atoms, d], unit vectors.

    sequences: per fine class, its atoms in order. shared: per coarse class, the pool that its fine classes share.
    general_contexts: background anywhere. coarse_contexts: per coarse class, its favourites.
    """

    atoms: Floats
    sequences: list[list[int]]
    shared: list[list[int]]
    general_contexts: list[int]
    coarse_contexts: list[list[int]]


def plant(out: Path, settings: Plant, like: Like | None = None) -> Path:
    """Writes a data set into the new folder `out` and returns it.

    It is written beside `out` and then renamed, so `out` never holds half a data set. With `like`, `fine_classes` and
    `coarse_classes` of the settings give way to those found there.
    Raises AlreadyThereError when `out` exists, InputError when the settings or `like` don't allow a data set.
    """
    if os.path.lexists(out):
        raise AlreadyThereError(_already_there(out))
    check_folder(out)
    if like is None:
        classes = _made_classes(settings.fine_classes, settings.coarse_classes)
        timelines = _made_timelines(settings, classes)
    else:
        found = read_annotations(like.annotations, read_names(like.annotations), unnamed="{} {}")
        classes = found.classes
        timelines = _real_timelines(settings, like, found)
        settings = _with_classes(settings, classes)
    make_folder(out.parent)
    unfinished = out.parent / f".{uuid.uuid4().hex}"
    try:
        unfinished.mkdir()
        _write(unfinished, settings, like, classes, timelines)
        _rename(unfinished, out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return out


def ensure(data: Data) -> None:
    """Plants `data.plant` at `data.root` when nothing is there, and refuses a folder that other settings planted.

    Does nothing without `data.plant`. When two processes plant at once, both use the folder of the first one.
    Raises InputError.
    """
    if data.plant is None:
        return
    if data.train_videos != data.plant.train_videos:
        rule = f"must equal data.plant.train_videos ({data.plant.train_videos})"
        raise InputError(f"data.train_videos: {rule}, got {data.train_videos}")
    root = Path(data.root)
    if not os.path.lexists(root):
        with suppress(AlreadyThereError):
            plant(root, data.plant)
    _check_planted(root, _record(data.plant, None))


def vocabulary(classes: Classes, dim: int, seed: int) -> Vocabulary:
    """Draws the atoms, contexts and sequences of a class hierarchy."""
    rng = np.random.default_rng([seed, VOCABULARY_STREAM])
    count = 0

    def new_atoms(size: int) -> list[int]:
        nonlocal count
        count += size
        return list(range(count - size, count))

    general = new_atoms(GENERAL_CONTEXTS)
    contexts = [new_atoms(COARSE_CONTEXTS) for _ in classes.coarse_names]
    shared = [new_atoms(SHARED_POOL) for _ in classes.coarse_names]
    sequences = []
    for coarse in classes.coarse_of_fine:
        length = int(rng.choice(SEQUENCE_LENGTHS))
        own = int(rng.integers(1, (length - 1) // 2 + 1))  # 1, and up to 2 of 5
        drawn = rng.choice(shared[coarse], length - own, replace=False).tolist()
        sequences.append(rng.permutation(drawn + new_atoms(own)).tolist())
    atoms = rng.standard_normal((count, dim))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    return Vocabulary(atoms.astype(np.float32), sequences, shared, general, contexts)


def render(video: Timeline, words: Vocabulary, noise: float, rng: np.random.Generator) -> Floats:
    """The clips of one video: float32 [clips, d]."""
    clips, dim = video.num_clips, words.atoms.shape[1]
    action, share = _action(video, words)  # [clips, d], [clips]
    visible = 1 - rng.uniform(0, CONTEXT_IN_ACTION, clips)
    background = words.atoms[_contexts(video, words, rng)]
    overlap = np.maximum(share, 1)  # actions at the same time share a clip
    out = action * (visible / overlap)[:, None] + background * (1 - np.minimum(share, 1) * visible)[:, None]
    out += rng.standard_normal(dim) * (VIDEO_OFFSET_NORM / math.sqrt(dim))
    out += rng.standard_normal((clips, dim)) * (noise * NOISE_NORM / math.sqrt(dim))
    return out.astype(np.float32)


def _action(video: Timeline, words: Vocabulary) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[clips, d] sum over the actions of the atoms seen in each clip, and [clips] the share of its time in action."""
    seen = np.zeros((video.num_clips, words.atoms.shape[1]))
    share = np.zeros(video.num_clips)
    for (start_s, end_s), (_, fine) in zip(video.segments, video.labels, strict=True):
        sequence = words.sequences[fine]
        edges = np.linspace(start_s, end_s, len(sequence) + 1) * video.clips_per_s
        for atom, (start, end) in zip(sequence, pairwise(edges), strict=True):
            first, last = max(math.floor(start), 0), min(math.ceil(end), video.num_clips)
            if first >= last:
                continue  # behind the last clip, or times that make no sense: real annotations hold both
            clip = np.arange(first, last)
            covered = np.maximum(np.minimum(clip + 1, end) - np.maximum(clip, start), 0)
            seen[first:last] += covered[:, None] * words.atoms[atom]
            share[first:last] += covered
    return seen, share


def _contexts(video: Timeline, words: Vocabulary, rng: np.random.Generator) -> NDArray[np.int64]:
    """[clips] the context of each clip: it stays for a while, then another one is drawn."""
    coarse = sorted({pair[0] for pair in video.labels})
    favourites = np.array([atom for u in coarse for atom in words.coarse_contexts[u]] or words.general_contexts)
    clips = video.num_clips
    favourite = rng.choice(favourites, clips)
    drawn = np.where(rng.random(clips) < SHORTCUT, favourite, rng.choice(words.general_contexts, clips))
    changes = rng.random(clips) < CONTEXT_CHANGE
    return drawn[np.maximum.accumulate(np.where(changes, np.arange(clips), 0))]


def _made_classes(fine: int, coarse: int) -> Classes:
    """Fine classes dealt evenly to coarse ones, siblings side by side as in the published mappings."""
    coarse_of_fine = tuple(k * coarse // fine for k in range(fine))
    fine_names = tuple(f"coarse {u} / fine {k}" for k, u in enumerate(coarse_of_fine))
    return Classes(coarse_of_fine, fine_names, tuple(f"coarse {u}" for u in range(coarse)))


def _made_timelines(settings: Plant, classes: Classes) -> list[Timeline]:
    """Made-up videos: each part is led by its rarest class so far, so that no class is missing.

    Raises InputError when a class stands in fewer than MIN_TRAIN_VIDEOS training videos.
    """
    rng = np.random.default_rng([settings.seed, TIMELINE_STREAM])
    timelines: list[Timeline] = []
    for part, size in (("train", settings.train_videos), ("validation", settings.validation_videos)):
        videos_of = np.zeros(len(classes.coarse_of_fine), dtype=np.int64)
        for i in range(size):
            timelines.append(_made_timeline(f"{part}_{i:05d}", classes.coarse_of_fine, videos_of, rng))
            videos_of[sorted({fine for _, fine in timelines[-1].labels})] += 1
        if part == "train" and videos_of.min() < MIN_TRAIN_VIDEOS:
            needed = MIN_TRAIN_VIDEOS * settings.fine_classes
            raise InputError(
                f"data.plant.train_videos: must show each of {settings.fine_classes} fine classes in "
                f"{MIN_TRAIN_VIDEOS} videos ({needed} videos always do), got {size}"
            )
    return timelines


def _made_timeline(
    name: str, coarse_of_fine: Sequence[int], videos_of: NDArray[np.int64], rng: np.random.Generator
) -> Timeline:
    """One made-up video, in which a class that has the fewest videos so far is sure to stand."""
    lead = int(rng.choice(np.flatnonzero(videos_of == videos_of.min())))
    coarse = {coarse_of_fine[lead]}
    if rng.random() < TWO_COARSE:
        coarse.add(int(rng.integers(max(coarse_of_fine) + 1)))
    choices = [k for k, u in enumerate(coarse_of_fine) if u in coarse]
    clips = int(rng.integers(MADE_CLIPS[0], MADE_CLIPS[1] + 1))
    count = int(rng.integers(MADE_SEGMENTS[0], MADE_SEGMENTS[1] + 1))
    fine = rng.permutation([lead, *rng.choice(choices, count - 1)]).tolist()
    durations = rng.uniform(*MADE_SEGMENT_CLIPS, count)
    durations *= min(1, MADE_ACTION_SHARE * clips / durations.sum())
    gaps = rng.dirichlet(np.ones(count + 1)) * (clips - durations.sum())
    starts = np.cumsum(gaps[:-1]) + np.cumsum(durations) - durations
    times = np.stack([starts, starts + durations], axis=1) / CLIPS_PER_S
    segments = (np.floor(times * 100) / 100).tolist()  # whole hundredths, as published
    return Timeline(name, CLIPS_PER_S, segments, [[coarse_of_fine[k], k] for k in fine], clips)


def _real_timelines(settings: Plant, like: Like, real: Published) -> list[Timeline]:
    """A seeded choice of real videos, training first, each part in the published order. Raises InputError."""
    folder, num_fine, names = like.annotations, len(real.classes.fine_names), real.names
    training, validation = range(min(like.train_videos, len(names))), range(like.train_videos, len(names))
    for key, rows in (("train_videos", training), ("validation_videos", validation)):
        if getattr(settings, key) > len(rows):
            rule = f"must be <= the {len(rows)} such videos of {folder}"
            raise InputError(f"data.plant.{key}: {rule}, got {getattr(settings, key)}")
    fine = [sorted(set(video.tolist())) for video in real.fine]
    rng = np.random.default_rng([settings.seed, TIMELINE_STREAM])
    chosen = _cover(training, fine, num_fine, settings.train_videos, rng)
    missing = sorted(set(range(num_fine)) - {k for i in chosen for k in fine[i]})
    if missing:
        raise InputError(
            f"data.plant.train_videos: must be enough to keep every fine class of {folder}, got "
            f"{settings.train_videos}, which loses {len(missing)} of {num_fine} (the first is {missing[0]})"
        )
    chosen += _cover(validation, fine, num_fine, settings.validation_videos, rng)
    timelines = []
    for i in chosen:
        trailing = int(rng.integers(TRAILING_CLIPS[0], TRAILING_CLIPS[1] + 1))
        ratio, segments = float(real.clips_per_s[i]), real.times[i].tolist()
        needed = math.ceil(max((end for _, end in segments), default=0) * ratio)
        num_clips = max(needed, 1) + trailing if like.clips is None else like.clips
        labels = [[real.classes.coarse_of_fine[k], k] for k in real.fine[i].tolist()]
        timelines.append(Timeline(names[i], ratio, segments, labels, num_clips))
    return timelines


def _cover(rows: Sequence[int], fine: list[list[int]], num_fine: int, size: int, rng: np.random.Generator) -> list[int]:
    """`size` of the rows, in order: greedily every class once, then twice (for a holdout), then at random."""
    left = [int(i) for i in rng.permutation(rows)]
    member = np.zeros((len(left), num_fine), dtype=bool)
    for row, i in zip(member, left, strict=True):
        row[fine[i]] = True
    picked = np.zeros(len(left), dtype=bool)
    videos_of = np.zeros(num_fine, dtype=np.int64)
    for times in range(1, MIN_TRAIN_VIDEOS + 1):
        while picked.sum() < size:
            gains = (member & (videos_of < times)).sum(axis=1) * ~picked
            best = int(gains.argmax())
            if gains[best] == 0:
                break
            picked[best] = True
            videos_of += member[best]
    picked[np.flatnonzero(~picked)[: size - int(picked.sum())]] = True
    return sorted(i for i, chosen in zip(left, picked, strict=True) if chosen)


def _write(folder: Path, settings: Plant, like: Like | None, classes: Classes, timelines: list[Timeline]) -> None:
    """All files of the layout."""
    write_annotations(folder, timelines, classes)
    words = vocabulary(classes, settings.dim, settings.seed)
    rendered = (
        render(video, words, settings.noise, np.random.default_rng([settings.seed, RENDER_STREAM, i]))
        for i, video in enumerate(timelines)
    )
    if like is not None and like.clips is not None:
        _save_even(folder / FEATURES, rendered, (len(timelines), like.clips, settings.dim))
    else:
        write_objects(folder / FEATURES, list(rendered))
    write_json(folder / PLANTED, _record(settings, like))


def _save_even(path: Path, rendered: Iterable[Floats], shape: tuple[int, int, int]) -> None:
    """A plain float32 array [videos, clips, d], as FineAction's, never wholly in memory."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    for i, clips in enumerate(rendered):
        array[i] = clips
    array.flush()


def _with_classes(settings: Plant, classes: Classes) -> Plant:
    """The settings with the class counts that real annotations have."""
    fine, coarse = len(classes.coarse_of_fine), len(classes.coarse_names)
    return replace(settings, fine_classes=fine, coarse_classes=coarse)


def _record(settings: Plant, like: Like | None) -> dict[str, object]:
    """What planted.json holds: no path and no time, so that the same settings give the same bytes."""
    source = None
    if like is not None:
        source = {"folder": like.annotations.resolve().name, "train_videos": like.train_videos, "clips": like.clips}
    return {**asdict(settings), "like": source, "recipe": RECIPE}


def _rename(folder: Path, out: Path) -> None:
    try:
        folder.rename(out)
    except OSError as error:
        if os.path.lexists(out):
            raise AlreadyThereError(_already_there(out)) from error
        raise


def _already_there(out: Path) -> str:
    return f"{out}: must not exist yet, since a data set is never planted over another one; remove it or choose another"


def _check_planted(root: Path, wanted: dict[str, object]) -> None:
    """Refuses a folder that was not planted with these settings. Raises InputError."""
    advice = "remove the folder or choose another data.root"
    if not (root / PLANTED).is_file():
        raise InputError(f"data.plant: {root} must hold {PLANTED}, got a folder that was not planted; {advice}")
    found = read_json(root / PLANTED)
    if not isinstance(found, dict):
        raise InputError(f"{root / PLANTED}: must be a JSON object, got {str(found)[:80]}; {advice}")
    keys = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
    if keys:
        raise InputError(
            [
                f"data.plant.{key}: must equal that of {root / PLANTED} ({found.get(key)!r}), "
                f"got {wanted.get(key)!r}; {advice}"
                for key in keys
            ]
        )
