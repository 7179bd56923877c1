"""A finished grid as a table: lines and columns of means over seeds, beside published figures; Markdown and CSV."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from haan.config import Config
from haan.detectors.runs import RunsDetect
from haan.errors import InputError
from haan.files import whole
from search.results import provenance
from search.results.folder import RunFolder
from search.results.ranking import Paired, paired
from search.space.model import (
    Space,
    epochs_of,
    grid_points,
    in_words,
    listed_keys,
    of_several_methods,
    row_of,
    with_values,
)
from search.space.studies import scores_of
from search.space.tableform import Figure, Published, Table
from search.study import record

AVERAGE = "avg.mAP"  # the key of its column; others' are a tIoU, or a value of table.across


@dataclass(frozen=True)
class Line:
    """One line of ours. cells: by column, the figure in percent of each seed. wanted: how many seeds there are."""

    name: str
    cells: Mapping[Any, Mapping[int, float]]
    wanted: int

    def mean(self, column: Any) -> Figure | None:
        """Mean and standard deviation over the seeds; None before there is one."""
        values = list(self.cells.get(column, {}).values())
        return (mean(values), stdev(values) if len(values) > 1 else None) if values else None


@dataclass(frozen=True)
class Tabulated:
    """All that is printed. columns: their keys in order. paired: by line, of every line but the first."""

    space: Space
    table: Table
    columns: tuple[Any, ...]
    lines: tuple[Line, ...]
    paired: Mapping[str, Paired]
    seeds: tuple[int, ...]
    known: Mapping[str, Any] | None
    fingerprint: str
    states: Mapping[str, int]
    empty: Mapping[str, int]


def tabulate(space: Space, study: optuna.Study, where: str) -> Tabulated:
    """The table of a run. Raises InputError, naming `where`, when its space makes none or nothing is complete."""
    if space.table is None:
        raise InputError(f"{where}: must have the key table:, which says what table this is, got none")
    trials = study.get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not complete:
        raise InputError(f"{where}: must have a COMPLETE trial, got none of {len(trials)}")
    seeds = _values(space, "seed") or (space.base.seed,)
    across = space.table.form.across
    columns = _values(space, across) if across else (*space.base.eval.report, AVERAGE)
    lines = _lines(space, complete, len(seeds))
    states = {state.name: sum(trial.state == state for trial in trials) for state in TrialState}
    return Tabulated(
        space=space,
        table=space.table,
        columns=columns,
        lines=lines,
        paired={} if across else _paired(lines),
        seeds=seeds,
        known=study.user_attrs.get(record.DATA),
        fingerprint=study.user_attrs.get(record.FINGERPRINT, "unknown"),
        states=states | {"points": space.plan.trials},
        empty=_empty(space, complete),
    )


def _values(space: Space, key: str) -> tuple[Any, ...]:
    """The values that a grid lists for a parameter."""
    return tuple(getattr(space.parameters[key], "choices", ())) if key in space.parameters else ()


def _lines(space: Space, trials: Sequence[FrozenTrial], wanted: int) -> tuple[Line, ...]:
    """All of the space, in its order: row by row, and value by value within each; empty while no trial of it ended."""
    cells: dict[str, dict[Any, dict[int, float]]] = {name: {} for name in lines_of(space)}
    for trial in trials:
        name, seed = line_of(space, trial.params), trial.params.get("seed", space.base.seed)
        for column, value in _figures(space, trial):
            cells.setdefault(name, {}).setdefault(column, {})[seed] = value
    return tuple(Line(name, found, wanted) for name, found in cells.items())


def line_of(space: Space, params: Mapping[str, Any]) -> str:
    """The name of a trial's line: its row, and the value of each listed parameter but the seed and `across`."""
    assert space.table is not None
    keys = [key for key in listed_keys(space) if key not in ("seed", space.table.form.across)]
    row = row_of(space, params)
    if row is None and len(keys) == 1:
        return str(params[keys[0]])
    return ", ".join([*([row] if row else []), *(f"{key}={params[key]}" for key in keys)]) or "all"


def lines_of(space: Space) -> list[str]:
    """Every line of its table, in the order of the space."""
    return list(dict.fromkeys(line_of(space, point) for point in grid_points(space)))


def _figures(space: Space, trial: FrozenTrial) -> Iterator[tuple[Any, float]]:
    """(column, percent) of one trial, of its epoch that counts and its best detection setting."""
    assert space.table is not None
    form, scores = space.table.form, scores_of(space, trial)
    if scores.avg_map is None or not scores.by_tiou:
        return
    if form.across is not None and form.map_at is not None:
        yield trial.params[form.across], scores.by_tiou[form.map_at]
        return
    for tiou in space.base.eval.report:
        yield tiou, scores.by_tiou[tiou]
    yield AVERAGE, scores.avg_map


def _paired(lines: Sequence[Line]) -> dict[str, Paired]:
    """Against the space's own first line: while that has no figure, against none."""
    first = lines[0].cells.get(AVERAGE, {})
    found = {line.name: paired(line.cells.get(AVERAGE, {}), first) for line in lines[1:]}
    return {name: one for name, one in found.items() if one is not None}


def _empty(space: Space, trials: Sequence[FrozenTrial]) -> dict[str, int]:
    """By line and column, the most clusters that held no clip in an epoch; where there were any."""
    found: dict[str, int] = {}
    across = space.table.form.across if space.table else None
    for trial in trials:
        name = line_of(space, trial.params) + (f", {across}={trial.params[across]}" if across else "")
        count = record.TrialRecord.of(trial).empty_clusters
        if count:
            found[name] = max(found.get(name, 0), count)
    return found


def markdown(made: Tabulated) -> str:
    """The whole table and what has to be said of it."""
    paragraphs = [line for note in notes(made) for line in (note, "")][:-1]
    table = grid(cells(made), num_names(made))
    return "\n".join([f"# {made.table.form.title}", "", *table, "", *paragraphs]) + "\n"


def title(made: Tabulated) -> str:
    """Of a terminal: with our method and what it is told of the training videos, where no column says so."""
    own = made.table.form.title
    return own if of_several_methods(made.space) else f"{own} (ours: {in_words(made.space)})"


def grid(rows: Sequence[Sequence[str]], names: int) -> list[str]:
    """Lines of a Markdown table, whose first row is the head and whose first so many columns are names."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(f"{cell:{w}}" for cell, w in zip(row, widths, strict=True)) + " |" for row in rows]
    rule = "|" + "|".join("-" * (w + 1) + ("-" if i < names else ":") for i, w in enumerate(widths)) + "|"  # right
    return [lines[0], rule, *lines[1:]]


def cells(made: Tabulated) -> list[list[str]]:
    """The table's cells, the head first; `num_names` columns of names, the rest figures."""
    form, published = made.table.form, made.table.published
    paired, several = bool(made.paired), of_several_methods(made.space)

    def row(name: str, source: str, labels: str, figures: Sequence[str], against: str) -> list[str]:
        return [name, source, *[labels] * several, *figures, *[against] * paired]

    rows = [row(form.lines, "", "labels", [_column(made, key) for key in made.columns], "against the first")]
    for name, figures in published.others.items() if published else ():
        rows.append(row(name, _source(published), "", _published_cells(made, published, figures), ""))
    for line in made.lines:
        ours = [_ours(line, key) for key in made.columns]
        rows.append(row(line.name, our_name(made), _labels(made, line), ours, _against(made, line)))
        figures = published.lines.get(line.name) if published else None
        if figures is not None:
            theirs = _published_cells(made, published, figures)
            rows.append(row("", _source(published), "", theirs, _published_against(made, line)))
    return rows


def num_names(made: Tabulated) -> int:
    """How many columns of names it has."""
    return 3 if of_several_methods(made.space) else 2


def _labels(made: Tabulated, line: Line) -> str:
    """What a line's method is told of the training videos: their classes alone (weak), or segments as well (full)."""
    return _config(made, line).supervision


def _config(made: Tabulated, line: Line) -> Config:
    point = next(point for point in grid_points(made.space) if line_of(made.space, point) == line.name)
    return with_values(made.space.base, point)


def our_name(made: Tabulated) -> str:
    """What our figures are called: `ours` alone where they are of the data that the table is of."""
    dataset = made.table.form.dataset
    if made.known is None:
        return "ours"
    if made.known["planted"] is not None:
        return "ours, PLANTED"
    if dataset is None or provenance.is_published(made.known, dataset):
        return "ours"
    return f"ours on {provenance.name(made.known, dataset)}"


def _source(published: Published | None) -> str:
    return published.source.source if published else ""


def _column(made: Tabulated, key: Any) -> str:
    across = made.table.form.across
    if across is not None:
        return f"{across.rpartition('.')[2]}={key}"
    return key if key == AVERAGE else f"mAP@{key:g}"


def _published_keys(made: Tabulated, published: Published) -> list[Any]:
    """What column each published figure is of. avg.mAP only compares where it is over the same thresholds."""
    keys: list[Any] = list(published.source.columns)
    if made.table.form.across is not None:
        return keys
    return [*keys, AVERAGE if published.source.tiou == made.space.base.eval.tiou else None]


def _published_figures(
    made: Tabulated, published: Published | None, figures: Sequence[Figure | None] | None
) -> dict[Any, Figure]:
    if published is None or not figures:
        return {}
    pairs = zip(_published_keys(made, published), figures, strict=True)
    return {key: figure for key, figure in pairs if key is not None and figure is not None}


def _published_cells(
    made: Tabulated, published: Published | None, figures: Sequence[Figure | None] | None
) -> list[str]:
    known = _published_figures(made, published, figures)
    return [_shown(known.get(key)) for key in made.columns]


def _shown(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    return f"{figure[0]:.2f}" + (f" ± {figure[1]:.2f}" if figure[1] is not None else "")


def _ours(line: Line, key: Any) -> str:
    count = len(line.cells.get(key, {}))
    return _shown(line.mean(key)) + (f" ({count} of {line.wanted})" if 0 < count < line.wanted else "")


def _against(made: Tabulated, line: Line) -> str:
    one = made.paired.get(line.name)
    if one is None:
        return ""
    between = f" [{one.mean - one.half:+.2f}, {one.mean + one.half:+.2f}]" if one.half is not None else ""
    return f"{one.mean:+.2f}{between}"


def _published_against(made: Tabulated, line: Line) -> str:
    published = made.table.published
    assert published is not None
    first, here = (
        _published_figures(made, published, published.lines.get(name)).get(AVERAGE)
        for name in (made.lines[0].name, line.name)
    )
    return f"{here[0] - first[0]:+.2f}" if first and here and line is not made.lines[0] else ""


def _epochs(space: Space) -> str:
    """How many epochs a trial has, and those of rows that have others."""
    usual = space.base.optim.epochs
    others = {name: epochs_of(space, row) for name, row in space.rows.items()}
    listed = ", ".join(f"{name}: {epochs}" for name, epochs in others.items() if epochs != usual)
    return f"{usual} ({listed})" if listed else str(usual)


def notes(made: Tabulated) -> list[str]:
    """What a reader has to know, in paragraphs."""
    space, base = made.space, made.space.base
    swept = len(space.detects) > 1
    own = f"alpha {base.detect.alpha:g}" if isinstance(base.detect, RunsDetect) else "the base's detection setting"
    setting = f"the best of {len(space.detects)} detection settings" if swept else own
    for method, detects in space.other_detects.items():
        setting += f" ({method}: of {len(detects)})"
    one_in = f" of one in {base.eval.every}" if base.eval.every > 1 else ""
    epoch = f"the epoch{one_in} of the best" if space.plan.epoch == "best" else "the last epoch, its"
    seeds = ", ".join(map(str, made.seeds))
    many = len(made.seeds) > 1
    spread = f"mean ± standard deviation over {len(made.seeds)} seeds ({seeds})" if many else f"seed {seeds}"
    tiou = base.eval.tiou
    cell = f"mAP@{made.table.form.map_at:g}" if made.table.form.across else "mAP"
    said = [
        f"Ours: {cell} in percent, {spread}, each of {epoch} avg.mAP (tIoU {tiou[0]:g} to {tiou[-1]:g}) of "
        f"{_epochs(space)}, at {setting}."
    ]
    if made.paired:
        said.append(
            "Against the first line: difference of avg.mAP, paired by seed, with a 95 % interval (Student's t), which "
            "is not adjusted for the number of lines."
        )
    said += provenance.sentences(made.known, made.fingerprint, made.table.form.dataset)
    points, complete = made.states["points"], made.states["COMPLETE"]
    if complete < points:
        failed = f", {made.states['FAIL']} failed" if made.states["FAIL"] else ""
        said.append(f"NOT WHOLE: {complete} of {points} trials are complete{failed}.")
    published, ours = made.table.published, lines_of(space)
    others = [name for name in published.lines if name not in ours] if published else []
    if others:
        said.append(f"Published figures without a line of ours, and so not shown: {', '.join(others)}.")
    if made.empty:
        shown = "; ".join(f"{name}: up to {count}" for name, count in made.empty.items())
        said.append(f"Clusters that held no clip in some epoch: {shown}.")
    return said


def rows(made: Tabulated) -> list[dict[str, Any]]:
    """A row a line and column; each names its data, for it may be read alone."""
    data = our_name(made) if made.known is None else provenance.name(made.known, made.table.form.dataset)
    published = made.table.published
    found = []
    for line in made.lines:
        config = _config(made, line)
        known = _published_figures(made, published, published.lines.get(line.name) if published else None)
        for key in made.columns:
            ours, theirs = line.mean(key), known.get(key)
            cells = line.cells.get(key, {})
            found.append(
                {
                    "line": line.name,
                    "column": _column(made, key),
                    "mean": ours[0] if ours else None,
                    "sd": ours[1] if ours else None,
                    "seeds": len(cells),
                    "by_seed": " ".join(f"{seed}:{value!r}" for seed, value in sorted(cells.items())),
                    "data": data,
                    "planted": bool(made.known and made.known["planted"] is not None),
                    "published": theirs[0] if theirs else None,
                    "published_sd": theirs[1] if theirs else None,
                    "published_by": _source(published) if theirs else None,
                    "method": config.method,
                    "supervision": config.supervision,
                }
            )
    return found


def write_table(folder: RunFolder, space: Space, study: optuna.Study) -> Tabulated:
    """Writes table.md and table.csv of a run, from what it left. Raises InputError."""
    made = tabulate(space, study, str(folder.space_yaml))
    with whole(folder.table_md) as partial:
        partial.write_text(markdown(made), encoding="utf-8")
    with whole(folder.table_csv) as partial:
        pd.DataFrame(rows(made)).to_csv(partial, index=False)
    return made
