"""A job at work: its study, and its phases one after the other: search, confirm, final."""

import logging
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial
from ray import tune

from haan.words import byte_size, hours, settings
from search.driver import nodes, placement
from search.driver.job import Job
from search.driver.progress import Progress, Shown, Totals, totals
from search.driver.renewal import Renewal
from search.driver.screen import Screen, Status
from search.driver.staff import Staff
from search.driver.timeleft import SessionClock, ran_s
from search.results import checkpoints, confirm, curves, provenance, retraining, trialscsv, winner
from search.space.model import SEED, Space, base_number, epochs_of, is_base, named_params, num_wanted
from search.space.studies import begin, study_of
from search.study import earlier, record
from search.study.stagnation import Rule
from search.study.study import FINISHED, Study, Suggestion
from search.trials import internals
from search.trials.bridge import Bridge, Events, Halt, Running
from search.trials.features import Copies, Opened, SharedTable
from search.trials.trial import TrialRunner
from search.trials.tuning import Stage, run_stage

_LOG = logging.getLogger("search")
_TABLE_S = 5  # between two writings of trials.csv


@dataclass(frozen=True)
class Work:
    """A job and where it runs. deadline: the time.monotonic() at which the time budget is spent.

    staff: where workers are Slurm's jobs.
    """

    job: Job
    where: str
    share: placement.Share
    shared: SharedTable
    screen: Screen
    deadline: float | None
    clock: SessionClock
    copies: Copies = field(default_factory=Copies)
    staff: Staff | None = None

    def stage(self) -> Stage:
        """The job as Ray Tune runs it."""
        space, share = self.job.space, self.share
        base = share.pinned(replace(space.base, eval=replace(space.base.eval, epoch=space.plan.epoch)))
        trainable = tune.with_parameters(
            TrialRunner,
            base=base,
            detects=space.detects,
            own_detects=space.own_detects,
            other_detects=space.other_detects,
            splits=self.job.splits,
            shared=self.shared,
            objective=space.plan.objective,
            gpu=share.gpu,
            data=self.job.fingerprint,
            home=Path.cwd(),
        )
        request = placement.request(share, self.job.feature_bytes)
        return Stage(
            place=checkpoints.place(self.job.folder, space),
            session=self.job.session,
            trainable=tune.with_resources(trainable, request),
            concurrent=share.concurrent,
            max_failures=space.plan.max_failures,
            log=self.job.folder.log,
            request=request,
        )


@dataclass(frozen=True)
class Ended:
    """How a stage ended: by its budget, by the user, or because it halted."""

    interrupted: bool = False
    halt: Halt | None = None

    def or_earlier(self, before: "Ended") -> "Ended":
        """How two stages ended, one after the other."""
        return Ended(self.interrupted or before.interrupted, self.halt or before.halt)


def make_study(work: Work) -> Study:
    """The search's study, new or as the driver before this one left it."""
    job, space = work.job, work.job.space
    study = study_of(space, name=space.name, journal=job.folder.journal, seed=space.base.seed)
    study.inner.set_user_attr(record.FINGERPRINT, job.fingerprint)
    known = provenance.record(space.base.data, job.source, job.annotations)
    study.inner.set_user_attr(record.DATA, known)
    for line in provenance.made_up(space.base.data, known):
        _LOG.info(line)
    _begin_session(work, study)
    begin(study, space, job.sources)
    return study


def _begin_session(work: Work, study: Study) -> None:
    share = work.share
    sessions = list(study.inner.user_attrs.get(record.SESSIONS, []))
    if sessions and sessions[-1]["ended"] is None:
        sessions[-1] = {**sessions[-1], "ended": work.job.last_seen}
    began = {"started": time.time(), "ended": None, "where": work.where, "concurrent": share.concurrent}
    resources = {"cpu": share.cpu, "gpu": share.gpu, "nodes": len(internals.nodes_up())}
    study.inner.set_user_attr(record.SESSIONS, [*sessions, began | resources | provenance.versions()])


def end_session(work: Work, study: Study) -> None:
    """Notes when this driver ended, and how its features were copied to nodes."""
    line = work.copies.summary()
    if line:
        work.screen.line(line)
        study.inner.set_user_attr(record.FEATURES, work.copies.attribute())
    *before, last = study.inner.user_attrs[record.SESSIONS]
    study.inner.set_user_attr(record.SESSIONS, [*before, {**last, "ended": time.time()}])


class Phase(ABC):
    """A study on its way through Ray Tune.

    title: as search.driver.screen.Status has it. kind: what the folders of its checkpoints are called. budget: of
    trials. searched: what the search found, where that is over. later: how many runs each phase after it has at most.
    stagnation: what ends it before its budget is spent. enough_epochs: of trials that ended, after which none begins.
    confirmed: what new seeds said of the winner, once they have.
    search: the search's study.
    """

    title: str
    kind: str
    searched: Totals | None = None
    later: tuple[int, ...] = ()
    stagnation: Rule | None = None
    enough_epochs: int | None = None
    confirmed: str = ""

    def __init__(self, work: Work, study: Study, budget: int, search: Study):
        self.work, self.study, self.budget, self.search = work, study, budget, search

    @property
    def left(self) -> int:
        """How many trials are to be run, or taken up again."""
        return self.study.num_left(self.budget)

    def is_base(self, number: int, params: Mapping[str, Any]) -> bool:
        """Whether one of its trials is the base, by its number and parameters."""
        return False

    def owns(self, trial: FrozenTrial) -> bool:
        """Whether a trial of its study is one of its own, and not of another phase on the same study."""
        return True

    @abstractmethod
    def config(self, suggestion: Suggestion) -> dict[str, Any]:
        """What a trial needs to know; see search.trials.trial."""

    @abstractmethod
    def describe(self, running: Running) -> tuple[str, Sequence[str]]:
        """What a trial is called, and its settings, each of which stays on one line."""

    def as_row(self, running: Running) -> Shown:
        """A trial under way as the screen has it."""
        return running.number, self.is_base(running.number, running.params), running.params

    @abstractmethod
    def curve(self, running: Running) -> curves.Curve:
        """Whose epochs those of a trial are."""

    @abstractmethod
    def write(self) -> None:
        """Writes the table of its trials."""


class Search(Phase):
    """The trials of the search's budget."""

    title, kind = "search", checkpoints.TRIAL

    def __init__(self, work: Work, study: Study):
        super().__init__(work, study, work.job.space.plan.trials, study)
        has_official, sources = retraining.OFFICIAL in work.job.splits, earlier.kept(study.inner.user_attrs)
        rounds, finals = retraining.num_runs(work.job.space, has_official, sources)
        self.later = (*rounds, finals)
        plan = work.job.space.plan
        self.stagnation = plan.enough(study.trials(*FINISHED))
        self.enough_epochs = None if plan.stop is None else plan.stop.epochs

    @property
    def left(self) -> int:
        if self.stagnation is not None and self.stagnation.is_enough:
            self.work.screen.line(f"{_enough(self.stagnation)}; `--set search.stop=null` goes on")
        return self.study.num_left(num_wanted(self.work.job.space, self.study.trials(*FINISHED)))

    def is_base(self, number: int, params: Mapping[str, Any]) -> bool:
        return is_base(self.work.job.space, number, params)

    def config(self, suggestion: Suggestion) -> dict[str, Any]:
        epochs = epochs_of(self.work.job.space, suggestion.params)
        return {"params": dict(suggestion.params), "sweep": True, "epochs": epochs}

    def describe(self, running: Running) -> tuple[str, Sequence[str]]:
        return winner.called(self.work.job.space, running.number, running.params, width=3), settings(
            named_params(self.work.job.space, running.params)
        )

    def curve(self, running: Running) -> curves.Curve:
        space = self.work.job.space
        seed = int(running.params.get(SEED, space.base.seed))
        return curves.Curve(running.number, retraining.videos_of(space), seed)

    def write(self) -> None:
        trialscsv.write_trials(self.work.job.folder, self.work.job.space, self.study.trials())


class Confirmation(Phase):
    """Runs that repeat trials of the search, beside those that `again` holds already."""

    kind = checkpoints.AGAIN

    def __init__(
        self,
        work: Work,
        search: Study,
        again: Study,
        title: str,
        runs: list[retraining.Again],
        later: tuple[int, ...] = (),
    ):
        again.start_with(runs)
        super().__init__(work, again, len(again.trials()), search)
        self.later = later
        self.title, self._space, self._runs = title, work.job.space, runs
        self._trials = search.trials()
        self._base = retraining.base_trial(self._space, self._trials)
        ended = [trial for trial in self._trials if trial.state in FINISHED]
        self.searched = totals(ended, search.epochs, work.share.units, partial(is_base, self._space))
        ranking = self.so_far().ranking if title == "final" else None
        if ranking is not None:
            mean = f"{ranking.winner.mean:.2f} (trial {ranking.winner.number})"
            self.confirmed = f"confirmed {mean}: {ranking.sentence()}"

    def owns(self, trial: FrozenTrial) -> bool:
        """The phases after the search share a study."""
        return trial.params in self._runs

    def config(self, suggestion: Suggestion) -> dict[str, Any]:
        asked = suggestion.params
        trial = self._trials[asked["trial"]]
        epochs = confirm.num_epochs(self._space, trial, asked, self.so_far())
        swept = retraining.is_swept(self._space, asked)
        values = retraining.settings(self._space, trial, asked, epochs)
        return {"params": values, "sweep": swept, "by_epoch": swept, "epochs": epochs}

    def describe(self, running: Running) -> tuple[str, Sequence[str]]:
        number = running.params["trial"]
        sources = record.TrialRecord.of(self._trials[number]).winner_of
        head = f"{self.title} {retraining.named(number, number == self._base, sources)}"
        return head, [retraining.described(self._space, running.params)]

    def as_row(self, running: Running) -> Shown:
        number = running.params["trial"]
        return number, number == self._base, {key: value for key, value in running.params.items() if key != "trial"}

    def curve(self, running: Running) -> curves.Curve:
        asked = running.params
        return curves.Curve(asked["trial"], asked["videos"], asked["seed"], again=True)

    def write(self) -> None:
        confirm.write_csv(self.work.job.folder, self._space, self.so_far())

    def so_far(self) -> confirm.Confirmation:
        """What is known of the confirmation."""
        return confirm.summarise(self._space, self._trials, self.study.trials())


def _enough(stagnation: Rule) -> str:
    return f"Enough: {stagnation.rule}"


def has_winner(study: Study) -> bool:
    """Whether a search has found something to confirm and to export."""
    return study.best() is not None and winner.no_choice(study.trials()) is None


def run_phases(work: Work, study: Study) -> Ended:
    """Runs what is left of all phases; how they ended.

    A search that spent its time is confirmed all the same; whatever else ends a phase early ends the job.
    """
    course, ended = _Course(work, study), Ended()
    bridge = course.follow()
    while bridge is not None:
        try:
            interrupted = run_stage(course.stage, bridge, course.follow)
        except BaseException:
            course.close()
            raise
        phase, halted = course.finish()
        ended = Ended(interrupted, halted).or_earlier(ended)
        spent = halted is not None and halted.kind == "time" and isinstance(phase, Search)
        if interrupted or (halted is not None and not spent):
            break
        bridge = course.follow()
    return ended


def _phases(work: Work, study: Study) -> Iterator["Phase"]:
    """The search; the best and the base again, with new seeds; the winner and the base on all training videos.

    Each is made once the one before it has ended. Where the best race, each seed after the first looks is a phase.
    """
    job, space = work.job, work.job.space
    yield Search(work, study)
    if not has_winner(study):
        return
    again = Study.create(
        name=f"{study.inner.study_name} confirmation",
        journal=job.folder.confirm_journal,
        sampler=RandomSampler(),
        pruner=NopPruner(),
        parameters=retraining.parameters(space),
        epochs=study.epochs,
        objective=space.plan.objective,
        conditions=retraining.CONDITIONS,
    )
    has_official = retraining.OFFICIAL in job.splits
    _, num_finals = retraining.num_runs(space, has_official, earlier.kept(study.inner.user_attrs))
    known, runs = confirm.summarise(space, study.trials(), again.trials()), None
    while list(known.wanted) != runs:
        if runs is not None:
            work.screen.line(_race_goes_on(space, runs, known))
        runs = list(known.wanted)
        phase = Confirmation(work, study, again, "confirm", runs, (*known.rounds, num_finals))
        yield phase
        known = phase.so_far()
    yield Confirmation(work, study, again, "final", confirm.finals(space, study.trials(), known, has_official))


def _race_goes_on(space: Space, before: Sequence[retraining.Again], known: confirm.Confirmation) -> str:
    """Who takes part in a race's next seed, in words, and who did in the one before."""

    def part(wanted: Sequence[retraining.Again]) -> list[int]:
        return [again["trial"] for again in wanted if again["seed"] == wanted[-1]["seed"]]

    def named(numbers: Sequence[int]) -> str:
        base = base_number(space)
        names = [f"{number} (base)" if number == base else str(number) for number in numbers]
        return f"trial{'s' if len(names) > 1 else ''} {', '.join(names)}"

    inside = part(known.wanted)
    scored = {run.trial for run in known.runs if run.counts and run.avg_map is not None}
    gone = [number for number in part(before) if number not in inside]
    behind, failed = [one for one in gone if one in scored], [one for one in gone if one not in scored]
    left = f", {named(behind)} {'are' if len(behind) > 1 else 'is'} behind" if behind else ""
    left += f", {named(failed)} failed with every seed" if failed else ""
    return f"Race: {named(inside)} go on with seed {known.wanted[-1]['seed']}{left}"


class PhaseEvents(Events):
    """What the driver does as the trials of a phase go on: on the screen, and in the phase's table."""

    def __init__(self, phase: Phase, progress: Progress, found: curves.Curves):
        self._phase, self._work, self._progress, self._curves = phase, phase.work, progress, found
        self._written = time.monotonic()
        self._report = Renewal(self._work.job.folder, self._work.job.space, phase.search.inner)

    def opened(self, how: Opened) -> None:
        """Says that the features came to a node, once for each copy."""
        line = self._work.copies.note(how)
        if line:
            self._work.screen.line(line)

    def epoch(self, trial: Running, result: Mapping[str, Any]) -> None:
        """Writes it down."""
        self._curves.add(self._phase.curve(trial), result)

    def reported(self, under_way: Collection[Running]) -> None:
        """Shows it."""
        self._progress.reported(under_way)

    def goes_on(self, under_way: Collection[Running]) -> None:
        """Shows it, in the report, too: an epoch may take long."""
        self._progress.reported(under_way)
        self._report.renew()
        self._look_at_staff(under_way)

    def ended(self, trial: Running, state: str, under_way: Collection[Running]) -> None:
        """Shows it, and writes the table, but not at each of a thousand quick trials."""
        known = self._phase.study.trials()[trial.number]
        self._curves.ended(self._phase.curve(trial), trial.params, known.value)
        had_enough = self.has_enough()
        if self._phase.stagnation is not None:
            self._phase.stagnation.add(known)
        self._progress.ended(trial, known, under_way)
        if self.has_enough() and not had_enough:
            self._suffice(len(under_way))
        if time.monotonic() - self._written > _TABLE_S:
            self._phase.write()
            self._written = time.monotonic()

    def has_enough(self) -> bool:
        """Whether what ends the phase before its budget is spent has come."""
        return self._phase.stagnation is not None and self._phase.stagnation.is_enough

    def _suffice(self, running: int) -> None:
        """Says that no further trial begins; an interrupted one is under way, too."""
        assert self._phase.stagnation is not None
        left_out = self._progress.suffice(running + self._phase.study.num_interrupted)
        self._work.screen.line(
            f"{_enough(self._phase.stagnation)}; the trials under way go on, {left_out} more are not tried"
        )

    def waits(self, seconds: float) -> None:
        """Says that no trial runs for lack of nodes, unless they only wait for features, which `queues` says."""
        if self._coming() is None:
            self._work.screen.line(nodes.waiting(hours(seconds)))

    def queues(self, under_way: Collection[Running]) -> None:
        """While a trial waits: says how far its features are, and has nodes with room say so again.

        For the latter see search.driver.placement.stir.
        """
        coming, work = self._coming(), self._work
        self._look_at_staff(under_way)
        if coming:
            work.screen.line(coming)
        running = Counter(trial.node for trial in under_way)
        free = placement.with_room(work.share, work.job.feature_bytes, running)
        if free:
            _LOG.info("a trial waits though there is room on %s", ", ".join(node.host for node in free))
            placement.stir(free)

    def _look_at_staff(self, under_way: Collection[Running]) -> None:
        """Where workers are Slurm's jobs: those that neither this phase nor the next can fill are given back."""
        staff = self._work.staff
        if staff is not None:
            left = len(under_way) + self._progress.to_begin(under_way)
            staff.look(under_way, max(left, *self._phase.later, 0))

    def _coming(self) -> str | None:
        """The nodes to which features are on their way, in words."""
        held = self._work.shared.on_their_way()
        whole, hosts = byte_size(self._work.job.feature_bytes), {node.id: node.host for node in nodes.alive()}
        parts = [f"{byte_size(there)} of {whole} to {hosts[node]}" for node, there in held.items() if node in hosts]
        return f"features on their way: {', '.join(parts)}" if parts else None

    def is_late(self) -> bool:
        """Whether the time budget is spent, less what later phases are expected to take."""
        deadline = self._work.deadline
        if deadline is None:
            return False
        # A confirmation that is cut short is followed by nothing, so it leaves no time for the final runs.
        reserve_s = 0.0 if self._phase.searched else self._progress.later_s
        return time.monotonic() + reserve_s >= deadline


@dataclass(frozen=True)
class _Leg:
    """A phase under way."""

    phase: Phase
    bridge: Bridge
    progress: Progress
    curves: curves.Curves


class _Course:
    """The phases of a job, one after the other, each on the screen and into its table."""

    def __init__(self, work: Work, study: Study):
        self._work, self.stage = work, work.stage()
        self._phases = _phases(work, study)
        self._leg: _Leg | None = None
        self._is_open = False

    def follow(self) -> Bridge | None:
        """Finishes the phase under way, if any, and begins the next that has something left to do."""
        if self._leg is not None:
            self.finish()
        for phase in self._phases:
            before = [trial for trial in phase.study.trials(*FINISHED) if phase.owns(trial)]
            left = phase.left
            if left:
                self._leg, self._is_open = self._begun(phase, before, left), True
                return self._leg.bridge
            if before:  # the driver that saw the last of them end may not have lived to write them down
                phase.write()
        return None

    def finish(self) -> tuple[Phase, Halt | None]:
        """Ends the phase that was begun last, and writes its table; which it was, and why it halted."""
        leg = self._leg
        assert leg is not None
        halted = leg.bridge.halted
        if self._is_open:
            self.close()
            leg.progress.over(leg.bridge.by_id.values())
            if halted is None or halted.kind != "disk":
                leg.phase.write()
        return leg.phase, halted

    def close(self) -> None:
        """Closes the files of the phase under way."""
        if self._leg is not None:
            self._leg.curves.close()
            self._is_open = False

    def _begun(self, phase: Phase, before: Sequence[FrozenTrial], left: int) -> _Leg:
        work, study = self._work, phase.study
        kept = self.stage.checkpoints(phase.kind)

        def to_config(suggestion: Suggestion) -> dict[str, Any]:
            known = kept.of(suggestion.number) if suggestion.interrupted else []
            return {"number": suggestion.number, "kind": phase.kind, "restore": known} | phase.config(suggestion)

        heading = Status(
            stage=phase.title,
            name=work.job.folder.root.name,
            where=work.where,
            budget=len(before) + left,
            unit=work.share.unit,
            confirmed=phase.confirmed,
        )
        sums = totals(before, study.epochs, work.share.units, phase.is_base)
        stops = partial(str, phase.stagnation or "")
        others = [trial for trial in study.trials(*FINISHED) if not phase.owns(trial)]
        progress = Progress(
            work.screen,
            heading,
            phase.describe,
            sums,
            work.clock,
            phase.searched,
            phase.later,
            stops,
            as_row=phase.as_row,
            earlier_s=work.share.units * sum(ran_s(record.TrialRecord.of(trial).runs or ()) for trial in others),
            enough_epochs=phase.enough_epochs,
        )
        found, more = curves.Curves(work.job.folder), next((runs for runs in phase.later if runs), 0)
        events = PhaseEvents(phase, progress, found)
        return _Leg(phase, Bridge(study, left, to_config, events, kept, work.job.last_seen, more), progress, found)
