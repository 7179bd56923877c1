"""A file with `compare:`, read: what each search is given, and what is refused where it stands."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from haan.errors import InputError
from haan.methods.names import CONFIGS
from haan.yamlconfig import plain
from search.space.comparisons import Comparison, read_comparison
from search.space.read import read_space
from tests.methods import tiny_of
from tests.paths import ROOT

HOLDOUT = {"holdout": 0.25, "seed": 0}
WTALC = {"space": "wtalc.yaml"}


def read(folder: Path, searches: Any, *overrides: str, **keys: Any) -> Comparison:
    """searches: of HAAN, W-TALC, ActionFormer and a student there are spaces on the same data."""
    for method in ("haan", "wtalc", "actionformer", "student"):
        base = plain(tiny_of(method, Path("data")))
        base["data"]["validation"] = HOLDOUT
        search = {"parameters": {"optim.lr": {"float": [1e-3, 1e-2]}}, "confirm": {"top": 1, "seeds": 2}}
        (folder / f"{method}.yaml").write_text(yaml.safe_dump({"base": base, "search": search}))
    path = folder / "c.yaml"
    found = {"title": "Some methods", "epochs": 9, "official_seeds": 2, "searches": searches} | keys
    path.write_text(yaml.safe_dump({"compare": found}, sort_keys=False))
    return read_comparison(path, overrides)


def test_every_search_has_the_budget_and_the_seeds_and_its_own_settings(tmp_path: Path) -> None:
    changes = {"optim.lr": 0.01, "search.confirm": {"top": 1, "seeds": 2, "holdouts": "fixed"}}
    mine = {"space": "wtalc.yaml", "set": changes}
    made = read(tmp_path, {"HAAN": {"space": "haan.yaml"}, "W-TALC": mine}, "seed=3", set={"search.objective": "last"})
    first, second = (one.space for one in made.entries)
    assert [one.run for one in made.entries] == ["haan", "w-talc"]
    for one in (first, second):
        assert one.plan.stop is not None and (one.plan.stop.epochs, one.plan.stop.waits) == (9, None)
        assert one.plan.confirm is not None and one.plan.confirm.official_seeds == 2
        assert (one.plan.trials, one.plan.objective, one.base.seed) == (9, "last", 3)
    assert (first.base.optim.lr, second.base.optim.lr) == (0.003, 0.01)
    assert second.plan.confirm is not None and second.plan.confirm.holdouts == "fixed"
    with pytest.raises(InputError, match=r"--set search.stop.epochs=3: is said by compare.epochs and compare.official"):
        read(tmp_path, {"HAAN": {"space": "haan.yaml"}, "W-TALC": mine}, "search.stop.epochs=3")


def test_a_student_is_taught_by_a_search_above_it(tmp_path: Path) -> None:
    student = {"space": "student.yaml", "teacher": "HAAN"}
    made = read(tmp_path, {"HAAN": {"space": "haan.yaml"}, "Student": student})
    assert [one.teacher for one in made.entries] == [None, "haan"]


HAAN = {"space": "haan.yaml"}


@pytest.mark.parametrize(
    ("searches", "keys", "message"),
    [
        ({"HAAN": HAAN}, {}, "c.yaml:6: compare.searches: must name two searches or more, got 1"),
        ({"HAAN": HAAN, "W": WTALC}, {"epochs": 0}, "c.yaml:3: compare.epochs: must be >= 1, got 0"),
        (
            {"HAAN": HAAN, "W": WTALC},
            {"official_seeds": 1},
            "c.yaml:4: compare.official_seeds: must be >= 2, for one seed shows no spread, got 1",
        ),
        ({"HAAN": HAAN, "W": WTALC}, {"trials": 3}, "c.yaml:10: compare.trials: unknown key; valid keys here: "),
        (
            {"HAAN": HAAN, "W": {"spaces": "wtalc.yaml"}},
            {},
            "c.yaml:9: compare.searches.W.spaces: unknown key; did you mean 'space'?",
        ),
        ({"HAAN": HAAN, "W": {}}, {}, "c.yaml:8: compare.searches.W.space: must name a space file, got nothing"),
        (
            {"HAAN": HAAN, "W": {"space": "wtalc.yaml", "set": {"optim.lr": -1}}},
            {},
            "c.yaml:9: compare.searches.W: --set: base.optim.lr: must be > 0, got -1",
        ),
        (
            {"HAAN": HAAN, "W": WTALC},
            {"set": {"data.validation": "official"}},
            "c.yaml:7: compare.searches.HAAN: data.validation must be by holdout, got official",
        ),
        (
            {"HAAN": HAAN, "W": WTALC},
            {"set": {"search.trials": 5}},
            "c.yaml:11: compare.set.search.trials: is said by compare.epochs and compare.official_seeds",
        ),
        (
            {"HAAN": HAAN, "W": {"space": "wtalc.yaml", "set": {"search.confirm.race": True}}},
            {},
            "c.yaml:9: compare.searches.W: search.confirm.race must be that of HAAN, False, got True",
        ),
        (
            {"HAAN": HAAN, "W": {"space": "wtalc.yaml", "set": {"search.start_with": [{"optim.lr": 0.005}]}}},
            {},
            "c.yaml:9: compare.searches.W: search.start_with must have the base in front, got another",
        ),
        (
            {"HAAN": HAAN, "W": {"space": "wtalc.yaml", "set": {"eval.report": [0.5]}}},
            {},
            "c.yaml:9: compare.searches.W: eval must be that of HAAN",
        ),
        (
            {"W-TALC": WTALC, "w talc": WTALC},
            {},
            "c.yaml:6: compare.searches.w talc: must have a name of its own for a folder, got w-talc, as W-TALC",
        ),
        (
            {"HAAN": HAAN, "W": {"space": "wtalc.yaml", "teacher": "HAAN"}},
            {},
            "c.yaml:10: compare.searches.W.teacher: must stand with method student, got method wtalc",
        ),
        (
            {"HAAN": HAAN, "S": {"space": "student.yaml"}},
            {},
            "c.yaml:9: compare.searches.S.teacher: must be a search above it of a method that is told no segments "
            "(HAAN), got nothing",
        ),
        (
            {"A": {"space": "actionformer.yaml"}, "S": {"space": "student.yaml", "teacher": "A"}},
            {},
            "c.yaml:10: compare.searches.S.teacher: must be a search above it of a method that is told no segments "
            "(none is), got 'A'",
        ),
    ],
)
def test_a_bad_file_is_refused_where_it_stands(
    tmp_path: Path, searches: Any, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, searches, **keys)
    assert error.value.messages[0].startswith(str(tmp_path / message))


@pytest.mark.parametrize("path", sorted((ROOT / "spaces").glob("compare-*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_comparison_has_a_line_for_every_method(path: Path) -> None:
    made = read_comparison(path)
    assert {one.space.base.method for one in made.entries} == set(CONFIGS)


def test_a_comparison_is_no_space(tmp_path: Path) -> None:
    read(tmp_path, {"HAAN": HAAN, "W-TALC": WTALC})
    with pytest.raises(InputError, match=r"c.yaml:1: compare: is of a file for search/table.py; a space has base: and"):
        read_space(tmp_path / "c.yaml")
