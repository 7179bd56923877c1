"""Studies through Ray Tune, one after the other: the search itself, and the confirmation after it."""

import logging
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune

from search.results.checkpoints import FOLDER, TRIAL, Checkpoints, of_run, trial_folder
from search.trials import internals
from search.trials.bridge import Bridge, no_room
from search.trials.hooks import StudyListener, StudyScheduler, StudySearcher, StudyStopper
from search.trials.relay import Relay

_LOG = logging.getLogger("search")


@dataclass(frozen=True)
class Stage:
    """What Ray Tune needs to know.

    place: a folder or URI, below which checkpoints go. session: which driver of this run it is, from 1. trainable: with
    its resources and parameters. log: takes what Ray prints. request: what a trial asks for, given its config, where
    that changes with the nodes.
    """

    place: str
    session: int
    trainable: Any
    concurrent: int
    max_failures: int
    log: Path
    request: Callable[[dict[str, Any]], Any] | None = None

    def checkpoints(self, kind: str = TRIAL) -> Checkpoints:
        """Where the checkpoints of one kind of trials lie."""
        return of_run(self.place, kind, self.session)

    def folder(self, config: Mapping[str, Any]) -> str:
        """The name of a trial's folder, by its `number` and, where it is no trial of the search, its `kind`."""
        return trial_folder(config["number"], self.session, config.get("kind", TRIAL))


def run_stage(stage: Stage, bridge: Bridge, follow: Callable[[], Bridge | None] = lambda: None) -> bool:
    """Runs trials until the bridge's budget and those of the bridges that follow it are spent, or until one halts.

    follow: see search.trials.relay. Returns whether the user interrupted. A full disk halts it: the study can't be told
    anything then, so it is left as it is.
    """
    relay, idle = Relay(bridge, stage.concurrent, follow), internals.IdleProcesses()
    internals.take_kills_for_deaths()
    internals.leave_starting_processes()
    tuner = tune.Tuner(
        stage.trainable,
        tune_config=tune.TuneConfig(
            search_alg=StudySearcher(relay),
            scheduler=StudyScheduler(relay, idle),
            num_samples=-1,  # as many as the searcher has
            max_concurrent_trials=stage.concurrent,
            reuse_actors=True,
            trial_name_creator=lambda trial: stage.folder(trial.config),
            trial_dirname_creator=lambda trial: stage.folder(trial.config),
        ),
        run_config=tune.RunConfig(
            name=FOLDER,
            storage_path=stage.place,
            callbacks=[StudyListener(relay, idle, stage.request)],
            stop=StudyStopper(relay),
            failure_config=tune.FailureConfig(max_failures=stage.max_failures),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            verbose=0,
        ),
    )
    try:
        # Ray Tune prints, too; what speaks to the user kept the terminal's stream and goes on writing there.
        with stage.log.open("a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
            tuner.fit()
    except KeyboardInterrupt:
        return True
    except Exception as error:
        if was_interrupted(error):
            return True
        if not no_room(error):
            raise
        relay.now.halt("disk", str(error))
    return relay.was_cut


def was_interrupted(error: BaseException | None) -> bool:
    """Whether a user's or a batch system's interrupt led to an exception: one in the midst of a lock's release does."""
    return error is not None and (
        isinstance(error, KeyboardInterrupt) or was_interrupted(error.__cause__ or error.__context__)
    )
