"""The private names of Optuna, one by one: which of them broke when its version moved."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import HyperbandPruner
from optuna.samplers import RandomSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from search.study import internals

READ = "5.0.0"
PARAMETERS = {"optim.lr": FloatDistribution(1e-5, 1e-3, log=True), "concepts.top_k": IntDistribution(1, 20)}


@contextmanager
def relied_on(name: str) -> Iterator[None]:
    """Says which name is at fault, whatever goes wrong within."""
    try:
        yield
    except Exception as error:
        said = f"{name} was read in Optuna {READ} and does something else in {optuna.__version__}"
        pytest.fail(f"{said}: {type(error).__name__}: {error}; see search/study/internals.py", pytrace=False)


def check(what: bool) -> None:
    if not what:
        raise AssertionError("it gives another answer")


class Looking(RandomSampler):
    """Notes what it sees as a trial begins."""

    def __init__(self, look: Any):
        super().__init__(seed=0)
        self.look, self.seen = look, []

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self.seen.append((self.look(study), len(study.get_trials(deepcopy=False))))


def looked_at(look: Any) -> list[tuple[int, int]]:
    """What a sampler under Hyperband sees in each of eight trials, by a look of its own and by `get_trials`."""
    sampler = Looking(look)
    study = optuna.create_study(sampler=sampler, pruner=HyperbandPruner(min_resource=1, max_resource=9), study_name="n")
    for number in range(8):
        trial = study.ask()
        trial.report(number, 9)
        trial.should_prune()  # with which its brackets begin
        study.tell(trial, number)
    return sampler.seen


def test_a_sampler_sees_the_trials_of_all_brackets() -> None:
    with relied_on("Study._get_trials(deepcopy, states, use_cache)"):
        seen = looked_at(lambda study: len(internals.trials_of(study, (TrialState.COMPLETE,))))
        check([ours for ours, _ in seen] == list(range(8)))
        seen = looked_at(internals.num_trials)
        check([ours for ours, _ in seen] == list(range(1, 9)))
        check(any(public < ours for ours, public in seen))  # else the public way would do


def test_a_sampler_sees_the_study_s_attributes_in_any_bracket() -> None:
    with relied_on("Study._storage.get_study_user_attrs, Study._study_id, and those of Hyperband's _BracketStudy"):

        def look(study: optuna.Study) -> int:
            return len(internals.attributes(study))

        check([count for count, _ in looked_at(look)] == [0] * 8)
        study = optuna.create_study()
        study.set_user_attr("sessions", [1, 2])
        check(internals.attributes(study) == {"sessions": [1, 2]})


def test_a_trial_is_taken_up_under_its_number_with_what_it_has() -> None:
    with relied_on("Trial._suggest and FrozenTrial._trial_id"):
        study = optuna.create_study(sampler=RandomSampler(seed=0))
        study.ask()
        begun = study.ask({"optim.lr": PARAMETERS["optim.lr"]})
        (known,) = [one for one in study.get_trials() if one.number == 1]
        again = internals.take_up(study, known)
        for key, distribution in PARAMETERS.items():
            internals.suggest(again, key, distribution)
        check(again.number == begun.number and again.params["optim.lr"] == begun.params["optim.lr"])
        check(set(again.params) == set(PARAMETERS))
        again.report(1.0, 1)
        study.tell(again, 1.0)
        check([one.state for one in study.get_trials()] == [TrialState.RUNNING, TrialState.COMPLETE])
        check(study.get_trials()[1].distributions == PARAMETERS)


def test_a_study_s_storage_is_the_one_it_was_given(tmp_path: Path) -> None:
    with relied_on("Study._storage"):
        store = JournalStorage(JournalFileBackend(str(tmp_path / "j")))
        check(internals.storage_of(optuna.create_study(storage=store)) is store)  # not a cache around it


def test_what_was_enqueued_can_be_added_to_while_it_waits(tmp_path: Path) -> None:
    with relied_on("the system attribute fixed_params"):
        study = optuna.create_study(storage=JournalStorage(JournalFileBackend(str(tmp_path / "j"))))
        study.enqueue_trial({"optim.lr": 1e-4})
        (waiting,) = study.get_trials()
        internals.enqueue_more(study, waiting, {"optim.lr": 1e-4, "loss.mil": 0.5})
        trial = study.ask({"loss.mil": FloatDistribution(0.0, 1.0), "optim.lr": PARAMETERS["optim.lr"]})
        check(trial.params == {"optim.lr": 1e-4, "loss.mil": 0.5})


def test_what_was_enqueued_is_known_by_its_trial(tmp_path: Path) -> None:
    with relied_on("the system attribute fixed_params"):
        study = optuna.create_study(storage=JournalStorage(JournalFileBackend(str(tmp_path / "j"))))
        study.enqueue_trial({"optim.lr": 1e-4})
        study.ask(PARAMETERS)
        study.ask(PARAMETERS)
        check([internals.enqueued(one) for one in study.get_trials()] == [{"optim.lr": 1e-4}, None])


def test_a_range_says_what_lies_in_it() -> None:
    with relied_on("BaseDistribution._contains"):
        check([internals.contains(IntDistribution(2, 8, step=2), one) for one in (1, 2, 3, 8, 9)] == [0, 1, 0, 1, 0])
        check([internals.contains(FloatDistribution(0, 1), one) for one in (-0.1, 0, 1, 1.1)] == [0, 1, 1, 0])
        check([internals.contains(CategoricalDistribution("ab"), one) for one in (0, 1, 2)] == [1, 1, 0])


def test_an_append_is_guarded_by_a_link_to_the_journal_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with relied_on("the lock of JournalFileBackend"):
        journal, seen = tmp_path / "study.journal", []
        store = JournalFileBackend(str(journal))
        real = os.fsync
        lock = internals.append_lock(journal)
        monkeypatch.setattr(os, "fsync", lambda file: (seen.append(lock.readlink()), real(file)))
        store.append_logs([{}])
        check(seen == [journal] and not lock.is_symlink())
