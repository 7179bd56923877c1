"""The one screen of the main job: a live view on a terminal, plain lines elsewhere.

What trials are called, where they run and why they failed comes from data and from other nodes: nothing of it is taken
as markup, and no control character of it reaches the terminal.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from types import TracebackType
from typing import IO, Any, Self, cast

from rich import box
from rich.console import Console, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from haan.words import clean, clock, short

_LEAST_S = 0.25  # between two redraws
_WIDEST = 180  # beyond, lines are hard to follow
_LABEL = 9
_NARROW, _WIDE = 50, 112  # below: no settings of running trials; from: also time and node
_SHOW_CURSOR = "\x1b[?25h"
_BLOCKS = "▁▂▃▄▅▆▇█"
_STAGES = {
    "search": "search",
    "confirm": "confirming with new seeds",
    "final": "final training on all training videos",
}
_logger = logging.getLogger("search.screen")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A trial under way: its epoch of how many, best avg.mAP so far in percent (None before the first)."""

    number: int
    base: bool
    epoch: int
    epochs: int
    value: float | None
    params: Mapping[str, Any]
    node: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Status:
    """What the live view shows.

    stage: "search", "confirm" or "final"; name: of the run; where: it runs. done, of a budget: trials that ended, among
    them complete, pruned and failed ones. best: trial number and avg.mAP in percent, base: the base's avg.mAP, history:
    the best so far after each ended trial. spent_s, saved_s: seconds times `unit`s ("GPU" or "CPU"), by training and by
    pruning. left_s: None where not known yet. failures: the latest reasons, last: the last ended trials, newest at the
    end, a line each.
    """

    stage: str
    name: str
    where: str
    budget: int
    unit: str
    done: int = 0
    complete: int = 0
    pruned: int = 0
    failed: int = 0
    running: tuple[Row, ...] = ()
    best: tuple[int, float] | None = None
    base: float | None = None
    history: tuple[float, ...] = ()
    best_params: Mapping[str, Any] = field(default_factory=dict)
    spent_s: float = 0.0
    saved_s: float = 0.0
    elapsed_s: float = 0.0
    left_s: float | None = None
    failures: tuple[str, ...] = ()
    last: tuple[str, ...] = ()


class Screen:
    """Where a search speaks: a live view on a terminal, plain lines elsewhere, nothing when quiet.

    Writes to the stream that the console has when the Screen is entered, also after sys.stdout was redirected. A stream
    that fails (a terminal that was closed) ends nothing: from then on the screen is silent. live: if it can be.
    """

    def __init__(self, console: Console, live: bool, quiet: bool):
        self._console, self._quiet = console, quiet
        self._wants_live = live and not quiet and can_be_live(console)
        self._stream = _Stream(console.file)
        self._live: Live | None = None
        self._status: Status | None = None
        self._drawn = -math.inf
        self._slots = 0

    def __enter__(self) -> Self:
        self._console.file = cast(IO[str], self._stream)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._live is not None:
                self._live.stop()  # draws the newest status once more
        finally:
            if self._live is not None:
                self._stream.write(_SHOW_CURSOR)  # whatever an interrupt has left half done
                self._stream.flush()
            self._console.file = self._stream.inner

    def line(self, text: str) -> None:
        """A plain line, above the live view if there is one."""
        if self._quiet:
            return
        if self._live is not None:
            self._console.print(Text(clean(text)), overflow="fold")
        else:
            self._stream.write(clean(text) + "\n")
            self._stream.flush()

    def update(self, status: Status) -> None:
        """Shows this status, if there is a live view; at most four times a second."""
        self._status = status
        self._slots = max(self._slots, len(status.running))
        if not self._wants_live or monotonic() - self._drawn < _LEAST_S:
            return
        if self._live is None:
            self._live = Live(
                console=self._console,
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
                get_renderable=self._view,
            )
            self._live.start()
        self._live.refresh()
        self._drawn = monotonic()

    def ended(self, text: str, status: Status) -> None:
        """A trial ended: its line where lines are plain, else the new status."""
        if not self._wants_live:
            self.line(text)
        self.update(status)

    def _view(self) -> RenderableType:
        if self._status is None:
            return ""
        width, height = self._console.size
        return view(self._status, width, height - 1, self._slots, self._console.options.ascii_only)


def can_be_live(console: Console) -> bool:
    """Whether the console writes to a terminal that can move its cursor, and nothing asks for plain text.

    The stream itself is asked, for FORCE_COLOR makes rich take a file for a terminal.
    """
    return console.file.isatty() and console.is_terminal and not console.is_dumb_terminal and not console.no_color


class _Stream:
    """A stream that may go away: after the first write that fails it takes everything and does nothing."""

    def __init__(self, inner: IO[str]):
        self.inner, self._gone = inner, False

    def write(self, text: str) -> int:
        encoding = getattr(self.inner, "encoding", None) or "utf-8"
        self._try(lambda: self.inner.write(text.encode(encoding, "replace").decode(encoding)))
        return len(text)

    def flush(self) -> None:
        self._try(self.inner.flush)

    def _try(self, act: Callable[[], object]) -> None:
        if self._gone:
            return
        try:
            act()
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            self._gone = True
            _logger.warning("the terminal is gone, the search goes on in silence: %s", error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def view(status: Status, width: int, height: int, slots: int, ascii_only: bool) -> RenderableType:
    """The live view, no wider or higher than said. slots: rows kept for running trials, so that nothing jumps."""
    width = min(width, _WIDEST)
    inner, free = max(width - 4, 1), max(height - 2, 1)
    lines = _summary(status, inner, ascii_only)
    if free < len(lines) + 4:
        lines = [line for line in lines if line.plain]
    lines += _sections(status, inner, free - len(lines), slots, ascii_only)
    lines = lines[:free]
    for line in lines:
        line.truncate(inner, overflow="crop" if ascii_only else "ellipsis")
    body = Text("\n", no_wrap=True).join(lines)
    title = Text.assemble((clean(status.name), "default bold"), "  ", (_stage(status), "cyan"))
    title.truncate(max(width - 6, 1), overflow="crop" if ascii_only else "ellipsis")
    return Panel(body, title=title, title_align="left", box=box.ROUNDED, border_style="bright_black", width=width)


def _stage(status: Status) -> str:
    return _STAGES.get(status.stage, clean(status.stage))


def _summary(status: Status, width: int, ascii_only: bool) -> list[Text]:
    """The rows that are always there."""
    return [
        Text(clean(status.where), "bright_black"),
        Text(),
        _progress(status, width, ascii_only),
        _labelled("", _counts(status, width)),
        _best(status, width, ascii_only),
        _labelled("", Text(_params(status.best_params), "bright_black")),
        _labelled("spent", _hours(status)),
        _labelled("time", _time(status)),
    ]


def _labelled(label: str, text: Text) -> Text:
    return Text.assemble((f"{label:{_LABEL}}", "bright_black"), text)


def _progress(status: Status, width: int, ascii_only: bool) -> Text:
    noun = "trials" if status.stage == "search" else "runs"
    count = f" {status.done} of {status.budget}"
    share = status.done / status.budget if status.budget else 0.0
    return _labelled(noun, _bar(share, max(width - _LABEL - len(count), 1), ascii_only).append(count, "bold"))


def _bar(share: float, width: int, ascii_only: bool) -> Text:
    """How much is done; heavy and light, so that it reads without colour, too."""
    full = math.floor(max(0.0, min(share, 1.0)) * width)
    heavy, light = "#-" if ascii_only else "━─"
    return Text.assemble((heavy * full, "cyan"), (light * (width - full), "bright_black"))


def _counts(status: Status, width: int) -> Text:
    parts = [Text(f"{status.complete} complete")]
    if status.stage == "search":
        share = f" ({status.pruned / status.done:.0%})".replace("%", " %") if status.done else ""
        parts.append(Text(f"{status.pruned} pruned{share}"))
    parts.append(Text(f"{status.failed} failed", "red" if status.failed else ""))
    parts.append(Text(f"{len(status.running)} running"))
    return Text(", ").join(parts[1:] if width < _NARROW else parts)


def _best(status: Status, width: int, ascii_only: bool) -> Text:
    base = "not known yet" if status.base is None else f"{status.base:.2f}"
    if status.best is None:
        return _labelled("best", Text(f"none yet; base {base}"))
    number, value = status.best
    text = _labelled("best", Text(f"{value:.2f}", "bold green"))
    if status.base is None:
        text.append(f", base {base}")
    elif value == status.base:
        text.append(", the base's own")
    else:
        text.append(f", {value - status.base:+.2f} against the base's {base}")
    text.append(f" (trial {number})")
    room = width - text.cell_len - 3
    line = "" if ascii_only or room < 8 else _sparkline(status.history, min(room, 40))
    return text.append(f"{line:>{room + 3}}" if line else "", "cyan")


def _sparkline(values: Sequence[float], width: int) -> str:
    """Values as blocks of eight heights, the last of each of at most `width` equal stretches."""
    finite = [value for value in values if math.isfinite(value)]
    count = min(width, len(finite))
    shown = [finite[len(finite) * (i + 1) // count - 1] for i in range(count)]
    low, high = min(shown, default=0.0), max(shown, default=0.0)
    step = (high - low) / (len(_BLOCKS) - 1) or 1.0
    return "".join(_BLOCKS[round((value - low) / step)] for value in shown)


def _hours(status: Status) -> Text:
    whole = status.spent_s + status.saved_s
    share = f" ({status.saved_s / whole:.0%})".replace("%", " %") if status.saved_s > 0 else ""
    spent, saved = (f"{s / 3600:.3f}" if whole < 3600 else f"{s / 3600:.1f}" for s in (status.spent_s, status.saved_s))
    return Text(f"{spent} {clean(status.unit)}-hours, {saved} saved by pruning{share}")


def _time(status: Status) -> Text:
    left = "-" if status.left_s is None else clock(status.left_s)
    return Text(f"{clock(status.elapsed_s)} so far, {left} left")


def _params(params: Mapping[str, Any]) -> str:
    """Settings in short: the last part of a key where it is the only one of that name."""
    ends = [key.rpartition(".")[2] for key in params]
    names = [end if ends.count(end) == 1 else key for end, key in zip(ends, params, strict=True)]
    return clean(" ".join(f"{name}={short(value)}" for name, value in zip(names, params.values(), strict=True)))


def _sections(status: Status, width: int, free: int, slots: int, ascii_only: bool) -> list[Text]:
    """Running trials, failures and ended trials, in as many rows as are free."""
    failures = _titled("failures", [Text(clean(reason), "red") for reason in status.failures[-2:]])
    ended = [Text(clean(line), "bright_black") for line in status.last]
    free -= len(failures)
    kept = min(len(ended) + 2, free // 3) if ended and free >= 9 else 0
    running = _running(status.running, width, free - kept, slots, ascii_only)
    free -= len(running)
    shown = _titled("last ended", ended[-(free - 2) :]) if free > 2 else []
    return [*running, *failures, *shown]


def _titled(title: str, lines: list[Text]) -> list[Text]:
    return [Text(), Text(title, "bold"), *lines] if lines else []


def _running(rows: Sequence[Row], width: int, free: int, slots: int, ascii_only: bool) -> list[Text]:
    """A title and the trials that fit; as many rows as `slots` trials would take."""
    if free < 3 or not slots:
        return []
    room = free - 2
    shown = rows if len(rows) <= room else rows[: room - 1]
    bar = 16 if width >= _WIDE else 10 if width >= _NARROW else 6
    digits = max((len(str(row.epochs)) for row in rows), default=1)
    node = max((len(clean(row.node)) for row in shown), default=0)
    lines = [_trial(row, width, bar, digits, min(max(node, 4), 20), ascii_only) for row in shown]
    if len(shown) < len(rows):
        lines.append(Text(f"... and {len(rows) - len(shown)} more", "bright_black"))
    lines += [Text()] * (min(slots, room) - len(lines))
    return [Text(), Text(f"{'running':{_LABEL}}{'epoch':{bar + 2 * digits + 2}}{'avg.mAP':>9}", "bold"), *lines]


def _trial(row: Row, width: int, bar: int, digits: int, node: int, ascii_only: bool) -> Text:
    value = "-" if row.value is None else f"{row.value:.2f}"
    text = Text(f"{'base' if row.base else row.number:>{_LABEL - 2}}  ")
    text.append_text(_bar(row.epoch / row.epochs if row.epochs else 0.0, bar, ascii_only))
    text.append(f" {row.epoch:{digits}}/{row.epochs:<{digits}}{value:>9}")
    if width >= _WIDE:
        text.append(f"  {clock(row.seconds):>7}  {clean(row.node)[:node]:{node}}", "bright_black")
    if width >= _NARROW:
        text.append(f"  {_params(row.params)}", "bright_black")
    return text
