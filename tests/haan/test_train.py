"""The training loop on a tiny planted set."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from haan import feed, score, weights
from haan.data.table import ClipTable, Split, truth
from haan.detectors.runs import RunsDetect, detect_many
from haan.errors import InputError, TrainingError
from haan.feed import Feed
from haan.methods.haan.config import HaanConfig
from haan.metrics import Detections, Evaluator, Score
from haan.score import activations, report
from haan.train import EpochResult, Trainer
from tests.planted import tiny_config, tiny_table

Problem = tuple[HaanConfig, ClipTable, Split]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Problem:
    config = tiny_config(tmp_path_factory.mktemp("planted") / "data")
    return config, *tiny_table(config)


def timeless(results: list[EpochResult]) -> list[EpochResult]:
    """Results without their durations."""
    return [replace(result, seconds={}) for result in results]


def weights_equal(a: Trainer, b: Trainer) -> bool:
    pairs = zip(a.model.state_dict().values(), b.model.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_same_seed_gives_the_same_numbers_and_another_seed_others(tiny: Problem) -> None:
    config, table, parts = tiny
    first, again = Trainer(config, table, parts), Trainer(config, table, parts)
    assert timeless(list(first.epochs())) == timeless(list(again.epochs()))
    assert weights_equal(first, again)
    other = Trainer(replace(config, seed=2), table, parts)
    assert timeless(list(other.epochs())) != timeless(list(first.epochs()))
    assert not weights_equal(first, other)


@pytest.mark.parametrize(
    "change", [{}, {"warm_start": True}, {"method": "gmm"}, {"method": "birch"}, {"distance": "euclidean"}], ids=str
)
@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_a_resumed_run_equals_an_unbroken_one(tiny: Problem, tmp_path: Path, stop_after: int, change: dict) -> None:
    # Epochs 1 and 3 cluster anew, so stopping after 1 and 3 also has to carry the pseudo labels over.
    config, table, parts = tiny
    config = replace(config, concepts=replace(config.concepts, **change))
    unbroken = Trainer(config, table, parts)
    whole = list(unbroken.epochs())
    broken = Trainer(config, table, parts)
    start = [broken.train_epoch() for _ in range(stop_after)]
    broken.save(tmp_path / "state.safetensors")
    torch.rand(7)  # whatever else draws random numbers meanwhile must not matter
    resumed = Trainer(config, table, parts)
    resumed.load(tmp_path / "state.safetensors")
    assert timeless(start + list(resumed.epochs())) == timeless(whole)
    assert weights_equal(resumed, unbroken)
    assert resumed.best is not None and unbroken.best is not None
    assert (resumed.best.epoch, resumed.best.avg_map) == (unbroken.best.epoch, unbroken.best.avg_map)
    assert resumed.best.tensors.keys() == unbroken.best.tensors.keys() > resumed.best.weights.keys()
    assert all(torch.equal(value, unbroken.best.tensors[name]) for name, value in resumed.best.tensors.items())


def test_averaged_weights_are_scored_and_the_others_train_on(tiny: Problem) -> None:
    config, table, parts = tiny
    averaged = replace(config, optim=replace(config.optim, ema_epochs=1.0))
    plain, other = Trainer(config, table, parts), Trainer(averaged, table, parts)
    found = [
        (a.losses == b.losses, a.avg_map == b.avg_map) for a, b in zip(plain.epochs(), other.epochs(), strict=True)
    ]
    assert {losses for losses, _ in found} == {True} and not all(scores for _, scores in found)
    assert weights_equal(plain, other)


@pytest.mark.parametrize(("epoch", "ema_epochs"), [("best", 0.0), ("last", 0.0), ("best", 1.0), ("last", 1.0)])
def test_epochs_that_are_scored_while_the_next_trains_are_those_of_one_after_the_other(
    tiny: Problem, tmp_path: Path, epoch: Any, ema_epochs: float
) -> None:
    config, table, parts = tiny
    config = replace(config, eval=replace(config.eval, epoch=epoch), optim=replace(config.optim, ema_epochs=ema_epochs))
    detects = [config.detect, replace(config.detect, alpha=0.5)]
    both = [Trainer(config, table, parts, detects, every_epoch=True, ahead=ahead) for ahead in (False, True)]
    for number in range(1, config.optim.epochs + 1):
        found = [trainer.train_epoch() for trainer in both]
        assert timeless(found[:1]) == timeless(found[1:]) and both[1].epoch == number
        assert found[0].seconds.keys() == found[1].seconds.keys()
        files = [tmp_path / f"{number}-{name}" for name in ("after", "beside")]
        for trainer, file in zip(both, files, strict=True):
            trainer.save(file)
        assert files[0].read_bytes() == files[1].read_bytes()
        assert weights_equal(*both) == (number == config.optim.epochs), "one is an epoch further"
    goes_on = Trainer(config, table, parts, detects, every_epoch=True, ahead=True)
    goes_on.train_epoch()
    goes_on.load(tmp_path / "2-beside")
    assert timeless([goes_on.train_epoch()])[0].epoch == 3
    goes_on.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "3-after").read_bytes()


def test_one_epoch_in_so_many_is_scored_and_the_last(tiny: Problem, tmp_path: Path) -> None:
    config, table, parts = tiny
    config = replace(config, eval=replace(config.eval, every=2), optim=replace(config.optim, epochs=5))
    every = list(Trainer(replace(config, eval=replace(config.eval, every=1)), table, parts, ahead=False).epochs())
    both = [Trainer(config, table, parts, ahead=ahead) for ahead in (False, True)]
    files = [tmp_path / name for name in ("after", "beside")]
    for epoch in every:
        found = [trainer.train_epoch() for trainer in both]
        assert timeless(found[:1]) == timeless(found[1:])
        assert found[0].avg_map == (epoch.avg_map if epoch.epoch in (2, 4, 5) else ())
        assert found[0].losses == epoch.losses
        for trainer, file in zip(both, files, strict=True):
            trainer.save(file)
        assert files[0].read_bytes() == files[1].read_bytes()
    best = max((epoch for epoch in every if epoch.epoch in (2, 4, 5)), key=lambda epoch: epoch.avg_map)
    assert both[0].best is not None and both[0].best.epoch == best.epoch


def test_an_error_of_the_next_epoch_is_its_own(tiny: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    config, table, parts = tiny
    trainer, train = Trainer(config, table, parts, ahead=True), Trainer._train

    def fails(self: Trainer, epoch: int) -> dict[str, float]:
        if epoch == 2:
            raise TrainingError("loss mil is nan in epoch 2, step 1")
        return train(self, epoch)

    monkeypatch.setattr(Trainer, "_train", fails)
    assert trainer.train_epoch().epoch == 1
    with pytest.raises(TrainingError, match="in epoch 2"):
        trainer.train_epoch()
    assert trainer.epoch == 1


def test_scores_that_nobody_wants_any_more_are_given_up(tiny: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    config, table, parts = tiny
    began, made, go_on = threading.Event(), [], threading.Event()
    evaluate = Evaluator.score

    def slow(self: Evaluator, found: Detections) -> Score:
        made.append(found)
        if len(made) > len(detects):  # of the second epoch
            began.set()
            go_on.wait(60)
        return evaluate(self, found)

    monkeypatch.setattr(Evaluator, "score", slow)
    detects = [replace(config.detect, alpha=alpha / 10) for alpha in range(20)]
    trainer = Trainer(replace(config, threads=1), table, parts, detects, every_epoch=True, ahead=True)
    trainer.train_epoch()
    assert began.wait(60)
    threading.Timer(0.2, go_on.set).start()
    trainer.close()
    assert len(made) == len(detects) + 1


def test_a_checkpoint_of_another_configuration_is_refused(tiny: Problem, tmp_path: Path) -> None:
    config, table, parts = tiny
    Trainer(config, table, parts).save(tmp_path / "state.safetensors")
    other = Trainer(replace(config, seed=5), table, parts)
    with pytest.raises(InputError, match="must be a checkpoint of this configuration"):
        other.load(tmp_path / "state.safetensors")


def test_a_refused_checkpoint_leaves_the_trainer_as_it_was(tiny: Problem, tmp_path: Path) -> None:
    config, table, parts = tiny
    trained, path = Trainer(config, table, parts), tmp_path / "state.safetensors"
    trained.train_epoch()
    trained.save(path)
    tensors, metadata = weights.read_tensors(path)
    del tensors["pseudo.centroids"]
    weights.write_tensors(path, tensors, metadata)
    fresh, untouched = Trainer(config, table, parts), Trainer(config, table, parts)
    with pytest.raises(InputError, match="must be a whole checkpoint"):
        fresh.load(path)
    assert timeless([fresh.train_epoch()]) == timeless([untouched.train_epoch()])
    assert weights_equal(fresh, untouched)


def test_a_checkpoint_of_an_older_version_goes_on_and_has_concepts_from_the_next_clustering_on(
    tiny: Problem, tmp_path: Path
) -> None:
    config, table, parts = tiny
    config = replace(config, eval=replace(config.eval, epoch="last"))
    trained, path = Trainer(config, table, parts, every_epoch=True), tmp_path / "state.safetensors"
    trained.train_epoch()
    trained.save(path)
    tensors, metadata = weights.read_tensors(path)
    old = {name: value for name, value in tensors.items() if not name.startswith(("clustered.", "best.concepts."))}
    assert len(old) == len(tensors) - 4 - 5  # weight and bias of two layers; these and the centroids
    weights.write_tensors(path, old, metadata)
    resumed = Trainer(config, table, parts, every_epoch=True)
    resumed.load(path)
    known = []
    for ours, theirs in zip(resumed.epochs(), trained.epochs(), strict=True):
        assert timeless([ours]) == timeless([theirs])
        assert resumed.best is not None
        known.append(len(resumed.best.kept))
    assert known == [0, 5, 5]  # refresh_epochs is 2: epochs 2, 3 and 4


def test_a_damaged_checkpoint_is_refused(tiny: Problem, tmp_path: Path) -> None:
    config, table, parts = tiny
    path = tmp_path / "state.safetensors"
    Trainer(config, table, parts).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="must be a safetensors file"):
        Trainer(config, table, parts).load(path)


@pytest.mark.parametrize("ema_epochs", [0.0, 1.0])
def test_best_weights_score_what_the_best_epoch_reported(tiny: Problem, ema_epochs: float) -> None:
    config, table, parts = tiny
    config = replace(config, optim=replace(config.optim, ema_epochs=ema_epochs))
    detects = [RunsDetect(alpha=alpha) for alpha in (-0.3, 0.0, 0.3)]
    trainer = Trainer(config, table, parts, detects)
    results = list(trainer.epochs())
    best = trainer.best
    assert best is not None
    assert best.avg_map == max(max(result.avg_map) for result in results)
    trainer.model.load_state_dict(best.weights)
    num_clips = table.num_clips[parts.validation]
    cas = activations(trainer.model, Feed(table, trainer.device, 1).blocks(parts.validation), num_clips)
    offsets = np.concatenate([[0], np.cumsum(table.num_clips[parts.validation])])
    ratios = table.annotations.clips_per_s[parts.validation]
    ((_, found),) = detect_many(cas, offsets, ratios, [detects[best.chosen]])
    score = Evaluator(truth(table.annotations, parts.validation), 4, config.eval.tiou).score(found)
    assert score.avg_map == best.avg_map
    assert report(score, (0.1, 0.5)) == {0.1: score.map[0], 0.5: score.map[-1]}


def test_each_of_several_detection_settings_scores_as_it_would_alone(tiny: Problem) -> None:
    config, table, parts = tiny
    detects = [RunsDetect(alpha=0.1), RunsDetect(alpha=-0.2), RunsDetect(alpha=0.1, class_threshold=-1.0)]
    together = Trainer(config, table, parts, detects).train_epoch().avg_map
    alone = [Trainer(config, table, parts, [one]).train_epoch().avg_map[0] for one in detects]
    assert list(together) == alone


@pytest.mark.parametrize("threads", [2, 5])
def test_settings_scored_by_several_threads_score_as_by_one(tiny: Problem, threads: int) -> None:
    config, table, parts = tiny
    detects = [replace(config.detect, alpha=alpha / 10) for alpha in range(-9, 10)]
    alone, many = Trainer(config, table, parts, detects), Trainer(config, table, parts, detects)
    many._scorer._threads = threads
    assert timeless([alone.train_epoch()]) == timeless([found := many.train_epoch()])
    assert len(found.avg_map) == 19 and set(found.seconds) == {"cluster", "train", "detect", "score"}
    assert all(seconds > 0 for seconds in found.seconds.values())


def test_a_nan_loss_stops_with_epoch_step_and_loss(tiny: Problem) -> None:
    config, table, parts = tiny
    trainer = Trainer(config, table, parts)
    trainer.train_epoch()
    with torch.no_grad():
        trainer.model.coarse_classifier[-1].bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match="loss coarse is nan in epoch 2, step 1"):
        trainer.train_epoch()


@pytest.mark.parametrize("blown", [float("inf"), 1e30])  # the squares of 1e30 are infinite
def test_weights_blown_up_by_the_last_step_are_an_error_of_training(tiny: Problem, blown: float) -> None:
    config, table, parts = tiny
    trainer = Trainer(replace(config, concepts=replace(config.concepts, refresh_epochs=1)), table, parts)
    trainer.train_epoch()
    with torch.no_grad():
        trainer.model.encoder[-1].weight.fill_(blown)
    with pytest.raises(TrainingError, match="encoded clips are not finite before epoch 2"):
        trainer.train_epoch()


def test_a_loss_of_weight_0_may_be_infinite(tiny: Problem) -> None:
    config, table, parts = tiny
    off = replace(config, loss=replace(config.loss, pseudo=0.0))
    trainer = Trainer(off, table, parts)
    with torch.no_grad():
        trainer.model.concept_classifier[-1].bias[0] = float("inf")
    assert not np.isfinite(trainer.train_epoch().losses["pseudo"])


def test_a_collapsed_network_is_said(tiny: Problem) -> None:
    config, table, parts = tiny
    trainer = Trainer(replace(config, optim=replace(config.optim, lr=1e-12)), table, parts)
    assert not trainer.train_epoch().collapsed
    with torch.no_grad():
        trainer.model.classifier.weight.zero_()
    assert trainer.train_epoch().collapsed


def test_more_clusters_than_sampled_clips_are_refused(tiny: Problem) -> None:
    config, table, parts = tiny
    clips = int(table.num_clips[parts.train].sum())
    few = replace(config.concepts, clusters=20, sample_rate=19.5 / clips)
    with pytest.raises(InputError, match=rf"concepts.clusters: .* of {clips} training clips = 19\), got 20"):
        Trainer(replace(config, concepts=few), table, parts)


def test_training_learns_what_is_planted(tiny: Problem) -> None:
    config, table, parts = tiny
    trainer = Trainer(replace(config, optim=replace(config.optim, epochs=30)), table, parts)
    results = list(trainer.epochs())
    assert results[-1].losses["total"] < 0.6 * results[0].losses["total"]
    assert trainer.best is not None and trainer.best.avg_map > 1.5 * results[0].avg_map[0] > 0


def test_warm_clusters_keep_their_numbers_and_cold_ones_do_not(tiny: Problem) -> None:
    config, table, parts = tiny
    kept = {}
    for warm in (False, True):
        trainer = Trainer(replace(config, concepts=replace(config.concepts, warm_start=warm)), table, parts)
        trainer.method.renew(1)
        before = trainer.method.pseudo
        trainer.method.renew(2)
        assert before is not None and trainer.method.pseudo is not None
        kept[warm] = (before.labels == trainer.method.pseudo.labels).mean()
    assert kept[True] > 0.5 > kept[False]


def test_each_way_of_clustering_and_each_distance_gives_other_numbers(tiny: Problem) -> None:
    config, table, parts = tiny
    changes: tuple[dict, ...] = ({}, {"method": "gmm"}, {"method": "birch"}, {"distance": "euclidean"})
    ways = [replace(config, concepts=replace(config.concepts, **change)) for change in changes]
    totals = [Trainer(way, table, parts).train_epoch().losses["total"] for way in ways]
    assert np.isfinite(totals).all() and len(set(totals)) == 4


def test_the_epoch_says_how_many_clusters_hold_no_clip(tiny: Problem) -> None:
    config, table, parts = tiny
    birch = replace(config, concepts=replace(config.concepts, method="birch"))
    assert Trainer(birch, table, parts).train_epoch().empty_clusters == 0
    trainer = Trainer(birch, table, parts)
    with torch.no_grad():
        trainer.model.encoder[-1].weight.zero_()  # so that all clips are encoded alike
    assert trainer.train_epoch().empty_clusters == config.concepts.clusters - 1


@pytest.mark.parametrize("method", ["gmm", "birch"])
def test_a_clustering_that_takes_too_long_ends_the_training(tiny: Problem, method: str) -> None:
    config, table, parts = tiny
    concepts = replace(config.concepts, method=method, fit_limit_s=1e-6)
    with pytest.raises(TrainingError, match=rf"concepts.fit_limit_s: .* {method} must take <= 1e-06 s.*before epoch 1"):
        Trainer(replace(config, concepts=concepts), table, parts).train_epoch()


def test_bfloat16_products_train_as_well_and_keep_float32_weights(tiny: Problem) -> None:
    config, table, parts = tiny
    rounded = Trainer(replace(config, precision="bfloat16"), table, parts)
    exact = Trainer(config, table, parts)
    assert {value.dtype for value in rounded.model.state_dict().values()} == {torch.float32}
    a, b = rounded.train_epoch(), exact.train_epoch()
    assert a.losses != b.losses
    assert a.losses["total"] == pytest.approx(b.losses["total"], rel=0.02)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_reads_the_same_clips_however_fast_they_follow(tiny: Problem) -> None:
    _, table, parts = tiny
    fed = Feed(table, torch.device("cuda"), 1)
    plain = table.gather(parts.train, torch.empty(int(table.num_clips.sum()), table.dim))
    read = [fed.videos(parts.train[i : i + 1]) for i in range(len(parts.train))]
    assert torch.equal(torch.cat(read).cpu(), plain)
    assert torch.equal(torch.cat(list(fed.blocks(parts.train))).cpu(), plain)


def test_a_block_is_of_whole_videos_and_holds_what_it_may(tiny: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    _, table, parts = tiny
    monkeypatch.setattr(feed, "BLOCK_CLIPS", 150)
    blocks = [block.clone() for block in Feed(table, torch.device("cpu"), 1).blocks(parts.train)]
    assert len(blocks) > 5 and max(map(len, blocks)) <= max(150, int(table.num_clips.max()))
    expected = table.gather(parts.train, torch.empty(int(table.num_clips.sum()), table.dim))
    assert torch.equal(torch.cat(blocks), expected)


def test_truth_counts_videos_in_the_order_given(tiny: Problem) -> None:
    _, table, _ = tiny
    annotations = table.annotations
    chosen = np.array([5, 2])
    segments = truth(annotations, chosen)
    starts, ends = annotations.segment_offsets[chosen], annotations.segment_offsets[chosen + 1]
    expected = [annotations.segments[a:b] for a, b in zip(starts, ends, strict=True)]
    assert segments.video.tolist() == [0] * len(expected[0]) + [1] * len(expected[1])
    assert np.array_equal(np.stack([segments.start_s, segments.end_s], axis=1), np.concatenate(expected))


def test_cuda_is_refused_where_there_is_none() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(InputError, match="device: must be cpu or auto"):
        score.choose_device("cuda")
