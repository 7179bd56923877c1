"""When a pruner judges trials whose network begins anew: at the end of an iteration, in every way a space is read."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from haan.errors import InputError
from haan.yamlconfig import plain
from search.driver.request import Request, named
from search.replays.compare import setups
from search.space.model import Space
from search.space.read import read_kept, read_space
from search.study.algorithms import Component, make_pruner, pruned_epochs
from tests.methods import tiny_of
from tests.paths import ROOT

HYPERBAND = {"name": "hyperband", "min_resource": 2, "reduction_factor": 2}
LR: dict[str, Any] = {"optim.lr": {"float": [1e-3, 1e-1], "log": True}}
LENGTHS = "refine.epochs_per_iteration"


def write(
    folder: Path,
    pruner: dict[str, Any] = HYPERBAND,
    method: str = "refineloc",
    more: dict[str, Any] | None = None,
    **keys: Any,
) -> Path:
    """A space of trials of 24 epochs whose iterations have 4; keys: of the base, with two lines for the dot."""
    base = plain(tiny_of(method, Path("data")))
    base["optim"]["epochs"] = 24
    if method == "refineloc":
        base["refine"]["epochs_per_iteration"] = 4
    for key, value in keys.items():
        section, _, name = key.partition("__")
        base[section][name] = value
    folder.mkdir(exist_ok=True)
    path = folder / "s.yaml"
    search = {"trials": 3, "sampler": {"name": "random"}, "pruner": pruner, "parameters": LR | (more or {})}
    path.write_text(yaml.safe_dump({"base": base, "search": search}))
    return path


def interval_of(path: Path) -> object:
    return read_space(path).pruner.arguments.get("interval")


@pytest.mark.parametrize(
    ("keys", "more", "interval"),
    [
        ({}, {}, 4),
        ({}, {LENGTHS: {"choice": [4, 6]}}, 12),
        ({}, {LENGTHS: {"choice": [2, 4, 8]}}, 8),
        ({}, {LENGTHS: {"int": [3, 4]}}, 12),
        ({}, {LENGTHS: {"int": [2, 6], "step": 2}}, 12),
        ({}, {LENGTHS: {"choice": [4, 24]}}, 4),  # a single iteration ends nowhere
        ({"refine__epochs_per_iteration": 24}, {}, None),
        ({"refine__reset": False}, {}, None),
        ({"refine__reset": False}, {"refine.reset": {"choice": [True, False]}}, 4),
        ({"refine__reset": False}, {"refine.reset": {"choice": [True, False]}, LENGTHS: {"choice": [4, 6]}}, 12),
        ({"eval__every": 3}, {}, 12),
    ],
)  # fmt: skip
def test_it_is_the_least_after_which_an_iteration_of_every_trial_has_ended(
    tmp_path: Path, keys: dict[str, Any], more: dict[str, Any], interval: int | None
) -> None:
    assert interval_of(write(tmp_path, more=more, **keys)) == interval


@pytest.mark.parametrize("method", ["haan", "asl", "ssn"])
def test_methods_that_never_begin_anew_are_judged_after_every_epoch_as_before(method: str, tmp_path: Path) -> None:
    assert read_space(write(tmp_path, method=method)).pruner == Component("hyperband", {**HYPERBAND_ARGUMENTS})


HYPERBAND_ARGUMENTS = {key: value for key, value in HYPERBAND.items() if key != "name"}


@pytest.mark.parametrize(
    "pruner",
    [
        HYPERBAND | {"interval": 1},
        {"name": "median", "interval_steps": 3},
        {"name": "patient", "patience": 1, "wrapped_pruner": {"name": "median", "interval": 5}},
        {"name": "none"},
    ],
    ids=lambda pruner: pruner["name"],
)
def test_what_a_space_says_itself_is_what_holds(pruner: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path, pruner)
    assert read_space(path).pruner == read_kept(path).pruner


@pytest.mark.parametrize(
    ("name", "given", "least"),
    [
        ("hyperband", {}, 4),
        ("hyperband", {"min_resource": 2}, 4),
        ("hyperband", {"min_resource": 9}, 9),
        ("successive_halving", {}, 4),
        ("successive_halving", {"min_resource": 2}, 4),
        ("successive_halving", {"min_resource": "auto"}, "auto"),
    ],
)
def test_rungs_begin_with_the_first_iteration(name: str, given: dict[str, Any], least: object, tmp_path: Path) -> None:
    pruner = {"name": name, "reduction_factor": 2} | given
    assert read_space(write(tmp_path, pruner)).pruner.arguments["min_resource"] == least
    outer = {"name": "patient", "patience": 1, "wrapped_pruner": pruner}
    inner = read_space(write(tmp_path, outer)).pruner.arguments["wrapped_pruner"]
    assert (inner.arguments["min_resource"], "interval" in inner.arguments) == (least, False)


def ends_of_pruned(space: Space) -> set[int]:
    """The last epochs of trials, half of which fall to nothing as each iteration begins."""
    study, ends = optuna.create_study(direction="maximize", pruner=make_pruner(space.pruner, 24)), set[int]()
    for number in range(40):
        trial = study.ask()
        for epoch in range(1, 25):
            fallen = number % 2 and (epoch - 1) % 4 == 0
            trial.report(0.0 if fallen else number % 7, epoch)
            if trial.should_prune():
                ends.add(epoch)
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, number % 7)
    return ends


@pytest.mark.parametrize(
    "pruner",
    [
        HYPERBAND,
        {"name": "successive_halving", "reduction_factor": 2},
        {"name": "median", "n_startup_trials": 2},
        {"name": "percentile", "percentile": 60.0, "n_startup_trials": 2},
        {"name": "threshold", "lower": 1.5},
    ],
    ids=lambda pruner: pruner["name"],
)
def test_no_trial_is_pruned_within_an_iteration(pruner: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path, pruner)
    ends = ends_of_pruned(read_space(path))
    assert ends and all(epoch % 4 == 0 for epoch in ends)
    assert any(epoch % 4 for epoch in ends_of_pruned(read_kept(path))), "as it was before"


@pytest.mark.parametrize(
    ("keys", "more", "said"),
    [
        ({}, {LENGTHS: {"choice": [4, 5, 6]}}, "every trial, got none; iterations have 4 or 5 or 6 epochs by "
         "refine.epochs_per_iteration: take lengths that divide one another, or pruner: {name: none}"),
        ({}, {LENGTHS: {"int": [2, 12]}}, "every trial, got none; iterations have 2 to 12 epochs by refine.epochs_per"),
        ({"eval__every": 9}, {}, "every trial and is scored (base.eval.every is 9), got none; iterations have 4"),
    ],
)  # fmt: skip
def test_lengths_that_never_end_together_are_refused(
    tmp_path: Path, keys: dict[str, Any], more: dict[str, Any], said: str
) -> None:
    path = write(tmp_path, more=more, **keys)
    with pytest.raises(InputError) as caught:
        read_space(path)
    (message,) = caught.value.messages
    assert "s.yaml:" in message and said in message
    assert "search.pruner.interval: must be given, for no epoch before the last (24) ends an iteration of" in message
    read_space(
        write(tmp_path, HYPERBAND | {"interval": 12}, more=more) if not keys else write(tmp_path, {"name": "none"})
    )


def asked(path: Path, resume: bool = False, *overrides: str) -> Space:
    return named(Request(path, "a", path.parent / "runs", None, None, overrides, resume))[0]


def begin(path: Path, space: Space) -> Path:
    run = path.parent / "runs" / "a"
    run.mkdir(parents=True, exist_ok=True)
    (run / "space.yaml").write_text(space.document)
    return run / "space.yaml"


@pytest.mark.parametrize("confirm", [None, {"top": 2, "seeds": 2}])
def test_a_run_keeps_what_its_pruner_follows_and_a_resume_and_a_replay_go_by_it(
    confirm: dict[str, int] | None, tmp_path: Path
) -> None:
    path = write(tmp_path)
    overrides = () if confirm is None else (f"search.confirm={yaml.safe_dump(confirm, default_flow_style=True)}",)
    space = asked(path, False, *overrides)
    kept = begin(path, space)
    pruner = yaml.safe_load(space.document)["search"]["pruner"]
    assert pruner == HYPERBAND | {"min_resource": 4, "interval": 4}
    assert read_kept(kept).pruner == space.pruner == asked(path, True, *overrides).pruner
    assert asked(path, True, *overrides) == space
    assert setups(kept, [], [], None, None)[0].space.pruner == space.pruner
    # Rungs 4, 8 and 16 of 24 epochs: three brackets of shares 4, 3 and 3 as Optuna deals them out.
    assert pruned_epochs(space.pruner, 24) == pytest.approx((4 * (4 + 2 + 2 + 1) + 3 * (8 + 4 + 2) + 3 * (16 + 4)) / 10)


def test_a_run_that_began_without_goes_on_as_it_began(tmp_path: Path) -> None:
    path = write(tmp_path)
    kept = begin(path, replace(read_kept(path)))
    before = read_kept(kept).pruner
    assert "interval" not in before.arguments
    again = asked(path, True)
    assert again.pruner == before and "interval" not in yaml.safe_load(again.document)["search"]["pruner"]
    as_run, other, *_ = setups(kept, [], ["{name: median, n_startup_trials: 2}"], None, None)
    assert as_run.space.pruner == before
    assert other.space.pruner == Component("median", {"n_startup_trials": 2, "interval": 4}), "asked for today"
    assert asked(path, True, "search.pruner={name: median, interval: 8}").pruner.arguments["interval"] == 8
    unpruned = write(tmp_path, {"name": "none"})
    begin(unpruned, read_kept(unpruned))
    assert asked(write(tmp_path), True).pruner.arguments["interval"] == 4, "a pruner of its own from here on"


def test_lengths_of_a_run_that_began_before_are_not_asked_about(tmp_path: Path) -> None:
    path = write(tmp_path, more={LENGTHS: {"choice": [4, 5, 6]}})
    kept = begin(path, read_kept(path))
    assert asked(path, True).pruner == read_kept(kept).pruner == setups(kept, [], [], None, None)[0].space.pruner


@pytest.mark.parametrize("file", sorted((ROOT / "spaces").glob("refineloc-*.yaml")), ids=lambda file: file.stem)
def test_shipped_spaces_would_be_judged_in_the_same_epochs_without_their_own_interval(file: Path) -> None:
    space = read_space(file)
    given = dict(space.pruner.arguments)
    own = given.pop("interval", given.pop("interval_steps", None))
    pruner = yaml.safe_dump({"name": space.pruner.name} | given, default_flow_style=True)
    found = read_space(file, (f"search.pruner={pruner}",)).pruner.arguments
    assert found["interval"] == own
    assert found.get("min_resource") == given.get("min_resource")
