"""What may be searched beside sizes and weights: how a training goes along."""

from pathlib import Path

from search.driver.estimate import largest
from search.space.model import Space, epochs_of, most_epochs, with_values
from search.space.read import read_space
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
    of = space(tmp_path)
    assert largest(of).optim.kind == "adam" and largest(of).optim.batch_videos == 8
