"""What becomes of recorded curves in Optuna's own loop, without anything of ours; and a study of ours to compare."""

import optuna
from optuna.trial import TrialState

from search.study.algorithms import PRUNERS, Component, component, make_pruner
from search.study.study import Study
from tests.search.curves import CURVES, EPOCHS, PRUNER_ARGUMENTS, Outcome, outcomes
from tests.search.trials.recorded import PARAMETERS

NAME = "contract"  # Hyperband chooses brackets by the study's name, so both ways need the same one


def create(pruner: Component, epochs: int = EPOCHS) -> Study:
    return Study.create(
        name=NAME,
        journal=None,
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=make_pruner(pruner, epochs),
        parameters=PARAMETERS,
        epochs=epochs,
    )


def through_optuna(pruner: optuna.pruners.BasePruner, trials: int, epochs: int = EPOCHS) -> list[Outcome]:
    """The oracle: Optuna's own loop on the same curves, without anything of search.study."""
    study = optuna.create_study(
        study_name=NAME, sampler=optuna.samplers.RandomSampler(seed=0), pruner=pruner, direction="maximize"
    )
    for _ in range(trials):
        trial = study.ask(PARAMETERS)
        pruned = False
        for epoch, value in enumerate(CURVES[trial.number][:epochs], start=1):
            trial.report(value, epoch)
            pruned = epoch < epochs and trial.should_prune()
            if pruned:
                break
        if pruned:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, max(CURVES[trial.number][:epochs]))
    return outcomes(study)


def setting(name: str) -> Component:
    return component({"name": name, **PRUNER_ARGUMENTS[name]}, PRUNERS)
