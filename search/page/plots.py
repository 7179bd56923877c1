"""The report's plots: findings -> plotly figures as plain dictionaries, which report.js colours and draws.

Every text that comes from outside is escaped, for plotly reads tags in its texts. A function returns None where there
is nothing to draw.
"""

import html
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from haan.words import duration, per_cent, shown
from search.page.facts import Findings, curve, value_of
from search.page.lanes import Stretch, Timeline
from search.results.confirm import Confirmed
from search.results.retraining import named as named_trial
from search.results.winner import own_setting_avg_map

Figure = dict[str, Any]

COLORS = {
    "COMPLETE": "#2f86c9",
    "PRUNED": "#9097a1",
    "FAIL": "#d4483b",
    "RUNNING": "#8a63d2",
    "WAITING": "#b0b6be",
    "base": "#e08a00",
    "winner": "#0a9b6c",
}
ON_COLOR = "#000000"  # of text on any of them: white is too faint on the grey
MANY = 300  # trials; above this only some curves are drawn
_CURVES_BEST, _CURVES_SAMPLE = 50, 100
_AVG_MAP = "avg.mAP (%)"
_ROW = 66  # pixels of one parameter in the parallel coordinates


def escaped(value: object) -> str:
    """A value as text that neither a page nor plotly takes for markup."""
    return html.escape(value if isinstance(value, str) else shown(value))


def history(run: Findings) -> Figure | None:
    """avg.mAP of every trial, the best so far, and the base."""
    scored = [(trial, value) for trial in run.trials if (value := run.reached(trial)) is not None]
    if not scored:
        return None
    data = [_dots(run, scored, state) for state in ("PRUNED", "FAIL", "RUNNING", "COMPLETE")]
    data += [_best_so_far(run), *_base_lines(run), *_stars(run, lambda trial: trial.number)]
    return _figure([trace for trace in data if trace], 360, "trial", _AVG_MAP)


def curves(run: Findings) -> tuple[Figure, int, int] | None:
    """avg.mAP after each epoch; how many trials are drawn, and how many have a curve."""
    known = [trial for trial in run.trials if curve(trial)]
    if not known:
        return None
    chosen = _some(run, known)
    special = {trial.number for trial in run.shown}
    data: list[Figure] = []
    for state, opacity in (("PRUNED", 0.6), ("FAIL", 0.7), ("COMPLETE", 0.75), ("RUNNING", 0.9)):
        trials = [trial for trial in chosen if trial.state.name == state and trial.number not in special]
        if trials:
            data += [_lines(trials, state, opacity), *([_ends(trials, state)] if state != "COMPLETE" else [])]
    for trial in reversed(run.shown):
        name, color = _role(run, trial)
        points = curve(trial)
        data.append(_line(name, [x for x, _ in points], [y for _, y in points], color, width=3.5))
    return _figure(data, 380, "epoch", _AVG_MAP, xaxis={"rangemode": "tozero"}), len(chosen), len(known)


def importances(run: Findings) -> Figure | None:
    """One bar a parameter."""
    if isinstance(run.importances, str):
        return None
    rows = list(run.importances.shares.items())[::-1]
    bars: Figure = {
        "type": "bar",
        "orientation": "h",
        "x": [100 * share for _, share in rows],
        "y": [escaped(key) for key, _ in rows],
        "text": [per_cent(share) for _, share in rows],
        "textposition": "outside",
        "cliponaxis": False,
        "hoverinfo": "text",
        "marker": {"color": COLORS["COMPLETE"]},
        "showlegend": False,
    }
    top = max(bars["x"])
    axis = {"range": [0, top * 1.16 or 1], "visible": False}
    return _figure([bars], 40 + 36 * len(rows), "", "", xaxis=axis, yaxis={"ticks": "", "showgrid": False})


def slices(run: Findings) -> list[tuple[str, Figure]]:
    """For each parameter: its key, and avg.mAP against its values."""
    scored = [(trial, value) for trial in run.trials if (value := run.reached(trial)) is not None]
    made = []
    for key, distribution in run.space.parameters.items():
        having = [(trial, value) for trial, value in scored if key in trial.params]
        if having:
            made.append((key, _slice(run, key, distribution, having)))
    return made


def parallel(run: Findings) -> Figure | None:
    """Every COMPLETE trial as a line through its settings, one row a parameter that all of them name."""
    complete = [trial for trial in run.of(TrialState.COMPLETE) if value_of(trial) is not None]
    keys = [key for key in run.space.parameters if all(key in trial.params for trial in complete)]
    if not isinstance(run.importances, str):
        keys.sort(key=lambda key: -run.importances.shares.get(key, 0))  # type: ignore[union-attr]  # tested above
    if len(complete) < 2 or len(keys) < 2:
        return None
    values = [trial.value or 0.0 for trial in complete]
    low, high = min(values), max(values)
    score = FloatDistribution(low, high) if low < high else CategoricalDistribution([low])
    rows = [("avg.mAP", score), *((key, run.space.parameters[key]) for key in keys)]
    special = {trial.number for trial in run.shown}
    plain = [trial for trial in complete if trial.number not in special]
    ranked = sorted(plain, key=lambda trial: (-(trial.value or 0.0), trial.number))
    top = math.ceil(len(complete) / 10)
    groups = [
        ("other completed trials", "PRUNED", ranked[top:], max(0.12, min(0.5, 30 / len(complete))), 1),
        (f"the best {top} of the others" if top > 1 else "the best of the others", "COMPLETE", ranked[:top], 0.85, 1.6),
    ]
    data = [_through(name, COLORS[c], trials, rows, o, w) for name, c, trials, o, w in groups if trials]
    for trial in reversed(run.shown):
        name, color = _role(run, trial)
        data.append(_through(name, color, [trial], rows, 1, 3.5))
    return _parallel_axes(data, rows)


def by_tiou(run: Findings) -> Figure | None:
    """mAP against tIoU of the winner and the base; of the official videos too, once there."""
    data = []
    for trial in run.shown:
        by_tiou, (name, color) = run.scores(trial).by_tiou, _role(run, trial)
        if by_tiou:
            data.append(_line(f"{name}, in the search, one seed", [*by_tiou], [*by_tiou.values()], color, markers=True))
    official = [one for one in run.confirmation.official if one.by_tiou]
    for number in dict.fromkeys(one.trial for one in official):
        rows = [one for one in official if one.trial == number]
        trial = next(one for one in run.trials if one.number == number)
        name, color = _role(run, trial) if trial in run.shown else (f"trial {number}", COLORS["COMPLETE"])
        seeds = f"mean of {len(rows)} seeds" if len(rows) > 1 else "one seed"
        name = f"{name}, official videos, {seeds}"
        means = [statistics.fmean(row.by_tiou[tiou] for row in rows) for tiou in rows[0].by_tiou]
        data.append(_line(name, [*rows[0].by_tiou], means, color, markers=True, dash="dash"))
    return _figure(data, 350, "tIoU that a detection must reach", "mAP (%)", yaxis=_FROM_ZERO) if data else None


def along_setting(run: Findings, key: str) -> Figure | None:
    """avg.mAP of the winner and the base against one swept detection setting, with what was chosen."""
    data: list[Figure] = []
    for trial in run.shown:
        points, chosen, (name, color) = run.along(trial, key), run.scores(trial).chosen, _role(run, trial)
        if not points or chosen is None:
            continue
        data.append(_line(name, [x for x, _ in points], [y for _, y in points], color))
        best = getattr(chosen, key)
        top = next(y for x, y in points if x == best)
        data.append(_mark([best], [top], f"{name}: {best:g} chosen in the search", color, "circle", 11))
    if not data:
        return None
    own = getattr(run.space.base.detect, key, None)
    figure = _figure(data, 350, f"detect.{key}", _AVG_MAP, yaxis=_FROM_ZERO)
    if own is not None:  # its method has this setting
        line = {"type": "line", "x0": own, "x1": own, "yref": "paper", "y0": 0, "y1": 1}
        figure["layout"]["shapes"] = [line | {"line": {"color": COLORS["base"], "width": 1.5, "dash": "dot"}}]
    return figure


def timeline(run: Findings, line: Timeline) -> Figure | None:
    """One bar a stretch of a trial, one lane a place for a trial on each node."""
    if not line.stretches:
        return None
    nodes = sorted({stretch.node for stretch in line.stretches})
    lanes = {node: 1 + max(s.lane for s in line.stretches if s.node == node) for node in nodes}
    first, top = {}, 0.0
    for node in nodes:
        first[node] = top
        top += lanes[node] + 0.5
    unit, divisor = _unit(max(stretch.end for stretch in line.stretches))
    data = []
    for name in ("COMPLETE", "PRUNED", "FAIL", "RUNNING", _GIVEN_UP):
        found = [stretch for stretch in line.stretches if _kind(stretch) == name]
        if found:
            data.append(_bars(run, found, name, first, divisor, len(line.stretches) <= MANY))
    middle = [first[node] + (lanes[node] - 1) / 2 for node in nodes]
    pixels = min(max(1400 / top, 5), 28)
    axis = {"tickvals": middle, "ticktext": [escaped(_cut(node, 16)) for node in nodes], "showgrid": False}
    axis |= {"range": [top - 1, -0.7], "zeroline": False}
    whole = {"range": [0, 1.01 * max(stretch.end for stretch in line.stretches) / divisor or 1], "zeroline": False}
    figure = _figure(data, int(70 + pixels * top), unit, "", xaxis=whole, yaxis=axis)
    figure["layout"] |= {"barmode": "overlay", "bargap": 0, "uniformtext": {"minsize": 9, "mode": "hide"}}
    figure["layout"]["shapes"] = [_pause(at / divisor) for at, _ in line.pauses]
    figure["layout"]["annotations"] = [_pause_text(at / divisor, seconds) for at, seconds in line.pauses]
    return figure


def confirmation(run: Findings, rows: Sequence[Confirmed]) -> Figure | None:
    """Mean and 95 % interval of each configuration over its seeds, and each seed."""
    if not rows:
        return None
    winner = run.winner.number if run.winner else None
    colors = [
        COLORS["base"] if row.base else COLORS["winner"] if row.number == winner else COLORS["COMPLETE"] for row in rows
    ]
    spread = [row.half_width or 0.0 for row in rows]
    means = {
        "type": "scatter",
        "mode": "markers",
        "name": "mean and its 95 % interval",
        "x": [row.mean for row in rows],
        "y": list(range(len(rows))),
        "error_x": {"type": "data", "array": spread, "thickness": 2.5, "width": 7, "color": COLORS["PRUNED"]},
        "marker": {"symbol": "diamond", "size": 12, "color": colors},
        "hoverinfo": "text",
        "text": [f"{escaped(confirmed_name(row))}<br>mean {row.mean:.2f}, {len(row.scores)} seeds" for row in rows],
    }
    seeds = {
        "type": "scatter",
        "mode": "markers",
        "name": "one seed",
        "x": [score for row in rows for score in row.scores],
        "y": [i + 0.27 for i, row in enumerate(rows) for _ in row.scores],
        "marker": {
            "symbol": "circle-open",
            "size": 8,
            "color": [c for c, r in zip(colors, rows, strict=True) for _ in r.scores],
        },
        "hoverinfo": "text",
        "text": [f"seed {seed}: {score:.2f}" for r in rows for seed, score in zip(r.seeds, r.scores, strict=True)],
    }
    names = [_in_lines(row) for row in rows]
    axis = {"tickvals": list(range(len(rows))), "ticktext": names, "range": [len(rows) - 0.4, -0.6], "zeroline": False}
    return _figure([means, seeds], 80 + 56 * len(rows), _AVG_MAP, "", yaxis=axis | {"showgrid": False})


def _in_lines(row: Confirmed) -> str:
    """Its name where there is little room."""
    if row.base:
        return f"base<br>at its {'own' if row.setting == 'own' else 'best'} setting"
    won = " and ".join(row.sources)
    won = won if len(won) <= 24 else f"…{won[-23:]}"  # a path's end tells more than its beginning
    return f"trial {row.number}" + (f", winner of<br>{escaped(won)}" if won else "")


def confirmed_name(row: Confirmed) -> str:
    """What a confirmed configuration is called."""
    if not row.base:
        return named_trial(row.number, False, row.sources)
    if row.setting == "own":
        return "base at its own setting"
    return "base at its best setting" + (f", winner of {' and '.join(row.sources)}" if row.sources else "")


def named(figure: Figure) -> list[tuple[Figure, list[int]]]:
    """What a legend lists: a trace that has a name, and the places of all traces that belong to it."""
    data = figure["data"]
    return [
        (trace, [j for j, other in enumerate(data) if other is trace or _same_group(other, trace)])
        for trace in data
        if trace.get("showlegend", True)
    ]


def _same_group(one: Figure, other: Figure) -> bool:
    return one.get("legendgroup") is not None and one.get("legendgroup") == other.get("legendgroup")


def label(figure: Figure) -> str:
    """A figure in one line of plain text, for readers who can't see it."""
    x, y = (figure["layout"][axis].get("title", {}).get("text") for axis in ("xaxis", "yaxis"))
    what = ", ".join(str(trace["name"]) for trace, _ in named(figure))
    return f"Plot of {y} against {x}: {what}" if x and y else f"Plot of {what}" if what else "Plot"


_FROM_ZERO = {"rangemode": "tozero"}
_BUTTONS = 30  # pixels above the data, where plotly's buttons appear
_GIVEN_UP = "taken up again later"


def _figure(data: list[Figure], height: int, x: str, y: str, **axes: dict[str, Any]) -> Figure:
    """Data with the layout that all plots share; the theme's colours are added where it is drawn."""
    layout: dict[str, Any] = {
        "height": height,
        "margin": {"l": 10, "r": 14, "t": _BUTTONS, "b": 10},
        "hovermode": "closest",
        "showlegend": False,  # the page has its own, which wraps on a phone without shrinking the plot
        "xaxis": {"title": {"text": x, "standoff": 8, "font": {"size": 13}}, "automargin": True, "tickangle": 0}
        | axes.get("xaxis", {}),
        "yaxis": {"title": {"text": y, "standoff": 8, "font": {"size": 13}}, "automargin": True}
        | axes.get("yaxis", {}),
    }
    return {"data": data, "layout": layout}


def _role(run: Findings, trial: FrozenTrial) -> tuple[str, str]:
    """What the winner or the base is called, and its colour."""
    if trial is run.base:
        return ("base, the winner" if trial is run.winner else "base"), COLORS["base"]
    return f"winner: trial {trial.number}", COLORS["winner"]


def _line(
    name: str,
    x: Sequence[float],
    y: Sequence[float],
    color: str,
    *,
    width: float = 2.5,
    dash: str = "solid",
    markers: bool = False,
) -> Figure:
    return {
        "type": "scatter",
        "mode": "lines+markers" if markers else "lines",
        "name": name,
        "x": list(x),
        "y": list(y),
        "line": {"color": color, "width": width, "dash": dash},
        "marker": {"size": 7, "color": color},
        "hovertemplate": "%{x:.4g}: %{y:.2f} %",
    }


def _mark(x: Sequence[float], y: Sequence[float], name: str, color: str, symbol: str, size: int) -> Figure:
    marker = {"color": color, "symbol": symbol, "size": size, "line": {"width": 1.5, "color": "#ffffff"}}
    kind: Figure = {"type": "scatter", "mode": "markers", "name": name, "marker": marker}
    return kind | {"x": list(x), "y": list(y), "hovertemplate": "%{x:.4g}: %{y:.2f} %"}


def _about(run: Findings, trial: FrozenTrial) -> str:
    """Hover text of a trial."""
    value, known = run.reached(trial), run.record(trial).epochs
    score = "no score" if value is None else f"avg.mAP {value:.2f}"
    epochs = f", {known} epochs" if known is not None else ""
    base = " (base)" if run.is_base(trial) else ""
    head = f"<b>trial {trial.number}</b>{base} {trial.state.name}<br>{score}{epochs}"
    rows = [f"{escaped(key)} = {escaped(value)}" for key, value in trial.params.items()]
    return "<br>".join([head, *rows])


def _dots(run: Findings, scored: list[tuple[FrozenTrial, float]], state: str) -> Figure | None:
    """The trials of one state, by number."""
    special = {trial.number for trial in run.shown}
    found = [(trial, value) for trial, value in scored if trial.state.name == state and trial.number not in special]
    if not found:
        return None
    return {
        "type": "scatter",
        "mode": "markers",
        "name": _STATE_NAMES[state],
        "x": [trial.number for trial, _ in found],
        "y": [value for _, value in found],
        "marker": _MARKERS[state] | {"color": COLORS[state]} | ({"size": 4} if len(scored) > MANY else {}),
        "text": [_about(run, trial) for trial, _ in found],
        "hoverinfo": "text",
    }


_STATE_NAMES = {
    "COMPLETE": "completed",
    "PRUNED": "pruned, at its best so far",
    "FAIL": "failed, at its best so far",
    "RUNNING": "not ended",
}
_MARKERS = {
    "COMPLETE": {"symbol": "circle", "size": 8},
    "PRUNED": {"symbol": "x-thin-open", "size": 7, "opacity": 0.8, "line": {"width": 1.5}},
    "FAIL": {"symbol": "triangle-down", "size": 9},
    "RUNNING": {"symbol": "square-open", "size": 8},
}


def _best_so_far(run: Findings) -> Figure | None:
    best, x, y = -math.inf, [], []
    for trial in run.of(TrialState.COMPLETE):
        value = value_of(trial)
        if value is not None and value > best:
            best = value
            x.append(trial.number)
            y.append(best)
    if not x:
        return None
    line = _line("best so far", [*x, run.trials[-1].number], [*y, y[-1]], COLORS["winner"], width=2)
    line["line"]["shape"] = "hv"
    return line


def _base_lines(run: Findings) -> list[Figure]:
    """The base across the whole plot, at its own and at its best detection setting."""
    if run.base is None:
        return []
    own, best = own_setting_avg_map(run.space, run.base), value_of(run.base)
    ends = [0, max(run.trials[-1].number, 1)]
    lines = [(own, "base at its own detection setting", "dot"), (best, "base at its best detection setting", "dash")]
    if own == best:
        lines = [(best, "base", "dash")]
    return [
        _line(name, ends, [value, value], COLORS["base"], width=2, dash=dash) for value, name, dash in lines if value
    ]


def _stars(run: Findings, x: Callable[[FrozenTrial], float]) -> list[Figure]:
    """The base and the winner, marked."""
    made = []
    for trial in reversed(run.shown):
        name, color = _role(run, trial)
        mark = _mark([x(trial)], [trial.value or 0.0], name, color, "diamond" if trial is run.base else "star", 14)
        del mark["hovertemplate"]
        made.append(mark | {"text": [_about(run, trial)], "hoverinfo": "text"})
    return made


def _some(run: Findings, known: list[FrozenTrial]) -> list[FrozenTrial]:
    """All trials; of many the best, the base, those not ended, and some of the others, evenly spread."""
    if len(known) <= MANY:
        return known
    ranked = sorted(known, key=lambda trial: (-(run.reached(trial) or 0.0), trial.number))
    keep = {trial.number for trial in (*ranked[:_CURVES_BEST], *run.shown)}
    keep |= {trial.number for trial in known if trial.state == TrialState.RUNNING}
    others = [trial for trial in known if trial.number not in keep]
    keep |= {others[i * len(others) // _CURVES_SAMPLE].number for i in range(min(_CURVES_SAMPLE, len(others)))}
    return [trial for trial in known if trial.number in keep]


def _lines(trials: Iterable[FrozenTrial], state: str, opacity: float) -> Figure:
    """Many curves in one trace, with gaps between them: thousands stay quick."""
    x: list[float | None] = []
    y: list[float | None] = []
    text: list[str] = []
    for trial in trials:
        points = [*curve(trial), (None, None)]
        x += [epoch for epoch, _ in points]
        y += [value for _, value in points]
        text += [f"trial {trial.number}"] * len(points)
    name = {"COMPLETE": "completed", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "not ended"}[state]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "legendgroup": state,
        "x": x,
        "y": y,
        "text": text,
        "line": {"color": COLORS[state], "width": 1.3},
        "opacity": opacity,
        "hovertemplate": "%{text}, epoch %{x}: %{y:.2f}",
    }


def _ends(trials: Sequence[FrozenTrial], state: str) -> Figure:
    """A mark where each curve stops."""
    last = [curve(trial)[-1] for trial in trials]
    return {
        "type": "scatter",
        "mode": "markers",
        "legendgroup": state,
        "showlegend": False,
        "x": [epoch for epoch, _ in last],
        "y": [value for _, value in last],
        "text": [f"trial {trial.number} {state}" for trial in trials],
        "marker": _MARKERS[state] | {"color": COLORS[state], "size": 6},
        "hovertemplate": "%{text}, epoch %{x}: %{y:.2f}",
    }


def _slice(run: Findings, key: str, distribution: BaseDistribution, having: list[tuple[FrozenTrial, float]]) -> Figure:
    """One parameter."""
    special = {trial.number for trial in run.shown}
    data: list[Figure] = []
    for state in ("PRUNED", "COMPLETE"):
        found = [(t, value) for t, value in having if t.state.name == state and t.number not in special]
        if found:
            dots = _dots(run, found, state) or {}
            dots["x"] = [_place(distribution, trial.params[key], trial.number) for trial, _ in found]
            dots["text"] = [f"trial {t.number}: {value:.2f}<br>{escaped(t.params[key])}" for t, value in found]
            data.append(dots)
    marked = _stars(run, lambda trial: _place(distribution, trial.params.get(key), None))
    figure = _figure([*data, *marked], 235, "", "", xaxis=_axis(distribution))
    figure["layout"] |= {"margin": {"l": 8, "r": 12, "t": _BUTTONS, "b": 8}}
    return figure


def _place(distribution: BaseDistribution, value: Any, number: int | None) -> Any:
    """Where a value lies on its axis; choices lie side by side, the trials of one choice a little apart."""
    if not isinstance(distribution, CategoricalDistribution):
        return value
    if value not in distribution.choices:
        return None
    apart = 0.0 if number is None else ((number * 0.618034) % 1 - 0.5) * 0.5
    return distribution.choices.index(value) + apart


def _axis(distribution: BaseDistribution) -> dict[str, Any]:
    if isinstance(distribution, CategoricalDistribution):
        names = [escaped(_cut(shown(choice), 18)) for choice in distribution.choices]
        count = len(names)
        return {"tickvals": list(range(count)), "ticktext": names, "range": [-0.5, count - 0.5], "showgrid": False}
    if isinstance(distribution, FloatDistribution | IntDistribution):
        if distribution.log:
            ticks = log_ticks(distribution.low, distribution.high)
            return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
        return {"nticks": 6}
    return {}


def log_ticks(low: float, high: float) -> list[float]:
    """At most seven round values between two bounds: 1, 2, 5 of each decade, else the decades, else some of these."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1,)):
        ticks = [digit * 10.0**decade for decade in decades for digit in digits]
        ticks = [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
        if len(ticks) <= 7:
            return ticks
    return ticks[:: math.ceil(len(ticks) / 7)]


def _share(distribution: BaseDistribution, value: Any) -> float | None:
    """Where a value lies between the ends of its range, 0 to 1."""
    if isinstance(distribution, CategoricalDistribution):
        if value not in distribution.choices:
            return None
        last = len(distribution.choices) - 1
        return distribution.choices.index(value) / last if last else 0.5
    if isinstance(distribution, FloatDistribution | IntDistribution) and distribution.low < distribution.high:
        scale = math.log if distribution.log else float
        low, high = scale(distribution.low), scale(distribution.high)
        return (scale(value) - low) / (high - low)
    return 0.5


def _through(
    name: str,
    color: str,
    trials: Sequence[FrozenTrial],
    rows: Sequence[tuple[str, BaseDistribution]],
    opacity: float,
    width: float,
) -> Figure:
    """Lines of trials through the rows of the parallel coordinates."""
    x: list[float | None] = []
    y: list[float | None] = []
    text: list[str] = []
    for trial in trials:
        for row, (key, distribution) in enumerate(rows):
            value = trial.value if row == 0 else trial.params[key]
            x.append(_share(distribution, value))
            y.append(row)
            text.append(f"trial {trial.number}<br>{escaped(key)} = {escaped(value)}")
        x.append(None)
        y.append(None)
        text.append("")
    line = {"color": color, "width": width}
    kind: Figure = {"type": "scatter", "mode": "lines", "name": name, "opacity": opacity, "line": line}
    return kind | {"x": x, "y": y, "text": text, "hoverinfo": "text"}


def _parallel_axes(data: list[Figure], rows: Sequence[tuple[str, BaseDistribution]]) -> Figure:
    """Lines of the rows; names and ends stand beside them, where no line of a trial passes."""
    height = _ROW * len(rows) + 20
    figure = _figure(data, height, "", "")
    still: Figure = {"fixedrange": True, "zeroline": False, "showgrid": False}
    (value, score), *settings = rows
    texts = [f"{value}<br>{_row_ends(score)}", *(_row_name(key, one) for key, one in settings)]
    names = {"tickvals": list(range(len(rows))), "ticktext": texts}
    names |= {"automargin": True, "ticks": "", "showline": False, "range": [len(rows) - 0.5, -0.3]}
    figure["layout"] |= {
        "xaxis": still | {"visible": False, "range": [-0.02, 1.02]},
        "yaxis": still | names,
        "shapes": [
            {"type": "line", "x0": 0, "x1": 1, "y0": i, "y1": i, "line": {"color": COLORS["PRUNED"], "width": 1}}
            for i in range(len(rows))
        ],
    }
    return figure


def _row_name(key: str, distribution: BaseDistribution) -> str:
    """Beside its row, its section and its ends on lines of their own: a phone is narrow."""
    log = " (log)" if getattr(distribution, "log", False) else ""
    section, dot, name = key.rpartition(".")
    return f"{escaped(section + dot)}{'<br>' * bool(dot)}{escaped(name)}{log}<br>{escaped(_row_ends(distribution))}"


def _row_ends(distribution: BaseDistribution) -> str:
    """The values along a row from left to right, in words."""
    if isinstance(distribution, CategoricalDistribution):
        return _cut(" | ".join(_cut(shown(choice), 14) for choice in distribution.choices), 24)
    low, high = (shown(getattr(distribution, end, "")) for end in ("low", "high"))
    return f"{low} to {high}"


def _kind(stretch: Stretch) -> str:
    return _GIVEN_UP if stretch.given_up else stretch.trial.state.name


def _bars(run: Findings, found: list[Stretch], name: str, first: dict[str, float], divisor: float, few: bool) -> Figure:
    """The stretches of one kind."""
    color = COLORS.get(name, "#c9a3a0")
    bars: Figure = {
        "type": "bar",
        "orientation": "h",
        "name": name.lower(),
        "base": [stretch.start / divisor for stretch in found],
        "x": [(stretch.end - stretch.start) / divisor for stretch in found],
        "y": [first[stretch.node] + stretch.lane for stretch in found],
        "width": 0.84,
        "marker": {"color": color, "line": {"width": 1 if few else 0}},  # many bars are thinner than their edge
        "hovertext": [
            f"{_about(run, s.trial)}<br>{duration(s.seconds)} on {escaped(s.node)}{', no end known' if s.open else ''}"
            for s in found
        ],
        "hoverinfo": "text",
    }
    if name == _GIVEN_UP:
        bars["marker"]["pattern"] = {"shape": "/", "size": 5, "solidity": 0.35}
    elif few:
        inside = {"textposition": "inside", "insidetextanchor": "middle", "textangle": 0}
        bars |= {"text": [str(s.trial.number) for s in found], "insidetextfont": {"color": ON_COLOR}} | inside
    return bars


def _unit(seconds: float) -> tuple[str, float]:
    units = (("seconds", 1.0, 120), ("minutes", 60.0, 120 * 60), ("hours", 3600.0, 72 * 3600))
    return next(((name, divisor) for name, divisor, below in units if seconds < below), ("days", 86400.0))


def _pause(at: float) -> dict[str, Any]:
    line = {"color": COLORS["PRUNED"], "width": 1.5, "dash": "dot"}
    return {"type": "line", "x0": at, "x1": at, "yref": "paper", "y0": 0, "y1": 1, "line": line}


def _pause_text(at: float, seconds: float) -> dict[str, Any]:
    place = {"x": at, "yref": "paper", "y": 1, "yanchor": "bottom", "showarrow": False, "font": {"size": 11}}
    return place | {"text": f"nothing ran for {duration(seconds)}"}


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
