"""The paper's Figures 3 to 5 as PNG, SVG and PDF, for print at a width of 12 cm: no letter is smaller than 7 pt.

Grey print and colour-blind eyes lose nothing: shades run from light to dark, and what differs in kind differs in its
place, its outline or its hatching as well. Every text that comes from outside is drawn as it is, never as markup.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.textpath import TextToPath
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from haan.data.table import IntArray
from haan.detectors.curves import Curve
from haan.figures.observe import RIGHT_TIOU, ConceptClips, ConceptMap, NearClip, Observed, Timeline, Track
from haan.files import whole

WIDTH_CM = 12.0
MOST_CONCEPTS = 26  # columns of Figure 3 whose numbers can stand side by side
SMALL, LARGE = 7.0, 8.0  # pt
_CM = 1 / 2.54  # inches
_PT = 72 / 2.54  # points a centimetre
_DPI = 200
_DARK, _BLUE, _ORANGE, _GREY, _PALE = "#222222", "#0072b2", "#d55e00", "#8a8a8a", "#d9d9d9"
_DASHED = (0, (4, 2))
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": SMALL,
    "axes.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "text.parse_math": False,  # a $ in a name is a $
    "text.usetex": False,
    "svg.fonttype": "path",  # looks the same everywhere
    "svg.hashsalt": "haan",  # the same figure gives the same bytes
    "pdf.fonttype": 42,  # TrueType, as journals ask: text stays text
    "axes.unicode_minus": False,
}

_SCORE_LINES, _SCORE_LINE = 3, 0.28  # of scores below the detections of a class, at most; one's height in cm
_ROW, _CURVE = 0.37, 1.15  # heights in cm: of truth, or of a row of detections; of a curve

Picture = NDArray[np.uint8]  # [height, width, 3]
Look = Callable[[NearClip], Picture | None]
Line = list[tuple[float, str]]  # of scores: each one's centre, in cm from the left, and text
Scores = list[list[Line]]  # of a class, row of detections by row
_PATHS, _FONT = TextToPath(), FontProperties(family="DejaVu Sans")


@dataclass(frozen=True)
class Drawn:
    """A figure and what stands below it."""

    name: str
    caption: str
    figure: Figure


@contextmanager
def style() -> Iterator[None]:
    """Within it figures are drawn and saved. A letter that the font lacks becomes a box."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


# What a file would say of the moment and of the versions that made it.
_UNSAID: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def save(drawn: Drawn, files: Sequence[Path]) -> None:
    """A figure in the formats that the files' names end with; the same figure gives the same bytes."""
    for file in files:
        kind = file.suffix[1:]
        with style(), whole(file) as partial:
            drawn.figure.savefig(partial, dpi=_DPI, format=kind, metadata=_UNSAID[kind])


def width_cm(text: str, size: float = SMALL) -> float:
    """Of a line of text."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        return _PATHS.get_text_width_height_descent(text, _sized(size), False)[0] / _PT


def _sized(size: float) -> FontProperties:
    font = _FONT.copy()
    font.set_size(size)
    return font


def lines_of(text: str, fits: Callable[[str], bool], most: int) -> list[str]:
    """A text in at most so many lines that fit; where it is too long its middle gives way to an ellipsis.

    Names of siblings begin alike, and often end with a number of their own: so both ends stay, the end a little longer.
    Lines break behind a space, / , _ or -.
    """
    text = " ".join(text.split())
    for kept in range(len(text), 1, -1):
        lines = _wrapped(text if kept == len(text) else _cut(text, kept), fits)
        if len(lines) <= most and all(fits(line) for line in lines):
            return lines
    return [text[:1]]


def _cut(text: str, kept: int) -> str:
    """The two ends of a text, so many letters at most, an ellipsis between; whole words where these are not long."""
    head = kept - kept * 3 // 5
    first, last = text[:head], text[len(text) - kept + head :]
    word, next_word = first.rfind(" "), last.find(" ")
    if word >= len(first) // 2:
        first = first[:word]
    if 0 <= next_word < len(last) // 2:
        last = last[next_word:]
    return f"{first.rstrip()}…{last.lstrip()}"


def _wrapped(text: str, fits: Callable[[str], bool]) -> list[str]:
    pieces, start = [], 0
    for i, letter in enumerate(text):
        if letter in " /_-":
            pieces.append(text[start : i + 1])
            start = i + 1
    lines = [""]
    for piece in [*pieces, text[start:]]:
        if lines[-1] and not fits((lines[-1] + piece).rstrip()):
            lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines]


def fitted(text: str, room_cm: float, most: int = 1, size: float = SMALL) -> str:
    """`lines_of` in a width, joined."""
    return "\n".join(lines_of(text, lambda line: width_cm(line, size) <= room_cm, most))


def short_name(fine: str, coarse: str) -> str:
    """A fine class's name without the coarse one's, where it begins with it and something is left."""
    rest = fine.removeprefix(coarse).lstrip(" /:-_")
    return rest if fine.startswith(coarse) and rest and fine[len(coarse)] in " /:-_" else fine


def _class_name(seen: Observed, fine: int) -> str:
    names = seen.annotations
    return short_name(names.fine_names[fine], names.coarse_names[names.coarse_of_fine[fine]])


class _Sheet:
    """A figure whose axes are placed in centimetres from its upper left corner."""

    def __init__(self, height_cm: float, width: float = WIDTH_CM):
        self.width, self.height = width, height_cm
        self.figure = Figure(figsize=(width * _CM, height_cm * _CM), facecolor="white")

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        box = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(box)

    def text(self, x: float, y: float, text: str, **how: Any) -> None:
        """At so many centimetres from the left and from the top, its upper left corner there unless told otherwise."""
        how = {"va": "top", "fontsize": SMALL, "color": _DARK} | how
        self.figure.text(x / self.width, 1 - y / self.height, text, **how)


def _bare(axes: Axes) -> None:
    """Without frame and ticks."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_map(seen: Observed, table: ConceptMap, top_k: int, distance: str) -> Drawn:
    """Classes are rows, concepts columns, a dark cell is a concept of most of the class's videos."""
    coarse = seen.annotations.coarse_names[table.coarse]
    names_cm, count_cm, cell = 3.6, 0.9, 0.266
    columns = max(len(table.concepts), 1)
    width = max(WIDTH_CM, names_cm + count_cm + columns * cell + 0.3)
    names = [fitted(_class_name(seen, fine), names_cm - 0.35, most=2) for fine in table.fine]
    row = 0.68 if any("\n" in name for name in names) else 0.42
    top, height = 1.85, row * len(names)
    sheet = _Sheet(top + height + 1.2, width)
    wide = min(0.5, (width - names_cm - count_cm - 0.3) / columns) * columns
    with style():
        sheet.text(0.15, 0.15, fitted(f"Visual concepts of {coarse}", width - 0.3, size=LARGE), fontsize=LARGE)
        axes = sheet.axes(names_cm, top, wide, height)
        shade = mpl.colormaps["Blues"]
        axes.pcolormesh(table.share, cmap=shade, vmin=0, vmax=1, edgecolors="#c8c8c8", linewidth=0.3)
        axes.set(xlim=(0, columns), ylim=(len(names), 0), yticks=np.arange(len(names)) + 0.5, yticklabels=names)
        axes.set_xticks(np.arange(len(table.concepts)) + 0.5, [str(c) for c in table.concepts], rotation=90)
        axes.tick_params(length=0, pad=2, top=True, labeltop=True, bottom=False, labelbottom=False)
        for i, videos in enumerate(table.videos):
            if not videos:
                axes.add_patch(Rectangle((0, i), columns, 1, facecolor="white", edgecolor=_GREY, hatch="////", lw=0))
            sheet.text(names_cm + wide + 0.1, top + (i + 0.5) * row, f"n={videos}", va="center")
        _sides(sheet, axes, table, names_cm, wide, top - 0.68)
        _shades(sheet, names_cm, top + height + 0.3)
    return Drawn(f"figure3-coarse{table.coarse}", _map_caption(coarse, table, top_k, distance), sheet.figure)


def _sides(sheet: _Sheet, axes: Axes, table: ConceptMap, left: float, wide: float, y: float) -> None:
    """A line between the shared concepts and the others, and the names of the two sides."""
    shared, single = table.num_shared, len(table.concepts) - table.num_shared
    if shared and single:
        axes.axvline(shared, color=_DARK, lw=1.2)
    border, end = left + wide * shared / max(len(table.concepts), 1), left + wide
    # Where a side is too narrow for its name, this goes on beyond its outer end, where nothing stands.
    sides = (("shared by classes", left, border, "right", border), ("of one class", border, end, "left", border))
    for name, first, last, align, at in sides:
        if first < last:
            where, height = np.array([first + 0.05, last - 0.05]) / sheet.width, 1 - y / sheet.height
            sheet.figure.add_artist(Line2D(where, [height, height], color=_DARK, lw=0.8))
            fits = width_cm(name) <= last - first
            sheet.text((first + last) / 2 if fits else at, y - 0.07, name, ha="center" if fits else align, va="bottom")


def _shades(sheet: _Sheet, left: float, top: float) -> None:
    axes = sheet.axes(left, top, 3.6, 0.22)
    axes.imshow(np.linspace(0, 1, 101)[None], cmap="Blues", aspect="auto", extent=(0, 100, 0, 1), vmin=0, vmax=1)
    axes.set(yticks=[], xticks=[0, 25, 50, 75, 100], xticklabels=["0", "25", "50", "75", "100 %"])
    axes.tick_params(length=2, pad=1)
    sheet.text(left + 4.1, top - 0.02, "of the class's videos (n)\nhave it among the nearest")


def _map_caption(coarse: str, table: ConceptMap, top_k: int, distance: str) -> str:
    left_out = table.related - len(table.concepts)
    return (
        f"Figure 3. Visual concepts (columns, by number) of the fine classes of {coarse} (rows). A cell is the share "
        f"of the class's n validation videos in which the concept is present and among the {top_k} nearest to the "
        f"class (Eq. 5, {distance} distance). A concept belongs to a class from a share of a quarter on: left of the "
        f"line are those that belong to several classes, right of it those of one, class by class."
        + (f" Left out for room: {left_out} of {table.related} concepts, of smaller shares." if left_out else "")
        + (" Hatched: no validation video has the class." if 0 in table.videos else "")
        + (
            " A row without a dark cell is of a class to which no concept of its videos is nearer than one that they "
            "lack, which counts as zero (Eq. 4)."
            if table.without
            else ""
        )
    )


def draw_clips(
    seen: Observed, rows: Sequence[ConceptClips], look: Callable[[NearClip], Picture | None] | None
) -> Drawn:
    """The clips nearest to each concept's centroid: pictures where they can be looked up, else a table.

    look: the picture of a clip, None where there is none.
    """
    with style():
        figure = _clip_table(seen, rows) if look is None else _clip_pictures(seen, rows, look)
    caption = (
        "Figure 4. The clips nearest to the centroid of each concept, one a video, by their Euclidean distance d from "
        "it in the space in which clips were clustered, to which the bars are in proportion. In italics what the "
        "annotations say of the clip's middle; the concepts were found without them."
    )
    return Drawn("figure4", caption, figure)


def _heading(row: ConceptClips) -> str:
    clips, videos = ("1 clip" if row.num_clips == 1 else f"{row.num_clips} clips"), row.num_videos
    return f"concept {row.concept}   {clips} in {videos} video{'s' if videos != 1 else ''}"


def _annotated(seen: Observed, clip: NearClip) -> str:
    return " + ".join(_class_name(seen, fine) for fine in clip.annotated) or "no action"


def _clip_table(seen: Observed, rows: Sequence[ConceptClips]) -> Figure:
    line, head = 0.42, 0.75
    sheet = _Sheet(0.05 + sum(head + line * max(1, len(row.clips)) + 0.2 for row in rows))
    longest = max((clip.distance for row in rows for clip in row.clips), default=0.0) or 1.0
    y = 0.15
    for row in rows:
        sheet.text(0.15, y, _heading(row), fontsize=LARGE, weight="bold")
        sheet.text(11.85, y + 0.04, "Euclidean distance d, from 0", ha="right", color=_GREY)
        y += head - 0.22
        for clip in row.clips:
            middle = y + line / 2
            sheet.text(0.15, middle, fitted(seen.names[clip.video], 4.5), va="center")
            sheet.text(6.35, middle, f"{clip.start_s:.1f}-{clip.end_s:.1f} s", va="center", ha="right")
            sheet.text(6.6, middle, fitted(_annotated(seen, clip), 3.15), va="center", style="italic")
            _bar(sheet, 9.9, middle, 1.0 * clip.distance / longest)
            sheet.text(11.85, middle, f"{clip.distance:.2f}", va="center", ha="right")
            y += line
        y += line * (not row.clips) + 0.42
    return sheet.figure


def _bar(sheet: _Sheet, left: float, middle: float, length: float) -> None:
    corner = (left / sheet.width, 1 - (middle + 0.09) / sheet.height)
    size = (length / sheet.width, 0.18 / sheet.height)
    sheet.figure.add_artist(Rectangle(corner, *size, transform=sheet.figure.transFigure, facecolor=_BLUE, lw=0))


def _clip_pictures(seen: Observed, rows: Sequence[ConceptClips], look: Look) -> Figure:
    columns = max((len(row.clips) for row in rows), default=1)
    columns = max(columns, 2)
    gap, head, below = 0.2, 0.55, 1.75
    wide = (WIDTH_CM - 0.3 - gap * (columns - 1)) / columns
    tall = wide * 0.75
    sheet = _Sheet(0.2 + (head + tall + below) * len(rows))
    for i, row in enumerate(rows):
        y = 0.15 + i * (head + tall + below)
        sheet.text(0.15, y, _heading(row), fontsize=LARGE, weight="bold")
        sheet.text(11.85, y + 0.04, "d: Euclidean distance", ha="right", color=_GREY)
        for j, clip in enumerate(row.clips):
            left = 0.15 + j * (wide + gap)
            axes = sheet.axes(left, y + head, wide, tall)
            _bare(axes)
            picture = look(clip)
            if picture is None:
                axes.set_facecolor(_PALE)
                axes.text(0.5, 0.5, "no picture", ha="center", va="center", transform=axes.transAxes)
            else:
                axes.imshow(picture)
                axes.set_anchor("W")
            text = [
                fitted(seen.names[clip.video], wide),
                f"{clip.start_s:.1f}-{clip.end_s:.1f} s, d={clip.distance:.2f}",
            ]
            sheet.text(left, y + head + tall + 0.08, "\n".join(text), linespacing=1.25)
            said = fitted(_annotated(seen, clip), wide, most=2)
            sheet.text(left, y + head + tall + 0.78, said, style="italic", linespacing=1.15)
    return sheet.figure


def draw_timeline(seen: Observed, one: Timeline, name: str, why: str = "") -> Drawn:
    """Ground truth and detections of each class, what was read of clips, and the concepts of these below, if any.

    why: the end of the caption: how to read it, and how the video was chosen.
    """
    left, wide, end = 2.0, WIDTH_CM - 2.35, one.end_s
    scores = [score_lines(of, wide, end) for of in one.tracks]
    heights = [_track_height(of, rows) for of, rows in zip(one.tracks, scores, strict=True)]
    tops = list(accumulate(heights, initial=0.75))
    y = tops[-1]
    rows = _concept_rows(one)
    raster = 0.34 * (len(rows) + 1)
    sheet = _Sheet(y + 1.5 if one.concept is None else y + 0.45 + raster + 1.5)
    with style():
        sheet.text(0.15, 0.15, fitted(seen.names[one.video], WIDTH_CM - 0.3, size=LARGE), fontsize=LARGE)
        for of, top, its_scores in zip(one.tracks, tops, scores, strict=False):
            _draw_track(sheet, seen, one, of, (left, top, wide), its_scores)
        if one.concept is None:
            axes = sheet.axes(left, y, wide, 0.01)
            axes.set(yticks=[])
        else:
            sheet.text(left, y + 0.04, "concepts of the clips", weight="bold")
            axes = sheet.axes(left, y + 0.45, wide, raster)
            _draw_raster(axes, one.concept, rows, one.clips_per_s)
        _draw_seconds(axes, end)
        sheet.figure.legend(
            handles=_timeline_legend(one), loc="lower left",
            bbox_to_anchor=(0.1 / sheet.width, 0.05 / sheet.height), ncols=4,
            frameon=False, fontsize=SMALL, handlelength=1.5, columnspacing=1.0, borderpad=0.1,
        )  # fmt: skip
    written = sum(len(line) for of_track in scores for lines in of_track for line in lines)
    unwritten = sum(len(of.found) for of in one.tracks) - written
    return Drawn(name, f"{_timeline_caption(seen, one, unwritten)} {why}".rstrip(), sheet.figure)


def _timeline_legend(one: Timeline) -> list[Artist]:
    handles: list[Artist] = [
        Patch(facecolor=_DARK, label="truth"),
        Patch(facecolor=_BLUE, label=f"detected, right (tIoU {RIGHT_TIOU:g} or more)"),
        Patch(facecolor="white", edgecolor=_ORANGE, hatch="/////", label="detected, not right"),
    ]
    kinds = {of.curve.positive is not None for of in one.tracks if of.curve is not None}
    if True in kinds:
        handles.append(Line2D([], [], color=_ORANGE, lw=0.9, ls=_DASHED, label="threshold"))
    if False in kinds:
        handles.append(Line2D([], [], color=_ORANGE, lw=0.3, label="thresholds"))
    return handles


def _track_height(of: Track, scores: Scores) -> float:
    """Of one class, in cm: its name, truth, rows of detections, their scores and, where there is one, a curve."""
    below = sum(_below(lines) for lines in scores)
    return 1.6 + below + (0.0 if of.curve is None else _CURVE) + _ROW * (len(scores) - 1)


def _below(lines: Sequence[Line]) -> float:
    """Room below a row of detections."""
    return _SCORE_LINE * len(lines)


def score_lines(of: Track, wide: float, end: float) -> Scores:
    """The scores below detections, row by row, in axes so wide that end there."""
    rows = (np.flatnonzero(of.row == row) for row in range(int(of.row.max(initial=0)) + 1))
    return [_lines_below(of.found[here], of.found_score[here], wide, end) for here in rows]


def _lines_below(found: NDArray[np.float64], scores: NDArray[np.float64], wide: float, end: float) -> list[Line]:
    """The best has the first choice. One whose place is taken goes a line lower, and is left out below the last."""
    lines: list[list[tuple[float, float, str]]] = [[] for _ in range(_SCORE_LINES)]
    for (start_s, end_s), score in zip(found, scores, strict=True):
        text = f"{score:.2f}"
        half = width_cm(text) / 2 + 0.06
        at = min(max(wide * (start_s + end_s) / 2 / end, half), wide - half)
        for line in lines:
            if all(abs(at - other) >= half + its_half for other, its_half, _ in line):
                line.append((at, half, text))
                break
    return [[(at, text) for at, _, text in line] for line in lines if line]


def _draw_track(
    sheet: _Sheet,
    seen: Observed,
    one: Timeline,
    of: Track,
    place: tuple[float, float, float],
    scores: Scores,
) -> None:
    left, top, wide = place
    kept = of.curve is None or of.curve.kept
    note = "" if kept else "  (its video-level score is too low: nothing is detected)"
    name = fitted(_class_name(seen, of.fine), wide - width_cm(note) - 0.2)
    sheet.text(left, top + 0.04, name, weight="bold")
    sheet.text(left + wide, top + 0.04, note.strip(), ha="right", color=_GREY)
    y = top + 0.42
    for row, lines in enumerate(scores):
        names = ["detected", "truth"] if row == 0 else [""]
        bars = sheet.axes(left, y, wide, _ROW * len(names))
        y += _ROW * len(names)
        for start_s, end_s in of.truth if row == 0 else ():
            bars.add_patch(Rectangle((start_s, 1.1), end_s - start_s, 0.75, facecolor=_DARK, edgecolor="white", lw=0.4))
        _draw_detections(bars, of, row)
        bars.set(xlim=(0, one.end_s), ylim=(0, len(names)), yticks=np.arange(len(names)) + 0.5, yticklabels=names)
        bars.set_xticks([])
        bars.tick_params(length=0, pad=3)
        for spine in bars.spines.values():
            spine.set_color(_PALE)
        for number, line in enumerate(lines):
            for at, text in line:
                sheet.text(left + at, y + 0.04 + _SCORE_LINE * number, text, ha="center")
        y += _below(lines)
    if of.curve is not None:
        axes = sheet.axes(left, y + 0.08, wide, _CURVE)
        _draw_curve(axes, of.curve, one.clips_per_s, one.end_s)
        axes.yaxis.set_label_coords(-1.25 / wide, 0.5)


def _draw_detections(bars: Axes, of: Track, row: int) -> None:
    """Those of one row, in the axes' lowest unit."""
    for (start_s, end_s), right, its_row in zip(of.found, of.right, of.row, strict=True):
        how: dict[str, Any] = {"facecolor": _BLUE, "edgecolor": _BLUE} if right else {
            "facecolor": "white", "edgecolor": _ORANGE, "hatch": "/////"
        }  # fmt: skip
        if its_row == row:
            bars.add_patch(Rectangle((start_s, 0.12), end_s - start_s, 0.75, lw=0.7, **how))


def _draw_curve(axes: Axes, curve: Curve, clips_per_s: float, end: float) -> None:
    edges, scores = np.arange(len(curve.scores) + 1) / clips_per_s, curve.scores
    low, high = float(scores.min()), float(scores.max())
    if curve.positive is None:
        for threshold in curve.thresholds.tolist():
            axes.axhline(threshold, color=_ORANGE, lw=0.3, zorder=0)
    else:
        (threshold,) = curve.thresholds.tolist()
        low, high = min(threshold, low), max(threshold, high)
        above = np.where(curve.positive, scores, threshold)
        axes.stairs(above, edges, baseline=threshold, fill=True, color="#9ccbe6")
        axes.axhline(threshold, color=_ORANGE, lw=0.9, ls=_DASHED)
    axes.stairs(scores, edges, baseline=None, color=_DARK, lw=0.8)
    room = 0.12 * (high - low) or 1.0
    axes.set(xlim=(0, end), xticks=[], ylim=(low - room, high + room))
    axes.yaxis.set_major_locator(MaxNLocator(3, min_n_ticks=2))
    axes.tick_params(length=2, pad=1.5)
    axes.set_ylabel("score", fontsize=SMALL, labelpad=2)


def _concept_rows(one: Timeline) -> list[int]:
    """Concepts that stand in a row of their own: those nearest to the shown classes, class by class, at most eight."""
    if one.concept is None:
        return []
    count = np.bincount(one.concept)
    rows: dict[int, None] = {}
    for of in one.tracks:
        rows |= dict.fromkeys(sorted(of.near, key=lambda concept: (-count[concept], concept)))
    return list(rows)[:8]


def _draw_raster(axes: Axes, of_clips: IntArray, rows: Sequence[int], clips_per_s: float) -> None:
    edges = np.arange(len(of_clips) + 1) / clips_per_s
    for i, concept in enumerate([*rows, None]):
        here = ~np.isin(of_clips, rows) if concept is None else of_clips == concept
        axes.axhspan(i + 0.06, i + 0.94, facecolor="#f3f3f3", lw=0)
        for first, last in _spans(here):
            color = _GREY if concept is None else _DARK
            box = Rectangle((edges[first], i + 0.06), edges[last] - edges[first], 0.88, facecolor=color, lw=0)
            axes.add_patch(box)
    labels = [*(f"concept {concept}" for concept in rows), "any other"]
    axes.set(ylim=(len(rows) + 1, 0), yticks=np.arange(len(labels)) + 0.5, yticklabels=labels)


def _draw_seconds(axes: Axes, end: float) -> None:
    """The time axis below."""
    axes.set(xlim=(0, end))
    axes.set_xlabel("seconds", fontsize=SMALL, labelpad=1)
    axes.xaxis.set_major_locator(MaxNLocator(9, steps=[1, 2, 5, 10], integer=True))
    axes.tick_params(length=2, pad=2)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)


def _spans(here: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Runs of True: first, and behind last."""
    edge = np.flatnonzero(np.diff(here.astype(np.int8), prepend=0, append=0))
    return list(zip(edge[::2].tolist(), edge[1::2].tolist(), strict=True))


def _timeline_caption(seen: Observed, one: Timeline, unwritten: int) -> str:
    shown = ", ".join(_class_name(seen, of.fine) for of in one.tracks)
    others = ""
    if one.other_classes:
        others = (
            f" Not shown: {one.other_found} detections and {one.other_truth} true segments of {one.other_classes} "
            f"other class{'es' * (one.other_classes != 1)}."
        )
    if any(of.row.any() for of in one.tracks):
        others += " Where detections of a class overlap, that of lower score stands a row lower."
    if hidden := sum(of.hidden for of in one.tracks):
        right = sum(of.hidden_right for of in one.tracks)
        others += f" Left out for room: {hidden} detections of lower scores, {right or 'none'} of them right."
    if unwritten:
        others += f" Left out for room: the scores of {unwritten} detections, lower than those beside them."
    return f"Figure 5. Detections in {seen.names[one.video]}: {shown or 'no class'}.{others}"
