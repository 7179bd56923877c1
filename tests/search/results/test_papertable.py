"""A grid as a table of the paper: figures worked by hand, what is said of the data, and the command with real Ray."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import yaml
from optuna.trial import TrialState, create_trial

from haan.config import Holdout
from haan.errors import InputError
from haan.yamlconfig import plain
from search.results import provenance
from search.results.folder import RunFolder
from search.results.papertable import AVERAGE, Tabulated, line_of, lines_of, markdown, rows, tabulate, write_table
from search.space.model import Space, grid_points, listed_keys
from search.space.read import read_space
from search.space.tableform import Dataset
from search.study import record
from search.table import main
from tests.paths import ROOT
from tests.planted import load, tiny_config
from tests.search.head import Head
from tests.search.spaces import run

SPACES = sorted(path for path in (ROOT / "spaces").glob("*.yaml") if "\ntable:" in path.read_text())
PAPER = ROOT.parent / "shared" / "paper"

SPACE = """\
base:
  data: {root: data/Toys, features: f.npy, train_videos: 4}
  optim: {epochs: 2}
  eval: {tiou: [0.1, 0.3, 0.5], report: [0.1, 0.5]}
search:
  sampler: {name: grid}
  rows:
    one: {loss.pseudo: 0}
    both: {}
  parameters:
    seed: [1, 2]
table:
  title: Toys
  lines: Losses
  dataset: {name: Toys, train_videos: 4, validation_videos: 2, train_segments: 200, validation_segments: 100,
            fine_classes: 3, coarse_classes: 2}
  published:
    source: paper
    columns: [0.1, 0.5]
    tiou: [0.1, 0.3, 0.5]
    others: {Elder: [9.0, null, 4.0]}
    lines: {both: [8.5, 2.5, [5.5, 0.25]]}
"""
TOYS: dict[str, Any] = {
    "root": "data/Toys", "validation": "official", "train_videos": 4, "validation_videos": 2, "train_segments": 200,
    "validation_segments": 100, "fine_classes": 3, "coarse_classes": 2, "clips": 60, "dim": 8, "planted": None,
}  # fmt: skip
DATASET = Dataset(
    name="Toys",
    train_videos=4,
    validation_videos=2,
    train_segments=200,
    validation_segments=100,
    fine_classes=3,
    coarse_classes=2,
)
# mAP at tIoU 0.1, 0.3, 0.5 and avg.mAP by row and seed.
FIGURES = {
    ("one", 1): (6.0, 4.0, 2.0, 4.0),
    ("one", 2): (8.0, 6.0, 1.0, 5.0),
    ("both", 1): (9.0, 5.0, 4.0, 6.0),
    ("both", 2): (8.0, 7.0, 3.0, 6.0),
}


def space_of(folder: Path, *edits: tuple[str, str]) -> Space:
    text = SPACE
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "space.yaml").write_text(text)
    return read_space(folder / "space.yaml")


def study_of(space: Space, figures: dict = FIGURES, data: dict[str, Any] | None = TOYS) -> optuna.Study:
    """A study whose trials have these figures; points without any failed."""
    study = optuna.create_study(direction="maximize")
    study.set_user_attr(record.FINGERPRINT, "abcdef0123456789")
    if data is not None:
        study.set_user_attr(record.DATA, data)
    for point in grid_points(space):
        found = figures.get((line_of(space, point), point["seed"]))
        known = {} if found is None else {"map_by_tiou": list(found[:-1]), "avg_map_by_detect": [found[-1]]}
        state = TrialState.FAIL if found is None else TrialState.COMPLETE
        value = None if found is None else found[-1]
        distributions = dict(space.parameters)
        made = create_trial(state=state, value=value, params=point, distributions=distributions, user_attrs=known)
        study.add_trial(made)
    return study


def table_of(space: Space, **changes: Any) -> Tabulated:
    return tabulate(space, study_of(space, **changes), "space.yaml")


def cells_of(text: str) -> list[list[str]]:
    """The cells of a Markdown table, its head first and without the rule below it."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1, "aligned, for it is read on a terminal, too"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])]


def test_a_table_of_several_methods_says_what_each_is_told(tmp_path: Path) -> None:
    made = table_of(space_of(tmp_path, ("both: {}", "both: {method: wtalc, optim.epochs: 3}")))
    head, elder, one, both, published = cells_of(markdown(made))
    assert head[:4] == ["Losses", "", "labels", "mAP@0.1"]
    assert [row[2] for row in (elder, one, both, published)] == ["", "weak", "weak", ""]
    assert (one[0], both[0], both[3]) == ("one", "both", "8.50 ± 0.71"), "8 and 9"
    assert "avg.mAP (tIoU 0.1 to 0.5) of 2 (both: 3), at alpha -0.8 (wtalc: of 1)" in markdown(made)


def test_means_spreads_and_paired_differences_are_those_worked_by_hand(tmp_path: Path) -> None:
    # one: avg.mAP 4, 5: mean 4.5, sd sqrt(((0.5)^2 + (0.5)^2) / 1) = 0.7071. both: 6, 6: 6, 0.
    # both - one by seed: 2, 1: mean 1.5, sd 0.7071, half width t(0.975; 1) = 12.706 x 0.7071 / sqrt(2) = 6.353.
    made = table_of(space_of(tmp_path))
    assert cells_of(markdown(made)) == [
        ["Losses", "", "mAP@0.1", "mAP@0.5", "avg.mAP", "against the first"],
        ["Elder", "paper", "9.00", "-", "4.00", ""],
        ["one", "ours", "7.00 ± 1.41", "1.50 ± 0.71", "4.50 ± 0.71", ""],
        ["both", "ours", "8.50 ± 0.71", "3.50 ± 0.71", "6.00 ± 0.00", "+1.50 [-4.85, +7.85]"],
        ["", "paper", "8.50", "2.50", "5.50 ± 0.25", ""],
    ]


def test_a_cell_says_which_seeds_it_lacks_and_the_table_that_it_is_not_whole(tmp_path: Path) -> None:
    figures = {key: value for key, value in FIGURES.items() if key != ("both", 1)}
    text = markdown(table_of(space_of(tmp_path), figures=figures))
    assert cells_of(text)[3][2:] == ["8.00 (1 of 2)", "3.00 (1 of 2)", "6.00 (1 of 2)", "+1.00"]
    assert "NOT WHOLE: 3 of 4 trials are complete, 1 failed." in text


def test_a_line_without_a_figure_stays_and_nothing_is_compared_with_another_first_line(tmp_path: Path) -> None:
    figures = {key: value for key, value in FIGURES.items() if key[0] != "one"}
    assert [row[:5] for row in cells_of(markdown(table_of(space_of(tmp_path), figures=figures)))[2:]] == [
        ["one", "ours", "-", "-", "-"],
        ["both", "ours", "8.50 ± 0.71", "3.50 ± 0.71", "6.00 ± 0.00"],
        ["", "paper", "8.50", "2.50", "5.50 ± 0.25"],
    ]
    made = table_of(space_of(tmp_path), figures=figures)
    assert made.paired == {} and [row["mean"] for row in rows(made)] == [None, None, None, 8.5, 3.5, 6.0]


def test_published_figures_of_no_line_are_said(tmp_path: Path) -> None:
    rows_at, table_at = SPACE.index("  rows:"), SPACE.index("table:")
    listed = "  parameters: {concepts.method: [kmeans, gmm], seed: [1, 2]}\n"
    table = SPACE[table_at:].replace("lines: {both:", "lines: {Kmeans:")
    (tmp_path / "space.yaml").write_text(SPACE[:rows_at] + listed + table)
    space = read_space(tmp_path / "space.yaml")
    text = markdown(table_of(space, figures={("gmm", 1): FIGURES["one", 1]}))
    assert "Published figures without a line of ours, and so not shown: Kmeans." in text


def test_lines_stand_in_the_order_of_the_space_whatever_ended_first(tmp_path: Path) -> None:
    space = space_of(tmp_path)
    study = study_of(space)
    turned = optuna.create_study(direction="maximize")
    for trial in reversed(study.trials):
        turned.add_trial(trial)
    assert [line.name for line in tabulate(space, turned, "").lines] == ["one", "both"]


def test_a_parameter_across_gives_a_column_a_value(tmp_path: Path) -> None:
    rows_at = SPACE.index("  rows:")
    text = SPACE[:rows_at] + (
        "  parameters: {concepts.method: [gmm, kmeans], concepts.clusters: [30, 60], seed: [1, 2]}\n"
        "table: {title: T, lines: Method, across: concepts.clusters, map_at: 0.5,\n"
        "  published: {source: paper, columns: [60, 90], lines: {gmm: [2.5, 7.0]}}}\n"
    )
    (tmp_path / "space.yaml").write_text(text)
    space = read_space(tmp_path / "space.yaml")
    assert listed_keys(space) == ["concepts.method", "concepts.clusters", "seed"]
    study = optuna.create_study(direction="maximize")
    for number, point in enumerate(grid_points(space)):  # seeds fastest: mAP@0.5 is 0, 1 | 2, 3 | 4, 5 | 6, 7
        known = {"map_by_tiou": [9.0, 9.0, float(number)], "avg_map_by_detect": [9.0], "empty_clusters": number // 7}
        study.add_trial(create_trial(value=9.0, params=point, distributions=dict(space.parameters), user_attrs=known))
    text = markdown(tabulate(space, study, ""))
    assert cells_of(text) == [
        ["Method", "", "clusters=30", "clusters=60"],
        ["gmm", "ours", "0.50 ± 0.71", "2.50 ± 0.71"],
        ["", "paper", "-", "2.50"],
        ["kmeans", "ours", "4.50 ± 0.71", "6.50 ± 0.71"],
    ]
    assert "Ours: mAP@0.5 in percent" in text
    assert "held no clip in some epoch: kmeans, concepts.clusters=60: up to 1." in text
    assert "Data: not recorded by this run (fingerprint unknown)." in text


def test_a_published_average_over_other_thresholds_is_left_out(tmp_path: Path) -> None:
    space = space_of(tmp_path, ("eval: {tiou: [0.1, 0.3, 0.5]", "eval: {tiou: [0.1, 0.5]"))
    figures = {key: (low, high, average) for key, (low, _, high, average) in FIGURES.items()}
    text = markdown(table_of(space, figures=figures))
    assert cells_of(text)[-1][2:] == ["8.50", "2.50", "-", ""]


def test_the_csv_holds_the_same_figures_a_row_each_with_its_data(tmp_path: Path) -> None:
    space, folder = space_of(tmp_path), RunFolder(tmp_path)
    made = write_table(folder, space, study_of(space))
    assert folder.table_md.read_text() == markdown(made)
    table = pd.read_csv(folder.table_csv).set_index(["line", "column"])
    assert len(table) == 6 and set(table["data"]) == {"Toys"} and not table["planted"].any()
    cell = table.loc[("both", AVERAGE)]
    assert (cell["mean"], cell["sd"], cell["seeds"], cell["by_seed"]) == (6.0, 0.0, 2, "1:6.0 2:6.0")
    assert (cell["published"], cell["published_sd"], cell["published_by"]) == (5.5, 0.25, "paper")
    assert table.loc[("one", "mAP@0.1"), "mean"] == 7.0 and np.isnan(table.loc[("one", "mAP@0.1"), "published"])


def test_nothing_complete_and_no_table_are_errors_that_name_the_file(tmp_path: Path) -> None:
    space = space_of(tmp_path)
    with pytest.raises(InputError, match=r"x.yaml: must have a COMPLETE trial, got none of 4"):
        tabulate(space, study_of(space, figures={}), "x.yaml")
    (tmp_path / "plain.yaml").write_text(SPACE[: SPACE.index("table:")])
    with pytest.raises(InputError, match=r"x.yaml: must have the key table:, which says what table this is, got none"):
        tabulate(read_space(tmp_path / "plain.yaml"), study_of(space), "x.yaml")


def test_planted_figures_never_pass_for_others(tmp_path: Path) -> None:
    space = space_of(tmp_path)
    planted = TOYS | {"planted": {"seed": 0, "like": {"folder": "toys", "train_videos": 4, "clips": None}}}
    made = table_of(space, data=planted)
    text = markdown(made)
    assert [row[1] for row in cells_of(text)] == ["", "paper", "ours, PLANTED", "ours, PLANTED", "paper"]
    assert "\nPLANTED FEATURES: these figures show that the machine works, and say nothing about real video." in text
    assert "Data: features planted over the timelines of toys (data/Toys), 4 training and 2 validation videos" in text
    assert all(row["planted"] and row["data"] == "features planted over the timelines of toys" for row in rows(made))
    made_up = provenance.name(TOYS | {"planted": {"seed": 0, "like": None}}, DATASET)
    assert made_up == "planted features"


@pytest.mark.parametrize(
    ("change", "name", "said"),
    [
        ({}, "ours", "the counts are those published for Toys."),
        ({"train_segments": 198}, "ours", "published for Toys, less 2 segments whose times make no sense."),
        (
            {"train_segments": 197},
            "ours on Games",
            "NOT those published for Toys, which are 4 training and 2 validation",
        ),
        ({"train_segments": 201}, "ours on Games", "NOT those published for Toys"),
        ({"fine_classes": 4}, "ours on Games", "NOT those published for Toys"),
        ({"validation_videos": 1}, "ours on Games", "NOT those published for Toys"),
        (
            {"validation_videos": 1, "root": "/data/toys"},
            "ours on other data than published (/data/toys)",
            "NOT those published for Toys",
        ),
        ({"validation": "holdout"}, "ours on Toys (held-out training videos)", "scored on training videos that were"),
    ],
)
def test_only_the_published_counts_pass_for_the_published_data(
    tmp_path: Path, change: dict, name: str, said: str
) -> None:
    text = markdown(table_of(space_of(tmp_path), data=TOYS | {"root": "/data/Games"} | change))
    assert {row[1] for row in cells_of(text)} == {"", "paper", name}
    assert said in text and "PLANTED" not in text


def test_the_record_counts_what_the_reader_found_and_finds_how_it_was_planted(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "data")
    table, _ = load(config.data)

    class Source:
        num_clips, dim = table.num_clips, table.dim

    known = provenance.record(config.data, Source(), table.annotations)  # type: ignore[arg-type]  # all that it reads
    assert (known["train_videos"], known["validation_videos"], known["fine_classes"]) == (24, 12, 4)
    assert known["train_segments"] + known["validation_segments"] == len(table.annotations.segments)
    assert known["validation"] == "holdout" and isinstance(config.data.validation, Holdout)
    assert known["planted"]["dim"] == known["dim"] == 16 and known["planted"]["like"] is None
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "linked.npy").symlink_to(tmp_path / "data" / "features.npy")
    for features in (tmp_path / "data" / "features.npy", Path("..", "data", "features.npy"), Path("linked.npy")):
        data = replace(config.data, root=str(elsewhere), features=str(features), plant=None)
        moved = provenance.record(data, Source(), table.annotations)  # type: ignore[arg-type]  # as above
        assert moved["planted"] == known["planted"], "beside the features, wherever they are taken from"
    (tmp_path / "data" / "planted.json").write_text("[]")
    with pytest.raises(InputError, match=r"planted.json: must be a JSON object, got \[\]"):
        provenance.record(config.data, Source(), table.annotations)  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (("  title: Toys\n", "  titel: Toys\n"), ":13: table.titel: unknown key; did you mean 'title'?"),
        (("columns: [0.1, 0.5]\n", "columns: [0.1]\n"), "table.published.others.Elder: must be a list of 2 figures"),
        (("[8.5, 2.5, [5.5, 0.25]]", "[8.5, 2.5, [5.5]]"), "lines.both: must be [mean, standard deviation], got 1 val"),
        (
            ("[8.5, 2.5, [5.5, 0.25]]", "[8.5, 2.5, x]"),
            ":22: table.published.lines.both: must be a finite number or nu",
        ),
        (("lines: {both:", "lines: {boht:"), ":22: table.published.lines.boht: unknown key; did you mean 'both'?"),
        (("  lines: Losses\n", "  across: seed\n"), ":14: table.across: must stand beside table.map_at"),
        (("  lines: Losses\n", "  map_at: 0.5\n"), ":14: table.map_at: is for table.across alone, got '0.5'"),
        (("{name: grid}", "{name: grid}\n  pruner: {name: median}"), ":7: search.pruner: must be {name: none} for a t"),
        (("{name: grid}", "{name: grid}\n  confirm: {top: 1}"), ":7: search.confirm: must be null for a table"),
        (("fine_classes: 3, ", ""), ":15: table.dataset.fine_classes: is required and missing"),
    ],
)
def test_a_bad_table_is_refused_where_it_stands(tmp_path: Path, edit: tuple[str, str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        space_of(tmp_path, edit)
    assert any(message in one for one in caught.value.messages), caught.value.messages


def test_a_table_of_a_search_is_refused(tmp_path: Path) -> None:
    text = SPACE[: SPACE.index("  sampler:")] + "  parameters: {loss.pseudo: {float: [1e-4, 1]}}\ntable: {title: T}\n"
    (tmp_path / "space.yaml").write_text(text)
    with pytest.raises(InputError, match=r"space.yaml:6: search.sampler: must be \{name: grid\} for a table, got none"):
        read_space(tmp_path / "space.yaml")


def test_what_goes_across_must_be_listed_and_its_tiou_scored(tmp_path: Path) -> None:
    edits = ("  lines: Losses\n", "  across: concepts.clusters\n  map_at: 0.7\n")
    with pytest.raises(InputError) as caught:
        space_of(tmp_path, edits, ("    columns: [0.1, 0.5]\n", "    columns: [0.1, 0.5, 0.3]\n"))
    expected = ("must be a parameter of the grid (seed), got 'concepts.clusters'", "must be among eval.tiou, got 0.7")
    assert all(any(text in one for one in caught.value.messages) for text in expected)


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_every_published_line_of_a_shipped_table_is_a_line_of_it(path: Path) -> None:
    space = read_space(path)
    assert space.table is not None
    lines = set(lines_of(space))
    assert lines >= set(space.table.published.lines if space.table.published else ())
    assert path.stem.startswith("table") or lines >= {"none (all as released)", "all but the last"}


@pytest.mark.skipif(not PAPER.is_dir(), reason="needs shared/paper")
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_published_figures_are_the_papers(number: int) -> None:
    (path,) = (ROOT / "spaces").glob(f"table{number}-fine*.yaml")
    table = read_space(path).table
    assert table is not None and table.published is not None
    text = "".join(one.read_text() for one in PAPER.glob("*.txt")).replace("<b>", "").replace("</b>", "")
    lines = [re.findall(r"\d+\.\d\d", line) for line in text.splitlines()]
    published = {**table.published.lines, **table.published.others}
    assert len(published) == {1: 10, 2: 10, 3: 3, 4: 2}[number]
    for name, figures in published.items():
        assert [f"{figure[0]:.2f}" for figure in figures if figure] in lines, name


@pytest.mark.slow
@pytest.mark.ray
def test_a_table_runs_prints_and_prints_again_without_its_data(
    tmp_path: Path, head: Head, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = {"sampler": {"name": "grid"}, "rows": {"one": {"loss.pseudo": 0.0, "loss.concept": 0.0}, "all": {}}}
    search = grid | {"parameters": {"seed": [1, 2]}, "resources": {"cpu": 1, "gpu": 0}}
    base = plain(tiny_config(Path("data"), epochs=1))
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({"base": base, "search": search, "table": {"title": "Tiny"}}, sort_keys=False))
    ended = run("table.py", tmp_path, path, "--name", "a", "--quiet", env=head.env)
    assert (ended.returncode, ended.stderr) == (0, "")
    folder = RunFolder(tmp_path / "runs" / "a")
    text = folder.table_md.read_text()
    assert text in ended.stdout and f"Table: runs/a/{folder.table_md.name}" in ended.stdout

    cells = cells_of(text)
    assert [row[:2] for row in cells[1:]] == [["one", "ours, PLANTED"], ["all", "ours, PLANTED"]]
    trials = pd.read_csv(folder.trials_csv)
    means = trials.groupby("row")["avg_map"].mean()
    assert [float(row[-2].split()[0]) for row in cells[1:]] == pytest.approx([means["one"], means["all"]], abs=0.005)
    assert folder.best_yaml.exists() and folder.report.exists(), "a run folder like any other"
    assert "1 CPU(s)" not in ended.stdout and "24 training and 12 validation videos" in text

    shutil.rmtree(tmp_path / "data")
    folder.table_md.unlink()
    main(folder.root)
    assert text in capsys.readouterr().out and folder.table_md.read_text() == text


def test_options_of_a_run_are_refused_beside_a_run_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--resume: must stand with a space to run, not with a run folder, .*got /"):
        main(tmp_path, resume=True)
