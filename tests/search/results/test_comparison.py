"""The table of several methods' searches: its figures by hand."""

from pathlib import Path

import optuna
import pytest

from haan.errors import InputError
from search.results.comparison import Compared, Kept, KeptRun, Line, cells, kept_file, markdown, read_kept
from search.results.confirm import Confirmed
from search.results.folder import RunFolder
from search.results.loaded import Run
from search.results.unseen import Unseen
from tests.search.results.repetitions import space


def scored(number: int, *scores: float) -> Confirmed:
    """With seeds 1, 2, and so on."""
    seeds = tuple(range(1, 1 + len(scores)))
    return Confirmed(number, number == 0, "chosen", seeds, scores, len(scores))


def made(folder: Path, *found: Unseen | None) -> Compared:
    run = Run(RunFolder(folder), space(folder), optuna.create_study())
    names = ("first", "second", "third")
    lines = [Line(name, run, one, 4, 30, 9, 0.5) for name, one in zip(names, found, strict=True)]
    return Compared(folder, Kept("Some methods", 30, {name: KeptRun(name, "a") for name in names}), tuple(lines))


def test_gains_and_differences_are_paired_by_seed(tmp_path: Path) -> None:
    """Differences 2, 3, 1 have mean 2 and sd 1: 2 +- t(0.975; 2) / sqrt(3) = 2 +- 4.303 x 0.577."""
    one = Unseen(scored(3, 12.0, 15.0, 12.0), scored(0, 10.0, 12.0, 11.0))
    other = Unseen(scored(0, 10.0, 12.0, 11.0))
    head, *rows = cells(made(tmp_path, one, other, None))
    assert head[2:6] == ["base", "winner", "gain", "against the first"]
    assert rows[0][1:6] == ["weak", "11.00 ± 1.00", "13.00 ± 1.73", "+2.00 (-0.48 to +4.48)", ""]
    assert rows[1][2:6] == ["11.00 ± 1.00", "11.00 ± 1.00", "", "-2.00 (-4.48 to +0.48)"], "its base won"
    assert rows[2][2:] == ["-", "-", "", "", "4", "30", "9", "0.50"]


def test_seeds_that_one_lacks_are_left_out_of_a_difference_and_a_search_without_a_winner_is_named(
    tmp_path: Path,
) -> None:
    short = Unseen(scored(3, 12.0, 15.0), scored(0, 10.0, 12.0, 11.0))
    long = Unseen(scored(0, 10.0, 12.0, 11.0))
    found = made(tmp_path, short, long, None)
    assert cells(found)[2][5] == "-2.50 (-8.85 to +3.85)"  # of 2 and 3: t(0.975; 1) x 0.5 = 6.353
    assert "NOT WHOLE: no winner and base yet of third." in markdown(found)


def test_a_winner_is_not_taken_for_a_base_that_was_not_trained(tmp_path: Path) -> None:
    found = made(tmp_path, Unseen(scored(3, 12.0, 15.0)), Unseen(scored(0, 10.0, 12.0)), None)
    assert cells(found)[1][2:5] == ["-", "13.50 ± 2.12", ""] and found.missing == ["first", "third"]


def test_what_a_comparison_was_asked_for_is_kept_and_what_differs_is_named(tmp_path: Path) -> None:
    kept = Kept("Methods", 9, {"HAAN": KeptRun("haan", "a"), "Student": KeptRun("student", "b", "haan")})
    kept_file(tmp_path).write_text(kept.text)
    assert read_kept(tmp_path) == kept and kept.differences(read_kept(tmp_path)) == []
    other = Kept("Methods", 8, {"HAAN": KeptRun("haan", "c"), "ASL": KeptRun("asl", "b")})
    assert kept.differences(other) == ["epochs", "HAAN", "Student", "ASL"]


def test_a_file_of_that_name_that_is_none_of_ours_is_refused(tmp_path: Path) -> None:
    kept_file(tmp_path).write_text("runs: 1\n")
    with pytest.raises(InputError, match="must be as search/table.py wrote it, got another"):
        read_kept(tmp_path)
