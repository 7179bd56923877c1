"""What every method keeps to: it trains, goes on, is detected with and scored; and a weak one is told labels alone."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from haan.config import Config
from haan.data.readers import open_data
from haan.data.table import ClipTable, IntArray, Split, offsets_of
from haan.errors import InputError, TrainingError
from haan.feed import Feed
from haan.gpumemory import gpu_need
from haan.methods.base import told
from haan.methods.names import CONFIGS, method_of
from haan.methods.parts import Dropout
from haan.metrics import Detections
from haan.predict import detected, detections, read_network
from haan.score import activations
from haan.train import Trainer, file_bytes
from haan.weights import write_tensors
from haan.yamlconfig import dump, flat, plain, read_config
from tests.haan.commands import haan
from tests.methods import tiny_of, without_segments, write_teacher
from tests.planted import tiny_table

Problem = tuple[Config, ClipTable, Split]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("planted") / "data"
    write_teacher(root, root)
    return root


@pytest.fixture(params=list(CONFIGS))
def problem(request: pytest.FixtureRequest, root: Path) -> Problem:
    config = tiny_of(request.param, root)
    return config, *tiny_table(config)  # type: ignore[arg-type]  # of any method


def test_it_is_trained_detected_with_and_evaluated_by_the_same_commands(
    problem: Problem, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, *_ = problem
    (tmp_path / "c.yaml").write_text(dump(config))
    assert read_config(tmp_path / "c.yaml") == config
    haan("train", tmp_path / "c.yaml", "--out", tmp_path / "out")
    best = float(capsys.readouterr().out.rpartition("avg.mAP ")[2].split(";")[0])
    assert best > 1, "it learns something"
    haan("detect", tmp_path / "out", "--out", tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "out" / "predictions.json").read_bytes()
    haan("convert", "truth", tmp_path / "out" / "best.yaml", "--out", tmp_path / "truth.json")
    capsys.readouterr()
    options = ("--tiou", "0.1:0.5:0.05", "--subset", "validation", "--json")
    haan("evaluate", tmp_path / "truth.json", tmp_path / "again.json", *options)
    assert json.loads(capsys.readouterr().out)["avg_map"] == pytest.approx(best, abs=1e-9)


def test_it_goes_on_from_any_epoch_as_if_never_stopped(problem: Problem, tmp_path: Path) -> None:
    config, table, parts = problem
    whole = Trainer(config, table, parts)
    expected = [epoch.losses | {"avg_map": epoch.avg_map} for epoch in whole.epochs()]
    for stop in range(config.optim.epochs):
        first = Trainer(config, table, parts)
        for _ in range(stop):
            first.train_epoch()
        first.save(tmp_path / "state")
        second = Trainer(replace(config, data=replace(config.data, root="moved")), table, parts)
        second.load(tmp_path / "state")
        assert [epoch.losses | {"avg_map": epoch.avg_map} for epoch in second.epochs()] == expected[stop:]
        assert whole.best is not None and second.best is not None
        assert same(whole.best.tensors, second.best.tensors)


def same(some: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return some.keys() == others.keys() and all(torch.equal(some[name], others[name]) for name in some)


def test_a_weak_method_learns_nothing_of_segments(problem: Problem) -> None:
    config, table, parts = problem
    if config.supervision != "weak":
        pytest.skip("told of segments")
    blind = replace(table, annotations=without_segments(table.annotations, parts.train))
    assert len(blind.annotations.segments) < len(table.annotations.segments)
    weights = []
    for some in (table, blind):
        trainer = Trainer(config, some, parts)
        trainer.train_epoch()
        weights.append(trainer.model.state_dict())
    assert same(*weights)


def test_a_video_gets_the_same_outputs_and_detections_alone_and_in_any_company(
    problem: Problem, tmp_path: Path
) -> None:
    """Of a network that has learnt something, in videos of many lengths, in any order and any blocks."""
    config, table, parts = problem
    trainer = Trainer(config, table, parts)
    trainer.train_epoch()
    videos = np.sort(np.concatenate([parts.validation, parts.train[:6]]))
    assert len(set(table.num_clips[videos].tolist())) > 6
    feed, ratios = Feed(table, trainer.device, int(table.num_clips.sum())), table.annotations.clips_per_s

    def said(of: IntArray, blocks: int = 1) -> list[tuple[NDArray[np.float32], NDArray[np.float64]]]:
        """Of each video, in its turn, what the network says, and the detections."""
        sizes = table.num_clips[of]
        numbers = activations(trainer.model, (feed.videos(some) for some in np.array_split(of, blocks)), sizes)
        found = rows_of(detected(config, numbers, offsets_of(sizes), ratios[of]), len(of))
        return list(zip(np.split(numbers, np.cumsum(trainer.model.rows(sizes))[:-1]), found, strict=True))

    alone = {int(video): said(np.array([video]))[0] for video in videos}
    assert sum(len(found) for _, found in alone.values()) > len(videos)
    mixed = np.random.default_rng(0).permutation(videos)
    for company, blocks in ((videos, 1), (videos[::-1], 1), (mixed, 3), (mixed[:5], 1), (mixed[4:7], 2)):
        for video, (numbers, found) in zip(company.tolist(), said(company, blocks), strict=True):
            np.testing.assert_allclose(numbers, alone[video][0], rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(found, alone[video][1], rtol=1e-5, atol=1e-6)

    weights = tmp_path / "w.safetensors"
    write_tensors(weights, trainer.model.state_dict(), {})
    source = open_data(config.data)[0]
    written = rows_of(detections(config, source, table.annotations, videos, weights), len(videos))
    for video, found in zip(videos.tolist(), written, strict=True):
        (own,) = rows_of(detections(config, source, table.annotations, np.array([video]), weights), 1)
        np.testing.assert_allclose(found, own, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found, alone[video][1], rtol=1e-5, atol=1e-6)


def rows_of(found: Detections, videos: int) -> list[NDArray[np.float64]]:
    """Of each video its detections in one order: class, start and end, score."""
    rows = np.column_stack([found.label, found.start_s, found.end_s, found.score])
    rows = rows[np.lexsort((*rows[:, ::-1].T.round(4), found.video))]
    return np.split(rows, np.cumsum(np.bincount(found.video, minlength=videos))[:-1])


def test_steps_in_fixed_shapes_are_those_of_the_loop(problem: Problem) -> None:
    """As a graph repeats them on a GPU. Without dropout, which draws by the number of rows."""
    config, table, parts = problem
    found = []
    for fixed in (False, True):
        trainer = Trainer(config, table, parts)
        for module in trainer.model.modules():
            if isinstance(module, Dropout):
                module.share = 0.0
        trainer.method.renew(1)
        order = trainer.method.order(1)
        steps = trainer.begin(order)
        if fixed:
            taken = trainer.fixed_steps(graphs=False)
            history = taken.epoch(trainer._schedule, trainer._columns, parts.train[order], trainer._rates)
        else:
            history = torch.stack([trainer.train_step(step) for step in range(steps)])
        assert history.shape == (steps, len(trainer.method.losses)) and history.isfinite().all()
        found.append(history.clone())
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_numbers_that_are_none_are_said_to_be_a_loss_s(problem: Problem) -> None:
    trainer = Trainer(*problem)
    for parameter in trainer.model.parameters():
        parameter.data.fill_(torch.nan)
    with pytest.raises(TrainingError, match=r"loss .* is nan in epoch 1, step 1|not finite before epoch 1"):
        trainer.train_epoch()


def test_its_sizes_are_known_beforehand(problem: Problem, tmp_path: Path) -> None:
    config, table, parts = problem
    trainer = Trainer(config, table, parts)
    trainer.train_epoch()
    trainer.save(tmp_path / "state")
    clips = int(table.num_clips[parts.train].sum())
    size = file_bytes(config, table.dim, len(table.annotations.fine_names), clips, 1).state
    assert (tmp_path / "state").stat().st_size == pytest.approx(size, rel=0.1)
    known = told(config.supervision, table.annotations, parts.train, table.num_clips, table.dim)
    few = gpu_need(config, known)
    many = gpu_need(config, replace(known, num_clips=3 * known.num_clips))
    assert 0 < few.steps < many.steps and few.weights == many.weights > 0


def test_whole_numbers_that_sizes_depend_on_are_named(problem: Problem, tmp_path: Path) -> None:
    config, table, parts = problem
    known = told(config.supervision, table.annotations, parts.train, table.num_clips, table.dim)

    def sizes(one: Config) -> tuple[object, ...]:
        return gpu_need(one, known), file_bytes(one, table.dim, known.fine.shape[1], 99, 1).weights

    (tmp_path / "c.yaml").write_text(dump(config))
    own = [section for section in plain(config) if section not in ("data", "detect", "eval", "optim")]
    keys = {key: value for key, value in flat(plain(config)).items() if key.split(".")[0] in own and "." in key}
    keys |= {"optim.batch_videos": config.optim.batch_videos}
    for key, value in keys.items():
        if (isinstance(value, int) and not isinstance(value, bool)) or value is None:
            other = {2: 1}.get(value, value + 1) if value is not None else 500
            if sizes(read_config(tmp_path / "c.yaml", (f"{key}={other}",))) != sizes(config):
                assert key in config.sizes


def test_weights_of_one_method_are_refused_by_another(problem: Problem, root: Path, tmp_path: Path) -> None:
    config, table, _ = problem
    (tmp_path / "c.yaml").write_text(dump(config))
    haan("train", tmp_path / "c.yaml", "--out", tmp_path / "out", "--set", "optim.epochs=1")
    file, names = tmp_path / "out" / "best.safetensors", table.annotations.fine_names
    read_network(config, table.dim, names, file)
    for other in (tiny_of(name, root) for name in CONFIGS if name != config.method):
        with pytest.raises(InputError, match=rf"must be weights of method.*{other.method}.*, got '{config.method}'"):
            read_network(other, table.dim, names, file)


def test_its_class_says_what_it_is() -> None:
    for name, cls in CONFIGS.items():
        config = tiny_of(name, Path("x"))
        assert type(config) is cls and config.method == name and config.supervision in ("weak", "full")
        assert method_of(config).losses[-1] == "total"
        assert name == "haan" or f"method: {name}\n" in dump(config)
    assert "method" not in dump(tiny_of("haan", Path("x")))[:20]
