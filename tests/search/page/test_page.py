"""The report of a run: its numbers, its page in a real browser, and the run folder as other tools open it."""

import base64
import hashlib
import html
import json
import math
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import unquote

import optuna
import pandas as pd
import plotly.graph_objects as go
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from haan.data.planted import MADE_UP
from haan.errors import InputError
from haan.figures.folder import Index
from search import report
from search.page import markup, plots
from search.page.facts import Importances, read_findings
from search.page.lanes import timeline
from search.page.page import page, write_report
from search.page.sections import _gain_tile
from search.results import export, retraining
from search.results.beside import beside
from search.results.confirm import Confirmed
from search.results.folder import RunFolder
from search.results.ranking import Standing, in_short
from search.results.retraining import named
from search.space.model import Space, detects_of
from search.study import record
from tests.search.page.report_run import (
    EPOCHS,
    PARAMETERS,
    Maker,
    confirm_study,
    distributions_of,
    fill,
    full_run,
    new_study,
    write_space,
)

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SWITCHES = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
EVIL = "</script><img src=x onerror='window.hacked=1;alert(1)'><a href='https://evil.example/'>x</a>"
DESKTOP, PHONE = (1280, 900), (390, 844)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome here")


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    loud = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(loud)


@dataclass
class Run:
    """A run folder, its space and its study."""

    folder: RunFolder
    space: Space
    study: optuna.Study

    def report(self) -> Path:
        return write_report(self.folder, self.space, self.study)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(*full_run(tmp_path_factory.mktemp("full") / "made"))
    run.report()
    return run


def run_of(root: Path, trials: int, **search: Any) -> Run:
    """A run with nothing but a study."""
    space = write_space(root, **search)
    study = new_study(root)
    fill(study, space, trials)
    return Run(RunFolder(root), space, study)


def trial_with(
    runs: list[list[Any]] | None = None, state: TrialState = TrialState.COMPLETE, **known: Any
) -> FrozenTrial:
    attributes = known | ({} if runs is None else {"runs": runs})
    return create_trial(state=state, value=1.0 if state == TrialState.COMPLETE else None, user_attrs=attributes)


def test_the_interval_of_a_mean_is_students() -> None:
    # Scores 1, 2, 3: mean 2, sd 1; t(0.975, 2 degrees of freedom) = 4.302653; 4.302653 / sqrt(3) = 2.484138.
    row = Confirmed(number=3, base=False, setting="chosen", seeds=(1, 2, 3), scores=(1.0, 2.0, 3.0), runs=3)
    assert row.mean == 2.0
    assert row.half_width == pytest.approx(2.484138, abs=1e-6)
    assert replace(row, seeds=(1,), scores=(1.0,)).half_width is None


def test_trials_that_ran_at_once_on_a_node_lie_in_lanes_of_their_own() -> None:
    trials = [
        trial_with([[100.0, 110.0, "a"]]),
        trial_with([[100.0, 104.0, "a"]]),
        trial_with([[104.0, 109.0, "a"]]),  # begins when the second has ended, so it takes its lane
        trial_with([[100.0, 110.0, "b"]]),
    ]
    found = timeline(trials)
    assert [(s.node, s.lane, s.start, s.end) for s in found.stretches] == [
        ("a", 0, 0.0, 10.0),
        ("a", 1, 0.0, 4.0),
        ("b", 0, 0.0, 10.0),
        ("a", 1, 4.0, 9.0),
    ]
    assert found.pauses == ()


def test_a_night_in_which_nothing_ran_is_shortened_to_a_twentieth_of_the_busy_time() -> None:
    # Busy 100 + 100 s, so the pause of 10,000 s is drawn as 10 s: the second trial at 110, the mark amid at 105.
    found = timeline([trial_with([[0.0, 100.0, "a"]]), trial_with([[10_100.0, 10_200.0, "a"]])])
    assert [(s.start, s.end) for s in found.stretches] == [(0.0, 100.0), (110.0, 210.0)]
    assert found.pauses == ((105.0, 10_000.0),)


def test_a_trial_without_an_end_is_drawn_to_the_last_moment_known_and_a_retried_one_in_its_stretches() -> None:
    running = trial_with([[0.0, 10.0, "a"], [20.0, None, "b"]], TrialState.RUNNING)
    found = timeline([running, trial_with([[0.0, 50.0, "b"]])])
    by_start = [(s.trial.state.name, s.node, s.start, s.end, s.given_up, s.open) for s in found.stretches]
    assert by_start == [
        ("RUNNING", "a", 0.0, 10.0, True, False),
        ("COMPLETE", "b", 0.0, 50.0, False, False),
        ("RUNNING", "b", 20.0, 50.0, False, True),
    ]


def test_what_pruning_saved_is_each_pruned_trials_own_pace_over_the_epochs_it_was_spared(tmp_path: Path) -> None:
    run = run_of(tmp_path, 0)
    # 3 of 18 epochs in 60 s: 15 epochs of 20 s, 300 s. 9 in 90 s: 9 of 10 s, 90 s. A completed trial saves nothing.
    for state, epochs, seconds in (
        (TrialState.PRUNED, 3, 60.0),
        (TrialState.PRUNED, 9, 90.0),
        (TrialState.COMPLETE, 18, 500.0),
    ):
        run.study.add_trial(trial_with(state=state, epochs=epochs, seconds=seconds))
    found = read_findings(run.folder, run.space, run.study)
    assert EPOCHS == 18
    assert found.seconds == 650.0
    assert found.seconds_saved == pytest.approx(390.0)


def test_importances_name_the_setting_that_alone_makes_the_score_and_count_completed_trials_only(
    tmp_path: Path,
) -> None:
    run = run_of(tmp_path, 0)
    maker = Maker(run.space)
    for number in range(60):
        params = maker.params(number + 1)
        # The score falls with loss.pseudo's distance from 1; pruned trials say the opposite and must not be heard.
        score = 10 + math.log10(params["loss.pseudo"])
        state = TrialState.COMPLETE if number % 2 else TrialState.PRUNED
        value = score if state == TrialState.COMPLETE else 1000 - score
        run.study.add_trial(
            create_trial(state=state, value=value, params=params, distributions=dict(run.space.parameters))
        )
    found = read_findings(run.folder, run.space, run.study).importances
    assert isinstance(found, Importances)
    assert next(iter(found.shares)) == "loss.pseudo" and found.shares["loss.pseudo"] > 0.5
    assert sum(found.shares.values()) == pytest.approx(1)
    assert (found.trials, found.top, found.epoch) == (30, 5, None)


def cut_short(root: Path, objective: str = "best") -> Run:
    """Six trials of 18 epochs, six pruned after epoch 9 and eight after epoch 3; loss.pseudo alone makes the score."""
    run = run_of(root, 0, objective=objective)
    maker = Maker(run.space)
    for number, epochs in enumerate([18] * 6 + [9] * 6 + [3] * 8):
        params = maker.params(number + 1)
        score = 10 + math.log10(params["loss.pseudo"])
        # The last epochs say the opposite; up to epoch 9 all trials are alike but for their setting.
        curve = {epoch: score if epoch <= 9 else 100 - score for epoch in range(1, epochs + 1)}
        complete = epochs == 18
        run.study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if complete else TrialState.PRUNED,
                value=curve[18] if complete else None,
                params=params,
                distributions=dict(run.space.parameters),
                intermediate_values=curve,
            )
        )
    return run


@pytest.mark.parametrize("objective", ["best", "last"])
def test_where_few_trials_completed_importances_compare_all_at_the_last_epoch_that_ten_reached(
    objective: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = cut_short(tmp_path, objective)
    found = read_findings(run.folder, run.space, run.study)
    known = found.importances
    assert isinstance(known, Importances)
    assert (known.trials, known.top, known.epoch) == (12, 5, 9)
    assert next(iter(known.shares)) == "loss.pseudo"
    text = html.unescape(page(found, datetime(2026, 1, 2, tzinfo=UTC)))
    assert "the best 5 of the 12 trials that reached epoch 9, by what they scored until then," in text
    assert "Fewer than 10 trials completed, so pruned ones are compared as well, all at one epoch" in text
    assert "A new study" not in "".join(capfd.readouterr())  # of the one that Optuna compares them in


def test_importances_at_a_cut_compare_the_trials_as_a_study_of_them_alone_would(tmp_path: Path) -> None:
    run = cut_short(tmp_path)
    alone = optuna.create_study(direction="maximize")
    for trial in run.study.trials[:12]:
        value = max(score for epoch, score in trial.intermediate_values.items() if epoch <= 9)
        alone.add_trial(create_trial(value=value, params=trial.params, distributions=trial.distributions))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=5 / 12)
    expected = optuna.importance.get_param_importances(alone, evaluator=evaluator)
    found = read_findings(run.folder, run.space, run.study).importances
    assert isinstance(found, Importances) and dict(found.shares) == pytest.approx(expected)


def test_importances_say_why_there_are_none(tmp_path: Path) -> None:
    few = run_of(tmp_path / "few", 8)
    assert "at least 10 trials with the same epoch scored; here are " in str(
        read_findings(few.folder, few.space, few.study).importances
    )
    one = run_of(tmp_path / "one", 40, parameters={"loss.pseudo": PARAMETERS["loss.pseudo"]})
    assert "fewer than two" in str(read_findings(one.folder, one.space, one.study).importances)


def repeated(root: Path, values: dict[int, float], trials: int = 12, **race: Any) -> Run:
    """Its best two and base were trained again with seeds that give almost the same: three, or what a race wants."""
    run = run_of(root, trials, confirm={"top": 2, "seeds": 3} | race)
    again, by_rank = confirm_study(root), retraining.candidates(run.space, run.study.get_trials())
    wanted = retraining.repeats(run.space, run.study.get_trials())
    for asked in wanted[: 3 * 2] if race else wanted:
        rank = next(i for i, trial in enumerate(by_rank) if trial.number == asked["trial"])
        value = values[rank] + asked["seed"] / 100
        known = {"epochs": EPOCHS, "best_epoch": 3, "best_avg_map_by_detect": [value, value / 2]}
        again.add_trial(
            create_trial(value=value, params=asked, distributions=distributions_of(run.space, asked), user_attrs=known)
        )
    return run


def test_a_race_that_ended_early_says_so_where_its_figures_stand(tmp_path: Path) -> None:
    run = repeated(tmp_path / "run", {0: 22.0, 1: 23.0, 2: 20.0}, seeds=7, race=True)
    text = page(read_findings(run.folder, run.space, run.study), datetime(2026, 1, 2, tzinfo=UTC))
    assert "95 % interval +3.00 to +3.00, 2 seeds of both, in a race of up to 7" in text
    assert "They race, with up to 7 seeds" in text


def test_the_winner_is_what_the_seeds_decide_even_if_another_scored_higher_once(tmp_path: Path) -> None:
    # The second best gains 23 - 20 over the base in each of three seeds, so the noise, and the interval's width, is 0.
    run = repeated(tmp_path / "run", {0: 22.0, 1: 23.0, 2: 20.0})
    found = read_findings(run.folder, run.space, run.study)
    best, second, base = retraining.candidates(run.space, run.study.get_trials())
    assert found.winner is not None and found.highest is not None and base.number == 0
    assert (found.highest.number, found.winner.number) == (best.number, second.number)
    text = page(found, datetime(2026, 1, 2, tzinfo=UTC))
    assert "it won by its confirmed mean" in text
    assert ">+3.00<" in text and "more than noise</b>: 95 % interval +3.00 to +3.00, 3 seeds of both<" in text
    row = rows_of(text.partition('aria-label="Confirmation"')[2])[0]
    assert row[:3] == [f"trial {second.number}", "+3.00", "+3.00 to +3.00"]
    assert found.exported is None and "Not the winner" not in text


def test_what_won_earlier_runs_stands_beside_the_winner_and_the_base(tmp_path: Path) -> None:
    run = Run(*full_run(tmp_path / "made", 20, won={2: EVIL}))
    found = read_findings(run.folder, run.space, run.study)
    assert found.winner is not None and found.winner.number not in (0, 2)
    text = page_of(run)
    for label, confirmed in (("Official videos", False), ("Confirmation", True)):
        table = text.partition(f'aria-label="{label}"')[2].partition("</table>")[0]
        assert html.escape("winner's gain over it") in table
        by_name = {html.unescape(row[0]): row for row in rows_of(table)}
        for one in beside(found.confirmation, found.winner.number):
            scored = one.confirmed if confirmed else one.official
            name = "base at its best setting" if one.base else named(one.number, False, one.sources)
            assert scored is not None and by_name[name][3] == in_short(scored.gain)
    assert EVIL not in without_yaml(text) and html.escape(f"trial 2 (winner of {EVIL})") in text


def test_before_all_seeds_have_run_the_gain_is_of_one_and_says_so(tmp_path: Path) -> None:
    run = run_of(tmp_path, 12)
    found = read_findings(run.folder, run.space, run.study)
    assert found.winner is found.highest is not None and found.base is not None and found.gain is not None
    assert not found.gain.over_seeds
    assert found.gain.avg_map == (found.winner.value or 0) - (found.base.value or 0) > 0
    text = page(found, datetime(2026, 1, 2, tzinfo=UTC))
    assert f">{found.gain.avg_map:+.3f}<" in text and "not confirmed</b>: of one seed, on the holdout videos<" in text


@pytest.mark.parametrize(
    ("interval", "kind", "words"),
    [
        (None, "tile", "no spread is known"),
        ((0.1, 2.9), "tile gain", "more than noise"),
        ((-1.2, 4.9), "tile noise", "not distinguishable from noise"),
        ((0.0, 3.0), "tile noise", "not distinguishable from noise"),
        ((-3.0, -0.1), "tile loss", "a loss"),
    ],
)
def test_a_gain_has_its_interval_and_says_by_words_and_colour_whether_it_is_noise(
    interval: tuple[float, float] | None, kind: str, words: str
) -> None:
    text = _gain_tile("Gain", Standing(number=1, mean=20.0, sd=1.0, n=3, shared=3, gain=1.5, interval=interval))
    assert f'class="{kind}"' in text and words in text
    assert interval is None or f"95 % interval {interval[0]:+.2f} to {interval[1]:+.2f}" in text


def page_of(run: Run) -> str:
    return page(read_findings(run.folder, run.space, run.study), datetime(2026, 1, 2, tzinfo=UTC))


def without_yaml(text: str) -> str:
    """The page but for the exported file, which it shows as it is."""
    before, _, rest = text.partition('<pre id="yaml-text"')
    return before + rest.partition("</pre>")[2]


def test_what_the_official_videos_say_comes_first_and_what_the_search_says_is_grey(full: Run) -> None:
    page = full.folder.report.read_text()
    shown = re.findall(r'<div class="(tile[^"]*)"><div class="name">([^<]*)', page)
    assert shown[:6] == [
        ("tile main", "avg.mAP on the official videos"),
        ("tile gain", "Gain over the base on the official videos"),
        ("tile", "Confirmed avg.mAP"),
        ("tile gain", "Confirmed gain over the base"),
        ("tile doubtful", "avg.mAP in the search, which chose by it"),
        ("tile doubtful", "Base (trial 0) in the search"),
    ]
    assert "What sets the winner apart" in page


def test_a_hand_in_the_comment_of_best_yaml_changes_nothing_that_the_report_says(full: Run, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(full.folder.root, root)
    run = replace(full, folder=RunFolder(root))
    before, yaml = page_of(run), run.folder.best_yaml.read_text()
    winner_line = next(line for line in yaml.splitlines() if line.startswith("# trial: "))
    run.folder.best_yaml.write_text(yaml.replace(winner_line, "# trial: 1\n# gain_over_base: +99.00 on paper"))
    assert without_yaml(page_of(run)) == without_yaml(before) and "+99.00 on paper" in page_of(run)
    assert "Not the winner" not in before


def test_the_report_says_whose_configuration_is_exported_where_it_is_not_the_winners(full: Run, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(full.folder.root, root)
    run = replace(full, folder=RunFolder(root))
    found = read_findings(run.folder, run.space, run.study)
    assert found.winner is not None and found.exported is found.winner
    other = next(t.number for t in reversed(found.of(TrialState.COMPLETE)) if t.number != found.winner.number)
    export.write_config(run.folder, run.space, run.study, other)
    again = read_findings(run.folder, run.space, run.study)
    assert again.winner is not None and again.winner.number == found.winner.number and again.gain == found.gain
    assert f"It is that of trial {other}, exported by its number." in page_of(run)

    export.write_config(run.folder, run.space, run.study, found.winner.number)  # as searched: it is still the winner
    assert "Not the winner" not in page_of(run)

    yaml = run.folder.best_yaml.read_text()
    for changed in (yaml.replace("\nseed: 1\n", "\nseed: 77\n"), "no configuration"):
        assert changed != yaml
        run.folder.best_yaml.write_text(changed)
        assert "No trial has this configuration: it was changed by hand" in page_of(run)


@pytest.mark.parametrize("blocked", ["x.yaml", "x.safetensors", "x-predictions.json"])
def test_an_export_to_where_a_folder_lies_is_refused_and_writes_nothing(
    full: Run, tmp_path: Path, blocked: str
) -> None:
    (tmp_path / blocked).mkdir()
    rule = f"{tmp_path / blocked}: must be a file that can be written, got: Is a directory"
    with pytest.raises(InputError, match=re.escape(rule)):
        export.write_config(full.folder, full.space, full.study, to=tmp_path / "x.yaml")
    assert [one.name for one in tmp_path.iterdir()] == [blocked]


def test_the_curve_along_a_swept_setting_holds_the_others_at_what_was_chosen(tmp_path: Path) -> None:
    sweeps = {"detect.alpha": {"sweep": "-0.2:0.2:0.2"}, "detect.top_clips": {"sweep": [0.1, 0.25]}}
    run = run_of(tmp_path, 0, parameters={"loss.pseudo": PARAMETERS["loss.pseudo"]} | sweeps)
    scores = [detect.alpha + (10 if detect.top_clips == 0.1 else 5) for detect in run.space.detects]
    run.study.add_trial(trial_with(avg_map_by_detect=scores))
    found = read_findings(run.folder, run.space, run.study)
    assert found.swept == ("alpha", "top_clips")
    (trial,) = found.trials
    assert found.along(trial, "alpha") == [(-0.2, pytest.approx(9.8)), (0.0, 10.0), (0.2, pytest.approx(10.2))]
    assert found.along(trial, "top_clips") == [(0.1, pytest.approx(10.2)), (0.25, pytest.approx(5.2))]


def test_a_table_of_methods_with_other_detection_settings_has_a_page_with_each_methods_own(tmp_path: Path) -> None:
    rows = {"HAAN": {}, "ASL": {"method": "asl", "detect.class_share": {"sweep": [0.2, 0.5]}}}
    grid = {"sampler": {"name": "grid"}, "pruner": {"name": "none"}, "confirm": None, "rows": rows}
    run = run_of(tmp_path, 0, parameters={"seed": [1], "detect.alpha": {"sweep": [-0.2, 0.2]}}, **grid)
    for row, value in (("HAAN", 10.0), ("ASL", 20.0)):
        params = {**run.space.rows[row], "seed": 1}
        scores = [value + i for i, _ in enumerate(detects_of(run.space, params))]
        known = {"avg_map_by_detect": scores, "best_avg_map_by_detect": scores}
        distributions = dict(run.space.parameters)
        run.study.add_trial(
            create_trial(value=max(scores), params=params, distributions=distributions, user_attrs=known)
        )
    found = read_findings(run.folder, run.space, run.study)
    assert found.swept == ("alpha", "class_share") and found.winner is found.trials[1]
    assert [one for one, _ in found.along(found.trials[1], "class_share")] == [0.2, pytest.approx(1 / 3), 0.5]
    assert found.along(found.trials[0], "class_share") == []
    text = page_of(run)
    assert "detect.class_share" in text and "detect.class_share = 0.5 is the highest tried" in html.unescape(text)


@pytest.mark.parametrize(("seeds", "race"), [(2, False), (3, True)])
def test_a_race_is_said_where_a_configuration_can_leave_it(tmp_path: Path, seeds: int, race: bool) -> None:
    """All have two seeds before any may leave."""
    folder, space, study = full_run(tmp_path, 12, confirm={"top": 2, "seeds": seeds, "race": True})
    assert ("They race, with up to" in page_of(Run(folder, space, study))) == race


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (1, 10, [1, 2, 5, 10]),
        (4, 200, [5, 10, 20, 50, 100, 200]),
        (1e-4, 1.0, [1e-4, 1e-3, 1e-2, 1e-1, 1]),
        (1e-9, 1.0, [1e-9, 1e-7, 1e-5, 1e-3, 1e-1]),
    ],
)
def test_ticks_of_a_log_axis_are_few_and_round(low: float, high: float, ticks: list[float]) -> None:
    assert plots.log_ticks(low, high) == pytest.approx(ticks)


def all_figures(run: Run) -> dict[str, Any]:
    text = page(read_findings(run.folder, run.space, run.study), datetime(2026, 1, 2, tzinfo=UTC))
    block = text.split('<script type="application/json" id="figures">')[1].split("</script>")[0]
    return json.loads(block)


def test_every_figure_is_one_that_plotly_knows(full: Run) -> None:
    made = all_figures(full)
    assert set(made) == {
        *("confirmation", "history", "curves", "importances", "parallel", "tiou", "detect-alpha", "timeline"),
        *(f"slice-{i}" for i in range(6)),
    }
    for figure in made.values():
        go.Figure(figure)  # raises at an attribute that plotly doesn't have


def test_of_many_trials_the_best_and_the_base_and_an_even_sample_have_their_curves_drawn(tmp_path: Path) -> None:
    run = run_of(tmp_path, 600)
    found = read_findings(run.folder, run.space, run.study)
    figure, drawn, known = plots.curves(found) or ({}, 0, 0)
    assert 150 <= drawn <= 153 and 500 < known <= 600
    names = {text for trace in figure["data"] for text in trace.get("text", ())}
    ranked = sorted(found.of(TrialState.COMPLETE), key=lambda trial: -(trial.value or 0))
    assert {f"trial {trial.number}" for trial in ranked[1:40] if trial.number} <= names
    assert "are drawn: the best 50" in page(found, datetime(2026, 1, 2, tzinfo=UTC))


def test_the_names_of_the_settings_stand_beside_the_lines_of_all_settings_and_not_across_them(full: Run) -> None:
    layout = all_figures(full)["parallel"]["layout"]
    names = layout["yaxis"]["ticktext"]
    ends = {"loss.<br>pseudo (log)<br>0.0001 to 1", "loss.<br>coarse_pooling<br>max | mean"}
    assert names[0].startswith("avg.mAP<br>") and ends < set(names)
    assert len(names) == 1 + 6 and not layout.get("annotations")


def luminance(color: str) -> float:
    """As WCAG 2 defines it."""
    parts = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_a_legend_says_of_which_seeds_and_videos_a_line_is_and_what_chose_a_setting(full: Run) -> None:
    figures, found = all_figures(full), read_findings(full.folder, full.space, full.study)
    assert found.winner is not None and found.base is not None
    winner = f"winner: trial {found.winner.number}"
    assert [trace["name"] for trace in figures["tiou"]["data"]] == [
        *(f"{one}, in the search, one seed" for one in (winner, "base")),
        *(f"{one}, official videos, mean of 3 seeds" for one in (winner, "base")),
    ]
    alpha = found.scores(found.base).chosen
    assert alpha is not None
    assert f"base: {alpha.alpha:g} chosen in the search" in [one["name"] for one in figures["detect-alpha"]["data"]]
    left = found.confirmation.choices[found.base.number].detect.alpha
    assert "The mean over new seeds then chose for the winner " in page_of(full)
    assert f"for the base {left:g}, with which they leave." in page_of(full)


def test_runs_on_the_official_videos_alone_confirm_nothing(full: Run) -> None:
    found = read_findings(full.folder, full.space, full.study)
    alone = replace(found.confirmation, runs=found.confirmation.official, ranking=None)
    text = page(replace(found, confirmation=alone), datetime(2026, 1, 2, tzinfo=UTC))
    assert "have not been trained again with other seeds" in text.partition('<section id="confirmation"')[2]


def test_plotlys_buttons_have_room_above_the_data(full: Run) -> None:
    assert all(figure["layout"]["margin"]["t"] >= 30 for figure in all_figures(full).values())


@pytest.mark.parametrize(("rows", "scrolls"), [(30, False), (31, True)])
def test_a_table_that_fits_a_screen_is_shown_in_full(rows: int, scrolls: bool) -> None:
    small = markup.table(["a", "b"], [["1", "2"]] * rows, "Some")
    large = markup.sortable([("a", True)], [("", markup.cell(1))] * rows, "Some")
    assert ('class="scroll short tall"' in small, 'class="scroll tall"' in large) == (scrolls, scrolls)


def test_what_is_said_of_the_run_repeats_no_figure_of_the_exported_comment(full: Run) -> None:
    about = page_of(full).partition('<section id="about"')[2].partition("</section>")[0]
    assert "git commit" in about and "trained on" in about
    assert not any(key in about for key in ("avg map", "gain", "confirmation"))


def test_numbers_on_the_bars_of_the_timeline_can_be_read(full: Run) -> None:
    bars = [trace for trace in all_figures(full)["timeline"]["data"] if "text" in trace]
    assert len(bars) == 4
    for trace in bars:
        dark, light = sorted(luminance(color) for color in (trace["insidetextfont"]["color"], trace["marker"]["color"]))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, trace["name"]


def test_the_time_of_trials_is_that_of_the_confirmation_too_and_its_parts_add_up(full: Run) -> None:
    # Four configurations with three seeds each, and two on all videos, of 400 s each: 18 x 400 s = 7,200 s.
    tiles = full.folder.report.read_text().partition('<div class="tiles">')[2]
    found = re.search(r"(\d+) h (\d+) min</div>.*?>(\d+) h (\d+) min in the search, 2 h 00 min of those", tiles)
    assert found is not None
    hours, minutes, searched_hours, searched_minutes = map(int, found.groups())
    assert 60 * hours + minutes == 60 * searched_hours + searched_minutes + 120


def test_a_figure_of_the_base_on_the_official_videos_says_at_which_detection_setting(full: Run) -> None:
    known = read_findings(full.folder, full.space, full.study).confirmation
    figures = [(run.avg_map, run.own_avg_map) for run in known.official if run.base]
    assert len(figures) == 3
    best, own = (f"<b>{fmean(values):.2f}</b>" for values in zip(*figures, strict=True))
    assert f"the base {best} at its best detection setting, {own} at its own" in full.folder.report.read_text()


def test_the_gain_on_the_official_videos_stands_above_the_one_on_those_that_chose(full: Run) -> None:
    text = without_yaml(full.folder.report.read_text())
    found = read_findings(full.folder, full.space, full.study)
    assert found.unseen is not None and found.gain is not None and found.unseen.gain is not None
    there, chosen = (f">{gain:+.2f}<" for gain in (found.unseen.gain.gain, found.gain.avg_map))
    assert text.index(there) < text.index(chosen)
    for name, gain in (("Official videos", there), ("Confirmation", chosen)):
        table = text.partition(f'aria-label="{name}"')[2].partition("</table>")[0]
        assert gain in table and "95 % interval of the gain" in table
    assert text.index('<section id="official"') < text.index('<section id="confirmation"')


def test_the_runs_name_is_the_title_and_stands_above_the_configuration(full: Run) -> None:
    name, text = full.folder.root.name, full.folder.report.read_text()
    assert f"<title>{name}: HAAN search</title>" in text and f"<h1>{name}</h1>" in text
    assert full.folder.best_yaml.read_text().startswith(f"# run: {name}\n# study: ")


def test_the_page_of_a_search_that_goes_on_looks_for_the_next_one_and_the_last_does_not(full: Run) -> None:
    found, written = read_findings(full.folder, full.space, full.study), datetime(2026, 1, 2, tzinfo=UTC)
    refresh = '<meta http-equiv="refresh" content="60">'
    assert refresh in page(found, written, goes_on=True).partition("<body>")[0]
    assert refresh not in page(found, written) and "The search goes on" not in page(found, written)


def with_classes(
    full: Run,
    root: Path,
    rows: Sequence[tuple[str, float | None]],
    number: int | None = None,
    seeds: int | None = None,
) -> Run:
    """A copy of a run whose winner scores 20 on each of some classes, with its gains over the base.

    seeds: None as a version wrote it that read one.
    """
    shutil.copytree(full.folder.root, root)
    run = replace(full, folder=RunFolder(root))
    best = read_findings(run.folder, run.space, run.study).winner
    assert best is not None
    about = {"number": best.number if number is None else number, "videos": retraining.OFFICIAL, "coarse": "all"}
    about |= {} if seeds is None else {"seeds": seeds}
    table = pd.DataFrame({**about, "class": [name for name, _ in rows], "instances": 9, "winner": 20.0})
    table["gain"] = [gain for _, gain in rows]
    table["base"] = table["winner"] - table["gain"]
    table.to_csv(run.folder.classes_csv, index=False)
    return run


def rows_of(table: str) -> list[list[str]]:
    """The texts of the cells of a table's body."""
    cells = (re.findall(r"<td[^>]*>(.*?)</td>", row) for row in table.partition("<tbody>")[2].split("</tr>"))
    return [texts for texts in cells if texts]


def test_the_classes_that_gained_and_lost_most_come_first_and_all_of_them_lie_folded(full: Run, tmp_path: Path) -> None:
    gains = [3.0, -1.0, 7.0, 0.0, 5.0, -4.0, 1.0, 2.0, 6.0, 4.0]
    run = with_classes(full, tmp_path / "run", [(f"c{i}", gain) for i, gain in enumerate(gains)])
    text = page_of(run).partition('<section id="classes"')[2].partition("</section>")[0]
    gained, lost, whole = (rows_of(table) for table in text.split("<table>")[1:])
    assert [(row[0], row[1]) for row in gained] == [
        ("c2", "+7.00"),
        ("c8", "+6.00"),
        ("c4", "+5.00"),
        ("c9", "+4.00"),
        ("c0", "+3.00"),
    ]
    assert lost == [["c5", "-4.00", "20.00", "24.00", "9", "all"], ["c1", "-1.00", "20.00", "21.00", "9", "all"]]
    assert len(whole) == 10 and "<details><summary>All 10 classes</summary>" in text
    assert "and over 1 seed, on the official validation videos, after training on all training videos" in text
    run = with_classes(full, tmp_path / "seeds", [("c0", 1.0)], seeds=3)
    assert "and over 3 seeds, " in page_of(run) and "avg.mAP, mean over these seeds" in page_of(run)


def test_figures_by_class_that_are_missing_old_or_broken_are_said_to_be(full: Run, tmp_path: Path) -> None:
    assert "There is no classes.csv." in page_of(full)
    rows: list[tuple[str, float | None]] = [("a", None), ("b", None)]
    run = with_classes(full, tmp_path / "alone", rows)
    assert "Nothing is compared with the base: classes.csv has no figures of it." in page_of(run)
    run = with_classes(full, tmp_path / "old", rows, number=99)
    assert "classes.csv is of trial 99, before the search went on." in page_of(run)
    whole = run.folder.classes_csv.read_text()
    for broken in (
        "",
        "number\n1\n",
        "number,videos\n",
        "\x00",
        whole.replace("official", "other"),
        whole.replace("9", "x"),
    ):
        run.folder.classes_csv.write_text(broken)
        assert "classes.csv can&#x27;t be read: " in page_of(run)


def failures_only(root: Path) -> Run:
    run = run_of(root, 0)
    maker = Maker(run.space)
    for number in range(3):
        run.study.add_trial(maker.trial(number, TrialState.FAIL, 0, 0.0, 1.0, "a"))
    return run


def interrupted(root: Path) -> Run:
    run = run_of(root, 0)
    run.study.add_trial(Maker(run.space).trial(0, TrialState.RUNNING, 2, 1.79e9, 1.0, "a"))
    return run


def grid(root: Path) -> Run:
    """Of which the base is no point."""
    table = {"loss.coarse_pooling": ["max", "mean"], "model.dropout": [0.1, 0.5]}
    space = write_space(root, table, trials=4, sampler={"name": "grid"}, pruner={"name": "none"})
    study = new_study(root)
    maker = Maker(space)
    for number in range(4):
        study.add_trial(maker.trial(number + 1, TrialState.COMPLETE, EPOCHS, 60.0 * number, 3.0, "a"))
    return Run(RunFolder(root), space, study)


def single(root: Path) -> Run:
    return run_of(root, 12, parameters={"loss.pseudo": PARAMETERS["loss.pseudo"]})


def old(root: Path) -> Run:
    """A study of nothing but values, as one without any of our attributes."""
    run = run_of(root, 0)
    maker = Maker(run.space)
    for number in range(12):
        trial = maker.trial(number, TrialState.COMPLETE, 4, 0.0, 1.0, "a")
        for key in list(trial.user_attrs):
            trial.user_attrs.pop(key)
        run.study.add_trial(trial)
    return run


ODD = {
    "empty": (lambda root: run_of(root, 0), ["No trial has begun.", "No trial has a scored epoch yet."]),
    "failures": (failures_only, ["No trial has a scored epoch yet.", "loss is nan in epoch 1, step 3"]),
    "interrupted": (interrupted, ["no trial has completed yet", "A trial that has not ended is drawn"]),
    "grid": (grid, ["This space sweeps no detection setting.", "this grid leaves it out"]),
    "single": (single, ["It needs two completed trials and two parameters.", "There is no figure of importances."]),
    "old": (old, ["Neither the winner nor the base has scores by tIoU."]),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_run_has_its_report_and_each_empty_section_says_why(name: str, tmp_path: Path) -> None:
    make, sentences = ODD[name]
    run = make(tmp_path / name)
    text = run.report().read_text()
    assert text.startswith("<!doctype html>") and text.endswith("</html>\n")
    for sentence in [*sentences, "best.yaml is written when a search ends", "have not been trained again"]:
        assert sentence in text
    for figure in all_figures(run).values():
        go.Figure(figure)


def test_a_winner_at_the_end_of_a_range_asks_for_a_wider_one(tmp_path: Path) -> None:
    run = run_of(tmp_path, 0)
    maker = Maker(run.space)
    for number in range(2):
        trial = maker.trial(number, TrialState.COMPLETE, EPOCHS, 0.0, 1.0, "a")
        trial.params = {**trial.params, "loss.pseudo": 1.0}
        run.study.add_trial(trial)
    assert "loss.pseudo = 1 lies at the upper bound of its range [0.0001, 1]" in run.report().read_text()


def test_a_search_on_the_official_videos_is_marked_as_too_good(full: Run) -> None:
    data = replace(full.space.base.data, validation="official")
    space = replace(full.space, base=replace(full.space.base, data=data))
    official = page(read_findings(full.folder, space, full.study), datetime(2026, 1, 2, tzinfo=UTC))
    assert "Tuned on the set it reports on." in official
    assert "Tuned on the set it reports on." not in full.folder.report.read_text()


def test_the_head_of_the_page_and_the_exported_configuration_say_that_the_features_are_planted(full: Run) -> None:
    def said(known: object, plant: bool = True) -> tuple[bool, bool]:
        base = full.space.base if plant else replace(full.space.base, data=replace(full.space.base.data, plant=None))
        found = read_findings(full.folder, replace(full.space, base=base), full.study)
        found = replace(found, attributes={**found.attributes, record.DATA: known} if known else found.attributes)
        head = page(found, datetime(2026, 1, 2, tzinfo=UTC)).partition("<main>")[0]
        return MADE_UP in head, MADE_UP in found.about.values()

    assert said(None) == (True, True), "a run without a record of its data, as older versions made them"
    assert said({"planted": None})[0] is False and said({"planted": {"seed": 0}}, plant=False)[0] is True
    assert said(None, plant=False) == (False, False)


def test_a_report_that_can_not_be_made_leaves_the_last_one_whole(full: Run, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(full.folder.root, root)
    before = (root / "report.html").read_bytes()
    lines = (root / "confirm.journal").read_text().splitlines(keepends=True)
    (root / "confirm.journal").write_text("".join([*lines[:3], "{cut", *lines[4:]]))
    with pytest.raises(InputError, match=r"confirm\.journal: must be one JSON record a line, got "):
        write_report(RunFolder(root), full.space, full.study)
    assert (root / "report.html").read_bytes() == before
    assert not list(root.glob("*.partial"))


def test_the_command_writes_the_report_anew_and_refuses_a_folder_without_a_search(
    full: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full.folder.report.unlink()
    report.main([full.folder.root])
    assert capsys.readouterr().out == f"written to {full.folder.report}\n" and full.folder.report.exists()
    with pytest.raises(InputError, match="name the folder of a search"):
        report.main([tmp_path])


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30"><rect width="40" height="30"/></svg>'


def with_figures(full: Run, root: Path, caption: str, svg: bytes = SVG) -> Run:
    """A copy of a run whose winner has one figure."""
    shutil.copytree(full.folder.root, root)
    (root / "best.safetensors").write_bytes(b"weights")
    run = replace(full, folder=RunFolder(root))
    run.folder.figures.root.mkdir()
    run.folder.figures.svg("figure4").write_bytes(svg)
    run.folder.figures.png("figure4").write_bytes(b"png")
    digest = hashlib.sha256(b"weights").hexdigest()
    run.folder.figures.write_index(Index(digest, (("figure4", caption),)))
    return run


def test_figures_lie_in_the_page_and_their_captions_are_escaped(full: Run, tmp_path: Path) -> None:
    text = with_figures(full, tmp_path / "run", f"Figure 4. Of {EVIL}").report().read_text()
    assert f'<img src="data:image/svg+xml;base64,{base64.b64encode(SVG).decode()}"' in text
    assert f"<figcaption>Figure 4. Of {html.escape(EVIL)}</figcaption>" in text and EVIL not in text


def test_a_large_svg_gives_way_to_its_png(full: Run, tmp_path: Path) -> None:
    large = SVG + b"<!--" + b"x" * 2**19 + b"-->"
    text = with_figures(full, tmp_path / "run", "Figure 4.", large).report().read_text()
    assert f'<img src="data:image/png;base64,{base64.b64encode(b"png").decode()}"' in text


def test_without_figures_or_with_those_of_other_weights_the_page_says_how_to_draw_them(
    full: Run, tmp_path: Path
) -> None:
    how = "<code>python -m haan figures RUN</code>"
    text = full.report().read_text()
    assert "None are drawn yet." in text and how in text and "<img" not in text
    run = with_figures(full, tmp_path / "run", "Figure 4.")
    (run.folder.root / "best.safetensors").write_bytes(b"others")
    text = run.report().read_text()
    assert "are of other weights than best.safetensors" in text and how in text and "<img" not in text
    run.folder.figures.index.write_text("[")
    assert "can&#x27;t be read: " in run.report().read_text()


@dataclass
class Seen:
    """An open page, and what went wrong or out from it."""

    page: Any
    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield chromium
        chromium.close()


def opened(browser: Any, report: Path, size: tuple[int, int], dark: bool = False) -> Seen:
    """Opens a report offline and waits until it has drawn its plots."""
    phone = size == PHONE
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        offline=True,
        is_mobile=phone,
        has_touch=phone,
        color_scheme="dark" if dark else "light",
        permissions=["clipboard-read", "clipboard-write"],
    )
    seen = Seen(context.new_page())
    seen.page.on("console", lambda message: seen.problems.append(f"{message.type}: {message.text}"))
    seen.page.on("pageerror", lambda error: seen.problems.append(str(error)))
    seen.page.on("dialog", lambda dialog: (seen.problems.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    seen.page.on("request", lambda request: seen.requests.append(request.url))
    seen.page.goto(report.as_uri())
    seen.page.wait_for_selector("html[data-drawn]", timeout=120_000)
    return seen


MARKS = """() => [...document.querySelectorAll(".plot")].map((plot) => [
  plot.dataset.figure,
  [...plot.querySelectorAll(".main-svg :is(.js-line, .point, .point path)")]
    .filter((mark) => mark.getBBox().width > 0).length,
])"""
SCROLLED_ASIDE = """() => {
  const place = (selector) => document.querySelector(selector).getBoundingClientRect();
  document.querySelector("#trials .scroll").scrollLeft = 60;
  const aside = place("#trial-table td").left - place("#trials .scroll").left;
  return [aside, place("#summary").width, place("#trials").width];
}"""


@needs_chromium
@pytest.mark.parametrize(("size", "dark"), [(DESKTOP, False), (PHONE, False), (PHONE, True)])
def test_the_page_draws_every_plot_without_an_error_a_request_or_a_sideways_scroll(
    browser: Any, full: Run, size: tuple[int, int], dark: bool
) -> None:
    seen = opened(browser, full.report(), size, dark)
    drawn = dict(seen.page.evaluate(MARKS))
    assert set(drawn) == set(all_figures(full)) and all(drawn.values()), drawn
    widths = seen.page.evaluate("[...document.querySelectorAll('.plot .main-svg')].map((svg) => svg.clientWidth)")
    assert min(widths) > 200 and max(widths) <= size[0]
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= size[0]
    aside, summary, trials = seen.page.evaluate(SCROLLED_ASIDE)
    assert 0 <= aside <= 2, "which trial a row is stays in sight"
    assert trials == summary if size == PHONE else trials > summary, "as wide as the window has room for"
    ids = seen.page.evaluate("[...document.querySelectorAll('[id]')].filter((e) => !e.closest('svg')).map((e) => e.id)")
    assert len(ids) == len(set(ids))
    assert all(link[1:] in ids for link in seen.page.evaluate("[...document.links].map((a) => a.getAttribute('href'))"))
    words = seen.page.evaluate("[...document.querySelectorAll('nav a')].map((a) => a.textContent)")
    assert words == seen.page.evaluate("[...document.querySelectorAll('h2')].map((h) => h.textContent)")
    back = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert back == ("rgb(20, 24, 29)" if dark else "rgb(246, 247, 249)")
    assert seen.problems == []
    assert seen.requests == [full.folder.report.as_uri()]
    seen.page.context.close()


@needs_chromium
@pytest.mark.parametrize("size", [DESKTOP, pytest.param(PHONE, marks=pytest.mark.slow)])
def test_a_figure_is_drawn_in_the_page_without_a_request_or_a_sideways_scroll(
    browser: Any, full: Run, size: tuple[int, int], tmp_path: Path
) -> None:
    run = with_figures(full, tmp_path / "run", f"Figure 4. {EVIL}")
    seen = opened(browser, run.report(), size)
    (image,) = seen.page.evaluate("[...document.images].map((i) => [i.naturalWidth, i.clientWidth, i.alt])")
    assert image[0] == 40 and image[1] >= 480 and image[2] == EVIL
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert seen.problems == []
    assert [url for url in seen.requests if not url.startswith("data:")] == [run.folder.report.as_uri()]
    seen.page.context.close()


@needs_chromium
def test_a_press_on_a_heading_sorts_the_trials_by_number_and_leaves_empty_cells_last(browser: Any, full: Run) -> None:
    seen = opened(browser, full.report(), DESKTOP)
    head = seen.page.locator("#trial-table th", has_text="avg.mAP")

    def column() -> list[str]:
        head.get_by_role("button").click()
        return seen.page.evaluate(
            "[...document.querySelectorAll('#trial-table tbody tr')].map((r) => r.cells[2].dataset.value)"
        )

    for descending in (False, True):
        values = column()
        known = [float(value) for value in values if value]
        assert known == sorted(known, reverse=descending) and len(known) > 40
        assert values[len(known) :] == [""] * (60 - len(known)) and len(known) < 60
        assert head.get_attribute("aria-sort") == ("descending" if descending else "ascending")
    assert seen.problems == []
    seen.page.context.close()


@needs_chromium
def test_the_yaml_is_copied_as_it_is_and_a_legend_entry_hides_its_curve(browser: Any, full: Run) -> None:
    from playwright.sync_api import expect

    seen = opened(browser, full.report(), DESKTOP)
    seen.page.get_by_role("button", name="Copy the YAML").click()
    expect(seen.page.locator("#copied")).to_have_text("Copied.")
    assert seen.page.evaluate("navigator.clipboard.readText()") == full.folder.best_yaml.read_text()
    # Where a browser refuses the clipboard, the selection is copied the old way.
    seen.page.evaluate("void (navigator.clipboard.writeText = () => Promise.reject(new Error('refused')))")
    seen.page.locator("#copied").evaluate("(said) => { said.textContent = ''; }")
    seen.page.get_by_role("button", name="Copy the YAML").click()
    expect(seen.page.locator("#copied")).to_have_text("Copied.")
    assert seen.page.evaluate("navigator.clipboard.readText()").strip() == full.folder.best_yaml.read_text().strip()
    lines = seen.page.locator('[data-figure="tiou"] .js-line')
    before = lines.count()
    entry = seen.page.locator("#tiou .legend button").first
    entry.click()
    expect(lines).to_have_count(before - 1)
    assert entry.get_attribute("aria-pressed") == "false"
    assert seen.problems == []
    seen.page.context.close()


@needs_chromium
def test_hostile_text_is_shown_and_does_nothing(browser: Any, tmp_path: Path) -> None:
    root = tmp_path / EVIL.replace("/", "_")
    space = write_space(root)
    choices = CategoricalDistribution((EVIL, "mean"))
    space = replace(space, parameters={**space.parameters, "loss.coarse_pooling": choices})
    study = new_study(root, name=EVIL)
    study.set_user_attr("haan.fingerprint", EVIL)
    study.set_user_attr("sessions", [{"started": 1.0, "ended": None, "nodes": EVIL, "where": EVIL}])
    maker = Maker(space)
    for number in range(14):
        state = TrialState.FAIL if number == 5 else TrialState.COMPLETE
        trial = maker.trial(number, state, EPOCHS, 60.0 * number, 3.0, EVIL)
        hostile = {"retries": [EVIL]} | ({"failure": EVIL} if state == TrialState.FAIL else {})
        for key, value in hostile.items():
            trial.set_user_attr(key, value)
        study.add_trial(trial)
    (root / "best.yaml").write_text(f"# {EVIL}: {EVIL}\n# gain_over_base: {EVIL}\nseed: 1 # {EVIL}\n")
    again = confirm_study(root)
    for number, state in ((1, TrialState.FAIL), (0, TrialState.COMPLETE)):
        asked = {"trial": number, "seed": 2, "videos": retraining.HOLDOUT}
        value, hostile = (20.5, {}) if state == TrialState.COMPLETE else (None, {"failure": EVIL})
        distributions = dict(retraining.PARAMETERS)
        again.add_trial(
            create_trial(state=state, value=value, params=asked, distributions=distributions, user_attrs=hostile)
        )
    folder, before = RunFolder(root), "number,videos,class,coarse,instances,winner,base,gain\n"
    best = read_findings(folder, space, study).winner
    assert best is not None
    quoted = EVIL.replace('"', '""')
    folder.classes_csv.write_text(f'{before}{best.number},holdout,"{quoted}","{quoted}",3,2.0,1.0,1.0\n')
    seen = opened(browser, write_report(folder, space, study), DESKTOP)
    assert all(dict(seen.page.evaluate(MARKS)).values())
    assert (
        seen.page.evaluate("window.hacked === undefined && document.querySelectorAll('img, a[href^=http]').length") == 0
    )
    assert seen.page.locator("h1").text_content() == root.name
    for place in ("#failures", "#trials", "#classes", "#about", "#yaml"):
        assert EVIL in seen.page.locator(place).first.text_content()
    assert EVIL[:9] in seen.page.locator('[data-figure="timeline"] .yaxislayer-above').text_content()
    assert seen.problems == []
    assert [unquote(url) for url in seen.requests] == [unquote((root / "report.html").as_uri())]
    seen.page.context.close()


@needs_chromium
@pytest.mark.parametrize("name", ["empty", "failures", "grid"])
def test_the_page_of_an_odd_run_opens_without_an_error(name: str, browser: Any, tmp_path: Path) -> None:
    run = ODD[name][0](tmp_path / name)
    seen = opened(browser, run.report(), PHONE)
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    assert all(dict(seen.page.evaluate(MARKS)).values())
    assert seen.problems == [] and len(seen.requests) == 1
    seen.page.context.close()


def test_optuna_dashboard_opens_the_same_study(full: Run) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [shutil.which("optuna-dashboard") or "optuna-dashboard", "--port", str(port), str(full.folder.journal)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as dashboard:
        try:
            (study,) = answer(dashboard, f"http://127.0.0.1:{port}/api/studies")["study_summaries"]
            assert study["study_name"] == "made"
            found_study = answer(dashboard, f"http://127.0.0.1:{port}/api/studies/{study['study_id']}")
            states = [trial["state"] for trial in found_study["trials"]]
        finally:
            dashboard.terminate()
    assert [state.upper() for state in states] == [trial.state.name for trial in full.study.trials]


def answer(server: subprocess.Popen[bytes], url: str) -> Any:
    """What a server that is just starting says at an address."""
    until = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return json.loads(response.read())
        except (urllib.error.URLError, ConnectionError) as error:
            assert server.poll() is None, "the server ended"
            assert time.monotonic() < until, error
            time.sleep(0.2)
