"""What a resumed search may vary that it did not."""

from pathlib import Path
from typing import Any

import pytest

from search.space.model import Space
from search.space.read import read_space
from search.space.resume import differences, growth
from tests.search.spaces import tiny_space

CLUSTERS, PSEUDO = {"concepts.clusters": {"int": [4, 16]}}, {"loss.pseudo": {"float": [1e-4, 1.0], "log": True}}


def space(folder: Path, parameters: dict[str, Any], **search: Any) -> Space:
    return read_space(tiny_space(folder, parameters=parameters, pruner={"name": "none"}, **search))


def test_a_parameter_may_come_and_one_line_says_so(tmp_path: Path) -> None:
    before, after = space(tmp_path, CLUSTERS), space(tmp_path, CLUSTERS | PSEUDO)
    assert differences(before, after) == [] and growth(before, before) is None
    assert growth(before, after) == (
        "searched from here on: loss.pseudo; the trials so far have the base's loss.pseudo = 0.001"
    )


def test_none_may_go(tmp_path: Path) -> None:
    assert differences(space(tmp_path, CLUSTERS | PSEUDO), space(tmp_path, CLUSTERS)) == [
        "loss.pseudo: must stay a float on a log scale in search.parameters under --resume, got unsearched"
    ]


@pytest.mark.parametrize(
    "sampler",
    [
        {"name": "cmaes"},
        {"name": "partial_fixed", "base_sampler": {"name": "cmaes"}, "fixed_params": {"concepts.clusters": 8}},
        {"name": "brute_force"},
    ],
    ids=str,
)
def test_a_sampler_that_can_not_take_it_refuses_it(tmp_path: Path, sampler: dict[str, Any]) -> None:
    numbers = CLUSTERS | {"concepts.top_k": {"int": [1, 4]}, "concepts.refresh_epochs": {"int": [1, 4]}}
    before = space(tmp_path, numbers, sampler=sampler)
    after = space(tmp_path, numbers | {"optim.batch_videos": {"int": [1, 4]}}, sampler=sampler)
    rule = "must stay unsearched in search.parameters under --resume, got an int"
    assert differences(before, after) == [f"optim.batch_videos: {rule}"] and growth(before, after) is None
