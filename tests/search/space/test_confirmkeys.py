"""Which seeds and holdouts a confirmation asks for, and that a run keeps what it meant by them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from haan.config import Holdout
from haan.errors import InputError
from search.driver.request import Request, named
from search.space.confirmkeys import Block, OlderRepeats, Repeats, blocks, by_mean_curve, drawn, official_seeds
from search.space.model import Space
from search.space.read import read_kept, read_space
from tests.search.spaces import tiny_space

CONFIRM: dict[str, Any] = {"top": 2, "seeds": 2}
OWN = Holdout(holdout=0.25, seed=0)


def space(folder: Path, **confirm: object) -> Space:
    return read_space(tiny_space(folder, confirm=CONFIRM | confirm))


def kept(of: Space, folder: Path) -> Path:
    """The run's folder, with its space in it."""
    folder.mkdir(parents=True)
    (folder / "space.yaml").write_text(of.document)
    return folder


def ask(path: Path, run: Path, *overrides: str, resume: bool = False) -> Space:
    found, _, _ = named(Request(path, run.name, run.parent, None, None, overrides, resume))
    return found


def test_each_seed_has_a_holdout_of_its_own(tmp_path: Path) -> None:
    of = space(tmp_path)
    assert of.base.data.validation == OWN and of.base.seed == 1
    assert blocks(of.base, of.plan.confirm) == tuple(
        Block(1 + number, replace(OWN, seed=number, classes="both")) for number in (1, 2)
    )


def test_fixed_holdouts_and_official_videos_are_those_of_the_search(tmp_path: Path) -> None:
    of = space(tmp_path, holdouts="fixed")
    assert blocks(of.base, of.plan.confirm) == (Block(2, OWN), Block(3, OWN))
    official = replace(of.base, data=replace(of.base.data, validation="official"))
    assert blocks(official, Repeats(top=1, seeds=2)) == (Block(2, "official"), Block(3, "official"))
    assert blocks(of.base, None) == ()


def test_seeds_go_on_behind_the_largest_one(tmp_path: Path) -> None:
    assert drawn(replace(OWN, seed=2**31 - 1), 1).seed == 0
    base = replace(space(tmp_path).base, seed=2**31 - 1)
    assert [block.seed for block in blocks(base, Repeats(seeds=2))] == [0, 1]


def test_official_seeds_are_those_that_the_confirmation_has_not_seen(tmp_path: Path) -> None:
    base = space(tmp_path).base
    assert official_seeds(base, Repeats(seeds=2)) == (4, 5), "behind the search's 1 and the confirmation's 2 and 3"
    assert official_seeds(base, Repeats(seeds=2, official_seeds=1)) == (4,)
    assert official_seeds(base, None) == official_seeds(base, OlderRepeats(seeds=2)) == (base.seed,)


def test_an_option_says_how_many_official_seeds_there_are(tmp_path: Path) -> None:
    path = tiny_space(tmp_path, confirm=CONFIRM)
    asked = Request(path, "a", tmp_path / "runs", None, None, (), False, official_seeds=1)
    found, _, _ = named(asked)
    assert found.plan.confirm == Repeats(**CONFIRM, official_seeds=1)
    assert asked.options("a", None, quiet=False) == ("--name", "a", "--official-seeds", "1")
    with pytest.raises(InputError) as error:
        named(replace(asked, official_seeds=0))
    assert error.value.messages == ["--official-seeds: search.confirm.official_seeds: must be >= 1, got 0"]


def test_without_a_confirmation_there_is_one_official_seed(tmp_path: Path) -> None:
    path = tiny_space(tmp_path, confirm=None)
    asked = Request(path, "a", tmp_path / "runs", None, None, (), False, official_seeds=1)
    found, _, _ = named(asked)
    assert found.plan.confirm is None
    with pytest.raises(InputError, match=r"--official-seeds: must be 1 where search\.confirm is null, got 3"):
        named(replace(asked, official_seeds=3))


def test_a_new_run_keeps_which_holdouts_it_has(tmp_path: Path) -> None:
    path = tiny_space(tmp_path, confirm=CONFIRM)
    found = ask(path, tmp_path / "runs" / "a")
    assert yaml.safe_load(found.document)["search"]["confirm"] == CONFIRM | {"holdouts": "redraw"}
    run = kept(found, tmp_path / "runs" / "a")
    assert read_kept(run / "space.yaml").plan.confirm == found.plan.confirm == Repeats(top=2, seeds=2)
    assert ask(path, run, resume=True) == found


def test_a_run_of_before_is_gone_on_with_as_it_was_unless_it_is_told_otherwise(tmp_path: Path) -> None:
    path = tiny_space(tmp_path, confirm=CONFIRM)
    run = kept(read_space(path), tmp_path / "runs" / "a")
    before = read_kept(run / "space.yaml")
    assert before.plan.confirm == OlderRepeats(top=2, seeds=2) and before.plan.confirm.holdouts == "fixed"
    assert not by_mean_curve(before.plan.confirm) and by_mean_curve(Repeats()) and not by_mean_curve(None)
    again = ask(path, run, resume=True)
    assert again.plan.confirm == before.plan.confirm and again.document == before.document
    told = ask(path, run, "search.confirm.holdouts=redraw", resume=True)
    assert told.plan.confirm == Repeats(top=2, seeds=2)
    assert ask(path, tmp_path / "runs" / "b").plan.confirm == Repeats(top=2, seeds=2), "a run of its own"


@pytest.mark.parametrize("confirm", [None, {"top": 1, "seeds": 2, "holdouts": "fixed"}])
def test_what_says_all_is_kept_as_it_is(tmp_path: Path, confirm: dict[str, object] | None) -> None:
    path = tiny_space(tmp_path, confirm=confirm)
    found = ask(path, tmp_path / "runs" / "a")
    assert yaml.safe_load(found.document)["search"]["confirm"] == confirm
    assert read_kept(kept(found, tmp_path / "runs" / "a") / "space.yaml").plan.confirm == found.plan.confirm
