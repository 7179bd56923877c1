"""The warning that the best lies on the edge: on a bound or within 2 % of its range, unless nothing lies beyond."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.space.edges import edge_warnings
from search.space.model import Space
from search.space.read import read_space

SPACE = """\
base:
  data: {root: nowhere, features: f.npy, train_videos: 4}
  concepts: {clusters: 500, top_k: 5, sample_rate: 0.5}
  model: {dropout: 0.3}
  optim: {lr: 1.0e-4, epochs: 2}
search:
  sampler: {name: random}
  parameters:
    concepts.clusters: {int: [100, 1000], log: true}
    concepts.top_k: {int: [1, 20]}
    concepts.sample_rate: {float: [0.1, 1.0]}
    loss.pseudo: {float: [0.0, 1.0]}
    optim.lr: {float: [1.0e-5, 1.0e-3], log: true}
    loss.coarse_pooling: {choice: [max, mean]}
    detect.alpha: {sweep: "-0.5:0.5:0.25"}
    detect.top_clips: {sweep: [0.25, 0.5, 1.0]}
"""
MIDDLE: dict[str, Any] = {
    "concepts.clusters": 300, "concepts.top_k": 10, "concepts.sample_rate": 0.5, "loss.pseudo": 0.5, "optim.lr": 1e-4,
    "loss.coarse_pooling": "max",
}  # fmt: skip


@pytest.fixture
def space(tmp_path: Path) -> Space:
    (tmp_path / "s.yaml").write_text(SPACE)
    return read_space(tmp_path / "s.yaml")


def warnings(space: Space, alpha: float = 0.0, top_clips: float = 0.5, **params: Any) -> list[str]:
    detect = replace(space.base.detect, alpha=alpha, top_clips=top_clips)
    return edge_warnings(space, {**MIDDLE, **{key.replace("__", "."): v for key, v in params.items()}}, detect)


def test_the_middle_of_the_space_gives_no_warning(space: Space) -> None:
    assert warnings(space) == []


def test_a_number_near_its_bound_on_its_own_scale_is_warned_of(space: Space) -> None:
    # ln(990 / 100) / ln(1000 / 100) = 0.996; on a log scale 950 is at 0.978, though at 0.944 of a linear one.
    expected = "concepts.clusters = 990 lies at the upper bound of its range [100, 1000]: widen it and --resume"
    assert warnings(space, concepts__clusters=990) == [expected]
    assert warnings(space, concepts__clusters=950) == []
    assert warnings(space, concepts__clusters=104) == [expected.replace("990", "104").replace("upper", "lower")]
    assert warnings(space, concepts__clusters=118) == []


def test_within_2_percent_of_a_logarithmic_range_is_on_the_edge(space: Space) -> None:
    # Two decades: 2 % of them is a factor of 10 ** 0.04 = 1.096.
    expected = "optim.lr = 1.09e-05 lies at the lower bound of its range [1e-05, 0.001]: widen it and --resume"
    assert warnings(space, optim__lr=1.09e-5) == [expected]
    assert warnings(space, optim__lr=1.11e-5) == []


def test_of_a_handful_of_whole_numbers_only_the_bound_itself_is_on_the_edge(space: Space) -> None:
    expected = "concepts.top_k = 20 lies at the upper bound of its range [1, 20]: widen it and --resume"
    assert warnings(space, concepts__top_k=20) == [expected]
    assert warnings(space, concepts__top_k=19) == []


def test_a_bound_that_the_rules_allow_nothing_beyond_is_no_edge(space: Space) -> None:
    assert warnings(space, concepts__top_k=1) == []  # must be >= 1
    assert warnings(space, concepts__sample_rate=1.0) == []  # must be <= 1
    assert warnings(space, loss__pseudo=0.0) == []  # must be >= 0
    assert len(warnings(space, concepts__sample_rate=0.1)) == 1
    assert len(warnings(space, loss__pseudo=1.0)) == 1
    assert len(warnings(space, concepts__top_k=20, concepts__clusters=500)) == 1


def test_the_first_and_last_of_a_sweep_are_its_edges(space: Space) -> None:
    # The base's own alpha, -0.8, is scored beside the swept ones.
    expected = "detect.alpha = 0.5 is the highest tried, of -0.8 to 0.5: widen the sweep in a new search"
    assert warnings(space, alpha=0.5) == [expected]
    assert warnings(space, alpha=0.25) == []
    assert warnings(space, alpha=-0.8) == [expected.replace("= 0.5 is the highest", "= -0.8 is the lowest")]
    assert warnings(space, alpha=-0.5) == []
    assert len(warnings(space, top_clips=0.25)) == 1
    assert warnings(space, top_clips=1.0) == []  # a share is at most 1


def test_several_edges_give_a_warning_each_and_choices_none(space: Space) -> None:
    found = warnings(space, alpha=0.5, concepts__clusters=1000, optim__lr=1e-5, loss__coarse_pooling="mean")
    assert [text.partition(" = ")[0] for text in found] == ["concepts.clusters", "optim.lr", "detect.alpha"]


def test_what_was_fixed_is_not_warned_of_and_what_was_not_swept_neither(tmp_path: Path) -> None:
    fixed = "{name: partial_fixed, base_sampler: {name: random}, fixed_params: {concepts.clusters: 1000}}"
    text = SPACE.replace("{name: random}\n", f"{fixed}\n").partition("    detect.alpha")[0]
    (tmp_path / "s.yaml").write_text(text)
    space = read_space(tmp_path / "s.yaml")
    assert edge_warnings(space, {**MIDDLE, "concepts.clusters": 1000}, space.base.detect) == []
    assert len(edge_warnings(space, {**MIDDLE, "optim.lr": 1e-3}, space.base.detect)) == 1
