"""Words in lines, and settings in short."""

import pytest

from haan.errors import InputError
from haan.words import aligned, amount, per_cent, seconds, settings, whole, wrapped


def test_lines_are_broken_at_blanks_and_hang() -> None:
    assert wrapped("Its settings: clusters 107 (base 50), top_k 8", 30) == [
        "Its settings: clusters 107",
        "    (base 50), top_k 8",
    ]
    assert wrapped("short", 30) == ["short"]
    assert wrapped("", 30) == [""]


def test_a_long_word_is_not_broken_nor_is_one_at_its_hyphens() -> None:
    assert wrapped("written to runs/demo-2026/best.yaml today", 12) == [
        "written to",
        "    runs/demo-2026/best.yaml",
        "    today",
    ]


def test_what_is_to_stay_whole_stays_on_one_line() -> None:
    text = " ".join(map(whole, ("row=all of it", "lr=0.1")))
    assert wrapped(text, 16, first="  ") == ["  row=all of it", "    lr=0.1"]


def test_a_share_is_said_in_whole_percent_with_a_blank() -> None:
    assert [per_cent(share) for share in (0, 0.426, 1)] == ["0 %", "43 %", "100 %"]


def test_a_terminal_of_no_width_is_no_error() -> None:
    assert wrapped("a b", 0) == ["a b"]


def test_a_setting_goes_by_the_last_part_of_its_key_unless_another_has_the_same() -> None:
    values = {"detect.alpha": 0.5, "loss.alpha": 0.25, "optim.lr": 1e-4, "row": "HAAN full"}
    assert settings(values) == ["detect.alpha=0.5", "loss.alpha=0.25", "lr=0.0001", "row=HAAN full"]


def test_columns_are_as_wide_as_their_longest_cell() -> None:
    assert aligned([["a", "bb", "c"], ["long", "b", ""]], texts=3) == ["a     bb  c", "long  b"]
    assert aligned([["", "x"], ["a", "10"]], texts=1) == ["    x", "a  10"], "figures to the right"


@pytest.mark.parametrize("text", ["1_0m", "nans", "infd", "0m", "-1h", "m", "", "1 m", "٣m", "1e999d"])
def test_a_duration_is_a_number_in_digits_and_a_unit(text: str) -> None:
    assert seconds("1.5h", "--time-budget") == 5400
    with pytest.raises(InputError, match="--time-budget: must be a number > 0 and a unit"):
        seconds(text, "--time-budget")


def test_amounts_of_one_line_have_one_unit() -> None:
    """It said `188 CPU-seconds` beside `0.1 CPU-hours`."""
    short = (188.0, 480.0, 84.0)
    assert [amount(one, "CPU", short) for one in short] == ["188 CPU-seconds", "480 CPU-seconds", "84 CPU-seconds"]
    long = (7200.0, 180.0, 4_000_000.0)
    assert [amount(one, "GPU", long) for one in long] == ["2.0 GPU-hours", "0.05 GPU-hours", "1,111.1 GPU-hours"]
    assert (amount(3599.0, "node"), amount(0.0, "node")) == ("3,599 node-seconds", "0 node-seconds")
