"""The paper's Figures 3 to 5: their numbers by hand and against plain oracles, their files, the command's errors."""

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from haan.data.readers import open_data
from haan.data.table import IntArray, split
from haan.detectors.curves import Curve
from haan.detectors.runs import RunsDetect
from haan.errors import InputError
from haan.figures import choose, draw, observe
from haan.figures.folder import FigureFolder, Index
from haan.figures.observe import NearClip, ObservedConcepts
from haan.files import digest
from haan.methods.haan.config import HaanConfig
from haan.predict import clip_blocks
from haan.train import Trainer
from haan.weights import read_tensors, write_tensors
from haan.yamlconfig import dump
from tests.haan.commands import haan
from tests.haan.figures.letters import check_letters
from tests.haan.figures.made_up import EVIL, observed
from tests.planted import tiny_config, tiny_table

WANTED = choose.Wanted(all=True)


def test_a_cell_is_the_share_of_the_classs_videos_with_the_concept_among_the_nearest() -> None:
    # Class 0 in videos 0, 1, 2, 3: concept 5 in all four, 1 in one of four. Class 1 in 0 and 1: concept 5 in both,
    # 2 in one. Class 2 in video 0 alone: concept 4. Class 3 is of the other coarse class: its concept 3 plays no part.
    pairs = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 3), (2, 0), (3, 0)]
    near = [(5, 1), (5, 2), (4,), (5,), (5,), (3,), (5,), (5,)]
    seen = observed(near, pairs, [0] * 4, clips=[1] * 4)
    table = observe.concept_map(seen, 0, most=26)
    assert table.fine == (0, 1, 2) and table.videos == (4, 2, 1)
    # Concept 5 belongs to classes 0 and 1, so it is shared; then those of one class, in the order of the classes.
    assert table.concepts == (5, 1, 2, 4) and table.num_shared == 1
    assert table.share.tolist() == [[1, 0.25, 0, 0], [1, 0, 0.5, 0], [0, 0, 0, 1]]
    assert (table.related, table.without) == (4, 0)


def test_a_concept_below_a_quarter_of_the_videos_belongs_to_no_class_and_a_class_may_be_without_any() -> None:
    pairs = [(video, 0) for video in range(5)] + [(4, 2)]
    seen = observed([(1,), (2,), (2,), (), (), ()], pairs, [0] * 5, clips=[1] * 5)
    table = observe.concept_map(seen, 0, most=26)
    assert table.concepts == (2,)  # concept 1 has 1 of 5, 2 has 2 of 5
    assert table.videos == (5, 0, 1) and table.without == 1  # class 1 has no video, class 2 none of its own near


def test_of_too_many_concepts_each_class_keeps_its_first_then_its_second_then_the_largest_shares_stay() -> None:
    # Class 0 (2 videos): concept 0 in both, 1 and 2 in one. Class 1 (1 video): 3 and 4. Class 2 (1 video): 5.
    pairs, near = [(0, 0), (1, 0), (2, 1), (3, 2)], [(0, 1), (0, 2), (3, 4), (5,)]
    seen = observed(near, pairs, [0] * 4, clips=[1] * 4)

    def kept(most: int) -> set[int]:
        return set(observe.concept_map(seen, 0, most).concepts)

    assert kept(6) == {0, 1, 2, 3, 4, 5}
    assert kept(5) == {0, 1, 3, 4, 5}  # the seconds of classes 0 and 1 join the firsts 0, 3, 5
    assert kept(4) == {0, 1, 3, 5}
    assert kept(1) == {0, 3, 5}  # one of each class in any case
    assert observe.concept_map(seen, 0, 4).related == 6


def test_the_coarse_class_of_most_segments_comes_first_and_one_without_is_left_out() -> None:
    segments = [(0, 3, 0.0, 1.0), (0, 3, 1.0, 2.0), (0, 0, 0.0, 1.0)]
    seen = observed([()], [(0, 0)], [0, 0], segments=segments)
    assert observe.richest_coarse(seen) == [1, 0]
    assert observe.richest_coarse(observed([()], [(0, 3)], [0])) == [1]


def plain_nearest(seen: ObservedConcepts, concept: int, count: int) -> list[tuple[int, float, float]]:
    """(video, start, distance), with sorted() and a set alone."""
    rows = []
    for video in range(len(seen.videos)):
        for clip in range(seen.offsets[video], seen.offsets[video + 1]):
            if seen.concept[clip] == concept:
                rows.append((float(seen.distance[clip]), clip, video, float(clip - seen.offsets[video])))
    taken, out = set(), []
    for distance, _, video, start in sorted(rows):
        if video not in taken and len(out) < count:
            taken.add(video)
            out.append((video, start, distance))
    return out


@given(st.data())
def test_nearest_clips_are_those_of_a_plain_search(data: st.DataObject) -> None:
    clips = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=5))
    size = sum(clips)
    concept = data.draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))
    distance = data.draw(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=size, max_size=size))  # ties included
    seen = observed([()], [(0, 0)], concept, distance, clips)
    for wanted in range(3):
        found = observe.nearest_clips(seen, wanted, 3)
        assert [(one.video, one.start_s, one.distance) for one in found.clips] == plain_nearest(seen, wanted, 3)
        assert found.num_clips == concept.count(wanted)


def test_a_clip_says_what_is_annotated_at_its_middle() -> None:
    segments = [(0, 0, 0.0, 1.5), (0, 2, 1.2, 3.0), (0, 2, 1.3, 2.0)]
    seen = observed([()], [(0, 0)], [0, 1, 2, 3], segments=segments)
    said = {one: observe.nearest_clips(seen, one, 1).clips[0].annotated for one in range(4)}
    # Middles 0.5, 1.5, 2.5 and 3.5 s; a segment ends before its end, and a class is named once.
    assert said == {0: (0,), 1: (2,), 2: (2,), 3: ()}


def test_the_most_used_concepts_are_those_near_to_most_videos_classes_of_the_coarse_class() -> None:
    pairs, near = [(0, 0), (0, 1), (1, 0), (1, 3)], [(4, 2), (4,), (2, 1), (0, 1)]
    seen = observed(near, pairs, [0, 0], clips=[1, 1])
    assert observe.most_used(seen, 0, 2) == [2, 4]  # both twice; of equals the lower number
    assert observe.most_used(seen, 0, 9) == [2, 4, 1]  # 0 is near to the other coarse class alone
    assert observe.most_used(seen, 1, 9) == [0, 1]


def test_a_detection_takes_the_free_segment_of_largest_tiou() -> None:
    truth = np.array([[0.0, 10.0], [0.0, 8.0]])
    # 0-9 overlaps both (0.9 and 8/9) and takes the first; the next 0-9 takes the second; the third finds none free;
    # 5-10 has tIoU 0.5 with the first, which is taken.
    found = np.array([[0.0, 9.0], [0.0, 9.0], [0.0, 9.0], [5.0, 10.0]])
    assert observe.right_ones(found, truth).tolist() == [True, True, False, False]
    assert observe.right_ones(found[3:], truth).tolist() == [True]  # 0.5 itself is enough
    assert observe.right_ones(found[:0], truth).tolist() == []
    assert observe.right_ones(found, truth[:0]).tolist() == [False] * 4


def test_a_track_holds_its_curve_and_detections_by_score() -> None:
    cas = np.zeros((4, 4))
    cas[:, 0] = [2, -2, 6, 2]
    found = [(0, 0, 0.0, 1.0, 1.0), (0, 0, 2.0, 4.0, 5.0), (0, 1, 0.0, 1.0, 9.0)]

    def track(detect: RunsDetect) -> tuple[observe.Track, Curve]:
        seen = observed([(3, 1)], [(0, 0)], [0] * 4, segments=[(0, 0, 2.0, 3.5)], found=found, cas=cas, detect=detect)
        one = observe.track(seen, 0, 0)
        assert one.curve is not None
        return one, one.curve

    one, curve = track(RunsDetect(alpha=0.25, top_clips=0.5))
    # Mean 2, range 8: threshold 2 + 0.25 x 8 = 4. Top half: (6 + 2) / 2 = 4.
    assert curve.thresholds.tolist() == [4.0] and curve.kept
    assert curve.positive is not None and curve.positive.tolist() == [False, False, True, False]
    assert one.found.tolist() == [[2.0, 4.0], [0.0, 1.0]] and one.right.tolist() == [True, False]
    assert one.near == (1, 3)
    assert not track(RunsDetect(class_threshold=4.0, top_clips=0.5))[1].kept
    assert track(RunsDetect(alpha=0.25, threshold_from="min"))[1].thresholds.tolist() == [0.0]  # -2 + 0.25 x 8


def a_track(found: list[tuple[float, float]], scores: list[float]) -> observe.Track:
    return observe.Track(
        fine=0, truth=np.zeros((0, 2)), found=np.array(found).reshape(-1, 2), found_score=np.array(scores),
        right=np.zeros(len(found), dtype=bool), row=np.zeros(len(found), dtype=np.int64), hidden=0, hidden_right=0,
        curve=None, near=(),
    )  # fmt: skip


def test_the_score_of_a_detection_stands_below_it_a_line_lower_where_two_would_overlap() -> None:
    apart = a_track([(6.0, 8.0), (1.0, 3.0)], [2.5, -0.256])
    assert draw.score_lines(apart, 10.0, 10.0) == [[[(7.0, "2.50"), (2.0, "-0.26")]]]
    together = a_track([(4.0, 4.2), (4.2, 4.4), (8.0, 9.0)], [3.0, 2.0, 1.0])
    ((first, second),) = draw.score_lines(together, 10.0, 10.0)
    assert [text for _, text in first] == ["3.00", "1.00"] and [text for _, text in second] == ["2.00"]
    ((((left, _), (right, _)),),) = draw.score_lines(a_track([(0.0, 0.1), (9.9, 10.0)], [1.0, 1.0]), 10.0, 10.0)
    assert 0.2 < left < 0.5 and left + right == pytest.approx(10)  # at an end it stays within the axes
    assert draw.score_lines(a_track([], []), 10.0, 10.0) == [[]]
    below = replace(together, row=np.array([0, 1, 0]))
    assert [[text for line in row for _, text in line] for row in draw.score_lines(below, 10.0, 10.0)] == [
        ["3.00", "1.00"], ["2.00"],
    ]  # fmt: skip


def written_scores(drawn: draw.Drawn) -> list[str]:
    return [text.get_text() for text in drawn.figure.texts if re.fullmatch(r"-?\d+\.\d\d", text.get_text())]


def test_of_too_many_scores_the_best_are_drawn_and_the_caption_counts_the_others() -> None:
    found = [(0, 0, 0.2 * i, 0.2 * i + 0.1, 9.0 - i) for i in range(5)]
    seen = observed([()], [(0, 0)], [0] * 60, clips=[60], found=found)
    one = observe.timeline(seen, 0, coarse=0, most=1)
    drawn = draw.draw_timeline(seen, one, "figure5-1")
    assert written_scores(drawn) == ["9.00", "8.00", "7.00"]
    assert "Left out for room: the scores of 2 detections" in drawn.caption
    (shown,) = one.tracks
    first = {name: getattr(shown, name)[:1] for name in ("found", "found_score", "right", "row")}
    few = replace(shown, **first)
    assert "Left out" not in draw.draw_timeline(seen, replace(one, tracks=(few,)), "figure5-1").caption


def test_every_detection_that_is_shown_has_its_score_as_in_the_predictions(seen: ObservedConcepts) -> None:
    count = 0
    for place in range(len(seen.videos)):
        one = observe.timeline(seen, place, coarse=0, most=9)
        labels = [of.fine for of in one.tracks]
        mine = (seen.found.video == place) & np.isin(seen.found.label, labels)
        drawn = draw.draw_timeline(seen, one, "figure5-1")
        assert sorted(written_scores(drawn)) == sorted(f"{score:.2f}" for score in seen.found.score[mine])
        count += int(mine.sum())
    assert count > 10


@pytest.mark.parametrize("pictures", [False, True])
def test_figure_4_names_its_distance(pictures: bool) -> None:
    seen = observed([(0,)], [(0, 0)], [0], clips=[1])
    rows = [observe.nearest_clips(seen, 0, 1)]
    drawn = draw.draw_clips(seen, rows, (lambda clip: None) if pictures else None)
    assert any("Euclidean distance" in text.get_text() for text in drawn.figure.texts)
    assert "Euclidean distance d from it" in drawn.caption
    assert pictures or any("from 0" in text.get_text() for text in drawn.figure.texts), "where the bars begin"


def test_a_timeline_counts_what_it_does_not_show() -> None:
    segments = [(0, 0, 0.0, 1.0), (0, 1, 1.0, 2.0), (0, 1, 3.0, 4.0), (0, 3, 2.0, 3.0)]
    found = [(0, 3, 2.0, 3.0, 1.0), (0, 0, 2.0, 4.0, 1.0), (0, 0, 3.0, 4.0, 1.0), (0, 2, 0.0, 4.0, 1.0)]
    seen = observed([(), (), ()], [(0, 0), (0, 1), (0, 3)], [0, 0, 1, 1], segments=segments, found=found)
    one = observe.timeline(seen, 0, coarse=0, most=2)
    # Class 3 is detected right; of the coarse class 0, class 1 has more segments. Classes 0 and 2 are left.
    assert [of.fine for of in one.tracks] == [3, 1]
    assert (one.other_truth, one.other_found, one.other_classes) == (1, 3, 2)


def test_a_video_without_ground_truth_shows_what_is_detected() -> None:
    seen = observed([()], [(0, 0)], [0, 0], clips=[1, 1], found=[(1, 2, 0.0, 1.0, 1.0)])
    assert [one.fine for one in observe.timeline(seen, 1, 0, 3).tracks] == [2]


def test_videos_are_chosen_by_the_share_of_the_coarse_classs_segments_that_are_right() -> None:
    pairs = [(0, 0), (1, 0), (2, 0), (2, 3), (3, 3), (4, 0), (4, 3)]
    found = [(1, 0, 0.0, 1.0, 1.0), (4, 3, 0.0, 1.0, 1.0)]
    seen = observed([()] * 7, pairs, [0] * 5, clips=[1] * 5, found=found)
    assert observe.with_right(seen, 0, 9) == [1, 4, 0, 2]  # video 3 has none of the class
    assert observe.with_right(seen, 0, 2) == [1, 4]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> HaanConfig:
    config = tiny_config(tmp_path_factory.mktemp("planted") / "data")
    tiny_table(config)
    return config


@pytest.fixture(scope="module")
def trained(config: HaanConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "c.yaml").write_text(dump(config))
    haan("train", folder / "c.yaml", "--out", folder / "out")
    return folder / "out"


def look(config: HaanConfig, weights: Path, videos: IntArray | None = None) -> ObservedConcepts:
    source, annotations, _ = open_data(config.data)
    videos = split(annotations, config.data).validation if videos is None else videos
    seen = observe.observe(config, source, annotations, videos, weights)
    assert isinstance(seen, ObservedConcepts)
    return seen


@pytest.fixture(scope="module")
def seen(config: HaanConfig, trained: Path) -> ObservedConcepts:
    return look(config, trained / "best.safetensors")


def test_the_concepts_of_training_clips_are_the_pseudo_labels_that_training_used(
    config: HaanConfig, tmp_path: Path
) -> None:
    # The last epoch counts, and the clusters are an epoch old by then: the encoder has moved on.
    config = replace(config, eval=replace(config.eval, epoch="last"), optim=replace(config.optim, lr=1e-2))
    table, parts = tiny_table(config)
    trainer = Trainer(config, table, parts)
    list(trainer.epochs())
    assert trainer.best is not None and trainer.method.pseudo is not None
    path = tmp_path / "best.safetensors"
    write_tensors(path, trainer.best.tensors, {})
    source, annotations, _ = open_data(config.data)
    ours = look(config, path, parts.train)
    assert (ours.concept == trainer.method.pseudo.labels).all()
    clips = np.concatenate([block for *_, block in clip_blocks(config.data, source, annotations, parts.train)])
    with torch.inference_mode():
        late = trainer.model.eval().encode(torch.from_numpy(clips)).numpy()
    assert (observe.concepts_of(late, trainer.method.pseudo.centroids)[0] != trainer.method.pseudo.labels).any()


def test_what_is_observed_is_what_plain_loops_find(config: HaanConfig, trained: Path, seen: ObservedConcepts) -> None:
    source, annotations, _ = open_data(config.data)
    tensors, _ = read_tensors(trained / "best.safetensors")
    clips = torch.from_numpy(
        np.concatenate([block for *_, block in clip_blocks(config.data, source, annotations, seen.videos)])
    )

    def layer(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    old = layer(layer(clips, "concepts.encoder.0").relu(), "concepts.encoder.3")
    hidden = layer(layer(layer(clips, "encoder.0").relu(), "encoder.3"), "classifier_hidden.0").relu()
    centroids, prototypes = tensors["concepts.centroids"].double(), tensors["classifier.weight"].double()
    away = (old.double()[:, None] - centroids[None]).norm(dim=2)
    assert seen.concept.tolist() == away.argmin(dim=1).tolist()
    assert seen.distance == pytest.approx(away.min(dim=1).values.numpy(), rel=1e-4)
    pair = 0
    for place, video in enumerate(seen.videos):
        here = range(seen.offsets[place], seen.offsets[place + 1])
        members = {n: [i for i in here if seen.concept[i] == n] for n in range(8)}
        means = {n: hidden[rows].double().mean(dim=0) for n, rows in members.items() if rows}
        for fine in np.flatnonzero(annotations.fine_labels[video]):
            w = prototypes[fine]
            cosine = {n: float(v @ w / (v.norm() * w.norm())) if v.norm() > 0 else 0.0 for n, v in means.items()}
            order = sorted(range(8), key=lambda n: (-cosine.get(n, 0.0), n not in means, n))
            near = {n for n in order[: config.concepts.top_k] if n in means}
            assert (seen.pair_video[pair], seen.pair_fine[pair]) == (place, fine)
            assert set(np.flatnonzero(seen.near[pair])) == near
            pair += 1
    assert pair == len(seen.near)


def test_where_no_concept_is_near_there_is_no_figure_of_clips(
    config: HaanConfig, seen: ObservedConcepts, tmp_path: Path
) -> None:
    far = replace(seen, near=np.zeros_like(seen.near))
    for wanted in (WANTED, choose.Wanted(frames=tmp_path, fps=1.0)):
        names = [one.name for one in choose.draw(far, config, wanted)]
        assert names[0].startswith("figure3") and not any(name.startswith("figure4") for name in names)


def test_detections_of_a_track_are_the_runs_above_its_threshold(seen: ObservedConcepts) -> None:
    runs = 0
    for place in range(len(seen.videos)):
        for fine in range(4):
            one = observe.track(seen, place, fine)
            assert one.curve is not None and one.curve.positive is not None
            per_s = float(seen.annotations.clips_per_s[seen.videos[place]])
            spans = draw._spans(one.curve.positive)
            wanted = sorted([first / per_s, last / per_s] for first, last in spans) if one.curve.kept else []
            assert sorted(one.found.tolist()) == wanted
            runs += len(wanted)
    assert runs > 10


def test_weights_of_an_older_version_still_detect_but_have_no_figures(trained: Path, tmp_path: Path) -> None:
    tensors, metadata = read_tensors(trained / "best.safetensors")
    old = {name: value for name, value in tensors.items() if not name.startswith("concepts.")}
    write_tensors(tmp_path / "best.safetensors", old, metadata)
    (tmp_path / "best.yaml").write_text((trained / "best.yaml").read_text())
    haan("detect", tmp_path, "--out", tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (trained / "predictions.json").read_bytes()
    with pytest.raises(InputError, match=r"best\.safetensors: must hold the concepts .* older version; train it again"):
        haan("figures", tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("concepts.centroids", torch.zeros(9, 16), r"must be finite float32 of \[1 to 8, 16\], got .* of \[9, 16\]"),
        ("concepts.centroids", torch.zeros(8, 15), r"must be finite float32 of \[1 to 8, 16\], got .* of \[8, 15\]"),
        ("concepts.centroids", torch.zeros(8), r"must be finite float32 of \[1 to 8, 16\], got .* of \[8\]"),
        ("concepts.centroids", torch.full((8, 16), torch.nan), "centroids: must be finite"),
        ("concepts.encoder.0.weight", torch.zeros(16, 3), "must be weights of this configuration and data, got .*size"),
        ("concepts.encoder.9.weight", torch.zeros(1), "must be weights of this configuration and data, got .*Unexpec"),
    ],
)
def test_wrong_concepts_are_refused(
    config: HaanConfig, trained: Path, tmp_path: Path, name: str, value: torch.Tensor, message: str
) -> None:
    tensors, metadata = read_tensors(trained / "best.safetensors")
    write_tensors(tmp_path / "w.safetensors", tensors | {name: value}, metadata)
    with pytest.raises(InputError, match=message):
        look(config, tmp_path / "w.safetensors")


def test_a_method_that_found_fewer_clusters_has_its_figures(config: HaanConfig, trained: Path, tmp_path: Path) -> None:
    tensors, metadata = read_tensors(trained / "best.safetensors")
    fewer = {"concepts.centroids": tensors["concepts.centroids"][:5].clone()}
    write_tensors(tmp_path / "w.safetensors", tensors | fewer, metadata)
    found = look(config, tmp_path / "w.safetensors")
    assert found.concept.max() == 4 and found.num_clusters == 8 and not found.near[:, 5:].any()


def test_a_caption_says_where_the_nearest_centroid_is_not_the_methods_own_rule() -> None:
    assert choose._rule_of("kmeans") == ""
    assert "nearest centroid; gmm itself assigns some clips otherwise." in choose._rule_of("gmm")


@pytest.mark.parametrize(
    ("text", "most", "lines"),
    [
        ("Attach Tape (303)", 1, ["Attach Tape (303)"]),
        ("giant circle backward (12)", 2, ["giant circle", "backward (12)"]),
        ("giant circle backward with 1 turn to handstand (12)", 2, ["giant circle…1 turn", "to handstand (12)"]),
        ("a_very_long_name_of_a_video_0042", 1, None),
        ("wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww", 1, None),
        ("", 1, [""]),
    ],
)
def test_a_text_that_is_too_long_loses_its_middle(text: str, most: int, lines: list[str] | None) -> None:
    found = draw.lines_of(text, lambda line: len(line) <= 20, most)
    assert len(found) <= most and all(len(line) <= 20 for line in found)
    if lines is not None:
        assert found == lines
        return
    head, dots, tail = " ".join(found).partition("…")
    assert dots and text.startswith(head.split(" ")[0]) and text.endswith(tail.split(" ")[-1])
    assert len("".join(found)) > 0.6 * 20 * most


def test_a_fine_class_is_named_without_its_coarse_class() -> None:
    assert draw.short_name("Assemble Box/Attach Tape (303)", "Assemble Box") == "Attach Tape (303)"
    assert draw.short_name("Boxing", "Box") == "Boxing"
    assert draw.short_name("Box", "Box") == "Box"
    assert draw.short_name("Box/", "Box") == "Box/"
    assert draw.short_name("Tape", "") == "Tape"


def hostile(number: int = 2) -> ObservedConcepts:
    """Every text in it is markup."""
    pairs = [(video, fine) for video in range(number) for fine in (0, 3)]
    found = [(0, 3, 0.0, 1.0, 2.0), (0, 0, 1.0, 2.0, 1.0)]
    made = observed([(0, 1), (1,)] * number, pairs, [0, 1] * number, clips=[2] * number, found=found)
    names = tuple(f"{EVIL}{i}" for i in range(number))
    return replace(made, annotations=replace(made.annotations, names=names))


def is_png(path: Path) -> bool:
    with Image.open(path) as image:
        image.verify()
        return image.format == "PNG" and image.width == 944  # 12 cm at 200 dots an inch


def is_pdf(path: Path) -> bool:
    """12 cm wide, in the 72 dots an inch that a PDF counts in, with TrueType fonts and none of outlines (Type 3)."""
    content = path.read_bytes()
    (box,) = re.findall(rb"/MediaBox \[ 0 0 (\S+) \S+ \]", content)
    whole = content.startswith(b"%PDF-") and content.endswith(b"%%EOF\n")
    return whole and abs(float(box) - 12 / 2.54 * 72) < 0.01 and b"/Type3" not in content


def test_the_files_are_png_svg_and_pdf_and_no_text_becomes_markup(config: HaanConfig, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(b"w")
    wanted = choose.Wanted(coarse=f"Walk {EVIL}")
    for out in (tmp_path / "a", tmp_path / "b"):
        assert choose.write(hostile(), config, wanted, weights, out) == 4
    index = FigureFolder(tmp_path / "a").read_index()
    assert index.weights == digest(weights)
    assert [name for name, _ in index.figures] == ["figure3-coarse1", "figure4", "figure5-1", "figure5-2"]
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "figures.json", *(f"{name}.{suffix}" for name, _ in index.figures for suffix in ("png", "svg", "pdf")),
    }  # fmt: skip
    for name, caption in index.figures:
        assert is_png(tmp_path / "a" / f"{name}.png")
        assert is_pdf(tmp_path / "a" / f"{name}.pdf")
        root = ET.fromstring((tmp_path / "a" / f"{name}.svg").read_text())
        tags = {element.tag.rpartition("}")[2] for element in root.iter()}
        assert root.tag.endswith("svg") and not tags & {"script", "a", "foreignObject", "animate"}
        assert caption.startswith(f"Figure {name[6]}. ")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_figures_take_the_place_of_the_last_ones_and_of_nothing_else(config: HaanConfig, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(b"w")
    out = tmp_path / "out"
    choose.write(hostile(), config, choose.Wanted(), weights, out)
    (out / "mine.png").write_bytes(b"mine")
    choose.write(hostile(), config, choose.Wanted(videos=(f"{EVIL}1",)), weights, out)
    for suffix in ("svg", "png", "pdf"):
        made = sorted(path.stem for path in out.glob(f"figure*.{suffix}"))
        assert made == ["figure3-coarse0", "figure4", "figure5-1"]
    assert (out / "mine.png").exists()
    with pytest.raises(InputError, match="--videos"):
        choose.write(hostile(), config, choose.Wanted(videos=("nobody",)), weights, out)
    assert (out / "figure5-1.svg").exists()


def test_letters_are_of_seven_points_at_least_within_the_sheet_and_apart(
    config: HaanConfig, seen: ObservedConcepts
) -> None:
    for one in [*choose.draw(hostile(), config, WANTED), *choose.draw(seen, config, WANTED)]:
        check_letters(one)


def test_the_command_writes_them_beside_the_weights(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    haan("figures", trained, "--all", "--concepts", "3,0,3", "--out", tmp_path / "out")
    said = capsys.readouterr().out
    names = [name for name, _ in FigureFolder(tmp_path / "out").read_index().figures]
    assert names[:3] == ["figure3-coarse0", "figure3-coarse1", "figure4"]
    assert said == f"{len(names)} figures of 6 validation videos; written to {tmp_path / 'out'}\n"


def test_frames_are_looked_up_by_the_clips_middle_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    for number in range(12):  # frame 10 after frame 9, whatever the alphabet says
        Image.new("RGB", (8, 6), (number, 0, 0)).save(tmp_path / "v" / f"f{number}.png")
    frames = choose.Frames(tmp_path, 2.0, ["v", "../v", "w"])

    def red(video: int, start_s: float) -> int | None:
        picture = frames.of(NearClip(video, start_s, start_s + 1, 0.0, ()))
        return None if picture is None else int(picture[0, 0, 0])

    assert [red(0, 0.0), red(0, 2.0), red(0, 4.6)] == [1, 5, 10]  # middles 0.5, 2.5 and 5.1 s at 2 a second
    assert [red(0, 6.0), red(1, 0.0), red(2, 0.0)] == [None, None, None]
    assert frames.found == 3 and frames.missing == {"v", "../v", "w"}


def test_pictures_are_drawn_where_there_are_frames(config: HaanConfig, tmp_path: Path) -> None:
    seen = observed([(0,)], [(0, 0)], [0], clips=[1])
    (tmp_path / "v0").mkdir()
    Image.new("RGB", (32, 24), (255, 0, 0)).save(tmp_path / "v0" / "0.jpg")
    (_, four, *_) = choose.draw(seen, config, choose.Wanted(frames=tmp_path, fps=1.0))
    assert sum(len(axes.images) for axes in four.figure.axes) == 1
    (tmp_path / "v0" / "0.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"--frames: .*0\.jpg: must be a picture, got: cannot identify"):
        list(choose.draw(seen, config, choose.Wanted(frames=tmp_path, fps=1.0)))
    (tmp_path / "v0" / "0.jpg").unlink()
    with pytest.raises(InputError, match=r"--frames: must hold a folder VIDEO of .* got none in .* \(looked for v0\)"):
        list(choose.draw(seen, config, choose.Wanted(frames=tmp_path, fps=1.0)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--coarse", "ski"], "--coarse: must be a coarse class (coarse 0, coarse 1) or its index, 0 to 1, got 'ski'"),
        (["--coarse", "2"], "--coarse: must be a coarse class (coarse 0, coarse 1) or its index, 0 to 1, got '2'"),
        (["--coarse", "0", "--all"], "--coarse: must not be given with --all, got '0'"),
        (["--concepts", "1,8"], "--concepts: must be >= 0 and < concepts.clusters (8), got 8"),
        (["--concepts", "-1"], "--concepts: must be >= 0 and < concepts.clusters (8), got -1"),
        (["--concepts", "a"], "--concepts: must be whole numbers with commas between, got 'a'"),
        (["--videos", "nobody"], "--videos: must name validation videos, got 'nobody'"),
        (["--clips", "0"], "--clips: must be >= 1 and <= 6, got 0"),
        (["--fps", "24"], "--fps: must be given with --frames and only with it, got 24.0"),
        (["--frames", "."], "--fps: must be given with --frames and only with it, got None"),
        (["--frames", ".", "--fps", "nan"], "--fps: must be > 0 and finite, got nan"),
        (["--frames", "nowhere", "--fps", "24"], "--frames: must be a folder, got 'nowhere'"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_named_with_rule_and_value(
    trained: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        haan("figures", trained, "--out", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_a_nearly_right_video_is_suggested(config: HaanConfig, seen: ObservedConcepts) -> None:
    name = seen.names[0]
    with pytest.raises(InputError, match=rf"got '{name}x' \(did you mean '{name}'\?\)"):
        list(choose.draw(seen, config, choose.Wanted(videos=(f"{name}x",))))


def test_a_coarse_class_that_no_video_shows_is_refused(config: HaanConfig) -> None:
    seen = observed([()], [(0, 0)], [0])
    with pytest.raises(InputError, match=r"--coarse: must be a coarse class with a segment .* \(Box\), got '1'"):
        list(choose.draw(seen, config, choose.Wanted(coarse="1")))


def test_a_folder_without_weights_is_refused(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "best.yaml").write_text((trained / "best.yaml").read_text())
    with pytest.raises(InputError, match=r"best\.safetensors: must be a safetensors file, got"):
        haan("figures", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "must be a JSON file, got"),
        ("[]", "must hold weights"),
        ('{"weights": 1, "figures": []}', "must hold weights"),
        ('{"weights": "", "figures": [{"name": "../../etc", "caption": ""}]}', r"figures\[0\]: must hold the name"),
        ('{"weights": "", "figures": [{"name": "figure4"}]}', r"figures\[0\]: must hold the name"),
    ],
)
def test_an_index_is_read_with_care(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "figures.json").write_text(content)
    with pytest.raises(InputError, match=rf"figures\.json: {message}"):
        FigureFolder(tmp_path).read_index()


def test_an_index_reads_as_it_was_written(tmp_path: Path) -> None:
    index = Index("abc", (("figure4", EVIL), ("figure5-1", "b")))
    FigureFolder(tmp_path).write_index(index)
    assert FigureFolder(tmp_path).read_index() == index
    assert json.loads((tmp_path / "figures.json").read_text())["figures"][0] == {"name": "figure4", "caption": EVIL}
