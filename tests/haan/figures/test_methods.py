"""Figure 5 of every method: its numbers are those that the method said and detected, by plain means; its refusals."""

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from haan.config import Config
from haan.data.readers import open_data
from haan.data.table import split
from haan.detectors import grid, masks
from haan.detectors.grid import Grid
from haan.detectors.masks import MaskDetect
from haan.errors import InputError
from haan.figures import choose, draw, observe
from haan.figures.folder import FigureFolder
from haan.figures.observe import Observed, ObservedConcepts
from haan.methods.names import CONFIGS, HAAN, method_of
from haan.predict import clip_blocks, read_network
from haan.yamlconfig import dump, read_config
from tests.haan.commands import haan
from tests.haan.figures.letters import check_letters
from tests.haan.figures.made_up import observed
from tests.methods import tiny_of, write_teacher

SAYS_NOTHING_OF_CLIPS = {"actionformer", "student", "bmn", "ssn"}
Segments = set[tuple[float, float]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("planted") / "data"
    write_teacher(root, root)
    return root


@pytest.fixture(scope="module", params=list(CONFIGS))
def trained(request: pytest.FixtureRequest, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "c.yaml").write_text(dump(tiny_of(request.param, root)))
    haan("train", folder / "c.yaml", "--out", folder / "out")
    return folder / "out"


def look(folder: Path) -> tuple[Config, Observed]:
    config = read_config(folder / "best.yaml")
    source, annotations, _ = open_data(config.data)
    videos = split(annotations, config.data).validation
    return config, observe.observe(config, source, annotations, videos, folder / "best.safetensors")


def test_it_is_drawn_and_3_and_4_where_there_are_concepts(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    method = read_config(trained / "best.yaml").method
    capsys.readouterr()
    haan("figures", trained, "--out", tmp_path / "out", "--videos", look(trained)[1].names[0])
    first, *more = capsys.readouterr().out.splitlines()
    names = [name for name, _ in FigureFolder(tmp_path / "out").read_index().figures]
    assert first == f"{len(names)} figures of 6 validation videos; written to {tmp_path / 'out'}"
    assert more == ([] if method == HAAN else [f"Figures 3 and 4 are HAAN's: {method} has no visual concepts"])
    assert {name[:7] for name in names} == ({"figure3", "figure4", "figure5"} if method == HAAN else {"figure5"})
    for name in names:
        assert all(file.stat().st_size > 1000 for file in FigureFolder(tmp_path / "out").files(name))


def test_its_bars_and_numbers_are_those_of_the_predictions(trained: Path) -> None:
    _, seen = look(trained)
    predicted = json.loads((trained / "predictions.json").read_text())["results"]
    names, drawn = seen.annotations.fine_names, 0
    for place, name in enumerate(seen.names):
        line = observe.timeline(seen, place, 0, 9)
        for one in line.tracks:
            of_class = [entry for entry in predicted[name] if entry["label"] == names[one.fine]]
            rows = Counter((*entry["segment"], entry["score"]) for entry in of_class)
            shown = Counter(zip(*one.found.T.tolist(), one.found_score.tolist(), strict=True))
            assert shown <= rows and len(of_class) == len(one.found) + one.hidden
            best = max((entry["score"] for entry in of_class), default=None)
            assert best is None or one.found_score[0] == best
            drawn += len(one.found)
        left = sum(len(one.found) + one.hidden for one in line.tracks) + line.other_found
        assert left == len(predicted[name])
    assert drawn > 0


def test_no_bar_lies_on_another_and_letters_can_be_read(trained: Path) -> None:
    config, seen = look(trained)
    for place in range(len(seen.videos)):
        for one in observe.timeline(seen, place, 0, 9).tracks:
            for row in set(one.row.tolist()):
                bars = one.found[one.row == row]
                bars = bars[np.argsort(bars[:, 0])]
                assert (bars[:-1, 1] <= bars[1:, 0]).all()
    for drawn in choose.draw(seen, config, choose.Wanted()):
        check_letters(drawn)


def test_a_caption_says_what_is_there_alone(trained: Path) -> None:
    config, seen = look(trained)
    texts = {drawn.name: drawn.caption for drawn in choose.draw(seen, config, choose.Wanted())}
    told = {"curve": "The curve is" in texts["figure5-1"], "concepts": "Below, the concepts" in texts["figure5-1"]}
    assert told == {"curve": config.method not in SAYS_NOTHING_OF_CLIPS, "concepts": config.method == HAAN}
    assert ("curves" in texts["figure5-2"], "concepts" in texts["figure5-2"]) == tuple(told.values())
    assert isinstance(seen, ObservedConcepts) == (config.method == HAAN)


def _softmax_and_actionness(config: Any, network: Any, clips: Tensor) -> Tensor:
    """ASL and CASE."""
    said = network.activations(clips)
    classes = said[:, 4:8] if config.method == "case" else said[:, :4].softmax(dim=1)
    share = config.detect.class_share
    return share * classes + (1 - share) * said[:, -1:]


def _from_0_to_1(config: Any, network: Any, clips: Tensor) -> Tensor:
    """WTAL-UM, of one video."""
    said = network.activations(clips)
    by_length, count = said[:, -1].sort().values, len(clips)
    low = by_length[: max(1, count // config.detect.r_bkg)].mean()
    high = by_length[-max(1, count // config.detect.r_act) :].mean()
    shown = said[:, :-1].softmax(dim=1) * ((said[:, -1:] - low) / (high - low)).clamp(0, 1)
    return (shown - shown.amin(dim=0)) / (shown.amax(dim=0) - shown.amin(dim=0))


PLAIN: dict[str, Callable[[Any, Any, Tensor], Tensor]] = {
    HAAN: lambda _, network, clips: network(clips).cas,
    "wtalc": lambda _, network, clips: network(clips)[1],
    "asl": _softmax_and_actionness,
    "case": _softmax_and_actionness,
    "wtalum": _from_0_to_1,
    "d2net": lambda _, network, clips: network.activations(clips),
    "refineloc": lambda _, network, clips: network(clips)[0].softmax(dim=1),
}


def test_its_curve_is_what_its_network_says_of_clips(trained: Path) -> None:
    config, seen = look(trained)
    if config.method in SAYS_NOTHING_OF_CLIPS:
        assert seen.curves is None and method_of(config).curves is None
        return
    source, annotations, _ = open_data(config.data)
    network, _ = read_network(config, source.dim, annotations.fine_names, trained / "best.safetensors")
    network.eval()
    blocks = clip_blocks(config.data, source, annotations, seen.videos)
    clips = torch.from_numpy(np.concatenate([block for *_, block in blocks]))
    assert seen.curves is not None and seen.curves.scores.shape == (len(clips), 4)
    for place in range(len(seen.videos)):
        for fine in range(4):
            one = observe.track(seen, place, fine)
            assert one.curve is not None
            assert one.curve.kept or len(one.found) == 0
            with torch.inference_mode():
                wanted = PLAIN[config.method](config, network, clips[seen.clips(place)])[:, fine]
            assert one.curve.scores == pytest.approx(wanted.numpy(), rel=1e-4, abs=1e-5)


def runs_of(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    found, start = [], None
    for i, here in enumerate([*mask.tolist(), False]):
        if here and start is None:
            start = i
        elif not here and start is not None:
            found.append((start, i))
            start = None
    return found


def test_runs_at_the_thresholds_of_a_grids_curve_are_what_it_detects() -> None:
    """Of a position a clip, where suppression takes equal runs alone."""
    rng = np.random.default_rng(0)
    scores = rng.uniform(size=(40, 3)).astype(np.float32)
    said = grid.Sequences(scores, np.array([[0.1, 0.6, 0.3], [0.2, 0.1, 0.2]]))
    offsets, per_s = np.array([0, 25, 40]), np.array([1.0, 2.0])
    setting = Grid(upsampling=1, thresholds=(0.3, 0.6), class_threshold=0.25, nms_tiou=1.0)
    ((_, found),) = grid.detect_many(said, offsets, per_s, [setting])
    curves = grid.curves(said, setting, "it")
    # Of the second video no class reaches 0.25: the most probable is kept, of equals the first.
    assert curves.kept.tolist() == [[False, True, True], [True, False, False]]
    for video in range(2):
        for label in range(3):
            curve = curves.of(video, slice(offsets[video], offsets[video + 1]), label)
            runs = {run for threshold in curve.thresholds for run in runs_of(curve.scores >= threshold)}
            wanted = {(first / per_s[video], last / per_s[video]) for first, last in runs} if curve.kept else set()
            mine = (found.video == video) & (found.label == label)
            assert set(zip(found.start_s[mine].tolist(), found.end_s[mine].tolist(), strict=True)) == wanted


def test_filled_clips_of_a_masks_curve_are_within_what_it_detects() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.9, 0.7], [0.9, 0.3], [0.6, 0.4]], dtype=np.float32)
    said = masks.Sequences(scores, np.array([0.9, 0.9, 0.1, 0.9, 0.9], np.float32), np.array([[0.7, 0.3]]))
    setting = MaskDetect(class_threshold=0.5, attention_threshold=0.5, top_classes=1, dilation=0, padding=0)
    curves, ((_, make),) = masks.curves(said, setting), masks.makers(said, np.array([0, 5]), np.ones(1), [setting])
    first, second = (curves.of(0, slice(0, 5), label) for label in range(2))
    # Clip 2 is above the threshold of class 0, but not attended to. Class 1 is not among the first.
    assert first.positive is not None and first.positive.tolist() == [True, False, False, True, True]
    assert (first.kept, second.kept, first.thresholds.tolist()) == (True, False, [0.5])
    found = make()
    assert (found.label.tolist(), found.start_s.tolist(), found.end_s.tolist()) == ([0, 0], [0, 3], [1, 5])


def test_a_worse_detection_stands_a_row_below_what_it_overlaps() -> None:
    found = np.array([[2.0, 6.0], [6.0, 9.0], [0.0, 3.0], [1.0, 8.0], [8.5, 9.5], [3.0, 4.0]])
    # 6-9 only touches 2-6. 0-3 overlaps it; 1-8 overlaps both rows; 8.5-9.5 overlaps the first; 3-4 only touches 0-3.
    assert observe.rows_apart(found).tolist() == [0, 0, 1, 2, 1, 1]
    assert observe.rows_apart(found[:0]).tolist() == []


def test_of_a_ranking_that_goes_on_the_best_are_drawn_and_the_rest_counted() -> None:
    # One above the other, but for the last, which is right: no row is left for it, and its rank is beyond the sixth.
    found = [(0, 0, 0.0, 10.0 + i, 9.0 - i) for i in range(8)] + [(0, 0, 30.0, 31.0, 0.5)]
    seen = observed([()], [(0, 0)], [0] * 40, clips=[40], segments=[(0, 0, 30.0, 31.0)], found=found)
    one = observe.track(seen, 0, 0)
    assert one.found_score.tolist() == [9, 8, 7] and one.row.tolist() == [0, 1, 2]
    assert (one.hidden, one.hidden_right, one.right.any()) == (6, 1, False)
    line = observe.timeline(seen, 0, 0, 1)
    caption = draw.draw_timeline(seen, line, "figure5-1").caption
    assert "Where detections of a class overlap, that of lower score stands a row lower." in caption
    assert "Left out for room: 6 detections of lower scores, 1 of them right." in caption
    apart = replace(seen, found=observed(found=found[-1:]).found)
    assert "row lower" not in draw.draw_timeline(seen, observe.timeline(apart, 0, 0, 1), "figure5-1").caption


@pytest.mark.parametrize("method", ["wtalc", "ssn"])
@pytest.mark.parametrize("options", [["--all"], ["--concepts", "1"], ["--clips", "4"], ["--frames", ".", "--fps", "2"]])
def test_figures_3_and_4_are_refused_where_they_are_asked_for(
    method: str, options: list[str], root: Path, tmp_path: Path
) -> None:
    (tmp_path / "best.yaml").write_text(dump(tiny_of(method, root)))
    rule = f"{options[0]}: must be given for method haan alone, whose visual concepts Figures 3 and 4 show"
    with pytest.raises(InputError, match=rf"^{re.escape(rule)}, got it for '{method}'$"):
        haan("figures", tmp_path, *options)
