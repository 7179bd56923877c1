"""What may be searched beside sizes and weights: how a training goes along."""

import itertools
from pathlib import Path

import yaml

from haan.yamlconfig import plain
from search.driver.estimate import largest_ones
from search.space.model import Space, base_value, epochs_of, most_epochs, with_values
from search.space.read import read_space
from tests.methods import tiny_of
from tests.search.spaces import tiny_space

PARAMETERS = {
    "optim.kind": {"choice": ["adam", "adamw", "sgd"]},
    "optim.lr": {"float": [1e-4, 1e-2], "log": True},
    "optim.momentum": {"float": [0.5, 0.95]},
    "optim.weight_decay": {"float": [0.0, 0.1]},
    "optim.clip_norm": {"choice": [None, 1.0]},
    "optim.schedule": {"choice": ["constant", "cosine"]},
    "optim.warmup_epochs": {"int": [0, 2]},
    "optim.batch_videos": {"int": [1, 8]},
    "optim.epochs": {"int": [3, 9]},
    "concepts.refresh_epochs": {"int": [1, 5]},
    "precision": {"choice": ["auto", "bfloat16"]},
}


def space(folder: Path) -> Space:
    return read_space(tiny_space(folder, parameters=PARAMETERS, pruner={"name": "none"}, sampler={"name": "tpe"}))


def test_all_that_steers_a_training_may_be_searched(tmp_path: Path) -> None:
    of = space(tmp_path)
    assert of.parameters.keys() == PARAMETERS.keys()
    config = with_values(of.base, {"precision": "bfloat16", "optim.kind": "sgd", "optim.clip_norm": 1.0})
    assert (config.precision, config.optim.kind, config.optim.clip_norm) == ("bfloat16", "sgd", 1.0)


def test_a_trial_has_the_epochs_of_its_parameters_and_a_plan_counts_with_the_most(tmp_path: Path) -> None:
    of = space(tmp_path)
    assert (epochs_of(of, {"optim.epochs": 7}), epochs_of(of, {}), most_epochs(of)) == (7, 4, 9)


def test_a_plan_counts_with_the_optimiser_that_keeps_most(tmp_path: Path) -> None:
    (largest,) = largest_ones(space(tmp_path))
    assert largest.optim.kind == "adam" and largest.optim.batch_videos == 8


def test_a_plan_counts_with_both_ends_of_a_choice_and_with_null(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    searched = {
        "asl.clips": {"choice": [None, 20, 50, 30]},
        "model.streams": {"choice": [1, 2]},
        "model.width": {"int": [16, 1024]},
    }
    path.write_text(yaml.safe_dump({"base": plain(tiny_of("asl", Path("data"))), "search": {"parameters": searched}}))
    keys = ("asl.clips", "model.streams", "model.width")
    found = {tuple(base_value(one, key) for key in keys) for one in largest_ones(read_space(path))}
    assert found == set(itertools.product((20, 50, None), (1, 2), (1024,)))
