"""Sizes, times and values in words, and read from words; words in lines."""

import re
import textwrap
from collections.abc import Mapping, Sequence

from haan.errors import InputError

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")

_BLANK = "\xa0"  # where no line is broken


def duration(seconds: float) -> str:
    """A length of time in the unit that suits it."""
    if seconds < 100:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 100 * 3600 else f"{seconds / 3600:,.0f} h"


def amount(seconds: float, unit: str, beside: Sequence[float] = ()) -> str:
    """Resource time, in hours where it comes to one. beside: what stands in the same line, in the same unit."""
    if max(seconds, *beside, 0) < 3600:
        return f"{seconds:,.0f} {unit}-seconds"
    return f"{seconds / 3600:,.{1 if seconds >= 3600 else 2}f} {unit}-hours"


def byte_size(num_bytes: float) -> str:
    """Bytes in the unit that reads best."""
    return f"{num_bytes / 2**30:,.1f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:,.1f} MiB"


def plain_number(text: str) -> float | None:
    """A number in digits; None for what Python's `float` takes besides (`1_0`, `nan`, digits of other scripts)."""
    return float(text) if _NUMBER.fullmatch(text) else None


def seconds(text: str, option: str) -> float:
    """A duration such as 90m. Raises InputError."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = plain_number(text[:-1]), units.get(text[-1:])
    value = number * unit if number and unit else 0.0
    if not 0 < value < float("inf"):
        raise InputError(f"{option}: must be a number > 0 and a unit s, m, h or d, as in 90m, got {text!r}")
    return value


def per_cent(share: float) -> str:
    """A share of 1, as in 43 %."""
    return f"{100 * share:.0f} %"


def clean(text: str) -> str:
    """One line of text without control characters; every kind of white space becomes a blank."""
    return "".join(" " if char.isspace() else char for char in text if char.isspace() or char.isprintable())


def whole(part: str) -> str:
    """A piece of text that `wrapped` keeps on one line, whatever blanks it holds."""
    return part.replace(" ", _BLANK)


def wrapped(text: str, width: int, indent: str = "    ", first: str = "") -> list[str]:
    """A text in lines of at most so many characters, broken at blanks alone, so a longer word makes a longer line.

    first, indent: what the first line and the others begin with.
    """
    lines = textwrap.wrap(
        text,
        max(width, len(indent) + 1),
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_BLANK, " ") for line in lines] or [""]


def aligned(rows: Sequence[Sequence[str]], texts: int) -> list[str]:
    """Rows as lines with columns: so many of text, the rest figures, to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:texts], widths[:texts], strict=True)]
        cells += [cell.rjust(width) for cell, width in zip(row[texts:], widths[texts:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def settings(values: Mapping[str, object]) -> list[str]:
    """Each setting in short, by the last part of its key where that is the only one of its name."""
    ends = [key.rpartition(".")[2] for key in values]
    names = [end if ends.count(end) == 1 else key for key, end in zip(values, ends, strict=True)]
    return [f"{name}={short(value)}" for name, value in zip(names, values.values(), strict=True)]


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, as in 1:02:03; without hours below one."""
    minutes, rest = divmod(max(int(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def hours(seconds: float) -> str:
    """Hours and minutes, as in 1 h 02 min; below an hour minutes and seconds, as in 2 min 05 s."""
    minutes, rest = divmod(max(int(seconds), 0), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def shown(value: object, digits: int = 4) -> str:
    """A value as a reader wants it: so many digits of a float, anything else as it is."""
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def short(value: object) -> str:
    """A value where there is little room."""
    return shown(value, digits=3)


def why_zero(detected: bool, nothing: str = "nothing was detected") -> str:
    """Why an avg.mAP is 0; nothing: said where nothing was detected."""
    if not detected:
        return f"{nothing}; the thresholds of detect may be too high"
    return "what was detected matches no ground truth at eval.tiou"
