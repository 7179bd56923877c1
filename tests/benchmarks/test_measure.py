"""The benchmarks' own arithmetic, table and file; the speeds are in test_ratios."""

import json
from dataclasses import replace
from io import StringIO

import faiss
import torch
from rich.console import Console

from tests.benchmarks.__main__ import record, show
from tests.benchmarks.measure import Problem, Rival, Row, Skipped, compare, in_turns, threads


def row(ours_s: tuple[float, ...], rival_s: tuple[float, ...], limit: float | None = None) -> Row:
    return Row(
        work="step", size="small", about="of few clips", rival="oracle", ours_s=ours_s, rival_s=rival_s, limit=limit,
        clock="wall", threads=2,
    )  # fmt: skip


SKIPPED = Skipped(work="k-means", size="small", rival="scikit-learn", reason="scikit-learn is not installed")


def shown(*results: Row | Skipped) -> str:
    text = StringIO()
    show({"cpu": "abacus"}, results, Console(file=text, width=200))
    return text.getvalue()


def test_the_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    # 1/2, 6/2 and 2/8: the median is 1/2, where the ratio of the medians would be 2/2. The fastest: 1/2.
    one = row((1.0, 6.0, 2.0), (2.0, 2.0, 8.0))
    assert (one.ratio, one.ratio_of_fastest) == (0.5, 0.5)
    assert one.quartiles == (0.375, 1.75)  # half way from 0.5 to 0.25, and from 0.5 to 3
    assert row((3.0,), (2.0,)).quartiles == (1.5, 1.5)


def test_works_take_turns_and_the_first_round_does_not_count() -> None:
    calls = []
    seconds = in_turns({name: lambda i, name=name: calls.append((name, i)) for name in "ab"}, rounds=2)
    assert calls == [("a", 0), ("b", 0), ("b", 0), ("a", 0), ("a", 1), ("b", 1)]
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}


def test_one_thread_is_measured_in_cpu_time_and_the_threads_come_back() -> None:
    before = torch.get_num_threads(), faiss.omp_get_max_threads()
    problem, rival = Problem("small", "nothing"), Rival("nothing", lambda i: None, limit=3)
    with threads(1):
        (alone,) = compare("nothing", problem, lambda i: None, [rival], rounds=1)
    with threads(2):
        (two,) = compare("nothing", problem, lambda i: None, [rival], rounds=1)
    assert (torch.get_num_threads(), faiss.omp_get_max_threads()) == before
    assert [(one.threads, one.clock, one.limit) for one in (alone, two)] == [(1, "cpu", 3), (2, "wall", 3)]


def test_the_table_is_whole_and_marks_what_is_over_its_limit() -> None:
    text = shown(row((3.0,), (2.0,), limit=1.5), row((3.1,), (2.0,), limit=1.5), SKIPPED)
    assert "cpu abacus" in text
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert [line[8] for line in lines[2:5]] == ["1.5", "1.5 OVER", ""]
    assert lines[2][:6] == ["step", "small", "oracle", "3 s", "2 s", "1.5"]
    assert "small: of few clips" in text
    assert "k-means, small, scikit-learn: skipped, scikit-learn is not installed" in text


def test_the_summary_has_a_line_a_rival_and_a_column_a_size() -> None:
    first, second = row((3.0,), (2.0,), limit=1.5), replace(row((0.001,), (0.004,), limit=1.5), size="finegym")
    lines = shown(first, second, replace(first, size="60 trials")).split("In short")[1].splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    assert cells[0] == ["work", "rival", "threads", "small", "middle", "fineaction", "finegym", "other"]
    assert cells[2] == ["step", "oracle", "2 wall", "1.5 of 1.5 (3 s)", "", "", "0.25 of 1.5 (1 ms)", ""]
    assert cells[3] == ["step, 60 trials", "oracle", "2 wall", "", "", "", "", "1.5 of 1.5 (3 s)"]


def test_the_file_holds_every_second_measured() -> None:
    got = json.loads(record({"cpu": "abacus"}, [row((1.0, 2.0), (4.0, 4.0)), SKIPPED]))
    assert got["machine"] == {"cpu": "abacus"}
    assert got["rows"][0]["ours_s"] == [1.0, 2.0] and got["rows"][0]["rival_s"] == [4.0, 4.0]
    assert got["rows"][0]["ratio"] == 0.375
    assert got["skipped"][0]["reason"] == "scikit-learn is not installed"
