"""One session of a search, from its input to its report. Read it top to bottom."""

import logging
import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

import ray
from optuna.trial import TrialState
from rich.console import Console

from haan.cli import in_checkout, python, say, show_table, tell
from haan.words import amount, clean
from haan.yamlconfig import read_config
from search.driver import estimate, nodes, outcry, placement, storagecheck
from search.driver.gpus import Gpu, LocalGpus
from search.driver.job import Job, prepare, preview
from search.driver.phases import Ended, Work, end_session, has_winner, make_study, run_phases
from search.driver.progress import totals
from search.driver.request import AGAIN, Request
from search.driver.screen import Screen
from search.driver.staff import Staff
from search.driver.timeleft import SessionClock, ran_s
from search.page.page import write_report
from search.results import beside, checkpoints, classescsv, confirm, export, winner
from search.results.folder import RunFolder
from search.results.provenance import made_up
from search.space.edges import edge_warnings
from search.space.model import is_base, most_epochs
from search.study import record
from search.study.record import TrialRecord
from search.study.study import FINISHED, Study
from search.trials import features, internals
from search.trials.bridge import no_room

for _key, _value in internals.EVERY_RAY.items():
    os.environ.setdefault(_key, _value)
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # search.results.curves writes what is wanted

_RAY_LOGGERS = ("ray", "ray.data", "ray.serve", "ray.train", "ray.tune")  # Ray gives each a handler of its own


def search(
    asked: Request, address: str | None, deadline: float | None, quiet: bool, script: str = "search/run.py"
) -> tuple[int, RunFolder]:
    """The search itself; the exit code, and where its run lies. script: the command line that goes on with it."""
    began = time.monotonic()
    with ExitStack() as held:
        job = replace(prepare(asked, held), address=address, script=script)
        held.enter_context(_logged(job.folder.log))
        held.enter_context(outcry.kept(job.folder.log, clean(_last_word(job))))
        service = held.enter_context(ExitStack())  # of GPUs: ends after Ray
        held.callback(ray.shutdown)
        try:
            with _screen(quiet) as screen:
                work = _settle(job, screen, deadline, service, began)
                study = make_study(work)
                screen.line(f"Starting {work.share.concurrent} worker(s) ...")
                ended = run_phases(work, study)
            if work.staff is not None and not ended.interrupted:
                work.staff.dismiss()
            with _undisturbed():
                code = _finish(work, study, ended)
        except Exception as error:
            if not no_room(error):
                raise
            code = _full(job, str(error))
    return code, job.folder


def _last_word(job: Job) -> str:
    """What is said where Ray or the system ends this process."""
    kept = f"what is finished is kept in {job.folder.root}; to go on: {_resume_command(job)}"
    return f"The search was ended from outside, {job.folder.log} may say why; {kept}"


def _full(job: Job, reason: str) -> int:
    """Says that the disk is full; the exit code."""
    say(clean(f"The disk is full ({reason}); what is finished is kept in {job.folder.root}"))
    say(clean(f"Make room, and to go on: {_resume_command(job)}"))
    return 130


def show_plan(asked: Request, address: str | None, quiet: bool) -> None:
    """Checks all that the search needs and says what it would take; leaves nothing behind."""
    with ExitStack() as held:
        scratch = RunFolder(Path(held.enter_context(TemporaryDirectory()), "run"))
        job = replace(preview(asked, scratch), address=address)
        held.enter_context(_logged(scratch.log))
        service = held.enter_context(ExitStack())
        held.callback(ray.shutdown)
        screen = held.enter_context(_screen(quiet))
        found, share = _find(job, screen, scratch.log, service, with_room=True)
        for line in estimate.plan(job, found, share, scratch, screen.line):
            tell(clean(line))


def _screen(quiet: bool) -> Screen:
    return Screen(Console(file=sys.stdout), live=True, quiet=quiet)


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Sends Ray's, Optuna's and Python's own messages into a file, and none after this: the file may be gone then."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logging.raiseExceptions = False  # a full disk is reported once, and not as a traceback a message
    logging.captureWarnings(True)
    warnings.simplefilter("default")
    for name in internals.NOISE:
        logging.getLogger(name).setLevel(logging.ERROR)
    loggers = [logging.getLogger(name) for name in ("search", "optuna", "py.warnings", *_RAY_LOGGERS)]
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger in loggers:
            logger.handlers = [logging.NullHandler()]
        with suppress(OSError):  # the disk is full, which has been said
            handler.close()


def _settle(job: Job, screen: Screen, deadline: float | None, service: ExitStack, began: float) -> Work:
    """Finds or starts Ray, says what will run there, and shares the features.

    Raises InputError where the search doesn't fit; a new run's name stays free then.
    """
    try:
        found, share = _find(job, screen, job.folder.log, service)
    except BaseException:
        if job.is_new:
            shutil.rmtree(job.folder.root)
        raise
    shared = features.share(job.source, job.annotations, job.space.base.data.dtype, say=screen.line)
    clock = SessionClock(share.concurrent, began)
    return Work(job, str(found), share, shared, screen, deadline, clock, staff=Staff.here(share, screen.line))


def _find(
    job: Job, screen: Screen, log: Path, service: ExitStack, with_room: bool = False
) -> tuple[nodes.Cluster, placement.Share]:
    """Where the job can run and what a trial gets there, both said on the screen. Raises InputError.

    service: takes up what must end after Ray. with_room: whether every node is asked for its room.
    """
    screen.line(clean(nodes.aim(job.address)))
    local = LocalGpus(job.space.plan, service, _need_of_gpu(job))
    found = nodes.start_ray(job.address, job.feature_bytes, log, service, local.take)
    signal.signal(signal.SIGTERM, _interrupt)  # after Ray, which sets one that ends the process at once
    for line in (f"Running on {found}", *found.aside, *_given(found, local, with_room)):
        screen.line(line)
    while True:
        try:
            crowd = _crowd(job, found, local.known)
            share = placement.fit(job.space, found, job.feature_bytes, crowd)
            probed = _probed(job, found, share, found.nodes if with_room else ())
            break
        except nodes.Left as left:
            found = nodes.without(found, left.node)
            screen.line(clean(f"{left}; running on {found}"))
    for line in (*([str(crowd)] if crowd else []), *local.overlapping(share.gpu)):
        screen.line(line)
    known = placement.warnings(found, share, job.feature_bytes)
    if job.space.plan.storage is not None:
        untried = storagecheck.untried(checkpoints.storage(job.space.plan.storage), found)
        known += [] if untried is None else [untried]
    for warning in known:
        screen.line(f"warning: {warning}")
    for line in _description(job, share):
        screen.line(line)
    return replace(found, nodes=_seen(probed, found, local.known)) if with_room else found, share


def _given(found: nodes.Cluster, local: LocalGpus, always: bool) -> Iterator[str]:
    """What a local Ray was given: cores and limits where somebody gave less than the machine has, and memory of GPUs.

    always: says them in any case.
    """
    if found.given is not None and (always or found.given.cores < found.given.machine_cores):
        yield f"Given: {found.given}" + (f", {local}" if str(local) else "")
    yield from local.held()


def _seen(probed: tuple[nodes.Node, ...], found: nodes.Cluster, known: tuple[Gpu, ...]) -> tuple[nodes.Node, ...]:
    """Nodes with the GPUs that trials see: on this machine those that were taken, and not all."""
    if not found.local:
        return probed
    return tuple(node if node.room is None else replace(node, room=replace(node.room, gpus=known)) for node in probed)


def _need_of_gpu(job: Job) -> int:
    """Bytes that a trial takes of a GPU; 0 where it takes none."""
    space = job.space
    return 0 if space.base.device == "cpu" or not space.plan.resources.gpu else estimate.need_of_gpu(job).total


def _crowd(job: Job, found: nodes.Cluster, known: Sequence[Gpu]) -> placement.Crowd | None:
    """What `gpu: auto` means, where it is asked for. known: GPUs of a local Ray; the nodes of a cluster are asked.

    Raises Unanswered, Left.
    """
    if job.space.plan.resources.gpu != "auto" or job.space.base.device == "cpu" or not found.has_gpu:
        return None
    if not found.local:
        asked = [node for node in found.nodes if node.resources.get("GPU", 0)]
        known = [gpu for node in nodes.probe(asked) if node.room is not None for gpu in node.room.gpus]
    return placement.crowd(job.space, found, known, estimate.need_of_gpu(job).total)


def _probed(
    job: Job, found: nodes.Cluster, share: placement.Share, asked: tuple[nodes.Node, ...]
) -> tuple[nodes.Node, ...]:
    """Asks nodes once, all at the same time: those that run trials to use the storage, those of `asked` for their room.

    Raises InputError, Left.
    """
    if job.space.plan.storage is None:
        return nodes.probe(asked)
    place = checkpoints.storage(job.space.plan.storage)
    return storagecheck.check(place, placement.used(found, share, job.feature_bytes), asked)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """A batch system's notice of the end is as good as the user's Ctrl-C."""
    raise KeyboardInterrupt


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second notice does not cut what the first one began."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _description(job: Job, share: placement.Share) -> list[str]:
    plan, data = job.space.plan, job.space.base.data
    enough = plan.enough()
    lines = [
        *made_up(data),
        f"Data: {len(job.split.train)} training and {len(job.split.validation)} validation videos, "
        f"{int(job.source.num_clips.sum())} clips, {job.source.dim}-d, "
        f"{job.feature_bytes / 2**20:.0f} MiB in shared memory",
        *(f"warning: {note}" for note in job.notes),
        *(f"note: {remark}" for remark in job.remarks),
        f"Search: {plan.trials} trials of up to {most_epochs(job.space)} epochs, {share.concurrent} at once, "
        f"each with {share.cpu} CPU(s) and {share.gpu:g} GPU; run folder {job.folder.root}",
        *([f"Ends {enough.when}"] if enough is not None else []),
    ]
    if data.validation == "official":
        lines.append(
            "warning: data.validation is official, so settings are tuned on the set that the result is reported on"
        )
    return lines


def _finish(work: Work, study: Study, ended: Ended) -> int:
    """Exports the winner, writes the report, and says what came out; the exit code."""
    job = work.job
    resume = f"to go on: {_resume_command(job)}"
    if ended.halt is not None and ended.halt.kind == "disk":
        return _full(job, ended.halt.reason)
    end_session(work, study)
    is_won = has_winner(study)
    # All is written before the first word: a terminal that was closed must cost nothing.
    found, rows = _leave(work, study) if is_won else ([], [])
    write_report(job.folder, job.space, study.inner)
    for line in [*_counted(work, study), *found]:
        tell(clean(line))
    if rows:
        show_table(rows)
    if is_won and job.space.table is None:
        say(clean(f"Train it again: {winner.train_again(job.folder)}"))
    say(clean(f"Report: {job.folder.report}"))
    if ended.halt is not None:
        say(f"Ended early: {ended.halt.reason}; {resume}")
    if ended.interrupted:
        say(f"Interrupted; what is finished is kept in {job.folder.root}; {resume}")
        return 130
    if not is_won:
        tell(winner.no_choice(study.trials()) or f"No trial completed; see {job.folder.log}")
        return 3
    return 0


def _resume_command(job: Job) -> str:
    if AGAIN in os.environ:  # it was sent here from a laptop, whose user reads this
        return os.environ[AGAIN]
    folder = job.folder
    words = [in_checkout(job.script), folder.space_yaml, "--name", folder.root.name]
    words += [] if folder.root.parent == Path("runs") else ["--out", folder.root.parent]
    words += [] if job.address is None else ["--address", job.address]
    return python(*words, "--resume")


def _counted(work: Work, study: Study) -> list[str]:
    """How the trials ended, what they took from start to end, what pruning saved, and what failed, reason by reason."""
    units = work.share.units
    found = totals(study.trials(*FINISHED), study.epochs, units, partial(is_base, work.job.space))
    lines = [f"Trials: {found.complete} complete, {found.pruned} pruned, {found.failed} failed"]
    under_way = [TrialRecord.of(trial) for trial in study.trials(TrialState.RUNNING)]
    if under_way:
        lines[0] += f", {len(under_way)} under way"
    searched_s = found.spent_s + units * sum(ran_s(record.runs or ()) for record in under_way)
    again = confirm.read_confirmation(work.job.folder, work.job.space, study.inner).runs
    again_s = units * sum(ran_s(run.record.runs or ()) for run in again)
    each = (searched_s, again_s, found.saved_s)
    spent, more, saved = (amount(value, work.share.unit, each) for value in each)
    prunes = work.job.space.pruner.name != "none"
    lines.append(
        f"Spent {spent} on them"
        + (f" and {more} on those trained again" if again_s else "")
        + (f"; pruning saved about {saved}" if prunes else "")
    )
    reasons: dict[str, list[int]] = {}
    for trial in study.trials(TrialState.FAIL):
        reasons.setdefault(TrialRecord.of(trial).failure or "unknown", []).append(trial.number)
    for reason, numbers in reasons.items():
        lines.append(f"  failed: {reason} (trial {', '.join(map(str, numbers))})")
    return lines


def _leave(work: Work, study: Study) -> tuple[list[str], list[list[str]]]:
    """Exports the winner; what was won, in lines, and beside what won the sources, as a table.

    A table of the paper names no winner: its lines compare means over seeds.
    """
    job, space = work.job, work.job.space
    trial = export.write_config(job.folder, space, study.inner)
    known = confirm.read_confirmation(job.folder, space, study.inner)
    yaml = job.folder.best_yaml
    found = export.write_predictions(yaml, read_config(yaml), job.source, job.annotations)
    lines = made_up(space.base.data, study.inner.user_attrs[record.DATA])
    if space.table is None:
        called = winner.called(space, trial.number, trial.params, sources=TrialRecord.of(trial).winner_of)
        lines += [f"Best: {called}; written to {yaml}"]
        apart = winner.set_apart(space, trial, winner.base_of(space, study.trials(), trial), known)
        lines += [f"Its settings: {apart}"] if apart else []
        lines += winner.comparison(space, study.inner, trial, known)
    detect = winner.detect_of(space, trial, known)
    warnings = [*winner.all_alike(study.trials()), *edge_warnings(space, trial.params, detect)]
    lines += [f"warning: {warning}" for warning in warnings]
    if found is None:
        lines.append(f"warning: its weights were not found in {checkpoints.place(job.folder, space)}")
    else:
        missing = classescsv.write_csv(job.folder, space, study.inner, found.found, job.source, job.annotations)
        lines += [f"warning: {job.folder.classes_csv} is {missing}"] if missing else []
    return lines, beside.table(beside.beside(known, trial.number))
