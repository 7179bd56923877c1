"""Planted data sets: the same bytes for a seed, the promised structure, and folders that are whole or absent."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from haan.config import Data, Plant
from haan.data import plant as module
from haan.data.layout import write_objects
from haan.data.npy import read_objects
from haan.data.plant import Like, Timeline, Vocabulary, ensure, plant, render, vocabulary
from haan.errors import InputError
from tests.haan.commands import haan
from tests.paths import SHARED

SMALL = Plant(train_videos=12, validation_videos=6, dim=16, fine_classes=6, coarse_classes=2)
FINEGYM = SHARED / "finegym"
FILES = {
    "video_names.npy", "labels.npy", "segments.npy", "sec2clip_ratios.npy", "fine_to_coarse_mappings.json",
    "classes.json", "features.npy", "planted.json",
}  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def objects(folder: Path, key: str) -> list:
    return list(read_objects(folder / f"{key}.npy", key))


def data(root: Path, settings: Plant | None = SMALL, train_videos: int = 12) -> Data:
    return Data(root=str(root), features="features.npy", train_videos=train_videos, plant=settings)


def video(segments: list[list[float]], labels: list[list[int]], num_clips: int = 8) -> Timeline:
    return Timeline("v", 1.0, segments, labels, num_clips)


def quiet(monkeypatch: pytest.MonkeyPatch) -> Vocabulary:
    """Renders atoms alone: no video offset, no context in actions. Fine class k of coarse class k: atoms 2k, 2k + 1."""
    monkeypatch.setattr(module, "VIDEO_OFFSET_NORM", 0.0)
    monkeypatch.setattr(module, "CONTEXT_IN_ACTION", 0.0)
    return Vocabulary(np.eye(8, dtype=np.float32), [[0, 1], [2, 3]], [[0], [2]], [4, 5], [[6], [7]])


def test_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (contents(plant(tmp_path / name, SMALL)) for name in "ab")
    assert set(first) == FILES
    assert first == second


def test_another_seed_gives_other_videos_and_features(tmp_path: Path) -> None:
    first = contents(plant(tmp_path / "a", SMALL))
    second = contents(plant(tmp_path / "b", replace(SMALL, seed=1)))
    assert all(first[name] != second[name] for name in ("features.npy", "labels.npy", "segments.npy"))


def test_noise_leaves_the_timelines_as_they_were(tmp_path: Path) -> None:
    first = contents(plant(tmp_path / "a", SMALL))
    second = contents(plant(tmp_path / "b", replace(SMALL, noise=2.0)))
    assert {name for name in FILES if first[name] != second[name]} == {"features.npy", "planted.json"}


def test_noise_has_the_norm_that_is_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    words = quiet(monkeypatch)
    wide = replace(words, atoms=np.eye(8, 4096, dtype=np.float32))
    clean, noisy = (render(video([], [], num_clips=50), wide, noise, np.random.default_rng(0)) for noise in (0.0, 0.5))
    assert np.linalg.norm(noisy - clean, axis=1) == pytest.approx(0.5 * module.NOISE_NORM, rel=0.05)


def test_the_layout_is_the_published_one(tmp_path: Path) -> None:
    root = plant(tmp_path / "a", SMALL)
    names = np.load(root / "video_names.npy", allow_pickle=False)
    ratios = np.load(root / "sec2clip_ratios.npy", allow_pickle=False)
    features, segments, labels = (objects(root, key) for key in ("features", "segments", "labels"))
    mapping = json.loads((root / "fine_to_coarse_mappings.json").read_text())
    assert len(set(names)) == len(features) == len(segments) == len(labels) == len(ratios) == 18
    assert mapping == {"0": 0, "1": 0, "2": 0, "3": 1, "4": 1, "5": 1}
    for clips, times, pairs in zip(features, segments, labels, strict=True):
        assert clips.dtype == np.float32 and clips.shape[1] == 16 and 20 <= len(clips) <= 60
        assert 1 <= len(times) == len(pairs) <= 5
        assert all(mapping[str(fine)] == coarse for coarse, fine in pairs)
        assert len({coarse for coarse, _ in pairs}) <= 2
        flat = np.ravel(times)
        assert (np.diff(flat) >= 0).all() and flat[0] >= 0 and flat[-1] * 1.5 <= len(clips)
        assert all(end - start > 1 / 1.5 for start, end in times)  # longer than one clip


@pytest.mark.parametrize("seed", range(5))
def test_every_class_trains_in_two_videos_and_stands_in_validation(tmp_path: Path, seed: int) -> None:
    labels = objects(plant(tmp_path / "a", replace(SMALL, seed=seed)), "labels")
    train, validation = (
        [sum(fine in {k for _, k in video} for video in part) for fine in range(6)]
        for part in (labels[:12], labels[12:])
    )
    assert min(train) >= 2 and min(validation) >= 1


def test_too_few_training_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.plant\.train_videos: .* 6 fine classes .*12 videos.* got 1"):
        plant(tmp_path / "a", replace(SMALL, train_videos=1))
    assert not list(tmp_path.iterdir())


def test_sequences_share_most_atoms_with_siblings_and_own_one_or_two() -> None:
    classes = module._made_classes(fine=30, coarse=3)
    words = vocabulary(classes, dim=16, seed=0)
    elsewhere = [{a for j, s in enumerate(words.sequences) if j != k for a in s} for k in range(30)]
    for k, (sequence, coarse) in enumerate(zip(words.sequences, classes.coarse_of_fine, strict=True)):
        own = set(sequence) - set(words.shared[coarse])
        assert 3 <= len(sequence) == len(set(sequence)) <= 5
        assert 1 <= len(own) <= 2 and len(own) < len(sequence) / 2
        assert not own & elsewhere[k] and set(sequence) & elsewhere[k]
    assert np.linalg.norm(words.atoms, axis=1) == pytest.approx(1)


def test_an_action_walks_through_its_sequence_and_its_ends_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    words = quiet(monkeypatch)
    clips = render(video([[1.5, 5.5]], [[0, 0]]), words, 0.0, np.random.default_rng(0))
    # 4 clips in 2 atoms: atom 0 from 1.5 to 3.5, atom 1 from 3.5 to 5.5; the rest of a clip's time is context.
    assert clips[:, 0].tolist() == [0, 0.5, 1, 0.5, 0, 0, 0, 0]
    assert clips[:, 1].tolist() == [0, 0, 0, 0.5, 1, 0.5, 0, 0]
    assert clips[:, 4:].sum(axis=1).tolist() == [1, 0.5, 0, 0, 0, 0.5, 1, 1]


def test_favourite_contexts_stand_only_in_videos_of_their_coarse_class(monkeypatch: pytest.MonkeyPatch) -> None:
    words = quiet(monkeypatch)
    clips = render(video([[0, 2]], [[1, 1]], num_clips=400), words, 0.0, np.random.default_rng(0))
    assert clips[:, 6].sum() == 0
    assert 0.15 < clips[:, 7].mean() < 0.45  # SHORTCUT is 0.3


def test_actions_at_the_same_time_share_a_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    words = quiet(monkeypatch)
    clips = render(video([[0, 4], [2, 6]], [[0, 0], [1, 1]]), words, 0.0, np.random.default_rng(0))
    # The second half of the first action (atom 1) meets the first half of the second one (atom 2).
    assert clips[2].tolist() == [0, 0.5, 0.5, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("segment", [[3.0, 2.0], [2.0, 2.0], [50.0, 60.0], [-9.0, -8.0]])
def test_segments_that_make_no_sense_show_nothing(monkeypatch: pytest.MonkeyPatch, segment: list[float]) -> None:
    words = quiet(monkeypatch)
    clips = render(video([segment], [[0, 0]]), words, 0.0, np.random.default_rng(0))
    assert not clips[:, :4].any()


def published(folder: Path, videos: list[list[list[int]]], segments: list[list[list[float]]]) -> Path:
    """Annotation files as the authors publish them: classes 0 and 1 of coarse class 0, class 2 of coarse class 1."""
    folder.mkdir()
    write_objects(folder / "video_names.npy", [f"v{i}" for i in range(len(videos))])
    write_objects(folder / "labels.npy", videos)
    write_objects(folder / "segments.npy", segments)
    np.save(folder / "sec2clip_ratios.npy", np.full(len(videos), 2.0))
    (folder / "fine_to_coarse_mappings.json").write_text('{"0": 0, "1": 0, "2": 1}')
    return folder


def test_a_choice_of_real_videos_keeps_every_class_in_training(tmp_path: Path) -> None:
    one, rare = [[0, 0]], [[0, 1], [1, 2]]
    labels, segments = [one] * 9 + [rare] + [one] * 3, [[[0.0, 1.0]]] * 9 + [[[0.0, 1.0]] * 2] + [[[0.0, 1.0]]] * 3
    like = Like(annotations=published(tmp_path / "real", labels, segments), train_videos=10)
    root = plant(tmp_path / "a", replace(SMALL, train_videos=2, validation_videos=2), like)
    assert objects(root, "labels") == [one, rare, one, one]
    with pytest.raises(InputError, match=r"data\.plant\.train_videos: must be enough .* got 1, which loses 1 of 3"):
        plant(tmp_path / "b", replace(SMALL, train_videos=1, validation_videos=2), like)
    with pytest.raises(InputError, match=r"data\.plant\.validation_videos: must be <= the 3 such videos .* got 4"):
        plant(tmp_path / "b", replace(SMALL, train_videos=2, validation_videos=4), like)


def test_the_number_of_clips_is_what_the_timeline_needs_or_a_fixed_one(tmp_path: Path) -> None:
    labels, segments = [[[0, 0], [0, 1], [1, 2]], [[0, 0]]], [[[0.0, 1.0], [1.0, 2.0], [9.0, 30.2]], [[0.0, 0.1]]]
    folder = published(tmp_path / "real", labels, segments)
    settings = replace(SMALL, train_videos=1, validation_videos=1)
    ragged = objects(plant(tmp_path / "a", settings, Like(annotations=folder, train_videos=1)), "features")
    assert 61 + 1 <= len(ragged[0]) <= 61 + 6  # ceil(30.2 s x 2 clips/s) and the background after it
    assert 1 + 1 <= len(ragged[1]) <= 1 + 6
    even = plant(tmp_path / "b", settings, Like(annotations=folder, train_videos=1, clips=7))
    assert np.load(even / "features.npy", allow_pickle=False).shape == (2, 7, 16)
    assert json.loads((even / "planted.json").read_text())["like"]["clips"] == 7


def test_the_command_prints_the_settings_with_the_classes_that_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    like = published(tmp_path / "real", [[[0, 0], [0, 1], [1, 2]], [[0, 0]]], [[[0.0, 1.0]] * 3, [[0.0, 1.0]]])
    haan("plant", "--like", like, "--train-videos", 1, "--videos", "1,1", "--dim", 16, "--out", tmp_path / "a")
    settings = capsys.readouterr().out.splitlines()[-1]
    assert "'fine_classes': 3, 'coarse_classes': 2" in settings and "'train_videos': 1" in settings


def test_labels_outside_the_mapping_are_refused(tmp_path: Path) -> None:
    folder = published(tmp_path / "real", [[[0, 0]], [[0, 2]]], [[[0.0, 1.0]], [[0.0, 1.0]]])
    with pytest.raises(
        InputError, match=r"labels\.npy: labels: video 1 .*must have coarse class 1 for fine class 2.* got 0"
    ):
        plant(tmp_path / "a", replace(SMALL, train_videos=1), Like(annotations=folder, train_videos=1))


@pytest.mark.skipif(not FINEGYM.is_dir(), reason="real annotations are not here")
def test_real_timelines_keep_their_segments_and_labels(tmp_path: Path) -> None:
    like = Like(annotations=FINEGYM, train_videos=3775)
    settings = Plant(train_videos=60, validation_videos=20, dim=8)
    root = plant(tmp_path / "a", settings, like)
    real, planted = (
        {name: (labels, segments) for name, labels, segments in zip(names, *rest, strict=True)}
        for names, *rest in (
            (objects(FINEGYM, "video_names"), objects(FINEGYM, "labels"), objects(FINEGYM, "segments")),
            (np.load(root / "video_names.npy").tolist(), objects(root, "labels"), objects(root, "segments")),
        )
    )
    assert len(planted) == 80
    assert all(real[name] == planted[name] for name in planted)
    assert len({fine for labels, _ in list(planted.values())[:60] for _, fine in labels}) == 99
    for clips, times in zip(objects(root, "features"), objects(root, "segments"), strict=True):
        assert len(clips) > times[-1][1] * 1.5
    assert contents(root) == contents(plant(tmp_path / "b", settings, like))


def test_an_existing_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match="must not exist yet"):
        plant(tmp_path / "a", SMALL)
    assert not list((tmp_path / "a").iterdir())


def test_interrupted_planting_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "render", interrupt)
    with pytest.raises(KeyboardInterrupt):
        plant(tmp_path / "a", SMALL)
    assert not list(tmp_path.iterdir())


def test_ensure_plants_once_and_then_leaves_it(tmp_path: Path) -> None:
    root = tmp_path / "new" / "a"
    ensure(data(root))
    before = contents(root)
    times = {path.name: path.stat().st_mtime_ns for path in root.iterdir()}
    ensure(data(root))
    assert contents(root) == before == contents(plant(tmp_path / "b", SMALL))
    assert times == {path.name: path.stat().st_mtime_ns for path in root.iterdir()}


def test_ensure_without_plant_does_nothing(tmp_path: Path) -> None:
    ensure(data(tmp_path / "a", settings=None))
    assert not list(tmp_path.iterdir())


def test_ensure_names_the_settings_that_differ(tmp_path: Path) -> None:
    ensure(data(tmp_path / "a"))
    with pytest.raises(InputError) as caught:
        ensure(data(tmp_path / "a", settings=replace(SMALL, noise=0.25, seed=3)))
    assert len(caught.value.messages) == 2
    assert caught.value.messages[0].startswith("data.plant.noise: must equal that of ")
    assert caught.value.messages[0].endswith("got 0.25; remove the folder or choose another data.root")
    assert caught.value.messages[1].startswith("data.plant.seed: ")


def test_ensure_refuses_a_folder_that_was_not_planted(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must hold planted.json"):
        ensure(data(tmp_path))


def test_ensure_refuses_unequal_train_videos(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^data\.train_videos: must equal data\.plant\.train_videos \(12\), got 11$"):
        ensure(data(tmp_path / "a", train_videos=11))
    assert not list(tmp_path.iterdir())


def test_the_loser_of_a_race_accepts_the_folder_of_the_winner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, write = tmp_path / "a", module._write

    def write_while_another_finishes(*args: Any) -> None:
        write(*args)
        monkeypatch.setattr(module, "_write", write)
        plant(root, SMALL)
        (root / "winner").touch()

    monkeypatch.setattr(module, "_write", write_while_another_finishes)
    ensure(data(root))
    assert set(contents(root)) == FILES | {"winner"}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
