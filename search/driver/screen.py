"""The one screen of the main job: a live view on a terminal, plain lines elsewhere.

What trials are called, where they run and why they failed comes from data and from other nodes: nothing of it is taken
as markup, and no control character of it reaches the terminal.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from time import monotonic
from types import TracebackType
from typing import IO, Any, Self, cast

from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from haan.words import clean, clock, hours, per_cent, settings, whole, wrapped

_LEAST_S = 0.25  # between two redraws
_WIDEST = 180  # beyond, lines are hard to follow
_LABEL = 9
_INDENT = " " * 4
_BEAT_S = 60  # of silence in plain lines, until one says how it goes
_ENOUGH = 3  # ended trials that are shown with their settings, or all without
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
class Account:
    """What is said of a trial that has ended.

    facts: when, which, how, its avg.mAP. epochs: the one of that, of how many. best: so far. notes: what was odd.
    settings: none is broken between lines.
    """

    facts: str
    epochs: str = ""
    best: str = ""
    notes: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    def line(self) -> str:
        """All of it, the facts first."""
        return clean(", ".join(filter(None, [f"{self.facts} {self.epochs}", "  ".join(self._rest())])))

    def lines(self, width: int) -> list[str]:
        """All of it, on one line if it fits; else the facts first, and the rest on lines of their own."""
        if cell_len(self.line()) <= width:
            return [self.line()]
        facts, rest = clean(f"{self.facts} {self.epochs}"), self._rest()
        if cell_len(facts) > width:
            facts, rest = clean(self.facts), [clean(self.epochs), *rest]
        return [*wrapped(facts, width), *(wrapped("  ".join(rest), width, _INDENT, first=_INDENT) if rest else [])]

    def _rest(self) -> list[str]:
        said = [clean(part) for part in (self.best, *self.notes) if part]
        return [*said, _joined(self.settings)] if self.settings else said


def _joined(settings: Sequence[str]) -> str:
    """Settings as one text that `wrapped` breaks between them alone."""
    return " ".join(whole(clean(setting)) for setting in settings)


@dataclass(frozen=True, kw_only=True)
class Status:
    """What the live view shows.

    stage: "search", "confirm" or "final"; name: of the run; where: it runs. done, of a budget: trials that ended, among
    them complete, pruned and failed ones. best: trial number and avg.mAP in percent, base: the base's avg.mAP, history:
    the best so far after each ended trial; these are the search's in every stage. confirmed: what new seeds said of the
    winner. spent_s, saved_s: seconds times `unit`s ("GPU" or "CPU"), by training in all stages and by pruning;
    search_s: of the former those of the search. epochs: trained so far in this stage. elapsed_s, left_s: of all stages;
    left_s is None where not known yet. failures: the latest reasons, last: the last ended trials, newest at the end.
    stops: what ends the stage early. over: nothing comes any more.
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
    search_s: float = 0.0
    epochs: int = 0
    elapsed_s: float = 0.0
    left_s: float | None = None
    failures: tuple[str, ...] = ()
    last: tuple[Account, ...] = ()
    stops: str = ""
    confirmed: str = ""
    over: bool = False


def mark(status: Status) -> str:
    """What a plain line begins with: how many have ended, and when."""
    return f"[{status.done:3d}/{status.budget} {clock(status.elapsed_s):>6}]"


def heartbeat(status: Status) -> str:
    """How it goes, in a plain line."""
    value = "none yet" if status.best is None else f"{status.best[1]:.2f}"
    head = f"{mark(status)} {_STAGES.get(status.stage, status.stage)}: {len(status.running)} running"
    stops = f", {status.stops}" if status.stops else ""
    best = "best so far" if status.stage == "search" else "the search's best"
    return f"{head}, {status.epochs} epochs done, {best} {value}, {_left(status)}{stops}"


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
        self._drawn, self._spoke = -math.inf, monotonic()
        self._slots = 0

    def __enter__(self) -> Self:
        self._console.file = cast(IO[str], self._stream)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._live is not None:
                self._slots = 0  # the last picture stays, and keeps no rows for what will not come
                self._status = self._status and replace(self._status, over=True)
                self._live.stop()  # draws it once more
        finally:
            if self._live is not None:
                self._stream.write(_SHOW_CURSOR)  # whatever an interrupt has left half done
                self._stream.flush()
            self._console.file = self._stream.inner

    def line(self, text: str) -> None:
        """A plain line, above the live view if there is one; on a terminal as many as its width asks for."""
        text = clean(text)
        self._write(wrapped(text, self._console.width) if self._stream.isatty() else [text])

    def _write(self, lines: Sequence[str]) -> None:
        if self._quiet:
            return
        self._spoke = monotonic()
        if self._live is not None:
            self._console.print(Text("\n".join(lines)), overflow="fold")
        else:
            self._stream.write("\n".join(lines) + "\n")
            self._stream.flush()

    def update(self, status: Status) -> None:
        """Shows this status, if there is a live view, at most four times a second; else in a line after a silence."""
        self._status = status
        self._slots = max(self._slots, len(status.running))
        if not self._wants_live:
            if status.running and monotonic() - self._spoke >= _BEAT_S:
                self.line(heartbeat(status))
            return
        if monotonic() - self._drawn < _LEAST_S:
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

    def ended(self, account: Account, status: Status) -> None:
        """A trial ended: its line where lines are plain, else the new status."""
        if not self._wants_live:
            self._write(account.lines(self._console.width) if self._stream.isatty() else [account.line()])
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
    lines = _summary(status, inner, max(free - 12, 1), ascii_only)
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


def _summary(status: Status, width: int, most: int, ascii_only: bool) -> list[Text]:
    """The rows that are always there. most: rows for the best trial's settings."""
    return [
        Text(clean(status.where), "bright_black"),
        Text(),
        _progress(status, width, ascii_only),
        _labelled("", _counts(status, width)),
        _best(status, width, ascii_only),
        *(_labelled("", Text(row, "bright_black")) for row in _rows(status.best_params, width - _LABEL, most)),
        *(_labelled("", Text(row)) for row in _confirmed(status, width - _LABEL)),
        _labelled("spent", _hours(status)),
        _labelled("time", _time(status)),
        *([_labelled("", Text(status.stops, "bright_black"))] if status.stops else []),
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
        share = f" ({per_cent(status.pruned / status.done)})" if status.done else ""
        parts.append(Text(f"{status.pruned} pruned{share}"))
    parts.append(Text(f"{status.failed} failed", "red" if status.failed else ""))
    parts.append(Text(f"{len(status.running)} running"))
    return Text(", ").join(parts[1:] if width < _NARROW else parts)


def _confirmed(status: Status, width: int) -> list[str]:
    """In two rows at most, of which the second is cut."""
    first, *rest = wrapped(clean(status.confirmed), width, indent="") if status.confirmed else [""]
    return [row for row in (first, " ".join(rest)) if row]


def _best(status: Status, width: int, ascii_only: bool) -> Text:
    label = "best" if status.stage == "search" else "search"  # later stages are on other seeds and videos
    base = "not known yet" if status.base is None else f"{status.base:.2f}"
    if status.best is None:
        return _labelled(label, Text(f"none yet; base {base}"))
    number, value = status.best
    text = _labelled(label, Text(f"{value:.2f}", "bold green" if status.stage == "search" else ""))
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
    most = max(status.spent_s, status.saved_s)
    spent, saved = (f"{s / 3600:.3f}" if most < 3600 else f"{s / 3600:.1f}" for s in (status.spent_s, status.saved_s))
    whole = status.search_s + status.saved_s
    of = f" ({per_cent(status.saved_s / whole)} of the search)" if status.saved_s > 0 else ""
    return Text(f"{spent} {clean(status.unit)}-hours, {saved} saved by pruning{of}")


def _time(status: Status) -> Text:
    return Text(hours(status.elapsed_s) + ("" if status.over else f" so far, {_left(status)}"))


def _left(status: Status) -> str:
    return "time left not known yet" if status.left_s is None else f"{hours(status.left_s)} left"


def _rows(params: Mapping[str, Any], width: int, most: int) -> list[str]:
    """Settings in rows of so many columns; what would be more rows is on the last, which is cut."""
    rows = wrapped(_joined(settings(params)), width, indent="")
    return [*rows[: most - 1], " ".join(rows[most - 1 :])] if len(rows) > most else rows


def _sections(status: Status, width: int, free: int, slots: int, ascii_only: bool) -> list[Text]:
    """Running trials, failures and ended trials, in as many rows as are free."""
    failures = _titled("failures", [Text(clean(reason), "red") for reason in status.failures[-2:]])
    free -= len(failures)
    kept = min(len(status.last) + 2, free // 3) if status.last and free >= 9 else 0
    running = _running(status.running, width, free - kept, slots, ascii_only)
    ended = [Text(line, "bright_black") for line in _ended(status.last, width, free - len(running) - 2)]
    return [*running, *failures, *_titled("last ended", ended)]


def _ended(accounts: Sequence[Account], width: int, free: int) -> list[str]:
    """The newest ended trials that fit into so many rows: with their settings where enough do, else without any."""
    if free < 1:
        return []
    newest = [replace(account, best="") for account in accounts[-free:]]
    blocks = _newest([account.lines(width) for account in newest], free)
    if len(blocks) < min(_ENOUGH, len(accounts)):
        blocks = _newest([replace(account, settings=()).lines(width) for account in newest], free)
    return [line for lines in blocks for line in lines]


def _newest(blocks: Sequence[list[str]], free: int) -> list[list[str]]:
    """The last blocks that have no more than so many lines together."""
    ends = accumulate(len(lines) for lines in reversed(blocks))
    count = sum(end <= free for end in ends)
    return list(blocks[len(blocks) - count :])


def _titled(title: str, lines: list[Text]) -> list[Text]:
    return [Text(), Text(title, "bold"), *lines] if lines else []


def _running(rows: Sequence[Row], width: int, free: int, slots: int, ascii_only: bool) -> list[Text]:
    """A title and the trials that fit; as many rows as `slots` trials would take.

    Settings that don't fit beside a trial stand below it where there is room for those of all, else they are cut.
    """
    if free < 3 or not slots:
        return []
    room = free - 2
    shown = rows if len(rows) <= room else rows[: room - 1]
    bar = 16 if width >= _WIDE else 10 if width >= _NARROW else 6
    digits = max((len(str(row.epochs)) for row in rows), default=1)
    node = max((len(clean(row.node)) for row in shown), default=0)
    heads = [_head(row, width, bar, digits, min(max(node, 4), 20), ascii_only) for row in shown]
    beside = max(width - heads[0].cell_len - 2, 1) if heads else 1
    told = [_rows(row.params, beside, most=room) if width >= _NARROW else [] for row in shown]
    each = max([1, *map(len, told)])
    if len(shown) < len(rows) or each * max(slots, len(shown)) > room:
        each, told = 1, [[" ".join(lines)] for lines in told]
    lines = [line for head, lines in zip(heads, told, strict=True) for line in _beside(head, lines)]
    if len(shown) < len(rows):
        lines.append(Text(f"... and {len(rows) - len(shown)} more", "bright_black"))
    lines += [Text()] * (min(slots * each, room) - len(lines))
    return [Text(), Text(f"{'running':{_LABEL}}{'epoch':{bar + 2 * digits + 2}}{'avg.mAP':>9}", "bold"), *lines]


def _head(row: Row, width: int, bar: int, digits: int, node: int, ascii_only: bool) -> Text:
    """A running trial but for its settings; as wide as every other."""
    value = "-" if row.value is None else f"{row.value:.2f}"
    text = Text(f"{'base' if row.base else row.number:>{_LABEL - 2}}  ")
    text.append_text(_bar(row.epoch / row.epochs if row.epochs else 0.0, bar, ascii_only))
    text.append(f" {row.epoch:{digits}}/{row.epochs:<{digits}}{value:>9}")
    if width >= _WIDE:
        text.append(f"  {clock(row.seconds):>7}  {clean(row.node)[:node]:{node}}", "bright_black")
    return text


def _beside(head: Text, lines: Sequence[str]) -> list[Text]:
    """Rows of settings, the first beside what they belong to, the others below the first."""
    blank = " " * head.cell_len
    begins = [head, *(Text(blank) for _ in lines[1:])]
    told = [*(f"  {line}" for line in lines), ""][: len(begins)]
    return [begin.append(line, "bright_black") for begin, line in zip(begins, told, strict=True)]
