"""Whether what is written in a figure can be read."""

from itertools import pairwise

from matplotlib.axis import Axis
from matplotlib.text import Text

from haan.figures import draw


def check_letters(drawn: draw.Drawn) -> None:
    """Every text is of 7 pt at least and within the sheet, and no labels of an axis touch."""
    with draw.style():
        drawn.figure.draw_without_rendering()
        sheet, texts = drawn.figure.get_window_extent(), list(drawn.figure.texts)
        for axes in drawn.figure.axes:
            texts += [*axes.texts, axes.xaxis.label, axes.yaxis.label]
            for axis, low, high in ((axes.xaxis, "x0", "x1"), (axes.yaxis, "y0", "y1")):
                texts += _tick_labels(axis)
                boxes = [label.get_window_extent() for label in _tick_labels(axis)]
                boxes.sort(key=lambda box: getattr(box, low))
                for first, second in pairwise(boxes):
                    assert getattr(first, high) <= getattr(second, low) + 1.5, drawn.name
        texts += [text for legend in drawn.figure.legends for text in legend.get_texts()]
        for text in texts:
            box = text.get_window_extent()
            inside = sheet.x0 - 1 < box.x0 and box.x1 < sheet.x1 + 1 and sheet.y0 - 1 < box.y0 < box.y1 < sheet.y1 + 1
            assert not text.get_text() or (text.get_fontsize() >= 7 and inside), (drawn.name, text.get_text())


def _tick_labels(axis: Axis) -> list[Text]:
    """Those that are drawn: Matplotlib holds others, outside the axis."""
    low, high = sorted(axis.get_view_interval())
    shown = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return [label for tick in shown for label in (tick.label1, tick.label2) if label.get_visible() and label.get_text()]
