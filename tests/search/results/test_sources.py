"""What of an earlier run a search takes: its trials that lie in the space, its best ones first."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from haan.errors import InputError
from haan.yamlconfig import plain
from search.results.folder import RunFolder
from search.results.sources import FIRST, MOST, read_sources
from search.space.model import Space
from search.space.read import read_space
from search.space.resume import differences
from search.space.studies import study_of
from search.study import earlier
from tests.methods import tiny_of
from tests.search.earlier_runs import confirm_it, earlier_run
from tests.search.spaces import tiny_space


def asking(folder: Path, *roots: Path, **search: Any) -> Space:
    return read_space(tiny_space(folder, learn_from=[str(root) for root in roots], **search))


def test_the_best_come_first_and_pruned_ones_with_their_last_epoch(tmp_path: Path) -> None:
    space = asking(tmp_path, earlier_run(tmp_path))
    (source,) = read_sources(space, RunFolder(tmp_path / "new"))
    assert [one["concepts.clusters"] for one in source.best] == [5, 8, 7] and len(source.best) == FIRST
    assert [(one.value, one.step, one.pruned) for one in source.tried][-2:] == [(1.0, 0, False), (4.0, 3, True)]
    assert source.count == 6 and source.remark(learns=True).startswith("learns from ")
    assert "6 of its 6 trials" in source.remark(learns=True)
    assert "the best 3 of its 6 trials are tried first; this sampler learns nothing" in source.remark(learns=False)


def test_trials_beyond_a_range_are_left_out_and_said(tmp_path: Path) -> None:
    root = earlier_run(tmp_path)
    narrow = {"concepts.clusters": {"int": [6, 16]}, "loss.concept": {"float": [0.001, 1.0]}}
    (source,) = read_sources(asking(tmp_path, root, parameters=narrow), RunFolder(tmp_path / "new"))
    assert {one.params["concepts.clusters"] for one in source.tried} == {6, 7, 8, 9}
    assert {one.params["loss.concept"] for one in source.tried} == {0.01}, "what it did not search is its base's"
    assert "4 of its 6 trials, those in these ranges" in source.remark(learns=True)


def test_what_won_an_earlier_run_over_seeds_comes_before_its_luckiest(tmp_path: Path) -> None:
    """Trial 1 scored 9 once; trial 4, third in the search, has the higher mean over new seeds."""
    root = earlier_run(tmp_path, confirm={"top": 3, "seeds": 2})
    (source,) = read_sources(asking(tmp_path, root), RunFolder(tmp_path / "new"))
    assert source.winner is not None and source.winner.number == 1 and source.winner.params == source.best[0]
    confirm_it(root, {1: 6.0, 4: 8.0, 3: 7.0, 0: 5.0})
    (source,) = read_sources(asking(tmp_path, root), RunFolder(tmp_path / "new"))
    assert source.winner is not None and source.winner.number == 4
    assert [one["concepts.clusters"] for one in source.best] == [8, 5, 7]
    assert source.remark(learns=True).endswith(
        "; its winner (trial 4) first of all, and again when the best are confirmed"
    )
    (kept,) = earlier.kept({earlier.EARLIER: json.loads(json.dumps([asdict(source)]))})
    assert kept.winner == source.winner


def test_a_winner_beyond_the_ranges_is_said_by_its_setting(tmp_path: Path) -> None:
    narrow = {"concepts.clusters": {"int": [7, 16]}, "loss.pseudo": {"float": [0.0001, 1.0], "log": True}}
    (source,) = read_sources(asking(tmp_path, earlier_run(tmp_path), parameters=narrow), RunFolder(tmp_path / "new"))
    assert source.winner is not None and source.winner.params is None
    assert [one["concepts.clusters"] for one in source.best] == [8, 7]
    said = "; its winner (trial 1) lies beyond: concepts.clusters 5 (here a whole number in [7, 16])"
    assert source.remark(learns=True).endswith(said) and source.remark(learns=False).endswith(said)
    assert earlier.winners([source]) == {}


def test_what_a_winner_had_otherwise_and_is_not_searched_here_is_said(tmp_path: Path) -> None:
    only = {"concepts.clusters": {"int": [4, 16], "log": True}, "detect.alpha": {"sweep": "-0.4:0.4:0.2"}}
    root = earlier_run(tmp_path)
    space = read_space(tiny_space(tmp_path, epochs=6, learn_from=[str(root)], parameters=only))
    (source,) = read_sources(space, RunFolder(tmp_path / "new"))
    assert source.winner is not None and source.winner.params == {"concepts.clusters": 5}
    assert source.winner.apart == ["loss.pseudo 0.1 (here 0.001)", "optim.epochs 4 (here 6)"]
    assert source.remark(learns=True).endswith(
        ", though not with its loss.pseudo 0.1 (here 0.001), optim.epochs 4 (here 6)"
    )


def test_a_run_in_which_nothing_was_detected_has_no_winner(tmp_path: Path) -> None:
    (source,) = read_sources(asking(tmp_path, earlier_run(tmp_path, [0.0, 0.0])), RunFolder(tmp_path / "new"))
    assert source.winner is None and len(source.best) == 2


def test_of_many_trials_some_are_kept_the_best_among_them(tmp_path: Path) -> None:
    values = [float(number % 601) for number in range(1100)]
    (source,) = read_sources(asking(tmp_path, earlier_run(tmp_path, values)), RunFolder(tmp_path / "new"))
    assert len(source.tried) <= MOST and source.tried[0].value == 600.0


def test_a_study_that_holds_its_sources_needs_their_folders_no_more(tmp_path: Path) -> None:
    root, folder = earlier_run(tmp_path), RunFolder(tmp_path / "new")
    folder.root.mkdir()
    space = asking(tmp_path, root)
    study = study_of(space, name="new", journal=folder.journal, seed=1)
    assert len(read_sources(space, folder)) == 1, "killed before it kept them"
    earlier.keep(study.inner, read_sources(space, folder))
    (root / "space.yaml").unlink()
    assert read_sources(space, folder) == ()


def test_a_source_of_another_method_or_of_several_is_refused(tmp_path: Path) -> None:
    space = asking(tmp_path, root := earlier_run(tmp_path))
    document = yaml.safe_load((root / "space.yaml").read_text())
    rows = {"sampler": {"name": "grid"}, "rows": {"one": {}, "other": {"method": "wtalc"}}, "parameters": {}}
    other = {"base": plain(tiny_of("wtalc", Path("data"))), "search": {"parameters": {"optim.lr": {"choice": [0.003]}}}}
    for changed, methods in ((other, "wtalc"), ({**document, "search": rows}, "several methods")):
        (root / "space.yaml").write_text(yaml.safe_dump(changed))
        with pytest.raises(InputError) as caught:
            read_sources(space, RunFolder(tmp_path / "new"))
        expected = f"search.learn_from: must be of searches of haan, got {str(root)!r} of {methods}"
        assert list(caught.value.messages) == [expected]


@pytest.mark.parametrize("values", [[], None])
def test_what_is_no_search_with_a_complete_trial_is_refused_by_name(values: list[float] | None, tmp_path: Path) -> None:
    root = tmp_path / "nowhere" if values is None else earlier_run(tmp_path, values)
    with pytest.raises(InputError) as caught:
        read_sources(asking(tmp_path, root), RunFolder(tmp_path / "new"))
    rule = "must be folders of searches" if values is None else "must be of searches with a COMPLETE trial"
    (message,) = caught.value.messages
    assert message.startswith(f"search.learn_from: {rule}, got {str(root)!r}")


def test_a_resumed_search_keeps_what_it_learns_from(tmp_path: Path) -> None:
    old, new = asking(tmp_path, Path("a"), Path("b")), asking(tmp_path)
    assert differences(old, new) == ["search.learn_from: must stay a, b under --resume, got nothing"]
    assert differences(old, asking(tmp_path, Path("a"), Path("b"))) == []


def test_a_grid_learns_nothing(tmp_path: Path) -> None:
    grid = {"sampler": {"name": "grid"}, "pruner": {"name": "none"}, "parameters": {"concepts.clusters": [4, 5]}}
    with pytest.raises(InputError, match="search.learn_from: must be \\[\\] under grid, which tries its own points"):
        asking(tmp_path, Path("a"), **grid)
