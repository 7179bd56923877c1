"""`haan split`: what it promises, on made samples and on FineGym's; and that it says what either way costs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haan.__main__ import app
from haan.convert.deal import Dealt, split
from haan.convert.finegym import Sample, read_samples
from haan.errors import InputError
from tests.paths import SHARED

FINEGYM = SHARED / "finegym"


def haan(*arguments: object) -> None:
    """Runs the command line in this process; InputError comes out."""
    app([str(argument) for argument in arguments], standalone_mode=False)


def routine(video: int, event: int, labels: Sequence[int]) -> list[Sample]:
    """The samples of one event."""
    name = f"E_{event:06d}_{event + 9:06d}"
    return [Sample(f"video{video:06d}", name, f"A_{i:04d}_{i + 1:04d}", label) for i, label in enumerate(labels)]


def drawn(seed: int, videos: int = 12, events: int = 6, classes: int = 5) -> list[Sample]:
    """Events of one to six samples, class 0 the commonest."""
    rng = np.random.default_rng(seed)
    chance = np.arange(classes, 0, -1) / (classes * (classes + 1) / 2)
    return [
        sample
        for video in range(videos)
        for event in range(events)
        for sample in routine(video, 10 * event, rng.choice(classes, rng.integers(1, 7), p=chance).tolist())
    ]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), by=st.sampled_from(["event", "video"]), share=st.sampled_from([0.6, 0.75]))
def test_it_keeps_what_it_promises(seed: int, by: str, share: float) -> None:
    samples = drawn(seed)
    found = split(samples, by, tries=20, seed=seed, share=share, overall=0.77)
    assert found.samples == tuple(samples) and found.on_both(by) == 0
    assert (found.shares >= share).all() and found.share >= 0.77
    for side in (True, False):
        labels = {s.label for s, t in zip(samples, found.trains.tolist(), strict=True) if t == side}
        assert labels == {s.label for s in samples}, "every class on both sides"


def test_the_same_seed_gives_the_same_split() -> None:
    one, same, other = (split(drawn(1), "event", tries=5, seed=seed).trains.tolist() for seed in (3, 3, 4))
    assert one == same != other


def test_more_tries_bring_it_nearer() -> None:
    def distance(found: Dealt) -> float:
        return abs(found.share - 0.75) + float(np.abs(found.shares - 0.75).mean())

    few, many = (distance(split(drawn(2), "event", tries=tries, seed=0, overall=0.75)) for tries in (1, 50))
    assert many < few


def test_shares_are_counted_by_hand() -> None:
    # Class 0: 2 of 3 samples train, class 7: 1 of 2; class 3 has none. Event 0 of video 0 stands on both sides.
    samples = [*routine(0, 0, [0, 0, 7]), *routine(1, 0, [0, 7])]
    found = Dealt(tuple(samples), np.array([True, True, False, False, True]))
    assert found.share == 3 / 5
    assert found.shares.tolist() == [2 / 3, 1 / 2]
    assert found.on(True, "event") == {"video000000_E_000000_000009", "video000001_E_000000_000009"}
    assert found.on_both("event") == 2 and found.on_both("video") == 2


def test_a_small_case_has_one_answer() -> None:
    # Four events of one sample a class: three train.
    samples = [sample for event in range(4) for sample in routine(event, 0, [0, 1])]
    found = split(samples, "event", tries=1, overall=0.75)
    assert found.share == 0.75 and found.shares.tolist() == [0.75, 0.75]


def test_a_class_that_can_t_be_split_is_named() -> None:
    samples = [*drawn(0), *routine(99, 0, [5])]
    expected = (
        r"--by event: must leave every class 75 % of its samples in training and one in validation, which no split of "
        r"73 events in 3 tries did; class 5 stands in 1 event\(s\) alone"
    )
    with pytest.raises(InputError, match=expected):
        split(samples, "event", tries=3)


def test_a_class_too_rare_for_the_share_is_named() -> None:
    # Two samples of class 5 in two events: one must validate, so at most half can train.
    samples = [*drawn(0), *routine(98, 0, [5]), *routine(99, 0, [5])]
    with pytest.raises(InputError, match=r"class 5 stands in 2 event\(s\) alone"):
        split(samples, "event", tries=3)


def files(folder: Path, samples: Sequence[Sample], train: int) -> tuple[Path, Path]:
    paths = folder / "train.txt", folder / "val.txt"
    for path, part in zip(paths, (samples[:train], samples[train:]), strict=True):
        path.write_text("".join(f"{sample.line}\n" for sample in part))
    return paths


@pytest.mark.parametrize("by", ["event", "video"])
def test_the_command_writes_what_convert_reads(tmp_path: Path, by: str, capsys: pytest.CaptureFixture[str]) -> None:
    samples = drawn(5)
    haan("split", *files(tmp_path, samples, 100), "--by", by, "--out", tmp_path / "out", "--tries", 20, "--seed", 2)
    train, val = (read_samples(tmp_path / "out" / f"gym99_{part}_element.txt") for part in ("train", "val"))
    expected = split(samples, by, 20, 2)
    assert {s.line for s in train} == {s.line for s, t in zip(samples, expected.trains, strict=True) if t}
    assert {s.line for s in train + val} == {s.line for s in samples} and len(train + val) == len(samples)
    out = capsys.readouterr().out.splitlines()
    rows = {line[:9].strip(): line for line in out[1:4]}
    assert list(rows) == ["as given", "by event", "by video"]
    assert f"100 of {len(samples)}, {10000 / len(samples):.1f} %" in rows["as given"]
    assert f"{expected.trains.sum()} of {len(samples)}, {100 * expected.share:.1f} %" in rows[f"by {by}"]
    assert f"{100 * expected.shares.min():.1f} to {100 * expected.shares.max():.1f} %" in rows[f"by {by}"]
    assert rows["by event"].split()[-5] == "0" and rows["by video"].split()[-1] == "0", "none on both sides"
    assert out[4].startswith("By source video nothing seen in training is filmed in a source video of validation")
    assert out[-1] == f"by {by}; written to {tmp_path / 'out'}"


def test_where_source_videos_can_t_be_kept_apart_events_still_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = [sample for event in range(8) for sample in routine(0, 10 * event, [0, 1])]
    haan("split", *files(tmp_path, samples, 4), "--out", tmp_path / "out")
    said = capsys.readouterr()
    assert "note: --by video: must leave every class 75 % of its samples in training" in said.err
    assert "by video" not in said.out and (tmp_path / "out" / "gym99_val_element.txt").exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--share", 1), "--share: must be > 0 and < 1, got 1.0"),
        (("--overall", 0), "--overall: must be > 0 and < 1, got 0.0"),
    ],
)
def test_bad_options_are_named(tmp_path: Path, options: Sequence[object], expected: str) -> None:
    with pytest.raises(InputError) as error:
        haan("split", *files(tmp_path, drawn(5), 100), "--out", tmp_path / "out", *options)
    assert str(error.value) == expected and not (tmp_path / "out").exists()


def test_a_sample_in_both_files_is_named(tmp_path: Path) -> None:
    train, val = files(tmp_path, drawn(5), 100)
    first = train.read_text().splitlines()[0]
    val.write_text(val.read_text() + first)
    with pytest.raises(InputError) as error:
        haan("split", train, val, "--out", tmp_path / "out")
    assert str(error.value) == f"{val}: must hold other samples than the first file, got {first!r} in both"


def test_a_byte_order_mark_is_no_part_of_a_source_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, val = files(tmp_path, drawn(5), 100)
    haan("split", train, val, "--by", "video", "--out", tmp_path / "plain", "--tries", 5)
    expected = capsys.readouterr().out.replace("plain", "marked")
    for path in (train, val):
        path.write_text(path.read_text(), encoding="utf-8-sig")
    haan("split", train, val, "--by", "video", "--out", tmp_path / "marked", "--tries", 5)
    assert capsys.readouterr().out == expected
    for file in ("gym99_train_element.txt", "gym99_val_element.txt"):
        assert (tmp_path / "marked" / file).read_bytes() == (tmp_path / "plain" / file).read_bytes()


@pytest.mark.skipif(not FINEGYM.is_dir(), reason="needs shared/data/finegym")
@pytest.mark.parametrize("tries", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_it_reaches_the_quality_of_the_authors_split(tries: int) -> None:
    parts = [read_samples(FINEGYM / f"gym99_{part}_element_new.txt") for part in ("train", "val")]
    samples = [*parts[0], *parts[1]]
    theirs = Dealt(tuple(samples), np.arange(len(samples)) < len(parts[0]))
    assert (theirs.on_both("event"), theirs.on_both("video"), len(samples)) == (0, 175, 34841)
    assert (round(100 * theirs.shares.min(), 1), round(100 * theirs.shares.max(), 1)) == (75.0, 84.1)
    by_event = split(samples, "event", tries)
    assert by_event.on_both("event") == 0 and len(by_event.shares) == 99
    assert by_event.shares.min() >= 0.75 and by_event.share >= 0.77
    assert tries < 100 or by_event.shares.max() <= theirs.shares.max()
    by_video = split(samples, "video", tries)
    assert by_video.on_both("event") == by_video.on_both("video") == 0
    assert by_video.shares.min() >= 0.75 and by_video.share >= 0.77
