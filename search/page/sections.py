"""The sections of the report, top to bottom."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from haan.config import Holdout
from haan.words import duration, hours, per_cent, shown
from search.page import markup, plots
from search.page.facts import LEAST_FOR_IMPORTANCES, Findings, Importances, value_of
from search.page.lanes import Timeline
from search.page.markup import cell, percent, tile
from search.page.plots import COLORS, Figure, escaped
from search.results.beside import Beside, beside
from search.results.confirm import Confirmed
from search.results.ranking import Standing, in_short
from search.results.retraining import HOLDOUT, OFFICIAL, VALIDATION, first_seeds, on_videos
from search.results.unseen import tables
from search.results.winner import all_alike, detect_of, differences, no_choice, own_setting_avg_map
from search.space.edges import edge_warnings
from search.space.model import grid_points, in_words
from search.study import record

_NOTHING_SCORED = "No trial has a scored epoch yet."


@dataclass
class Sheet:
    """A page under way: the findings, and the figures that its sections have used."""

    found: Findings
    line: Timeline
    figures: dict[str, Figure] = field(default_factory=dict)

    def plot(self, name: str, figure: Figure, label: str) -> str:
        """The place where a figure is drawn."""
        self.figures[name] = figure
        return markup.plot(name, figure, label)

    def figure(self, name: str, figure: Figure | None, caption: str, otherwise: str) -> str:
        """A figure below its caption, or the sentence that says why there is none. caption and otherwise are HTML."""
        if figure is None:
            return markup.empty(otherwise)
        plot = self.plot(name, figure, plots.label(figure))
        return f"<figure><figcaption>{caption}</figcaption>{plot}{markup.legend(name, figure)}</figure>"


def _summary(sheet: Sheet) -> str:
    found = sheet.found
    scores = [*_official_tiles(found), *_confirmed_tiles(found)]
    tiles = [*scores, _best_tile(found, main=not scores), _base_tile(found)]
    tiles += [_searched_gain_tile(found)] if found.gain is None or not found.gain.over_seeds else []
    tiles += _cost_tiles(found)
    parts = (_official_warning(found), _no_choice(found), f'<div class="tiles">{"".join(tiles)}</div>', _apart(found))
    return f"{''.join(parts)}{_edges(found)}{_tuned_on(found)}"


def _official_tiles(found: Findings) -> list[str]:
    """What the official validation videos say of the winner and its gain, where they chose nothing."""
    official, best = found.unseen, found.winner
    if best is None or official is None:
        return []
    spread = f", {_spread(official.winner, 'seed')}" if len(official.winner.scores) > 1 else ""
    of = [f"which chose nothing; {_called(found, best)}, trained on all training videos and scored once{spread}"]
    if official.base is not None:
        own = official.own.mean if official.own is not None else None
        of.append(f"the base <b>{percent(official.base.mean)}</b> {_at_settings(own)}")
    tiles = [tile("avg.mAP on the official videos", percent(official.winner.mean), "; ".join(of), "main")]
    return tiles + [_gain_tile("Gain over the base on the official videos", official.gain)] * (
        official.gain is not None
    )


def _gain_tile(name: str, standing: Standing | None, most: int | None = None) -> str:
    """A gain over the base, with its interval, and in words and by its colour what that says. most: seeds of a race."""
    if standing is None or standing.gain is None:
        return tile(name, "–", "not known without the base")
    if standing.interval is None:
        return tile(name, f"{standing.gain:+.2f}", "of one seed: no spread is known")
    low, high = standing.interval
    kind = "noise" if not standing.distinguishable else "gain" if low > 0 else "loss"
    said = {"noise": "not distinguishable from noise", "gain": "more than noise", "loss": "a loss, more than noise"}
    note = f"<b>{said[kind]}</b>: 95 % interval {low:+.2f} to {high:+.2f}, {standing.shared} seeds of both"
    note += f", in a race of up to {most}" if most is not None else ""
    return tile(name, f"{standing.gain:+.2f}", note, kind)


def _best_tile(found: Findings, main: bool) -> str:
    """What the search says of the winner. main: nothing else is known of it."""
    winner = found.winner
    if winner is None:
        return tile("Best avg.mAP", "–", "no trial has completed yet", "main")
    epoch = found.record(winner).best_epoch
    note = _called(found, winner) + (f", at epoch {escaped(epoch)} of {found.epochs(winner)}" if epoch else "")
    top = found.highest
    if top is not None and top is not winner:
        score = f"{percent(value_of(top))} of trial {top.number}"
        note += f"; it won by its confirmed mean, the highest of one seed was {score}"
    return tile(
        "avg.mAP in the search, which chose by it", percent(value_of(winner)), note, "main" if main else "doubtful"
    )


def _called(found: Findings, trial: FrozenTrial) -> str:
    return "the base itself" if trial is found.base else f"trial {trial.number}"


def _base_tile(found: Findings) -> str:
    if found.base is None:
        why = "it has not completed" if any(map(found.is_base, found.trials)) else _left_out(found)
        return tile("Base", "–", why)
    note = _at_settings(own_setting_avg_map(found.space, found.base))
    return tile(f"Base (trial {found.base.number}) in the search", percent(value_of(found.base)), note, "doubtful")


def _at_settings(own: float | None) -> str:
    """Of which detection setting a figure of the base is. own: the figure at its own."""
    return "at its best detection setting" + ("" if own is None else f", <b>{percent(own)}</b> at its own")


def _left_out(found: Findings) -> str:
    return f"{'this grid' if grid_points(found.space) else 'search.start_with'} leaves it out"


def _searched_gain_tile(found: Findings) -> str:
    """What the winner gained in the search, before seeds have confirmed it."""
    name, gain = "Gain over the base in the search", found.gain
    if gain is None or gain.avg_map is None:
        return tile(name, "–", "not known without the base")
    if found.winner is found.base:
        return tile(name, "none", escaped(gain.sentence))
    return tile(name, f"{gain.avg_map:+.3f}", "<b>not confirmed</b>: of one seed" + on_videos(found.space, again=False))


def _confirmed_tiles(found: Findings) -> list[str]:
    """The winner's mean over new seeds, and its gain there."""
    best, known = found.winner, found.confirmation
    rows = [
        row for row in known.confirmed() if best is not None and (row.number, row.setting) == (best.number, "chosen")
    ]
    if best is None or not rows:
        return []
    note = f"{_called(found, best)}, {_spread(rows[0], 'new seed')}{on_videos(found.space)}"
    tiles = [tile("Confirmed avg.mAP", percent(rows[0].mean), note, "" if best.number in known.finals else "main")]
    if known.ranking is None or found.gain is None:
        return tiles
    name = "Confirmed gain over the base"
    if best is found.base:
        return [*tiles, tile(name, "none", escaped(found.gain.sentence))]
    return [*tiles, _gain_tile(name, known.standing(best.number), known.ranking.most)]


def _spread(row: Confirmed, seed: str) -> str:
    count = f"{len(row.scores)} {seed}{'s' if len(row.scores) != 1 else ''}"
    return f"{count}: no spread is known" if row.sd is None else f"± {row.sd:.2f} (sd) over {count}"


def _cost_tiles(found: Findings) -> list[str]:
    counts = Counter(trial.state for trial in found.trials)
    ended = sum(counts[state] for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
    words = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "not ended", "WAITING": "waiting"}
    parts = [f"{counts[TrialState[name]]} {word}" for name, word in words.items() if counts[TrialState[name]]]
    pruned = counts[TrialState.PRUNED]
    share = f"; {per_cent(pruned / ended)} of those that ended were pruned" if pruned else ""
    nodes = _nodes(found)
    where = f", on {nodes} node{'s' if nodes != 1 else ''}" if nodes else ""
    saved = "; pruning saved about " + hours(found.seconds_saved) if pruned else ""
    return [
        tile("Trials", str(len(found.trials)), (", ".join(parts) or "none has begun") + share),
        tile(
            "Time of all trials together",
            hours(int(found.seconds) + int(found.confirmation.seconds)),  # so that its parts add up
            f"{_time_of(found)}{where}{saved}",
        ),
    ]


def _nodes(found: Findings) -> int:
    """On how many trials ended."""
    return len({known.last_node for known in found.records.values() if known.last_node})


def _time_of(found: Findings) -> str:
    """What the time of trials is of."""
    after = found.confirmation.seconds
    if not after:
        return "from start to end of each"
    return f"{hours(found.seconds)} in the search, {hours(after)} of those trained again"


def _no_choice(found: Findings) -> str:
    nothing = no_choice(found.trials)
    return "" if nothing is None else f'<p class="verdict"><b>{escaped(nothing)}</b></p>'


def _official_warning(found: Findings) -> str:
    if isinstance(found.space.base.data.validation, Holdout):
        return ""
    return (
        '<p class="warning" role="note"><b>Tuned on the set it reports on.</b> The settings were chosen on the '
        "official validation videos, so these figures are too good: they do not say what the winner scores on videos "
        "that it was not chosen on.</p>"
    )


def _tuned_on(found: Findings) -> str:
    validation = found.space.base.data.validation
    if isinstance(validation, Holdout):
        share = f"{100 * validation.holdout:g} %"
        text = f"The search is scored on {share} of the training videos, held out."
    else:
        text = "The search is scored on the official validation videos, which also chose the settings."
    tiou = found.space.base.eval.tiou
    return (
        f'<p class="quiet small">{text} avg.mAP is the mean of the mAP at {len(tiou)} tIoU thresholds from '
        f"{tiou[0]:g} to {tiou[-1]:g}, in percent. A trial's value is "
        f"{found.space.plan.valued}, at the detection setting that scored best{_flattered(found)}.</p>"
    )


def _flattered(found: Findings) -> str:
    """By how much a choice of one epoch on these same videos is too good."""
    if found.space.plan.objective != "best":
        return ""
    return (
        "; both are chosen on the same videos, which flatters: by 4 to 6 avg.mAP in runs of 15 epochs that were "
        "recorded for this (<code>python -m tests.benchmarks.objectives</code>)"
    )


def _apart(found: Findings) -> str:
    """The settings in which the winner differs from the base."""
    best = found.winner
    rows = differences(found.space, best, found.base, found.confirmation) if best is not None else []
    if not rows:
        return ""
    return f"<h3>What sets the winner apart</h3>{markup.table(['setting', 'winner', 'base'], rows, 'Settings')}"


def _edges(found: Findings) -> str:
    """What of the winner lies at an end of what was tried; or that nothing made a difference."""
    best = found.winner
    if best is None or found.scores(best).chosen is None:
        return ""
    for text in all_alike(found.trials):
        return f"<p>{escaped(text[:1].upper() + text[1:])}</p>"
    warnings = edge_warnings(found.space, best.params, detect_of(found.space, best, found.confirmation))
    notes = "".join(f"<li>{escaped(text)}</li>" for text in warnings)
    return f'<p>A better setting may lie beyond what was tried:</p><ul class="notes">{notes}</ul>' if notes else ""


def _official(sheet: Sheet) -> str:
    known = sheet.found.confirmation
    if not known.official:
        if not isinstance(sheet.found.space.base.data.validation, Holdout):
            return markup.empty("They chose the settings, so nothing is left that would not flatter.")
        return markup.empty("Neither the winner nor the base has been trained on all training videos yet.")
    base = sheet.found.unseen.gain if sheet.found.unseen is not None else None
    gains = {base.number: base} if base is not None else {}
    over = {row.number: row.official.gain for row in _beside(sheet.found) if row.official is not None}
    return (
        "<p>Trained on all training videos, scored once; neither these videos nor these seeds chose anything, so this "
        "gain is the one to publish. avg.mAP in percent:</p>"
        f"{_confirmed_table(tables(known), gains, 'Official videos', over)}"
    )


def _beside(found: Findings) -> list[Beside]:
    """The winner, what won its sources, and the base."""
    return beside(found.confirmation, found.winner.number) if found.winner is not None else []


def _confirmation(sheet: Sheet) -> str:
    found, known = sheet.found, sheet.found.confirmation
    if all(run.videos == OFFICIAL for run in known.runs):
        return markup.empty(
            "The best trials have not been trained again with other seeds, so a gain may be luck of one seed."
        )
    caption = (
        f"Each configuration trained again with new seeds, scored on {_again_on(found)}. A diamond is the mean, its "
        "bar the 95 % interval of the mean, a circle one seed. A bar looks at one configuration alone; the gain, which "
        f"decides, compares two seed by seed. {_raced(found)}{_read_off(found)}"
    )
    rows, unfinished = known.confirmed(), sum(not run.state.is_finished() for run in known.runs)
    waiting = f'<p class="quiet">{unfinished} runs have not ended.</p>' if unfinished else ""
    plot = sheet.figure("confirmation", plots.confirmation(found, rows), caption, "No run of it has completed yet.")
    gains = {standing.number: standing for standing in (known.ranking.order if known.ranking is not None else ())}
    over = {row.number: row.confirmed.gain for row in _beside(found) if row.confirmed is not None}
    return plot + waiting + _confirmed_table(rows, gains, "Confirmation", over)


def _raced(found: Findings) -> str:
    repeats = found.space.plan.confirm
    if repeats is None or first_seeds(found.space) >= repeats.seeds:
        return ""
    return (
        f"They race, with up to {repeats.seeds} seeds: one that is behind the best runs no more, so means of "
        "fewer seeds are of those that left. "
    )


def _again_on(found: Findings) -> str:
    """The videos of a confirmation."""
    if any(run.videos == VALIDATION for run in found.confirmation.runs):
        return "the official validation videos"
    repeats = found.space.plan.confirm
    if repeats is not None and repeats.holdouts == "redraw":
        return "training videos held out anew for each seed, the same for all configurations"
    return "the search's own validation videos"


def _read_off(found: Findings) -> str:
    """At which epoch its figures are."""
    if found.confirmation.choices:
        setting = {
            "best": "after the epoch",
            "last": "after the last epoch",
            "recent": f"as the mean of their last {record.RECENT} scored epochs",
        }[found.space.plan.objective]
        return (
            f"All seeds of a configuration are scored {setting} and at the detection setting at which their mean is "
            "highest, with which it is exported; they were chosen on these same videos, so the means flatter."
        )
    if found.space.plan.objective == "best":
        return "Each has its best epoch on these same videos, so the means flatter; the seeds alone are new."
    return ""


def _confirmed_table(
    rows: Sequence[Confirmed], gains: Mapping[int, Standing], label: str, over: Mapping[int, Standing | None]
) -> str:
    """gains: over the base at its best setting, as far as known. over: the winner's over each, beside sources."""
    if not rows:
        return ""
    cells = [
        [
            plots.confirmed_name(row),
            *_gain_cells(None if row.base else gains.get(row.number)),
            *([in_short(over.get(row.number) if row.setting == "chosen" else None)] if over else []),
            percent(row.mean),
            "–" if row.sd is None else f"{row.sd:.2f}",
            f"{len(row.scores)} of {row.runs}",
            ", ".join(percent(score) for score in row.scores),
        ]
        for row in rows
    ]
    head = ["configuration", "gain", "95 % interval of the gain", *["winner's gain over it"] * bool(over)]
    return markup.table([*head, "mean", "sd", "seeds", "avg.mAP of each seed"], cells, label)


def _gain_cells(standing: Standing | None) -> tuple[str, str]:
    """A gain over the base, and its interval."""
    if standing is None or standing.gain is None:
        return "–", "–"
    if standing.interval is None:
        return f"{standing.gain:+.2f}", "–"
    low, high = standing.interval
    noise = "" if standing.distinguishable else ": noise"
    return f"{standing.gain:+.2f}", f"{low:+.2f} to {high:+.2f}{noise}"


def _history(sheet: Sheet) -> str:
    caption = (
        "Each mark is one trial, in the order they were begun; the green line is the best completed one so far. Read "
        "off how soon the search passed the base (orange), and whether it was still improving when it ended."
    )
    return sheet.figure("history", plots.history(sheet.found), caption, _NOTHING_SCORED)


def _curves(sheet: Sheet) -> str:
    drawn = plots.curves(sheet.found)
    if drawn is None:
        return markup.empty(_NOTHING_SCORED)
    figure, count, known = drawn
    over = f", the mean of the {record.RECENT} up to it" if sheet.found.space.plan.objective == "recent" else ""
    caption = f"avg.mAP after each epoch{over}. A grey curve ends where the pruner ended the trial."
    if count < known:
        caption += (
            f" Of {known} trials {count} are drawn: the best 50, the base, those not ended, and some of the others, "
            "evenly spread over the search."
        )
    return sheet.figure("curves", figure, caption, "")


def _importances(sheet: Sheet) -> str:
    known = sheet.found.importances
    if isinstance(known, str):
        return markup.empty(f"There is no figure of importances. {escaped(known)}")
    which, left_out = _compared(known)
    caption = (
        f"How much each setting separates the better trials from the others. A long bar: the best {known.top} of the "
        f"{known.trials} {which} have values of this setting that the others mostly don't have. A short "
        "bar: they took about the same values as all."
    )
    note = (
        '<p class="small quiet">The bars add up to 100 %. What they are not: proof that changing a setting alone '
        "changes the score; a statement about values that were not tried; or precise, with "
        f"{known.trials} trials. {left_out}, so a setting whose bad values were pruned early shows shorter than it is. "
        "The method is PED-ANOVA (Watanabe et al., IJCAI 2023), as in Optuna.</p>"
    )
    return sheet.figure("importances", plots.importances(sheet.found), caption, "") + note


def _compared(known: Importances) -> tuple[str, str]:
    """Which trials the importances compare, and which they leave out and why."""
    if known.epoch is None:
        return "completed trials", "Pruned trials are left out, for their scores are of fewer epochs"
    which = f"trials that reached epoch {known.epoch}, by what they scored until then,"
    few = f"Fewer than {LEAST_FOR_IMPORTANCES} trials completed, so pruned ones are compared as well, all at one epoch"
    return which, f"{few}; what a setting does after it is not seen. Trials pruned before it are left out"


def _slices(sheet: Sheet) -> str:
    made = plots.slices(sheet.found)
    if not made:
        return markup.empty(_NOTHING_SCORED if sheet.found.space.parameters else "This space has no parameters.")
    shown = "".join(
        f"<div><h3>{escaped(name)}</h3>{sheet.plot(f'slice-{i}', figure, f'avg.mAP against {name}')}</div>"
        for i, (name, figure) in enumerate(made)
    )
    caption = (
        "avg.mAP in percent against the values of one setting at a time; all other settings differ between the marks, "
        "too. A clear hill or slope is a setting that matters by itself; a winner at an end asks for a wider range."
    )
    head = f"<figcaption>{caption}</figcaption>{markup.key([figure for _, figure in made])}"
    return f'<figure>{head}<div class="slices">{shown}</div></figure>'


def _parallel(sheet: Sheet) -> str:
    caption = (
        "Each line is one completed trial: where it crosses a row is its value there, between the ends that stand "
        "beside the row, from left to right. Blue are the best but for the winner (green) and the base (orange). "
        "Where blue and green pass through one narrow place, good trials agree on that setting."
    )
    otherwise = "It needs two completed trials and two parameters."
    return sheet.figure("parallel", plots.parallel(sheet.found), caption, otherwise)


def _tiou(sheet: Sheet) -> str:
    caption = (
        "mAP against the overlap that a detection and a true action must reach, as their intersection over their union "
        "(tIoU). A gain at the left is better finding, a gain at the right is tighter boundaries; avg.mAP is the mean "
        "of a line's points. In the search a line is of one seed, at the epoch and the setting that were best for it, "
        "which flatters; on the official videos, where there are such lines, it is the mean over new seeds."
    )
    otherwise = "Neither the winner nor the base has scores by tIoU."
    return sheet.figure("tiou", plots.by_tiou(sheet.found), caption, otherwise)


_VIDEOS = {
    OFFICIAL: "the official validation videos, after training on all training videos",
    VALIDATION: "the official validation videos, which also chose the settings",
    HOLDOUT: "the held-out training videos, which also chose the settings",
}
_MOST_CHANGED, _CLASS_FIGURES = 5, ("gain", "winner", "base")  # classes shown of either way; columns in percent


def _classes(sheet: Sheet) -> str:
    found, known = sheet.found, sheet.found.classes
    if isinstance(known, str):
        return markup.empty(
            f"{escaped(known)} <code>python search/export.py RUN</code>, then <code>python search/report.py RUN</code>"
            ", with this run's folder as RUN, bring it up to date where data and checkpoints are there."
        )
    rows: list[dict[str, Any]] = known.rows.sort_values("gain", ascending=False, kind="stable").to_dict("records")
    tiou = found.space.base.eval.tiou
    caption = (
        f"<p>Average precision of each fine class in percent, mean over tIoU {tiou[0]:g} to {tiou[-1]:g} and over "
        f"{known.seeds} seed{'s' * (known.seeds > 1)}, on {_VIDEOS[known.videos]}. A column's mean over the classes "
        f"with ground truth is its avg.mAP{', mean over these seeds' * (known.seeds > 1)}. Of a class with few "
        "instances a figure says little.</p>"
    )
    gained = [row for row in rows if row["gain"] > 0][:_MOST_CHANGED]
    lost = [row for row in reversed(rows) if row["gain"] < 0][:_MOST_CHANGED]
    parts = [
        f"<h3>{title}</h3>{_class_table(some, title)}"
        for title, some in (("Gained most over the base", gained), ("Lost most", lost))
        if some
    ]
    if all(math.isnan(row["base"]) for row in rows):
        why = "the base is the winner" if found.base is found.winner else "classes.csv has no figures of it"
        parts = [f'<p class="quiet">Nothing is compared with the base: {why}.</p>']
    elif not parts:
        parts = ['<p class="quiet">No class gained or lost anything.</p>']
    whole = _class_table(rows, "All classes")
    return f"{caption}{''.join(parts)}<details><summary>All {len(rows)} classes</summary>{whole}</details>"


def _class_table(rows: Iterable[Mapping[str, Any]], label: str) -> str:
    names = [("class", False), *((name, True) for name in (*_CLASS_FIGURES, "instances")), ("coarse class", False)]
    cells = [
        [
            cell(row["class"], wraps=True),
            *(_figure_cell(row[name], signed=name == "gain") for name in _CLASS_FIGURES),
            cell(int(row["instances"]), number=True),
            cell(row["coarse"], wraps=True),
        ]
        for row in rows
    ]
    return markup.sortable(names, [("", "".join(row)) for row in cells], label)


def _figure_cell(value: float, signed: bool) -> str:
    if math.isnan(value):
        return cell(None, "–", number=True)
    return cell(value, f"{value:+.2f}" if signed else percent(value), number=True)


def _alpha(sheet: Sheet) -> str:
    found, parts = sheet.found, []
    if not found.swept:
        return markup.empty("This space sweeps no detection setting.")
    for key in found.swept:
        rest = " Other swept settings are held at what each trial chose." if len(found.swept) > 1 else ""
        caption = (
            f"The weights of the search, of one seed, scored at every value of <code>detect.{escaped(key)}</code>. A "
            f"dot is the value that was chosen by that, the dotted line the base's in the file.{rest}"
            f"{_leave_with(found, key)}"
        )
        otherwise = f"Neither the winner nor the base has scores by detect.{escaped(key)}."
        parts.append(sheet.figure(f"detect-{key}", plots.along_setting(found, key), caption, otherwise))
    return "".join(parts)


def _leave_with(found: Findings, key: str) -> str:
    """The values of a swept setting that came out of the confirmation, where that chose."""
    known = found.confirmation
    if not all(trial.number in known.choices for trial in found.shown):
        return ""
    values = [
        f"{'the base' if trial is found.base else 'the winner'} {getattr(detect_of(found.space, trial, known), key):g}"
        for trial in found.shown
    ]
    return f" The mean over new seeds then chose for {' and for '.join(values)}, with which they leave."


def _paper(sheet: Sheet) -> str:
    pictures = sheet.found.pictures
    if isinstance(pictures, str) or not pictures:
        why = escaped(pictures) if isinstance(pictures, str) else "The index of the figures names none."
        command = "<code>python -m haan figures RUN</code>, then <code>python search/report.py RUN</code>"
        return markup.empty(
            f"{why} The winner's concepts and classes, the clips nearest to them, and detections against the ground "
            f"truth come here after {command}, with this run's folder as RUN."
        )
    return "".join(markup.picture(one.kind, one.content, one.caption) for one in pictures)


def _timeline(sheet: Sheet) -> str:
    caption = (
        "Time since the first trial began. Each bar is one trial, each row a place for one trial at a time on a node; "
        "where there is no bar, the place stood idle."
    )
    if sheet.found.confirmation.runs:
        caption += f" The {len(sheet.found.confirmation.runs)} runs that repeated trials afterwards are not drawn."
    if sheet.line.pauses:
        caption += " Times in which nothing ran at all are drawn shortened, as marked."
    if any(stretch.open for stretch in sheet.line.stretches):
        caption += " A trial that has not ended is drawn up to the last moment known."
    otherwise = "No trial has begun."
    return sheet.figure("timeline", plots.timeline(sheet.found, sheet.line), caption, otherwise)


def _trials(sheet: Sheet) -> str:
    found = sheet.found
    if not found.trials:
        return markup.empty("No trial has begun.")
    keys = list(found.space.parameters)
    names = [
        ("trial", True),
        ("state", False),
        ("avg.mAP", True),
        ("best epoch", True),
        ("epochs", True),
        ("time", True),
    ]
    names += [*((key, _numeric(found, key)) for key in keys), *((f"detect.{key}", True) for key in found.swept)]
    rows = [_trial_row(found, trial, keys) for trial in found.trials]
    names += [("node", False)] if _nodes(found) > 1 else []
    table = markup.sortable(names, rows, "Table of trials", "trial-table")
    return f"<p>Press a heading to sort. A trial that did not complete shows its score so far.</p>{table}"


def _numeric(found: Findings, key: str) -> bool:
    one = found.space.parameters[key]
    return not isinstance(one, CategoricalDistribution) or all(type(choice) in (int, float) for choice in one.choices)


def _trial_row(found: Findings, trial: FrozenTrial, keys: Sequence[str]) -> tuple[str, str]:
    known, chosen, value = found.record(trial), found.scores(trial).chosen, found.reached(trial)
    state = f'<span class="state" style="--mark:{COLORS[trial.state.name]}">{trial.state.name}</span>'
    tags = '<span class="tag">base</span>' if found.is_base(trial) else ""
    tags += '<span class="tag">winner</span>' if trial is found.winner else ""
    cells = [
        cell(trial.number, number=True),
        cell(trial.state.name, state + tags + _retries(known)),
        cell(value, percent(value), number=True),
        cell(known.best_epoch, number=True),
        cell(len(trial.intermediate_values) or None if known.epochs is None else known.epochs, number=True),
        cell(known.seconds, duration(known.seconds) if known.seconds is not None else None, number=True),
        *(cell(trial.params.get(key), number=_numeric(found, key)) for key in keys),
        *(cell(getattr(chosen, key, None), number=True) for key in found.swept),
        *([cell(known.last_node)] if _nodes(found) > 1 else []),
    ]
    return "winner" if trial is found.winner else "", "".join(cells)


def _retries(known: record.TrialRecord) -> str:
    count = len(known.retries)
    return f'<span class="tag">{count} retr{"y" if count == 1 else "ies"}</span>' if count else ""


def _failures(sheet: Sheet) -> str:
    found = sheet.found
    failed = [
        [f"trial {trial.number}", known.last_node, known.failure or "no reason is known"]
        for trial in found.of(TrialState.FAIL)
        for known in [found.record(trial)]
    ]
    failed += [
        [
            f"confirmation of trial {run.trial}, {run.videos}, seed {run.seed}",
            "",
            run.record.failure or "no reason is known",
        ]
        for run in found.confirmation.runs
        if run.state == TrialState.FAIL
    ]
    again = [
        [f"trial {trial.number}", trial.state.name, reason]
        for trial in found.trials
        for reason in found.record(trial).retries
    ]
    parts = [markup.table(["what", "node", "why"], failed, "Failures")] if failed else [markup.empty("Nothing failed.")]
    if again:
        parts.append(
            "<h3>Taken up again</h3><p>These trials were interrupted and went on from their last checkpoint.</p>"
        )
        parts.append(markup.table(["trial", "how it ended", "why it stopped before"], again, "Trials taken up again"))
    return "".join(parts)


def _yaml(sheet: Sheet) -> str:
    text = sheet.found.best_yaml
    if text is None:
        return markup.empty("Nothing is exported yet: best.yaml is written when a search ends with a completed trial.")
    return (
        f"{_not_the_winner(sheet.found)}<p><code>best.yaml</code>, complete. To train it again, in the folder in which "
        f"the search was begun: <code>{escaped(sheet.found.train_again)}</code></p>"
        '<p><button type="button" class="copy" data-copy="yaml-text">Copy the YAML</button> '
        '<span id="copied" role="status" class="quiet"></span></p>'
        f'<pre id="yaml-text" tabindex="0">{escaped(text)}</pre>'
    )


def _not_the_winner(found: Findings) -> str:
    """What is exported is the user's own choice, or hand; the winner is what the search decided."""
    if found.exported is found.winner:
        return ""
    if found.exported is None:
        text = "No trial has this configuration: it was changed by hand, or written before the search went on."
    else:
        text = f"It is that of trial {found.exported.number}, exported by its number."
    return f'<p class="warning" role="note"><b>Not the winner\'s.</b> {text}</p>'


_ABOUT = ("trained_on", "tuned_on", "versions", "python", "git_commit")  # of best.yaml's comment; figures stand above


def _about(sheet: Sheet) -> str:
    found = sheet.found
    rows: dict[str, str] = {"run": found.run, "study": found.study_name}
    rows |= {"method": in_words(found.space)}
    rows |= {"data fingerprint": found.attributes.get(record.FINGERPRINT) or "unknown"}
    rows |= {key.replace("_", " "): found.about[key] for key in _ABOUT if key in found.about}
    listed = "".join(f"<dt>{escaped(key)}</dt><dd>{escaped(str(value))}</dd>" for key, value in rows.items())
    return f"<dl>{listed}</dl>{_sessions(found)}"


def _sessions(found: Findings) -> str:
    sessions = found.attributes.get(record.SESSIONS)
    if not isinstance(sessions, list) or not sessions:
        return ""
    rows = [
        [
            _moment(one.get("started")),
            _moment(one.get("ended")) or "not ended, or interrupted",
            f"{one.get('where', '')}: {one.get('concurrent', '')} at once, each with {shown(one.get('cpu', ''))} "
            f"CPU and {shown(one.get('gpu', ''))} GPU; nodes at the start: {one.get('nodes', '')}",
        ]
        for one in sessions
    ]
    return f"<h3>Sessions</h3>{markup.table(['started (UTC)', 'ended (UTC)', 'where'], rows, 'Sessions')}"


def _moment(seconds: object) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}" if isinstance(seconds, int | float) else ""


SECTIONS = (  # anchor, heading (in the navigation, too), body
    ("summary", "Summary", _summary),
    ("official", "Official videos", _official),
    ("confirmation", "Confirmation over seeds", _confirmation),
    ("history", "Trial by trial", _history),
    ("curves", "Epoch by epoch", _curves),
    ("importances", "Parameter importances", _importances),
    ("slices", "One setting at a time", _slices),
    ("parallel", "All settings together", _parallel),
    ("tiou", "mAP against tIoU", _tiou),
    ("classes", "Class by class", _classes),
    ("alpha", "Detection settings", _alpha),
    ("paper", "The paper's figures", _paper),
    ("timeline", "Timeline by node", _timeline),
    ("trials", "Trials", _trials),
    ("failures", "Failures", _failures),
    ("yaml", "Exported configuration", _yaml),
    ("about", "About this run", _about),
)
