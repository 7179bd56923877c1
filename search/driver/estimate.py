"""What a search needs, and how long it may take: the plan of `--dry-run`. Starts no trial and writes nothing."""

import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from haan.config import Config
from haan.errors import InputError
from haan.gpumemory import GpuNeed, gpu_need, may_stay
from haan.methods.base import told
from haan.methods.haan.config import HaanConfig
from haan.train import FileBytes, file_bytes
from haan.words import amount, byte_size, duration, per_cent
from search.driver.job import Job
from search.driver.nodes import Cluster, Node
from search.driver.placement import Share, places
from search.driver.timing import Timed, epoch_s, sample_part, time_epoch
from search.results import checkpoints, confirm, retraining
from search.results.folder import RunFolder
from search.results.retraining import OFFICIAL
from search.results.winner import no_choice
from search.space.model import (
    Space,
    base_value,
    ends_of,
    epochs_of,
    grid_points,
    most_epochs,
    num_wanted,
    of_several_methods,
    with_values,
)
from search.study import earlier, journal
from search.study.algorithms import pruned_epochs
from search.study.record import TrialRecord
from search.study.study import FINISHED

_RUN_BYTES, _EPOCH_BYTES = 96 * 2**10, 8 * 2**10  # journal, curves and Ray's notes, a run and an epoch
_REPORT_BYTES = 16 * 2**20  # report, predictions and log


@dataclass(frozen=True)
class Left:
    """Runs that are still to be done, at most.

    interrupted: so many of the trials were under way. rounds: with new seeds, those that wait for nothing, then those
    that wait for them, and so on. finals: on all training videos. epochs: that trials are to have trained before
    `search.stop` lets none begin; None where it does not count them.
    """

    trials: int
    interrupted: int
    rounds: tuple[int, ...]
    finals: int
    epochs: int | None = None

    @property
    def repeats(self) -> int:
        """All with new seeds."""
        return sum(self.rounds)

    @property
    def runs(self) -> int:
        """All of them."""
        return self.trials + self.repeats + self.finals

    def trial_epochs(self, space: Space, concurrent: int) -> int:
        """At most, of trials so many at once; those under way at the end go on."""
        each, points = most_epochs(space), grid_points(space)
        every = [self.trials * each] + [sum(epochs_of(space, point) for point in points)] * bool(points)
        return min(every if self.epochs is None else [*every, self.epochs + concurrent * each])


def plan(job: Job, cluster: Cluster, share: Share, scratch: RunFolder, wait: Callable[[str], None]) -> Iterator[str]:
    """Checks what the run itself would meet only later, times an epoch, and says what is to be expected, in lines.

    cluster: its nodes as probed. scratch: holds a copy of the studies of a run that is resumed. wait: is told what
    takes a while. Raises InputError.
    """
    left, size = remaining(job, scratch), checkpoint_bytes(job)
    yield _runs_line(job, share, left)
    yield from _memory_lines(job, share, cluster.nodes, size)
    yield from gpu_lines(job, share, cluster.nodes)
    yield disk_line(job, share, left, size)
    part = sample_part(job)
    wait(f"Timing the base on {per_cent(part)} of the clips ...")
    yield from _time_lines(job, share, left, time_epoch(job, cluster, share, part))
    yield "Dry run: all checks passed; nothing was written"


def remaining(job: Job, studies: RunFolder) -> Left:
    """What a run folder's studies leave to be done; everything where there are none."""
    space, has_official = job.space, OFFICIAL in job.splits
    study = journal.load(studies.journal)
    trials = study.get_trials(deepcopy=False) if study else []
    interrupted = sum(trial.state == TrialState.RUNNING for trial in trials)
    ended = [trial for trial in trials if trial.state in FINISHED]
    left = max(num_wanted(space, ended) - len(ended), interrupted)
    sources = job.sources or earlier.kept(study.user_attrs if study else {})
    rounds, finals = retraining.num_runs(space, has_official, sources)
    if not left and no_choice(trials) is not None:
        rounds, finals = (), 0
    elif not left:  # else the best may change, and with them what is repeated
        repeats = journal.load(studies.confirm_journal)
        again = repeats.get_trials(deepcopy=False) if repeats else []
        done = [run.params for run in again if run.state in FINISHED]
        known = confirm.summarise(space, trials, again)
        rounds = (sum(run not in done for run in known.wanted), *known.rounds)
        if not sum(rounds):  # else the winner may change, and with it what is done of these
            finals = sum(run not in done for run in confirm.finals(space, trials, known, has_official))
    stop = space.plan.stop
    enough = None if stop is None or stop.epochs is None else max(stop.epochs - _trained(ended), 0)
    return Left(left, interrupted, rounds, finals, enough)


def _trained(ended: Sequence[FrozenTrial]) -> int:
    return sum(TrialRecord.of(trial).epochs or 0 for trial in ended)


def checkpoint_bytes(job: Job) -> FileBytes:
    """Files of the largest network of the space, and of the training videos of its largest split."""
    train = max(int(job.source.num_clips[split.train].sum()) for split in job.splits.values())
    fine = len(job.annotations.fine_names)
    settings = len(job.space.detects)
    return max(
        (file_bytes(config, job.source.dim, fine, train, settings) for config in largest_ones(job.space)),
        key=lambda one: one.state,
    )


def largest_ones(space: Space) -> list[Config]:
    """Configurations of which one is the largest that a trial can have: each row where methods differ.

    Else the base with the ends of all that sizes depend on: of a range the high one, of a choice both, and null, which
    may ask for more than any number.
    """
    if of_several_methods(space):
        return [with_values(space.base, row) for row in space.rows.values()]
    listed = {key: _ends(space, key) for key in space.base.sizes}
    if "optim.kind" in space.parameters:
        listed["optim.kind"] = ["adam"]  # of all kinds it keeps most
    return [with_values(space.base, dict(zip(listed, point, strict=True))) for point in product(*listed.values())]


def _ends(space: Space, key: str) -> list[Any]:
    if key not in space.parameters:
        return [base_value(space.base, key)]
    values = ends_of(space.parameters[key])
    if not isinstance(space.parameters[key], CategoricalDistribution):
        return [max(values)]
    numbers = sorted({value for value in values if value is not None})
    return [*dict.fromkeys([*numbers[:1], *numbers[-1:]])] + [None] * (None in values)


def _runs_line(job: Job, share: Share, left: Left) -> str:
    epochs, budget = most_epochs(job.space), job.space.plan.trials
    if left.trials == budget and not left.interrupted:
        head = f"Plan: {budget} trials"
    else:
        head = f"Plan: {left.trials} of {budget} trials are left ({left.interrupted} of them interrupted),"
    every = left.trial_epochs(job.space, share.concurrent)
    head += f" of up to {epochs} epochs = {every:,} trial-epochs"
    head += "" if left.epochs is None else f" (none begins after {left.epochs:,})"
    head += f", {share.concurrent} at once"
    more = [f"{left.repeats} runs to confirm"] * bool(left.repeats)
    more += [f"{left.finals} on all training videos"] * bool(left.finals)
    after = (left.repeats + left.finals) * epochs
    return f"{head}; then up to {' and '.join(more)} = {after:,} epochs" if more else head


def _memory_lines(job: Job, share: Share, nodes: Sequence[Node], size: FileBytes) -> Iterator[str]:
    for node in nodes:
        assert node.room is not None
        held = 0 if node.id == share.spared else places(node.resources, share.cpu, share.gpu)
        if size.state * held > node.room.tmp_free:
            raise InputError(
                f"TMPDIR: must have room for a checkpoint of each of {held} trials ({byte_size(size.state * held)}) on "
                f"node {node.host}, got {byte_size(node.room.tmp_free)} free in {node.room.tmp}"
            )
        shared_free = node.room.shared_free
        free = "" if shared_free is None else f" ({byte_size(shared_free)} free in /dev/shm)"
        cpus, gpus = node.resources.get("CPU", 0), node.resources.get("GPU", 0)
        yield (
            f"Node {node.host}: {cpus:g} CPUs and {gpus:g} GPUs for {held} trial(s) at once; "
            f"features {byte_size(job.feature_bytes)} of {byte_size(node.store)} of shared memory{free}"
        )


def need_of_gpu(job: Job) -> GpuNeed:
    """What the most demanding trial of a space takes of a GPU's memory."""
    train = max((split.train for split in job.splits.values()), key=len)
    facts = job.annotations, train, job.source.num_clips, job.source.dim
    needs = (gpu_need(config, told(config.supervision, *facts)) for config in largest_ones(job.space))
    return max(needs, key=lambda need: need.total)


def gpu_lines(job: Job, share: Share, nodes: Sequence[Node]) -> Iterator[str]:
    """What a trial takes of a GPU, of each kind that the nodes have. Raises InputError where it doesn't fit."""
    if not share.gpu:
        return
    need = need_of_gpu(job)
    used = [node for node in nodes if places(node.resources, share.cpu, share.gpu) and node.room is not None]
    for gpu in sorted({gpu for node in used for gpu in node.room.gpus}, key=lambda gpu: (gpu.size, gpu.name)):  # type: ignore[union-attr]
        has = int(gpu.size * share.gpu)
        of = f"{byte_size(has)}, its {share.gpu:g} of a {gpu.name}"
        if need.total > has:
            rule = f"must leave a trial the memory that it takes of a GPU, about {byte_size(need.total)} ({need})"
            raise InputError(f"search.resources.gpu: {rule}, got {of}")
        if need.total > gpu.free:
            rule = f"must have the memory free that a trial takes of it, about {byte_size(need.total)}"
            raise InputError(
                f"GPU {gpu.index} ({gpu.name}): {rule}, got {byte_size(gpu.free)} of {byte_size(gpu.size)}"
            )
        stay = share.gpu == 1 and may_stay(job.feature_bytes, has - need.total)
        clips = f"; all clips ({byte_size(job.feature_bytes)}) stay there" if stay else "; clips come batch by batch"
        yield f"GPU: a trial takes about {byte_size(need.total)} ({need}) of {of}{clips}"


def disk_line(job: Job, share: Share, left: Left, size: FileBytes) -> str:
    """What the search writes at most, and what room there is. Raises InputError where it doesn't fit."""
    # A new checkpoint is written before the old one goes; a pruned trial keeps none.
    kept = 2 * share.concurrent * size.state + left.runs * size.weights
    records = left.runs * (_RUN_BYTES + _EPOCH_BYTES * most_epochs(job.space)) + size.weights + _REPORT_BYTES
    place, root = checkpoints.place(job.folder, job.space), _existing(job.folder.root, "--out")
    of_each = f"{byte_size(size.state)} a trial under way, {byte_size(size.weights)} a finished one"
    head = f"checkpoints every {job.space.base.period} epochs, {of_each}"
    if "://" in place and not place.startswith("file://"):
        free = _room(root, records, "--out")
        return (
            f"Disk: {head}: up to {byte_size(kept)} in {place}, whose free space can't be measured from here; "
            f"up to {byte_size(records)} of {free} free in {root}"
        )
    if job.space.plan.storage is None:
        needed = kept + records
        return f"Disk: {head}: in all up to {byte_size(needed)} of {_room(root, needed, '--out')} free in {root}"
    store = _existing(Path(place.removeprefix("file://")), "search.storage")
    same = store.stat().st_dev == root.stat().st_dev
    there = _room(store, kept + records * same, "search.storage")
    return (
        f"Disk: {head}: up to {byte_size(kept)} of {there} free in {store}, and "
        f"{byte_size(records)} of {_room(root, records, '--out')} in {root}"
    )


def _existing(folder: Path, key: str) -> Path:
    """The nearest folder that there is. Raises InputError where nothing can be written into it."""
    there = next(one for one in (folder, *folder.resolve().parents) if os.path.lexists(one))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{key}: must be a folder that can be made or written to, got {str(folder)!r}")
    return there


def _room(folder: Path, needed: int, key: str) -> str:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(f"{key}: must be on a disk with {byte_size(needed)} free, got {byte_size(free)} in {folder}")
    return byte_size(free)


def _time_lines(job: Job, share: Share, left: Left, timed: Timed) -> Iterator[str]:
    seconds = timed.seconds
    base, pruner = job.space.base, job.space.pruner
    one = epoch_s(seconds, base.period, base.eval.every)
    phases = ", ".join(f"{phase} {duration(value)}" for phase, value in seconds.items() if phase != "cluster")
    line = f"Time: about {duration(one)} an epoch on {timed.where}: {phases}"
    if isinstance(base, HaanConfig):
        line += f", cluster {_clustering(timed)} every {base.period} epochs (an estimate: the base's "
        line += f"{base.concepts.clusters} clusters stand for all)"
    if of_several_methods(job.space):
        line += f"; the base's method, {base.method}, stands for all"
    yield line
    epochs = most_epochs(job.space)
    run_s = one * epochs
    every = left.trial_epochs(job.space, share.concurrent)
    search = run_s * math.ceil(left.trials / share.concurrent)
    if every < left.trials * epochs:
        search = min(search, one * math.ceil(every / share.concurrent))
    line = f"Search: about {duration(search)} without pruning"
    pruned = pruned_epochs(pruner, epochs)
    if pruned is not None and left.trials:
        part = pruned / epochs
        line += f", at least about {duration(max(search * part, run_s))} if {pruner.name} prunes as designed"
    if (interval := pruner.arguments.get("interval", 1)) > 1 and left.trials:
        line += f", judging every {interval} epochs"
    for what, rounds in (("confirmation", left.rounds), ("on all training videos", (left.finals,))):
        one_by_one = sum(math.ceil(runs / share.concurrent) for runs in rounds)
        line += f"; {what}: up to about {duration(run_s * one_by_one)}" if one_by_one else ""
    every += (left.runs - left.trials) * epochs
    yield f"{line}; in all up to {amount(one * every * share.units, share.unit)}"


def _clustering(timed: Timed) -> str:
    """How long it takes, and by which method where there are several."""
    methods = ", ".join(f"{method} {duration(seconds)}" for method, seconds in timed.clustering.items())
    return duration(timed.seconds["cluster"]) + (f" ({methods})" if len(timed.clustering) > 1 else "")
