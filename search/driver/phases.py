"""A job at work: its study, its stages one after the other, each through Ray Tune and onto the screen."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from ray import tune

from haan.words import clock
from search.driver import nodes, placement
from search.driver.job import Job
from search.driver.progress import Progress, Totals, params, totals
from search.driver.screen import Screen
from search.results import checkpoints, confirm, provenance, trialscsv
from search.space.model import base_number, front, named_params
from search.space.studies import study_of
from search.study import record
from search.study.study import FINISHED, Study, Suggestion
from search.trials.bridge import Bridge, Halt, Running
from search.trials.features import Copies, Opened, SharedTable, amount_of
from search.trials.trial import TrialRunner
from search.trials.tuning import Stage, run_stage

_LOG = logging.getLogger("search")
_TABLE_S = 5  # between two writings of trials.csv


@dataclass(frozen=True)
class Work:
    """A job and where it runs. deadline: the time.monotonic() at which the time budget is spent."""

    job: Job
    where: str
    share: placement.Share
    shared: SharedTable
    screen: Screen
    deadline: float | None
    copies: Copies = field(default_factory=Copies)

    def is_late(self, progress: Progress | None) -> bool:
        """Whether the time budget is spent; during the search, less what the confirmation is expected to take."""
        if self.deadline is None:
            return False
        runs = confirm.num_runs(self.job.space, "official" in self.job.splits)
        reserve_s = progress.run_s * runs / self.share.concurrent if progress is not None else 0.0
        return time.monotonic() + reserve_s >= self.deadline

    def stage(self, name: str) -> Stage:
        """A stage of the job as Ray Tune runs it."""
        space, share = self.job.space, self.share
        base = share.pinned(replace(space.base, eval=replace(space.base.eval, epoch=space.plan.objective)))
        trainable = tune.with_parameters(
            TrialRunner, base=base, detects=space.detects, splits=self.job.splits, shared=self.shared, gpu=share.gpu
        )
        request = placement.request(share, self.job.feature_bytes)
        return Stage(
            name=name,
            place=checkpoints.place(self.job.folder, space),
            session=self.job.session,
            trainable=tune.with_resources(trainable, request),
            concurrent=share.concurrent,
            max_failures=space.plan.max_failures,
            log=self.job.folder.log,
            request=request,
        )

    def opened(self, how: Opened) -> None:
        """Says that the features came to a node, once for each copy."""
        line = self.copies.note(how)
        if line:
            self.screen.line(line)

    def queues(self, running: Iterable[Running]) -> None:
        """While a trial waits: says how far its features are, and has nodes with room say so again.

        For the latter see search.driver.placement.stir.
        """
        coming = self._coming()
        if coming:
            self.screen.line(coming)
        free = placement.with_room(self.share, self.job.feature_bytes, Counter(one.node for one in running))
        if free:
            _LOG.info("a trial waits though there is room on %s", ", ".join(node.host for node in free))
            placement.stir(free)

    def _coming(self) -> str | None:
        """The nodes to which features are on their way, in words."""
        held = self.shared.on_their_way()
        whole, hosts = amount_of(self.job.feature_bytes), {node.id: node.host for node in nodes.alive()}
        parts = [f"{amount_of(there)} of {whole} to {hosts[node]}" for node, there in held.items() if node in hosts]
        return f"features on their way: {', '.join(parts)}" if parts else None

    def waits(self, seconds: float) -> None:
        """Says that no trial runs for lack of nodes, unless they only wait for features, which `queues` says."""
        if self._coming() is None:
            self.screen.line(f"waiting for nodes: no trial has run for {clock(seconds)}; {nodes.now()}")


@dataclass(frozen=True)
class Ended:
    """How a stage ended: by its budget, by the user, or because it halted."""

    interrupted: bool = False
    halt: Halt | None = None

    @property
    def early(self) -> bool:
        """Whether something is left to do."""
        return self.interrupted or self.halt is not None

    def or_earlier(self, before: "Ended") -> "Ended":
        """How two stages ended, one after the other."""
        return Ended(self.interrupted or before.interrupted, self.halt or before.halt)


def make_study(work: Work) -> Study:
    """The search's study, new or as the driver before this one left it."""
    job, space = work.job, work.job.space
    study = study_of(space, name=space.name, journal=job.folder.journal, seed=space.base.seed)
    study.inner.set_user_attr(record.FINGERPRINT, job.fingerprint)
    study.inner.set_user_attr(record.DATA, provenance.record(space.base.data, job.source, job.annotations))
    _begin_session(work, study)
    study.start_with(front(space))
    return study


def _begin_session(work: Work, study: Study) -> None:
    share = work.share
    sessions = list(study.inner.user_attrs.get(record.SESSIONS, []))
    if sessions and sessions[-1]["ended"] is None:
        sessions[-1] = {**sessions[-1], "ended": work.job.last_seen}
    began = {"started": time.time(), "ended": None, "where": work.where, "concurrent": share.concurrent}
    resources = {"cpu": share.cpu, "gpu": share.gpu, "nodes": len(ray.nodes())}
    study.inner.set_user_attr(record.SESSIONS, [*sessions, began | resources | provenance.versions()])


def end_session(work: Work, study: Study) -> None:
    """Notes when this driver ended, and how its features were copied to nodes."""
    line = work.copies.summary()
    if line:
        work.screen.line(line)
        study.inner.set_user_attr(record.FEATURES, work.copies.attribute())
    *before, last = study.inner.user_attrs[record.SESSIONS]
    study.inner.set_user_attr(record.SESSIONS, [*before, {**last, "ended": time.time()}])


def run_search(work: Work, study: Study) -> Ended:
    """Runs the trials that are left of the budget."""
    job, space = work.job, work.job.space
    base = base_number(space)

    def to_config(suggestion: Suggestion) -> dict[str, Any]:
        return {"params": dict(suggestion.params), "sweep": True, "epochs": study.epochs}

    def describe(running: Running) -> tuple[str, str]:
        return f"trial {running.number:3d}{' (base)' if running.number == base else ''}", params(
            named_params(space, running.params)
        )

    def write() -> None:
        trialscsv.write_trials(job.folder, space, study.trials())

    return _drive(work, study, checkpoints.TRIALS, "search", space.plan.trials, to_config, describe, write)


def run_confirmation(work: Work, study: Study) -> Ended:
    """Trains the best and the base again with new seeds, then the winner and the base on all training videos."""
    job, space = work.job, work.job.space
    again = Study.create(
        name=f"{study.inner.study_name} confirmation",
        journal=job.folder.confirm_journal,
        sampler=RandomSampler(),
        pruner=NopPruner(),
        parameters=confirm.PARAMETERS,
        epochs=study.epochs,
        objective=space.plan.objective,
    )
    by_number = {trial.number: trial for trial in study.trials()}

    def to_config(suggestion: Suggestion) -> dict[str, Any]:
        trial, asked = by_number[suggestion.params["trial"]], suggestion.params
        epochs = study.epochs
        if asked["videos"] == confirm.OFFICIAL:
            epochs = confirm.final_epochs(space, trial, again.trials())
        return {"params": confirm.settings(space, trial, asked, epochs), "sweep": False, "epochs": epochs}

    def describe(running: Running) -> tuple[str, str]:
        number = running.params["trial"]
        head = f"confirm trial {number}{' (base)' if number == base_number(space) else ''}"
        return head, f"seed {running.params['seed']} on {running.params['videos']} videos"

    def write() -> None:
        known = confirm.summarise(space, study.trials(), again.trials())
        confirm.write_csv(job.folder, space, known)

    def phase(title: str, front: list[confirm.Again]) -> Ended:
        again.start_with(front)
        searched = totals(study.trials(*FINISHED), study.epochs, work.share.units, base_number(space))
        return _drive(
            work, again, checkpoints.CONFIRM, title, len(again.trials()), to_config, describe, write, searched
        )

    ended = phase("confirm", confirm.repeats(space, study.trials()))
    if ended.early:
        return ended
    known = confirm.summarise(space, study.trials(), again.trials())
    best = confirm.winner(space, study.trials(), known)
    assert best is not None
    return phase("final", confirm.finals(space, best.number, "official" in job.splits))


def _drive(
    work: Work,
    study: Study,
    name: str,
    title: str,
    budget: int,
    to_config: Callable[[Suggestion], dict[str, Any]],
    describe: Callable[[Running], tuple[str, str]],
    write: Callable[[], None],
    searched: Totals | None = None,
) -> Ended:
    """Runs what a study has left of a budget of trials, on the screen and into its table.

    name: of the folder of checkpoints. title: of the stage, as search.driver.screen.Status has it.
    """
    stage, before, left = work.stage(name), study.trials(*FINISHED), study.num_left(budget)
    if not left:
        if before:  # the driver that saw the last of them end may not have lived to write them down
            write()
        return Ended()
    progress = Progress(
        work.screen,
        title,
        work.job.folder.root.name,
        work.where,
        len(before) + left,
        work.share,
        before,
        study.epochs,
        describe,
        base_number(work.job.space) if searched is None else None,
        searched,
    )
    written = time.monotonic()

    def on_end(running: Running, state: str) -> None:
        nonlocal written
        progress.ended(running, study.trials()[running.number])
        if time.monotonic() - written > _TABLE_S:  # not at each of a thousand quick trials
            write()
            written = time.monotonic()

    def config_of(suggestion: Suggestion) -> dict[str, Any]:
        known = stage.checkpoints.of(suggestion.number) if suggestion.interrupted else []
        return {"number": suggestion.number, "restore": known} | to_config(suggestion)

    bridge = Bridge(
        study,
        left,
        config_of,
        on_end,
        stage.checkpoints,
        on_report=progress.reported,
        last_seen=work.job.last_seen,
        is_late=lambda: work.is_late(progress if searched is None else None),
        on_open=work.opened,
        on_wait=work.waits,
        on_queue=lambda: work.queues(bridge.by_id.values()),
    )
    progress.bridge = bridge
    ended = Ended(run_stage(stage, bridge), bridge.halted)
    progress.over()
    if ended.halt is None or ended.halt.kind != "disk":
        write()
    return ended
