"""Points that a search starts with, and which trial is the base then."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from haan.errors import InputError
from haan.yamlconfig import dump
from search.space.model import Space, base_number, front, is_base, with_values
from search.space.read import read_space, space_of, space_tree
from search.space.resume import differences
from search.space.studies import study_of
from tests.search.spaces import tiny_space

BASE = {"concepts.clusters": 8, "loss.pseudo": 0.001}


def started(folder: Path, start_with: Any, **search: Any) -> Space:
    return read_space(tiny_space(folder, start_with=start_with, **search))


def left(folder: Path, **values: Any) -> Path:
    """A run folder that holds its winner's configuration alone; values: of it, dots as `__`."""
    base = started(folder, "base").base
    best = with_values(base, {key.replace("__", "."): value for key, value in values.items()})
    run = folder / "runs" / "a"
    run.mkdir(parents=True)
    (run / "best.yaml").write_text(dump(best))
    return run


@pytest.mark.parametrize("start_with", ["base", ["base"], [{}]])
def test_the_base_is_what_a_search_starts_with_unless_told(tmp_path: Path, start_with: Any) -> None:
    space = started(tmp_path, start_with)
    assert front(space) == [BASE] and base_number(space) == 0 and is_base(space, 0, BASE)


def test_an_entry_has_the_base_values_that_it_leaves_out_and_the_base_goes_before_all(tmp_path: Path) -> None:
    space = started(tmp_path, [{"concepts.clusters": 5}, {"loss.pseudo": 0.5}, "base", {"concepts.clusters": 5}])
    assert front(space) == [BASE, BASE | {"concepts.clusters": 5}, BASE | {"loss.pseudo": 0.5}]
    assert base_number(space) == 0


def test_without_the_base_no_trial_is_the_base(tmp_path: Path) -> None:
    space = started(tmp_path, [{"concepts.clusters": 5}])
    assert front(space) == [BASE | {"concepts.clusters": 5}]
    assert base_number(space) is None and not is_base(space, 0, BASE)


def test_a_run_gives_the_values_of_what_it_won_and_a_kept_space_does_without_it(tmp_path: Path) -> None:
    run = left(tmp_path, concepts__clusters=12, loss__pseudo=1e-4, loss__coarse=0.7)
    space = started(tmp_path, ["base", str(run)])
    won = {"concepts.clusters": 12, "loss.pseudo": 1e-4}
    assert front(space) == [BASE, won]
    (run / "best.yaml").unlink()
    kept = tmp_path / "space.yaml"
    kept.write_text(space.document)
    assert front(read_space(kept)) == [BASE, won]


def test_what_a_run_won_beyond_a_range_is_refused_by_key_and_range(tmp_path: Path) -> None:
    run = left(tmp_path, concepts__clusters=17)
    with pytest.raises(InputError) as caught:
        started(tmp_path, [str(run)])
    (message,) = caught.value.messages
    rule = "concepts.clusters: must be a whole number in [4, 16], as search.parameters has it, got 17"
    assert message.endswith(f": search.start_with.{run}.{rule}") and "tiny.yaml:" in message


def test_a_study_tries_them_in_their_order(tmp_path: Path) -> None:
    space = started(tmp_path, [{"concepts.clusters": 5}, {"concepts.clusters": 6}, "base"])
    study = study_of(space, name="x", journal=None, seed=1)
    study.start_with(front(space))
    assert [study.ask().params["concepts.clusters"] for _ in range(3)] == [8, 5, 6]


def test_an_option_may_give_them(tmp_path: Path) -> None:
    tree = space_tree(tiny_space(tmp_path), ("search.start_with=[{concepts.clusters: 5}]",))
    space = space_of(tree, "x")
    assert front(space) == [BASE | {"concepts.clusters": 5}]
    assert yaml.safe_load(space.document)["search"]["start_with"] == [{"concepts.clusters": 5}]


def test_a_resumed_search_takes_more_of_them_but_keeps_or_lacks_its_base(tmp_path: Path) -> None:
    other = {"concepts.clusters": 5}
    with_base, more, without = (started(tmp_path, one) for one in ("base", [other, "base"], [other]))
    assert differences(with_base, more) == []
    rule = "search.start_with: must stay {} the base under --resume, got it {} the base"
    assert differences(more, without) == [rule.format("with", "without")]
    assert differences(without, more) == [rule.format("without", "with")]
