"""A grid: every point once and in order, the base first if it is among them, trials as many as there are points."""

from pathlib import Path

import optuna
import pytest
from optuna.trial import create_trial

from search.confirm import Confirmation
from search.export import header, trial_config
from search.space import Space, front, grid_points, read_space

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
    comment = header(study, space, study.trials[0], Confirmation((), None, {}), None)
    assert "# seed: 2\n" in comment and "# avg_map_at_seed: 4.0\n" in comment
    config = trial_config(space, study.trials[0])
    assert (config.seed, config.detect) == (2, space.detects[1])
