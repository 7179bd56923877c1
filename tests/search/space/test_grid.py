"""A grid: every point once and in order, the base first if it is among them, trials as many as there are points."""

from dataclasses import replace
from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.trial import create_trial

from haan.errors import InputError
from search.results.confirm import Confirmation
from search.results.folder import RunFolder
from search.results.trialscsv import write_trials
from search.results.winner import about, trial_config
from search.space.model import Space, base_number, front, grid_points, most_demanding, named_params, row_of
from search.space.read import read_space

SPACE = """\
base:
  data: {root: nowhere, features: f.npy, train_videos: 4}
  concepts: {clusters: 3, top_k: 2}
  optim: {epochs: 2}
search:
  sampler: {name: grid}
  parameters:
    concepts.clusters: [4, 3]
    loss.coarse_pooling: [max, mean]
    seed: [1, 2]
    detect.alpha: {sweep: "0:1:0.5"}
"""
POINTS = [(clusters, pooling, seed) for clusters in (4, 3) for pooling in ("max", "mean") for seed in (1, 2)]


def space_of(folder: Path, *edits: tuple[str, str], overrides: tuple[str, ...] = ()) -> Space:
    text = SPACE
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "table.yaml").write_text(text)
    return read_space(folder / "table.yaml", overrides)


def tuples(points: list[dict]) -> list[tuple]:
    assert all(list(point) == ["concepts.clusters", "loss.coarse_pooling", "seed"] for point in points)
    return [tuple(point.values()) for point in points]


def test_the_points_of_a_grid_come_in_order_the_last_parameter_fastest(tmp_path: Path) -> None:
    space = space_of(tmp_path)
    assert tuples(grid_points(space)) == POINTS
    assert len(space.detects) == 4  # the base's own alpha and three swept ones
    assert space.plan.trials == 8


def test_the_base_comes_first_when_it_is_a_point_and_each_point_once(tmp_path: Path) -> None:
    base = (3, "max", 1)
    assert tuples(front(space_of(tmp_path))) == [base, *(point for point in POINTS if point != base)]


def test_a_grid_may_leave_its_base_out(tmp_path: Path) -> None:
    space = space_of(tmp_path, ("clusters: 3, top_k: 2", "clusters: 2, top_k: 1"))
    assert tuples(front(space)) == POINTS
    assert space.plan.trials == 8


def test_a_value_that_the_base_could_not_have_is_fine_where_every_point_can(tmp_path: Path) -> None:
    space = space_of(tmp_path, ("seed: [1, 2]", "concepts.top_k: [3]"))  # above the base's two clusters
    assert [point["concepts.top_k"] for point in grid_points(space)] == [3] * 4
    space = space_of(
        tmp_path, ("clusters: 3, top_k: 2", "clusters: 2, top_k: 1"), ("seed: [1, 2]", "concepts.top_k: [3]")
    )
    assert len(front(space)) == 4


@pytest.mark.parametrize(("wanted", "trials"), [(3, 3), (8, 8), (100, 8)])
def test_fewer_trials_than_points_may_be_asked_for_but_not_more(tmp_path: Path, wanted: int, trials: int) -> None:
    assert space_of(tmp_path, overrides=(f"search.trials={wanted}",)).plan.trials == trials


def test_brute_force_ends_with_its_points(tmp_path: Path) -> None:
    space = space_of(
        tmp_path,
        ("name: grid", "name: brute_force"),
        ("[4, 3]", "{int: [2, 6], step: 1}"),
        ("[max, mean]", "{choice: [max, mean]}"),
        ("    seed: [1, 2]\n", ""),
    )
    assert space.plan.trials == 10
    assert grid_points(space) == []
    assert front(space) == [{"concepts.clusters": 3, "loss.coarse_pooling": "max"}]


def test_an_exported_trial_of_a_grid_names_the_seed_that_it_was_trained_with(tmp_path: Path) -> None:
    space = space_of(tmp_path)
    study = optuna.create_study(direction="maximize")
    by_detect = [1.0, 4.0, 2.0, 3.0]
    known = {"avg_map_by_detect": by_detect, "best_avg_map_by_detect": by_detect, "best_epoch": 2}
    params, parameters = dict(zip(space.parameters, (4, "max", 2), strict=True)), dict(space.parameters)
    study.add_trial(create_trial(value=4.0, params=params, distributions=parameters, user_attrs=known))
    said = about("a", study, space, study.trials[0], Confirmation((), None, {}), None)
    assert (said["seed"], said["avg_map_at_seed"]) == ("2", "4.0")
    config = trial_config(space, study.trials[0])
    assert (config.seed, config.detect) == (2, space.detects[1])


ROWS = """\
  rows:
    plain: {}
    few: {concepts.clusters: 2, concepts.top_k: 1}
    summed: {loss.concept_reduction: sum}
"""
WITH_ROWS = (("  parameters:\n    concepts.clusters: [4, 3]\n", ROWS + "  parameters:\n"),)


def test_each_row_is_crossed_with_what_is_listed_and_has_the_base_values_that_it_leaves_out(tmp_path: Path) -> None:
    space = space_of(tmp_path, *WITH_ROWS)
    keys = ["concepts.clusters", "concepts.top_k", "loss.concept_reduction"]
    values = {"plain": (3, 2, "mean"), "few": (2, 1, "mean"), "summed": (3, 2, "sum")}
    assert {name: tuple(row.values()) for name, row in space.rows.items()} == values
    assert list(space.parameters) == [*keys, "loss.coarse_pooling", "seed"]
    points = [tuple(point.values()) for point in grid_points(space)]
    assert points == [
        (*row, pooling, seed) for row in values.values() for pooling in ("max", "mean") for seed in (1, 2)
    ]
    assert space.plan.trials == 12
    assert front(space) == grid_points(space) and base_number(space) == 0
    (only,) = most_demanding(space)
    most = only.concepts
    assert (most.clusters, most.sample_rate) == (3, 0.03)


def test_a_trial_is_known_by_the_name_of_its_row(tmp_path: Path) -> None:
    space = space_of(tmp_path, *WITH_ROWS)
    rows = [row_of(space, point) for point in grid_points(space)]
    assert rows == ["plain"] * 4 + ["few"] * 4 + ["summed"] * 4
    assert named_params(space, grid_points(space)[5]) == {"row": "few", "loss.coarse_pooling": "max", "seed": 2}
    assert row_of(space, {**grid_points(space)[0], "concepts.top_k": 1}) is None


def test_rows_need_no_list_beside_them(tmp_path: Path) -> None:
    text = SPACE[: SPACE.index("  parameters:")] + ROWS
    (tmp_path / "rows.yaml").write_text(text)
    assert read_space(tmp_path / "rows.yaml").plan.trials == 3


def test_trials_csv_names_the_row_beside_its_values(tmp_path: Path) -> None:
    space = space_of(tmp_path, *WITH_ROWS)
    study = optuna.create_study(direction="maximize")
    by_detect = [1.0, 4.0, 2.0, 3.0]
    known = {"avg_map_by_detect": by_detect, "best_epoch": 2, "empty_clusters": 1}
    for point in grid_points(space)[4:6]:
        made = create_trial(value=4.0, params=point, distributions=dict(space.parameters), user_attrs=known)
        study.add_trial(made)
    write_trials(RunFolder(tmp_path), space, study.trials)
    table = pd.read_csv(tmp_path / "trials.csv")
    assert table["row"].tolist() == ["few", "few"] and table["params.concepts.clusters"].tolist() == [2, 2]
    assert table["seed"].tolist() == [1, 2] and table["empty_clusters"].tolist() == [1, 1]
    assert trial_config(space, study.trials[1]).concepts == replace(space.base.concepts, clusters=2, top_k=1)


def test_a_listed_parameter_can_be_set_from_the_command_line(tmp_path: Path) -> None:
    space = space_of(tmp_path, overrides=("search.parameters.concepts.clusters=[3]", "search.parameters.seed=[7, 8]"))
    assert tuples(grid_points(space)) == [(3, pooling, seed) for pooling in ("max", "mean") for seed in (7, 8)]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (("    plain: {}\n", "    plain: {loss.mli: 1}\n"), ":8: loss.mli: must be a key of the configuration"),
        (("    plain: {}\n", "    plain: {loss.mil: x}\n"), ":8: loss.mil: must be a finite number, got 'x'"),
        (
            ("    plain: {}\n", "    plain: {loss.concept_reduction: sum}\n"),
            ":10: search.rows.summed: must differ from",
        ),
        (("    plain: {}\n", "    plain: {detect.alpha: 0.1}\n"), ":8: detect.alpha: must be swept under search.param"),
        (("    plain: {}\n", "    plain: {seed: 2}\n"), ":8: seed: must be a key of the configuration"),
        (("    plain: {}\n", "    plain: 3\n"), ":8: search.rows.plain: must be a mapping, got '3'"),
        (("    plain: {}\n", "    few: {}\n"), ":9: search.rows.few: stands twice, first on line 8"),
        (
            ("    few: {concepts.clusters: 2, ", "    few: {concepts.clusters: 0, "),
            ":9: concepts.clusters: must be >= 1",
        ),
        (("concepts.top_k: 1}", "concepts.top_k: 5}"), ":9: concepts.top_k: must be <= concepts.clusters (2), got 5"),
        (
            ("    seed: [1, 2]\n", "    concepts.top_k: [1]\n"),
            "concepts.top_k: must stand in search.rows or in search.pa",
        ),
        (("name: grid", "name: random"), ":7: search.rows: must stand under sampler: {name: grid}"),
    ],
)
def test_a_bad_row_is_refused_where_it_stands(tmp_path: Path, edit: tuple[str, str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        space_of(tmp_path, *WITH_ROWS, edit)
    assert any(message in one for one in caught.value.messages), caught.value.messages
    assert all(one.startswith(f"{tmp_path}/table.yaml:") for one in caught.value.messages)


def test_rows_must_not_be_empty(tmp_path: Path) -> None:
    (tmp_path / "rows.yaml").write_text(SPACE[: SPACE.index("  parameters:")] + "  rows: {}\n")
    with pytest.raises(InputError, match="rows.yaml:7: search.rows: must hold a row, got none"):
        read_space(tmp_path / "rows.yaml")
