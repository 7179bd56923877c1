"""One study through Ray Tune: the search itself, and the confirmation after it."""

import logging
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune

from search.results.checkpoints import Checkpoints, below, trial_folder
from search.trials import internals
from search.trials.bridge import Bridge, no_room
from search.trials.hooks import StudyListener, StudyScheduler, StudySearcher, StudyStopper

_LOG = logging.getLogger("search")


@dataclass(frozen=True)
class Stage:
    """What Ray Tune needs to know of one stage.

    name: of the folder below `place`, a folder or URI, where checkpoints go. session: which driver of this run it is,
    from 1. trainable: with its resources and parameters. log: takes what Ray prints. request: what a trial asks for,
    given its config, where that changes with the nodes.
    """

    name: str
    place: str
    session: int
    trainable: Any
    concurrent: int
    max_failures: int
    log: Path
    request: Callable[[dict[str, Any]], Any] | None = None

    @property
    def checkpoints(self) -> Checkpoints:
        """Where this stage's checkpoints lie."""
        return Checkpoints(below(self.place, self.name), self.session)


def run_stage(stage: Stage, bridge: Bridge) -> bool:
    """Runs trials until the bridge's budget is spent or it halts; whether the user interrupted.

    A full disk halts it: the study can't be told anything then, so it is left as it is.
    """
    session = stage.session
    internals.take_kills_for_deaths()
    tuner = tune.Tuner(
        stage.trainable,
        tune_config=tune.TuneConfig(
            search_alg=StudySearcher(bridge),
            scheduler=StudyScheduler(bridge),
            num_samples=bridge.budget,
            max_concurrent_trials=stage.concurrent,
            reuse_actors=True,
            trial_name_creator=lambda trial: trial_folder(trial.config["number"], session),
            trial_dirname_creator=lambda trial: trial_folder(trial.config["number"], session),
        ),
        run_config=tune.RunConfig(
            name=stage.name,
            storage_path=stage.place,
            callbacks=[StudyListener(bridge, stage.request)],
            stop=StudyStopper(bridge),
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
        bridge.halt("disk", str(error))
    return bridge.halted is None and (bridge.asked < bridge.budget or bool(bridge.by_id))


def was_interrupted(error: BaseException | None) -> bool:
    """Whether a user's or a batch system's interrupt led to an exception: one in the midst of a lock's release does."""
    return error is not None and (
        isinstance(error, KeyboardInterrupt) or was_interrupted(error.__cause__ or error.__context__)
    )
