"""The table of winners: what is trained, how runs are paired, what the rows say."""

import dataclasses
from pathlib import Path
from textwrap import indent

import pytest

from haan.yamlconfig import dump
from tests.benchmarks.winners import Gains, Searched, gains, read, rows, scored
from tests.planted import tiny_config, tiny_table


def searched(name: str, root: Path, clusters: int = 8, alpha: float = 0.2) -> Searched:
    base = tiny_config(root / "data", epochs=2)
    changed = dataclasses.replace(base.concepts, clusters=clusters)
    detect = dataclasses.replace(base.detect, alpha=alpha)
    return Searched(name, dataclasses.replace(base, concepts=changed, detect=detect), base, (10, 4))


def test_a_base_that_won_gains_by_its_setting_alone(tmp_path: Path) -> None:
    base, (same, other) = gains([searched("same", tmp_path), searched("other", tmp_path, 4)], [3, 4])
    config = same.run.base
    table, _ = tiny_table(config)
    values = [scored(config, table, [config.detect, same.run.winner.detect], seed) for seed in (3, 4)]
    assert base == [value[config.detect] for value in values]
    assert same.worth == [value[same.run.winner.detect] for value in values]
    assert same.over_tuned == [0.0, 0.0] and any(same.over_own)
    assert any(other.over_tuned), "another number of clusters"


def test_a_run_is_read_with_what_it_trained(tmp_path: Path) -> None:
    """Official videos chose nothing, so they are not of the search's cost; a trial that failed early has no epochs."""
    run = searched("x", tmp_path)
    (tmp_path / "best.yaml").write_text(dump(run.winner, whole=True))
    space = "base:\n" + indent(dump(run.base), "  ") + "search: {parameters: {concepts.top_k: {int: [1, 3]}}}\n"
    (tmp_path / "space.yaml").write_text(space)
    (tmp_path / "trials.csv").write_text("number,epochs\n0,2\n1,\n2,1\n")
    (tmp_path / "confirm.csv").write_text("videos,epochs\nholdout,2\nofficial,5\nholdout,1\n")
    found = read(tmp_path)
    assert (found.winner, found.base, found.epochs) == (run.winner, run.base, (3, 3))


def test_rows_have_means_over_seeds_then_over_searches_and_the_worst(tmp_path: Path) -> None:
    one, two = (searched(name, tmp_path) for name in ("new-1", "new-2"))
    found = [Gains(one, [5.0, 7.0], [1.0, 3.0], [0.0, 0.0]), Gains(two, [4.0, 4.0], [-1.0, 1.0], [-2.0, 0.0])]
    table = rows([4.0, 4.0], found)
    assert [row[0] for row in table] == ["run", "base", "new-1", "new-2", "new: 2 searches", "new: worst"]
    assert table[2][4].startswith("6.00") and table[2][5].startswith("+2.00 (")
    # Means 2 and 0: mean 1, sd 1.414, so 1 +- t(0.975; 1) = 12.706 x 1.
    assert table[4][1:6] == ["20", "8", "", "5.00", "+1.00 (-11.71 to +13.71)"]
    assert table[5][5:] == ["+0.00", "-1.00"]


@pytest.mark.parametrize("names", [("old-1", "new-1"), ("one",)])
def test_searches_alone_of_their_kind_have_no_mean(names: tuple[str, ...], tmp_path: Path) -> None:
    table = rows([4.0, 5.0], [Gains(searched(name, tmp_path), [5.0, 7.0], [1.0, 3.0], [0.0, 1.0]) for name in names])
    assert len(table) == 2 + len(names)
