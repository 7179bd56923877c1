"""Pieces of HTML for report.py. What is given as text is escaped here; what is given as HTML is said to be."""

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence

from search.page.plots import COLORS, Figure, escaped, named

_SHAPES = {  # marks of plotly, drawn about (13, 7)
    "circle": "M8.5 7a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0",
    "circle-open": "M9 7a4 4 0 1 0 8 0a4 4 0 1 0-8 0",
    "square-open": "M9 3h8v8h-8z",
    "x-thin-open": "M9.5 3.5l7 7m0-7l-7 7",
    "triangle-down": "M8 3h10l-5 9z",
    "diamond": "M13 1l6 6l-6 6l-6-6z",
    "star": "M13 0l1.9 4.6 5 .4-3.8 3.2 1.2 4.9-4.3-2.6-4.3 2.6 1.2-4.9-3.8-3.2 5-.4z",
}
_MOST_ROWS = 30  # of a table that is shown in full
_DASHES = {"dash": "6 4", "dot": "2 3"}


def sha256(script: str) -> str:
    """As a content security policy names a script."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def data_block(value: object) -> str:
    """JSON for a data block in a page: no character in it can end the block. Raises ValueError at NaN."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def empty(sentence: str) -> str:
    """Why there is nothing to see; sentence: HTML."""
    return f'<p class="empty">{sentence}</p>'


def percent(value: float | None) -> str:
    """An avg.mAP, two digits."""
    return "–" if value is None else f"{value:.2f}"


def tile(name: str, value: str, note: str, kind: str = "") -> str:
    """One number with its name and what it is of; all three: HTML.

    kind: `main`; `doubtful` if it flatters; of a gain `gain`, `noise` or `loss`.
    """
    kind = f"tile {kind}".rstrip()
    head = f'<div class="{kind}"><div class="name">{name}</div><div class="value">{value}</div>'
    return f'{head}<div class="note">{note}</div></div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], label: str) -> str:
    """A small table of texts in a box of its own that scrolls, the last column wide."""
    cells = "".join(f'<th scope="col">{escaped(name)}</th>' for name in head)
    body = "".join(
        f'<tr>{"".join(f"<td>{escaped(cell)}</td>" for cell in row[:-1])}<td class="text">{escaped(row[-1])}</td></tr>'
        for row in rows
    )
    kind = f"short{_tall(body)}"
    box = f'<div class="scroll {kind}" tabindex="0" role="region" aria-label="{escaped(label)}">'
    return f"{box}<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>"


def sortable(names: Iterable[tuple[str, bool]], rows: Iterable[tuple[str, str]], label: str, name: str = "") -> str:
    """A table whose headings sort it, in a box of its own that scrolls.

    names: heading, and whether its column is of numbers. rows: class of the row ("" for none), and its cells as HTML.
    """
    head = "".join(
        f'<th scope="col"{_class("number" if number else "")}><button type="button">{_broken(text)}</button></th>'
        for text, number in names
    )
    body = "".join(f"<tr{_class(kind)}>{cells}</tr>" for kind, cells in rows)
    box = f'<div class="scroll{_tall(body)}" tabindex="0" role="region" aria-label="{escaped(label)}">'
    table = f'<table id="{escaped(name)}">' if name else "<table>"
    return f"{box}{table}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _tall(body: str) -> str:
    """The class of a table that scrolls for its height, of which few do not fit a screen."""
    return " tall" if body.count("<tr") > _MOST_ROWS else ""


def _broken(heading: str) -> str:
    """HTML of a heading that may go on in a next line behind each dot: a setting's column is narrower than its key."""
    return escaped(heading).replace(".", ".<wbr>")


def cell(value: object, shown: str | None = None, *, number: bool = False, wraps: bool = False) -> str:
    """A cell that sorts by `value`; shown: its HTML, where that isn't the value itself. wraps: over several lines."""
    text = escaped(value) if shown is None and value is not None else shown or ""
    key = "" if value is None else repr(value) if isinstance(value, float) else str(value)
    return f'<td{_class("number" if number else "text" if wraps else "")} data-value="{escaped(key)}">{text}</td>'


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def plot(name: str, figure: Figure, label: str) -> str:
    """The place where report.js draws a figure."""
    height = figure["layout"]["height"]
    return (
        f'<div class="plot" data-figure="{escaped(name)}" role="img" aria-label="{escaped(label)}" '
        f'style="height:{height}px"></div>'
    )


def picture(kind: str, content: bytes, caption: str) -> str:
    """An image that lies in the page itself, above its caption, a text whose first sentence says what it is.

    As an image, an SVG can neither run nor fetch anything. Its box scrolls on a screen too narrow for its letters.
    """
    source = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    name = escaped(caption.partition(". ")[2].partition(". ")[0] or caption)
    image = f'<img src="{source}" alt="{name}">'
    box = f'<div class="picture" tabindex="0" role="region" aria-label="{name}">{image}</div>'
    return f'<figure class="paper">{box}<figcaption>{escaped(caption)}</figcaption></figure>'


def legend(name: str, figure: Figure) -> str:
    """What each colour and mark means; a press on one hides or shows it. Empty where only one thing is drawn."""
    entries = [
        f'<li><button type="button" aria-pressed="true" data-of="{escaped(name)}" data-traces="{traces}">'
        f"{_swatch(trace)}{trace['name']}</button></li>"
        for trace, traces in named(figure)
    ]
    return f'<ul class="legend">{"".join(entries)}</ul>' if len(entries) > 1 else ""


def key(figures: Iterable[Figure]) -> str:
    """One legend for several figures that draw the same things."""
    traces = {trace["name"]: trace for figure in figures for trace in figure["data"]}
    entries = "".join(f"<li>{_swatch(trace)}{name}</li>" for name, trace in traces.items())
    return f'<ul class="key">{entries}</ul>'


def _swatch(trace: Figure) -> str:
    """A small picture of a trace: its line, its mark, or both."""
    if trace["type"] == "bar":
        return f'<svg width="14" height="14" aria-hidden="true"><path d="M1 1h12v12h-12z" {_paint(trace)}/></svg>'
    parts = ""
    if "lines" in trace["mode"]:
        line = trace["line"]
        style = f'stroke="{line["color"]}" stroke-width="{min(line["width"], 3)}"'
        parts += f'<path d="M1 7H25" {style} stroke-dasharray="{_DASHES.get(line.get("dash"), "none")}"/>'
    if "markers" in trace["mode"]:
        parts += f'<path d="{_SHAPES[trace["marker"].get("symbol", "circle")]}" {_paint(trace)}/>'
    return f'<svg width="26" height="14" aria-hidden="true">{parts}</svg>'


def _paint(trace: Figure) -> str:
    marker = trace["marker"]
    color = marker["color"] if isinstance(marker["color"], str) else COLORS["PRUNED"]
    if "pattern" in marker:
        return f'fill="none" stroke="{color}" stroke-width="2" stroke-dasharray="2 2"'
    if "open" in marker.get("symbol", ""):
        return f'fill="none" stroke="{color}" stroke-width="1.6"'
    return f'fill="{color}"'
