"""`python -m haan figures`: which of the figures are wanted, from options or from the data, and their files."""

import difflib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from haan.config import Config
from haan.errors import InputError
from haan.figures import observe
from haan.figures.draw import MOST_CONCEPTS, Drawn, Picture, draw_clips, draw_map, draw_timeline, save
from haan.figures.folder import FigureFolder, Index
from haan.figures.observe import NearClip, Observed, ObservedConcepts
from haan.files import digest, make_folder
from haan.methods.haan.config import Concepts, HaanConfig
from haan.methods.names import HAAN

_IMAGES = (".jpg", ".jpeg", ".png")
_PIXELS = (480, 360)  # of a picture at most: more than print shows
_MOST_USED = "Shown are the concepts that are most often among the nearest to the classes of {} in their videos."
_SCORES = (
    "The number below a detection is its score, by which detections are ranked{}; a line lower where two would overlap."
)
_NEAREST = (
    "Below, the concepts that are among the nearest to the shown classes in this video, and the clips that show them."
)
_CHOSEN = "The videos of {} are shown in which most is detected right, so they are better than the others."
_CONCEPTS, _CLIPS, _TRACKS, _VIDEOS = 4, 4, 3, 3


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Options of the command, by their names there; None leaves the choice to the data."""

    coarse: str | None = None
    all: bool = False
    concepts: tuple[int, ...] | None = None
    clips: int | None = None
    videos: tuple[str, ...] | None = None
    frames: Path | None = None
    fps: float | None = None

    def __post_init__(self) -> None:
        if self.clips is not None and not 1 <= self.clips <= 6:
            raise InputError(f"--clips: must be >= 1 and <= 6, got {self.clips}")
        if (self.frames is None) != (self.fps is None):
            raise InputError(f"--fps: must be given with --frames and only with it, got {self.fps}")
        if self.fps is not None and not (0 < self.fps < math.inf):
            raise InputError(f"--fps: must be > 0 and finite, got {self.fps}")
        if self.frames is not None and not self.frames.is_dir():
            raise InputError(f"--frames: must be a folder, got '{self.frames}'")
        if self.coarse is not None and self.all:
            raise InputError(f"--coarse: must not be given with --all, got {self.coarse!r}")

    def check_method(self, method: str) -> None:
        """Raises InputError where Figures 3 and 4 are asked for of another method than HAAN."""
        if method == HAAN:
            return
        for name in ("all", "concepts", "clips", "frames"):
            if getattr(self, name) not in (None, False):
                rule = f"must be given for method {HAAN} alone, whose visual concepts Figures 3 and 4 show"
                raise InputError(f"--{name}: {rule}, got it for {method!r}")


def draw(seen: Observed, config: Config, wanted: Wanted) -> Iterator[Drawn]:
    """The figures one after the other, 3 and 4 where there are concepts. Raises InputError, naming the option."""
    coarse = _coarse(seen, wanted.coarse)
    videos = _videos(seen, wanted.videos, coarse[0])
    if isinstance(seen, ObservedConcepts):
        assert isinstance(config, HaanConfig)
        yield from _draw_concepts(seen, config.concepts, wanted, coarse)
    chosen = [] if wanted.videos is not None else [_CHOSEN.format(seen.annotations.coarse_names[coarse[0]])]
    first = " ".join([*_how_to_read(seen), *chosen])
    for number, place in enumerate(videos, start=1):
        shown = observe.timeline(seen, place, coarse[0], _TRACKS)
        yield draw_timeline(seen, shown, f"figure5-{number}", first if number == 1 else _as_first(seen))


def _how_to_read(seen: Observed) -> Iterator[str]:
    """Figure 5, in sentences."""
    yield _SCORES.format("" if seen.curves is None else f": {seen.curves.score}")
    if seen.curves is not None:
        yield seen.curves.curve
    if isinstance(seen, ObservedConcepts):
        yield _NEAREST


def _as_first(seen: Observed) -> str:
    parts = ["Bars", "numbers", *["curves"] * (seen.curves is not None)]
    parts += ["concepts"] * isinstance(seen, ObservedConcepts)
    return f"{', '.join(parts[:-1])} and {parts[-1]} are to be read as in the first of these figures."


def _draw_concepts(seen: ObservedConcepts, setting: Concepts, wanted: Wanted, coarse: Sequence[int]) -> Iterator[Drawn]:
    """Figures 3 and 4."""
    for one in sorted(coarse) if wanted.all else coarse[:1]:
        table = observe.concept_map(seen, one, MOST_CONCEPTS)
        drawn = draw_map(seen, table, setting.top_k, setting.distance)
        yield replace(drawn, caption=drawn.caption + _rule_of(setting.method))
    clips = wanted.clips or _CLIPS
    rows = [observe.nearest_clips(seen, one, clips) for one in _concepts(seen, wanted.concepts, coarse[0])]
    frames = Frames(wanted.frames, wanted.fps, seen.names) if wanted.frames and wanted.fps else None
    if rows:  # none where no concept is near a class of the coarse one in any video
        drawn = draw_clips(seen, rows, frames and frames.of)
        chosen = (
            "" if wanted.concepts is not None else f" {_MOST_USED.format(seen.annotations.coarse_names[coarse[0]])}"
        )
        yield replace(drawn, caption=drawn.caption + chosen + _rule_of(setting.method))
        if frames is not None and not frames.found:
            raise InputError(
                f"--frames: must hold a folder VIDEO of .jpg or .png frames for a clip shown, got none in "
                f"'{wanted.frames}' (looked for {', '.join(sorted(frames.missing)[:3])})"
            )


def _rule_of(method: str) -> str:
    """What a caption has to say of the concepts of clips: k-means assigns by the nearest centroid, as figures do."""
    if method == "kmeans":
        return ""
    return f" A clip counts here to the concept of nearest centroid; {method} itself assigns some clips otherwise."


def write(seen: Observed, config: Config, wanted: Wanted, weights: Path, out: Path) -> int:
    """Draws into a folder, in place of the figures that lie there, and writes their index; how many.

    Nothing is written where an option is wrong.
    """
    drawn = list(draw(seen, config, wanted))
    folder = FigureFolder(out)
    make_folder(out)
    folder.clear()
    for one in drawn:
        save(one, folder.files(one.name))
    folder.write_index(Index(digest(weights), tuple((one.name, one.caption) for one in drawn)))
    return len(drawn)


def _coarse(seen: Observed, wanted: str | None) -> list[int]:
    """The coarse class asked for, or all that the videos show, the one of most segments first."""
    names, shown = seen.annotations.coarse_names, observe.richest_coarse(seen)
    if wanted is None:
        if not shown:
            raise InputError("--coarse: must be a class with a segment in the validation videos, which have none")
        return shown
    index = names.index(wanted) if wanted in names else int(wanted) if wanted.isdecimal() else -1
    if not 0 <= index < len(names):
        rule = f"must be a coarse class ({', '.join(names)}) or its index, 0 to {len(names) - 1}"
        raise InputError(f"--coarse: {rule}, got {wanted!r}")
    if index not in shown:
        has = ", ".join(names[one] for one in sorted(shown)) or "none"
        rule = f"must be a coarse class with a segment in the validation videos ({has})"
        raise InputError(f"--coarse: {rule}, got {wanted!r}")
    return [index]


def _concepts(seen: ObservedConcepts, wanted: Sequence[int] | None, coarse: int) -> list[int]:
    if wanted is None:
        return observe.most_used(seen, coarse, _CONCEPTS)
    for concept in wanted:
        if not 0 <= concept < seen.num_clusters:
            raise InputError(f"--concepts: must be >= 0 and < concepts.clusters ({seen.num_clusters}), got {concept}")
    return list(dict.fromkeys(wanted))


def _videos(seen: Observed, wanted: Sequence[str] | None, coarse: int) -> list[int]:
    if wanted is None:
        return observe.with_right(seen, coarse, _VIDEOS)
    place = {name: i for i, name in enumerate(seen.names)}
    for name in wanted:
        if name not in place:
            near = difflib.get_close_matches(name, place, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise InputError(f"--videos: must name validation videos, got {name!r}{hint}")
    return [place[name] for name in dict.fromkeys(wanted)]


@dataclass
class Frames:
    """Frames of videos: root/VIDEO/*.jpg or *.png, in the order of the numbers in their names, so many a second.

    found: how many pictures were given out. missing: videos without a frame at the time asked for.
    """

    root: Path
    fps: float
    names: Sequence[str]
    found: int = 0
    missing: set[str] = field(default_factory=set)

    def of(self, clip: NearClip) -> Picture | None:
        """The frame in the middle of a clip. Raises InputError when it is no picture."""
        name = self.names[clip.video]
        files = _frames(self.root / name) if Path(name).name == name else []
        number = int((clip.start_s + clip.end_s) / 2 * self.fps)
        if number >= len(files):
            self.missing.add(name)
            return None
        self.found += 1
        return _picture(files[number])


def _frames(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if path.suffix.lower() in _IMAGES), key=_by_number)


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Frame 10 comes after frame 9."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", path.name)]


def _picture(path: Path) -> Picture:
    try:
        with Image.open(path) as image:
            image.thumbnail(_PIXELS)
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"--frames: {path}: must be a picture, got: {error}") from None
