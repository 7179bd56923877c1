"""Small plots side by side as one SVG that needs no script: the README's. A number of workers runs along every x axis.

The card is light in light and dark pages alike, for a page may not tell its pictures which it is.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

_WIDE, _HIGH, _LEFT, _RIGHT, _TOP, _BOTTOM = 330, 330, 52, 14, 34, 46  # of a panel, in pixels
_KEY, _EDGE = 17, 8  # a line of its key; room on the card's right for half of the last label of an axis
_COLORS = ("#2f86c9", "#0a9b6c", "#8a63d2", "#c2620a")
_INK, _GRID, _CARD = "#24292f", "#d5dae0", "#ffffff"
_X_LABEL = "workers"


@dataclass(frozen=True)
class Line:
    """A curve through points (workers, value)."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Dots(Line):
    """What was measured: marks, with a thin line through them."""


@dataclass(frozen=True)
class Level:
    """One value, whatever the number of workers."""

    name: str
    value: float


@dataclass(frozen=True)
class Panel:
    """One plot. unit: of the y axis, which goes from low to high; None takes what the values need."""

    title: str
    unit: str
    marks: Sequence[Line | Level]
    low: float | None = None
    high: float | None = None


def drawing(panels: Sequence[Panel]) -> str:
    """The SVG of panels side by side."""
    keys = max(len(panel.marks) for panel in panels)
    width, height = _WIDE * len(panels) + _EDGE, _HIGH + keys * _KEY
    parts = [_panel(panel, _WIDE * number) for number, panel in enumerate(panels)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            'font-family="system-ui, sans-serif" font-size="12">',
            f'<rect width="{width}" height="{height}" rx="8" fill="{_CARD}" stroke="{_GRID}"/>',
            *parts,
            "</svg>\n",
        ]
    )


@dataclass(frozen=True)
class _Frame:
    """Where values lie on the picture. left: of the panel."""

    left: float
    x_high: float
    low: float
    high: float

    def x(self, workers: float) -> float:
        inner = _WIDE - _LEFT - _RIGHT
        return self.left + _LEFT + inner * math.log(workers) / math.log(self.x_high)

    def y(self, value: float) -> float:
        inner = _HIGH - _TOP - _BOTTOM
        return _TOP + inner * (1 - (value - self.low) / (self.high - self.low))


def _panel(panel: Panel, left: float) -> str:
    frame = _frame(panel, left)
    parts = [_text(left + _LEFT, 22, panel.title, weight="600"), *_axes(panel, frame)]
    for number, mark in enumerate(panel.marks):
        parts += _mark(mark, frame, _COLORS[number], _HIGH + number * _KEY)
    return "\n".join(parts)


def _frame(panel: Panel, left: float) -> _Frame:
    points = [point for mark in panel.marks if isinstance(mark, Line) for point in mark.points]
    values = [value for _, value in points] + [mark.value for mark in panel.marks if isinstance(mark, Level)]
    room = 0.15 * (max(values) - min(values)) or 1.0
    low = min(values) - room if panel.low is None else panel.low
    high = max(values) + room if panel.high is None else panel.high
    most = max(workers for workers, _ in points)
    return _Frame(left, 10.0 ** math.ceil(math.log10(max(2.0, most)) - 1e-9), low, high)


def _axes(panel: Panel, frame: _Frame) -> list[str]:
    right, bottom = frame.x(frame.x_high), frame.y(frame.low)
    parts = []
    for value in _ticks(frame.low, frame.high):
        y = frame.y(value)
        parts.append(f'<path d="M{frame.x(1):.1f} {y:.1f}H{right:.1f}" stroke="{_GRID}"/>')
        parts.append(_text(frame.x(1) - 6, y + 4, f"{value:g}", anchor="end"))
    for power in range(round(math.log10(frame.x_high)) + 1):
        x = frame.x(10**power)
        parts.append(f'<path d="M{x:.1f} {bottom:.1f}v4" stroke="{_INK}"/>')
        parts.append(_text(x, bottom + 17, f"{10**power:,}", anchor="middle"))
    parts.append(f'<path d="M{frame.x(1):.1f} {bottom:.1f}H{right:.1f}" stroke="{_INK}"/>')
    parts.append(_text((frame.x(1) + right) / 2, bottom + 34, _X_LABEL, anchor="middle"))
    x, y = frame.left + 15, (frame.y(frame.high) + bottom) / 2
    turned = f' transform="rotate(-90 {x:.1f} {y:.1f})"'
    return [*parts, _text(x, y, panel.unit, anchor="middle", more=turned)]


def _ticks(low: float, high: float) -> list[float]:
    """About five round values within the axis."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(times * power for times in (1, 2, 2.5, 5, 10) if times * power >= rough * (1 - 1e-9))
    return [round(step * number, 10) for number in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]


def _mark(mark: Line | Level, frame: _Frame, color: str, key_y: float) -> list[str]:
    """A mark, and its line of the key."""
    x = frame.left + _LEFT
    if isinstance(mark, Level):
        ends, dashes, dots = [(1.0, mark.value), (frame.x_high, mark.value)], ' stroke-dasharray="6 4"', []
    else:
        ends, dashes, dots = list(mark.points), "", list(mark.points) if isinstance(mark, Dots) else []
    path = "L".join(f"{frame.x(workers):.1f} {frame.y(value):.1f}" for workers, value in ends)
    style = f'fill="none" stroke="{color}" stroke-width="{1.2 if dots else 2}"{dashes}'
    parts = [f'<path d="M{path}" {style}/>', f'<path d="M{x} {key_y:.1f}h22" {style}/>']
    at = [(frame.x(workers), frame.y(value)) for workers, value in dots]
    parts += [
        f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4" fill="{color}"/>' for a, b in at + [(x + 11, key_y)] * bool(dots)
    ]
    return [*parts, _text(x + 30, key_y + 4, mark.name)]


def _text(x: float, y: float, words: str, anchor: str = "start", weight: str = "400", more: str = "") -> str:
    style = f'fill="{_INK}" text-anchor="{anchor}" font-weight="{weight}"{more}'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{html.escape(words)}</text>'
