"""The main job: `python search/run.py spaces/demo.yaml`. Read it top to bottom."""

import logging
import os
import shutil
import socket
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import ray
import typer
from optuna.trial import FrozenTrial, TrialState
from ray import tune

from haan import clustering
from haan.cli import run, say
from haan.data.readers import open_data
from haan.data.table import Annotations, FeatureSource, Split, fingerprint, split
from haan.errors import InputError, MissingDataError
from search import export, features
from search.bridge import Bridge, Running, StudyListener, StudyScheduler, StudySearcher
from search.components import make_pruner, make_sampler
from search.runfolder import TRIALS, RunFolder, trial_folder
from search.space import Space, base_value, most_demanding, naming_lines, read_space, space_tree
from search.study import Study
from search.trial import TrialRunner

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

_QUIET: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "configure_logging": False}
_CONNECT_S = 10
_STORE_SLACK = 1.2  # the object store also holds what Ray itself passes around
_STORE_LEAST = 128 * 2**20
_RAY_LOGGERS = ("ray", "ray.data", "ray.serve", "ray.train", "ray.tune")  # Ray gives each a handler of its own
DEMO = "python search/run.py spaces/demo.yaml"


@dataclass(frozen=True)
class Job:
    """A search whose input is sound."""

    space: Space
    folder: RunFolder
    source: FeatureSource
    annotations: Annotations
    parts: Split
    fingerprint: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Cluster:
    """Where the search runs."""

    nodes: int
    cpus: float
    gpus: float
    store_bytes: float
    local: bool

    def __str__(self) -> str:
        where = "a local Ray started for this run" if self.local else "the Ray cluster found"
        store = f"{self.store_bytes / 2**30:.1f} GiB of shared memory"
        return f"{where}: {self.nodes} node(s), {self.cpus:g} CPUs, {self.gpus:g} GPUs, {store}"


def main(
    space: Annotated[Path, typer.Argument(help="A search space, such as spaces/demo.yaml.")],
    name: Annotated[str | None, typer.Option(help="Name of the run; default: the space's and the time.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of all runs.")] = Path("runs"),
    trials: Annotated[int | None, typer.Option(help="How many trials, in place of search.trials.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster; default: RAY_ADDRESS, else one here, else its own.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of training and sampler, in place of base.seed.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE, as in data.root=/data.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the result.")] = False,
) -> None:
    """Search: train, prune and export the best configuration of a space."""
    job = _prepare(space, name, out, trials, seed, tuple(set_ or ()))
    tell = (lambda text: None) if quiet else partial(say, to=sys.stdout)
    _log_to(job.folder.log)
    try:
        concurrent, gpu = _settle(job, address, tell)
        bridge, interrupted = _search(job, concurrent, gpu, tell)
    finally:
        ray.shutdown()
    sys.exit(_finish(job, bridge.study, interrupted))


def _settle(job: Job, address: str | None, tell: Callable[[str], None]) -> tuple[int, float]:
    """Finds or starts Ray and says what will run there; trials at once, and the share of a GPU each takes.

    Raises InputError where the search doesn't fit; nothing has run then, and the run's name stays free.
    """
    try:
        cluster = _start_ray(address, job)
        tell(f"Running on {cluster}")
        concurrent, gpu = _fit(job, cluster)
    except BaseException:
        shutil.rmtree(job.folder.root)
        raise
    _describe(job, concurrent, gpu, tell)
    return concurrent, gpu


def _prepare(
    path: Path, name: str | None, out: Path, trials: int | None, seed: int | None, overrides: tuple[str, ...]
) -> Job:
    """Checks all input, features included, before anything starts. Raises InputError."""
    if trials is not None and trials < 1:
        raise InputError(f"--trials: must be >= 1, got {trials}")
    overrides = (*overrides, *(() if trials is None else (f"search.trials={trials}",)))
    space = read_space(path, overrides, seed)
    name = name or f"{space.name}-{datetime.now():%Y%m%d-%H%M%S}"
    if Path(name).name != name or name in ("", ".", ".."):
        raise InputError(f"--name: must be a plain folder name, got {name!r}")
    folder = RunFolder(out / name)
    if folder.root.exists():
        raise InputError(f"{folder.root}: --name must be of a run that does not exist yet, got one that does")
    data = space.base.data
    with naming_lines(space_tree(path, overrides, seed)):
        try:
            source, annotations, notes = open_data(data)
        except MissingDataError as error:
            where = "the features are published by the paper's authors, https://github.com/lizhi1104/HAAN"
            raise InputError(f"{error}; {where}; without data, try: {DEMO}") from None
        parts = split(annotations, data)
        clusters, rate = most_demanding(space)
        clustering.check_sample(int(source.num_clips[parts.train].sum()), rate, clusters)
        mark = fingerprint(source, annotations, data.dtype)
    folder.log.parent.mkdir(parents=True)
    folder.space_yaml.write_text(space.document, encoding="utf-8")
    return Job(space, folder, source, annotations, parts, mark, notes)


def _log_to(path: Path) -> None:
    """Sends Ray's, Optuna's and Python's own messages into a file."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logging.captureWarnings(True)
    warnings.simplefilter("default")
    for name in ("search", "optuna", "py.warnings", *_RAY_LOGGERS):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)


def _start_ray(address: str | None, job: Job) -> Cluster:
    """Joins the cluster asked for or found on this machine, else starts a local Ray that can hold the features."""
    known = address or os.environ.get("RAY_ADDRESS") or "auto"
    with job.folder.log.open("a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
        local = known == "local" or not _joined(known, address)
        if local:
            ray.init(address="local", object_store_memory=_store_bytes(job), include_dashboard=False, **_QUIET)
    resources = ray.cluster_resources()
    return Cluster(
        nodes=sum(bool(node["Alive"]) for node in ray.nodes()),
        cpus=resources.get("CPU", 0),
        gpus=resources.get("GPU", 0),
        store_bytes=resources.get("object_store_memory", 0),
        local=local,
    )


def _joined(known: str, address: str | None) -> bool:
    """Whether a running cluster answered. Raises InputError where the user named one and none does."""
    host, _, port = known.rpartition("://")[2].rpartition(":")
    try:
        if host and port.isdigit():  # Ray itself tries for minutes
            socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
        ray.init(address=known, **_QUIET)
    except (OSError, ValueError, RuntimeError) as error:
        if known != "auto":
            option = "--address" if address else "RAY_ADDRESS"
            raise InputError(f"{option}: must be a Ray cluster that answers, got {known!r}: {error}") from None
        return False
    return True


def _store_bytes(job: Job) -> int:
    """How large a local object store has to be. Raises InputError when shared memory can't hold it."""
    size = features.num_bytes(job.source, job.space.base.data.dtype)
    needed = int(size * _STORE_SLACK) + _STORE_LEAST
    shm = Path("/dev/shm")
    free = shutil.disk_usage(shm).free if shm.exists() else needed
    if size * _STORE_SLACK > free:  # below its own least size Ray takes a slower folder, which a small set can bear
        raise InputError(
            f"data.features: must fit into shared memory ({shm} has {free / 2**30:.1f} GiB free), got "
            f"{size * _STORE_SLACK / 2**30:.1f} GiB needed; mount a larger {shm}, or use data.dtype: float16"
        )
    return needed


def _fit(job: Job, cluster: Cluster) -> tuple[int, float]:
    """How many trials run at once, and the share of a GPU each takes. Raises InputError when none fits."""
    plan = job.space.plan
    gpu = (1.0 if cluster.gpus else 0.0) if plan.resources.gpu == "auto" else float(plan.resources.gpu)
    if job.space.base.device == "cuda" and not gpu:
        raise InputError("base.device: must be auto or cpu where a trial gets no GPU, got 'cuda'")
    places = sum(_places(node["Resources"], plan.resources.cpu, gpu) for node in ray.nodes() if node["Alive"])
    if places < 1:
        wanted = f"{plan.resources.cpu} CPU(s) and {gpu:g} GPU a trial"
        raise InputError(
            f"search.resources: must fit the cluster ({cluster.cpus:g} CPUs, {cluster.gpus:g} GPUs), got {wanted}"
        )
    if cluster.nodes > 1 and plan.storage is None:
        rule = "must be a place that all nodes reach (s3://..., an NFS folder)"
        raise InputError(f"search.storage: {rule} on a cluster of {cluster.nodes} nodes, got null")
    size, store = features.num_bytes(job.source, job.space.base.data.dtype), cluster.store_bytes / cluster.nodes
    if size > store:
        raise InputError(
            f"data.features: must fit a node's object store ({store / 2**30:.1f} GiB), got {size / 2**30:.1f} GiB; "
            "start Ray with a larger --object-store-memory"
        )
    return (places if plan.concurrent == "auto" else min(places, plan.concurrent)), gpu


def _places(node: Mapping[str, float], cpu: int, gpu: float) -> int:
    """How many trials one node holds."""
    by_cpu = int(node.get("CPU", 0) // cpu)
    return min(by_cpu, int(node.get("GPU", 0)) * int(1 / gpu + 1e-9)) if gpu else by_cpu


def _describe(job: Job, concurrent: int, gpu: float, tell: Callable[[str], None]) -> None:
    plan, clips = job.space.plan, int(job.source.num_clips.sum())
    size = features.num_bytes(job.source, job.space.base.data.dtype) / 2**20
    tell(
        f"Data: {len(job.parts.train)} training and {len(job.parts.validation)} validation videos, {clips} clips, "
        f"{job.source.dim}-d, {size:.0f} MiB in shared memory"
    )
    for note in job.notes:
        tell(f"warning: {note}")
    tell(
        f"Search: {plan.trials} trials of up to {job.space.base.optim.epochs} epochs, {concurrent} at once, "
        f"each with {plan.resources.cpu} CPU(s) and {gpu:g} GPU; run folder {job.folder.root}"
    )
    if job.space.base.data.validation == "official":
        tell("warning: data.validation is official, so settings are tuned on the set that the result is reported on")


def _search(job: Job, concurrent: int, gpu: float, tell: Callable[[str], None]) -> tuple[Bridge, bool]:
    """Runs the trials; the bridge with its study, and whether the user interrupted."""
    space = job.space
    plan, epochs = space.plan, space.base.optim.epochs
    study = Study.create(
        name=space.name,
        journal=job.folder.journal,
        sampler=make_sampler(space.sampler, space.base.seed),
        pruner=make_pruner(space.pruner, epochs),
        parameters=space.parameters,
        epochs=epochs,
        objective=plan.objective,
    )
    export.record_data(study.inner, job.fingerprint)
    study.start_with({key: base_value(space.base, key) for key in space.parameters})
    progress = Progress(job, study, tell)
    bridge = Bridge(study, plan.trials, progress.ended)
    threads = space.base.threads or plan.resources.cpu
    shared = features.share(job.source, job.annotations, space.base.data.dtype)
    trainable = tune.with_resources(
        tune.with_parameters(
            TrialRunner,
            base=replace(space.base, threads=threads, device="cuda" if gpu else "cpu"),
            detects=space.detects,
            split=job.parts,
            shared=shared,
        ),
        {"cpu": plan.resources.cpu, "gpu": gpu},
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=StudySearcher(bridge),
            scheduler=StudyScheduler(bridge),
            num_samples=plan.trials,
            max_concurrent_trials=concurrent,
            reuse_actors=True,
            trial_name_creator=lambda trial: trial_folder(trial.config["number"]),
            trial_dirname_creator=lambda trial: trial_folder(trial.config["number"]),
        ),
        run_config=tune.RunConfig(
            name=TRIALS,
            storage_path=f"{plan.storage}/{job.folder.root.name}" if plan.storage else str(job.folder.root.resolve()),
            callbacks=[StudyListener(bridge)],
            failure_config=tune.FailureConfig(max_failures=plan.max_failures),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            verbose=0,
        ),
    )
    interrupted = False
    try:
        # Ray Tune prints, too; `tell` kept the terminal's stream and goes on writing there.
        with job.folder.log.open("a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
            tuner.fit()
    except KeyboardInterrupt:
        interrupted = True
    left = study.fail_running("interrupted")
    export.write_trials(job.folder, space, study.trials())
    return bridge, interrupted or bool(left) or bridge.asked < plan.trials


class Progress:
    """One line a trial, as it ends."""

    def __init__(self, job: Job, study: Study, tell: Callable[[str], None]):
        self._job, self._study, self._tell = job, study, tell
        self._done, self._best = 0, float("-inf")
        self._started = time.monotonic()

    def ended(self, running: Running, state: str) -> None:
        """Prints the trial and keeps trials.csv up to date."""
        self._done += 1
        if state == "COMPLETE":
            self._best = max(self._best, running.best_value)
        export.write_trials(self._job.folder, self._job.space, self._study.trials())
        params = " ".join(f"{key}={_short(value)}" for key, value in running.params.items())
        value = f"{running.best_value:6.2f} at epoch {running.best_epoch}" if running.epochs else "   none"
        note = f"  {running.failure}" if running.failure else ""
        note += "  collapsed: every clip scored the same" if running.collapsed_epochs else ""
        base = " (base)" if running.number == 0 else ""
        self._tell(
            f"[{self._done:3d}/{self._job.space.plan.trials} {_clock(time.monotonic() - self._started)}] "
            f"trial {running.number:3d}{base} {state:8s} avg.mAP {value} of {running.epochs}, "
            f"best so far {f'{self._best:.2f}' if self._best > float('-inf') else 'none yet'}  {params}{note}"
        )


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes:3d}:{rest:02d}"


def _finish(job: Job, study: Study, interrupted: bool) -> int:
    """Exports the winner and says what came out; the exit code."""
    states = {state: len(study.trials(state)) for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)}
    counts = ", ".join(f"{count} {state.name.lower()}" for state, count in states.items())
    say(f"Trials: {counts}")
    for trial in study.trials(TrialState.FAIL):
        say(f"  trial {trial.number} failed: {trial.user_attrs.get('failure', 'unknown')}")
    best = study.best()
    if best is not None:
        export.export(job.folder, job.space, study.inner, None, None)
        _summarise(job, study, best)
        if job.folder.weights_of(best.number) is None:
            say(f"Its weights stay in {job.space.plan.storage}, in the folder of the trial")
    if interrupted:
        say(f"Interrupted; what is finished is kept in {job.folder.root}")
        return 130
    if best is None:
        say(f"No trial completed; see {job.folder.log}")
        return 3
    return 0


def _summarise(job: Job, study: Study, best: FrozenTrial) -> None:
    space = job.space
    say(f"Best: trial {best.number}, avg.mAP {best.value:.3f}; written to {job.folder.best_yaml}")
    base = next((trial for trial in study.trials(TrialState.COMPLETE) if trial.number == 0), None)
    if base is not None and base.value is not None and best.value is not None:
        own = export.own_setting_avg_map(space, base)
        say(
            f"Base: avg.mAP {own:.3f} at its own detection setting, {base.value:.3f} at its best; "
            f"gain {best.value - base.value:+.3f} on one seed, not confirmed over seeds"
        )
    say(f"Train it again: python -m haan train {job.folder.best_yaml} --out trained")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(epilog="Example: python search/run.py spaces/demo.yaml --trials 8 --name first")(main)
    run(app)
