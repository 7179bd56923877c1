"""How fast one trial is, and what it holds."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from haan.detectors.runs import makers
from haan.feed import BLOCK_CLIPS
from haan.fixed import Graphs
from haan.methods.haan import lloyd
from haan.methods.haan.config import Concepts
from haan.methods.haan.method import HaanMethod
from haan.metrics import Evaluator
from haan.train import Trainer
from tests.benchmarks import bare
from tests.benchmarks.activations import ALPHAS, activations
from tests.benchmarks.sizes import SIZES, Size
from tests.gpu.parity import steps_of, trainer_of
from tests.gpu.rows import Row

EPOCH_STEPS = {"fineaction": 3_376}
EPOCH_CLIPS = 844_000  # of FineAction's training videos
LIMITS_MS = {"fineaction": 0.108, "finegym": 0.268}  # arithmetic of an H100
CALLS = ("cudaGraphLaunch", "cudaLaunchKernel", "cudaMemcpyAsync", "cudaMemsetAsync")


def seconds(work: Callable[[], object]) -> float:
    """Wall time of some work, and of what it has asked of the GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def rows(device: str, tiny: bool) -> Iterator[Row]:
    """The rows of one trial alone."""
    for name in ("small",) if tiny else ("small", "middle", "fineaction", "finegym"):
        yield from _of(SIZES[name], device, 8 if tiny else 400)


def _of(size: Size, device: str, count: int) -> Iterator[Row]:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    config = size.config()
    trainer = trainer_of(size, device, precision="auto", model=config.model)
    yield Row(part="epoch", work=f"clustering, {size.name}", value=seconds(lambda: trainer.method.renew(1)), unit="s")
    steps_of(trainer, count)
    ours = seconds(lambda: steps_of(trainer, count)) / count
    heads = _bare(size, trainer, count)
    yield Row(
        part="step", work=f"a step, {size.name}", value=1e3 * ours, unit="ms", limit=LIMITS_MS.get(size.name),
        note=f"bare heads {'as one graph' if device == 'cuda' else 'eager'} {1e3 * heads:.3f} ms",
    )  # fmt: skip
    yield Row(part="step", work=f"a step / bare heads, {size.name}", value=ours / heads, unit="ratio", goal=1.5)
    if device == "cuda":
        once, twice = (_calls(trainer, number) for number in (count, 2 * count))
        each = (twice - once) / count
        yield Row(
            part="step", work=f"calls a step, {size.name}", value=each, unit="calls", goal=4,
            note=f"{once - count * each:.0f} more an epoch, for its table",
        )  # fmt: skip
        held = torch.cuda.max_memory_allocated() / 2**20
        yield Row(part="memory", work=f"at most, features too, {size.name}", value=held, unit="MiB")
    again = seconds(lambda: _begun(trainer, count)) - count * ours
    yield Row(part="step", work=f"another trial's start, graphs too, {size.name}", value=again, unit="s", goal=0.5)
    if size.name in EPOCH_STEPS:
        yield from _scored(size, trainer, EPOCH_STEPS[size.name])
        yield _clustered(size, trainer)


def _begun(trainer: Trainer, count: int) -> None:
    """Another trainer of the same sizes, which begins with steps on the same clusters."""
    other = Trainer(trainer.config, trainer.table, trainer.split, alone=True)
    other.method.restore(trainer.method.state())
    steps_of(other, count)


def _scored(size: Size, trainer: Trainer, steps: int) -> Iterator[Row]:
    """An epoch's scores alone, and beside the steps of the next epoch, as a trial has them."""
    evaluate = _evaluation(size, 4)
    yield Row(part="epoch", work=f"41 alphas detected and scored, {size.name}", value=seconds(evaluate), unit="s")
    alone = seconds(lambda: steps_of(trainer, steps))
    with ThreadPoolExecutor(1) as aside:
        scores = aside.submit(evaluate)
        both = seconds(lambda: (steps_of(trainer, steps), scores.result()))
    work = f"an epoch's steps beside it / alone, {size.name}"
    yield Row(
        part="epoch", work=work, value=both / alone, unit="ratio", goal=1.2, note=f"{steps} steps alone {alone:.2f} s"
    )


def _clustered(size: Size, trainer: Trainer) -> Row:
    """A clustering of as many clips as train at the data set's real size, which stay on the device."""
    method, config = trainer.method, trainer.config.concepts
    assert isinstance(method, HaanMethod)
    clips = torch.randn(EPOCH_CLIPS, size.dim, dtype=torch.float16, device=trainer.device)
    sampled = round(Concepts().sample_rate * EPOCH_CLIPS)

    def encoded(number: int) -> Iterator[Tensor]:
        return method.encoded((block.float() for block in clips[:number].split(BLOCK_CLIPS)), 1)

    def cluster() -> object:
        centroids = lloyd.fit(torch.cat(list(encoded(sampled))), config.clusters, 0)
        return lloyd.assign(encoded(EPOCH_CLIPS), centroids, EPOCH_CLIPS)

    cluster()
    work = f"clustering of {EPOCH_CLIPS:,} clips, {size.name}"
    return Row(part="epoch", work=work, value=seconds(cluster), unit="s", goal=0.3)


def _evaluation(size: Size, threads: int) -> Callable[[], object]:
    """The detections and scores of a whole validation set, by so many threads of the host."""
    made = activations(size.name)
    evaluator = Evaluator(made.truth, made.video_set.classes, made.video_set.tiou)
    settings = [replace(made.video_set.detect, alpha=alpha) for alpha in ALPHAS]

    def evaluate() -> object:
        ways = makers(made.cas, made.offsets, made.clips_per_s, settings)
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(lambda way: evaluator.score(way[1]()), ways))

    return evaluate


def _bare(size: Size, trainer: Trainer, count: int) -> float:
    """Seconds a step of the heads alone, on clips that lie ready; on a GPU as one graph, in the trainer's products."""
    one, clips = bare.stepper(size, size.dropout, trainer.device), bare.clips_of(trainer, trainer.split.train[:2])

    def step() -> None:
        one(clips)

    if trainer.device.type == "cpu":
        step()
        return seconds(lambda: [step() for _ in range(count)]) / count
    graphs = Graphs()
    with graphs.apart():
        for _ in range(3):
            step()
        repeat = graphs.record(step)
        repeat()
    return seconds(lambda: [repeat() for _ in range(count)]) / count


def _calls(trainer: Trainer, count: int) -> int:
    """Of the host, in an epoch of so many steps."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        steps_of(trainer, count)
        torch.cuda.synchronize()
    return sum(event.count for event in seen.key_averages() if event.key.startswith(CALLS))
