"""The private names of Ray and Ray Tune, one by one: which of them broke when its version moved."""

import ast
import copy
import importlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import ray
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayActorError, RayTaskError
from ray.train._internal.storage import StorageContext
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.utils.object_cache import _ObjectCache

from search.trials import internals
from search.trials.failures import StudyTrial, is_loss
from search.trials.hooks import StudyScheduler
from tests.paths import ROOT

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

pytestmark = pytest.mark.ray

READ = "2.60.0"
DOCUMENTED = {"Searcher", "TrialScheduler", "Trial"}  # for whoever writes a searcher or a scheduler
MIB = 2**20


@contextmanager
def relied_on(name: str) -> Iterator[None]:
    """Says which name is at fault, whatever goes wrong within."""
    try:
        yield
    except Exception as error:
        said = f"{name} was read in Ray {READ} and does something else in {ray.__version__}"
        pytest.fail(f"{said}: {type(error).__name__}: {error}; see search/trials/internals.py", pytrace=False)


def check(what: bool) -> None:
    if not what:
        raise AssertionError("it gives another answer")


@pytest.fixture(scope="module")
def one_ray() -> Iterator[str]:
    """A local Ray as a search starts it; the id of its node."""
    with relied_on("ray.init(_system_config={'object_spilling_threshold': ...})"):
        ray.init(
            address="local", num_cpus=1, object_store_memory=100 * MIB, include_dashboard=False, **internals.NO_SPILLING
        )
    yield ray.get_runtime_context().get_node_id()
    ray.shutdown()


def test_the_nodes_that_are_up_and_which_is_the_head(one_ray: str) -> None:
    with relied_on("ray.nodes and the resource node:__internal_head__"):
        (node,) = internals.nodes_up()
        check(node["NodeID"] == one_ray and node["Resources"]["object_store_memory"] == 100 * MIB)
        check(bool(node["NodeManagerHostname"]) and isinstance(node["Labels"], dict))
        check(internals.is_head(node) and not internals.is_head({"Resources": {"CPU": 1}}))


def test_ray_tune_warns_of_its_snapshots_through_a_logger_of_their_own() -> None:
    with relied_on("ray.tune.execution.experiment_state.logger"):
        from ray.tune.analysis import experiment_analysis
        from ray.tune.execution import experiment_state

        check((experiment_state.logger.name, experiment_analysis.logger.name) == internals.NOISE)


def test_the_node_of_an_actor_is_known_when_it_has_died(one_ray: str) -> None:
    with relied_on("ray._private.state.actors"):
        actor: Any = ray.remote(num_cpus=0)(Dies).remote()
        with pytest.raises(ray.exceptions.RayActorError) as caught:
            ray.get(actor.end.remote())
        check(internals.node_of_actor(caught.value.actor_id) == one_ray)
        check(internals.node_of_actor("0" * 32) is None)


class Dies:
    def end(self) -> None:
        os._exit(1)


def test_the_nodes_that_have_a_copy_of_an_object(one_ray: str) -> None:
    with relied_on("ray.experimental.get_object_locations"):
        objects = [ray.put(np.zeros(MIB, dtype=np.uint8)) for _ in range(2)]
        check(internals.nodes_with(objects, 10_000) == {one: [one_ray] for one in objects})


def test_a_store_that_fills_is_not_written_to_disk(one_ray: str) -> None:
    with relied_on("object_spilling_threshold"):
        config = ray._private.worker.global_worker.node._ray_params._system_config  # type: ignore[attr-defined]
        check(config["object_spilling_threshold"] == 1.0)


def test_an_actor_that_does_not_answer_raises_an_error_of_its_own() -> None:
    with relied_on("ray.exceptions.ActorUnavailableError"):
        check(issubclass(internals.UNREACHABLE, ray.exceptions.RayActorError))
        check(internals.UNREACHABLE.__name__ == "ActorUnavailableError")


@pytest.mark.parametrize("v2", [False, True])
def test_the_autoscaler_s_process_is_known_by_its_words(v2: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with relied_on("the command line of Ray's monitor.py"):
        from ray._private import services

        words: list[str] = []
        monkeypatch.setattr(services, "start_ray_process", lambda command, *_, **__: words.extend(command))
        address = {"gcs_address": "10.0.0.1:6379", "logs_dir": "/tmp", "autoscaler_v2": v2}
        services.start_monitor(**address, autoscaling_config="~/a.yaml")
        check(internals.autoscaler_file(words, "6379") == Path("~/a.yaml").expanduser())
        check(internals.autoscaler_file(words, "6380") is None)
        check(internals.autoscaler_file(["vim", *words[3:]], "6379") is None)
        words.clear()
        services.start_monitor(**address)  # of a Ray that starts no nodes
        check(bool(words) and internals.autoscaler_file(words, "6379") is None)


def test_the_launcher_says_where_a_head_is_and_what_it_filled_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where Ray keeps what it filled in
    with relied_on("ray.autoscaler.sdk"):
        local = {"type": "local", "head_ip": "192.0.2.1", "worker_ips": []}
        auth = {"ssh_user": "me", "ssh_private_key": "~/key"}
        filled = internals.launched_with({"cluster_name": "n", "provider": local, "auth": auth})
        check(filled["auth"]["ssh_user"] == "me" and filled["provider"]["head_ip"] == "192.0.2.1")
        with pytest.raises(Exception, match="not found"):
            internals.launched_head(tmp_path / "none.yaml")


@pytest.fixture
def trial(tmp_path: Path, one_ray: str) -> Trial:
    with relied_on("Trial"):
        context = StorageContext(storage_path=str(tmp_path), experiment_dir_name="e", trial_dir_name="t")
        made = Trial("x", stub=True, storage=context)
        made.init_local_path()
        return made


def test_a_trial_becomes_one_of_ours_and_keeps_what_it_had(trial: Trial) -> None:
    with relied_on("Trial.__class__"):
        name = trial.trial_id
        internals.become(trial, StudyTrial)
        check(isinstance(trial, StudyTrial) and trial.trial_id == name and trial.losses == 0)


def test_failures_are_counted_where_they_are_changed(trial: Trial) -> None:
    with relied_on("Trial.handle_error and Trial.run_metadata.num_failures"):
        check(internals.failures(trial) == 0)
        trial.handle_error(ValueError("first"))
        check(internals.failures(trial) == 1 == trial.num_failures)
        internals.set_failures(trial, 0)
        check(trial.num_failures == 0 and trial.should_recover())


def test_what_ray_tune_wrote_of_a_failure_is_read(trial: Trial) -> None:
    with relied_on("Trial.error_file"):
        check(internals.error_text(trial) == "")
        trial.handle_error(ValueError("the last line"))
        check(internals.error_text(trial).endswith("\nthe last line"))


def test_a_trial_without_a_process_is_known(trial: Trial) -> None:
    with relied_on("Trial.temporary_state.ray_actor"):
        check(internals.is_without_process(trial))
        trial.set_ray_actor(MagicMock())
        check(not internals.is_without_process(trial))


def test_a_handover_is_forgotten(trial: Trial) -> None:
    with relied_on("TuneController._resetting_trials"):
        from ray.tune.execution.tune_controller import TuneController

        controller = object.__new__(TuneController)
        source = Path(importlib.import_module(TuneController.__module__).__file__ or "").read_text()
        check("self._resetting_trials: Set[Trial] = set()" in source)
        controller._resetting_trials = {trial}
        internals.forget_handover(controller, trial)
        internals.forget_handover(controller, trial)  # once more does no harm
        check(controller._resetting_trials == set())


def test_ray_tune_keeps_as_many_idle_processes_as_it_is_told() -> None:
    from ray.tune.execution.tune_controller import TuneController

    with relied_on("TuneController._actor_cache, its increase_max and decrease_max"):
        source = Path(importlib.import_module(TuneController.__module__).__file__ or "").read_text()
        check("self._actor_cache = _ObjectCache(may_keep_one=True)" in source)
        check("self._actor_cache.cache_object(\n            trial.placement_group_factory, tracked_actor" in source)
        controller, trial, idle = MagicMock(), MagicMock(), internals.IdleProcesses()
        cache = controller._actor_cache = _ObjectCache(may_keep_one=True)
        trial.placement_group_factory = "a CPU"
        idle.release()  # of nothing does no harm
        check([cache.cache_object("a CPU", one) for one in "ab"] == [True, False])  # a single one of its own
        idle.keep(controller, trial, 2)
        check([cache.cache_object("a CPU", one) for one in "bc"] == [True, False])
        check(list(cache.flush_cached_objects()) == [])
        idle.keep(controller, trial, 1)
        check(list(cache.flush_cached_objects()) == ["a"])
        idle.release()
        check(list(cache.flush_cached_objects()) == [] and cache.total_max_objects == 0)
        cache.increase_max("a GPU")  # a trial waits, for which what idles makes room
        check(list(cache.flush_cached_objects()) == ["b"])


def test_a_process_that_ray_killed_has_died_to_ray_tune() -> None:
    with relied_on("RayActorManager._actor_task_failed"):
        internals.take_kills_for_deaths()
        internals.take_kills_for_deaths()  # once more does no harm
        manager, heard = object.__new__(RayActorManager), MagicMock()
        manager._failed_actor_ids, manager._cleanup_actor = set(), heard.cleaned_up
        killed = OutOfMemoryError("2 worker(s) were killed due to the node running low on memory.\nPages follow")
        manager._actor_task_failed(heard.task, killed)
        (_, seen), _ = heard.task._tracked_actor._on_error.call_args
        check(isinstance(seen, RayActorError) and heard.cleaned_up.called)
        said = "OutOfMemoryError: 2 worker(s) were killed due to the node running low on memory."
        check(str(seen) == str(copy.copy(seen)) == said)
        check(not is_loss(seen))  # it counts as a failure of the trial's own
        for plain in (RayTaskError("step", "traceback", ValueError()), ActorDiedError()):
            manager._actor_task_failed(heard.other, plain)
            check(heard.other._on_error.call_args.args[1] is plain)


def test_a_scheduler_is_told_of_each_trial_and_of_each_that_broke() -> None:
    with relied_on("TrialScheduler.on_trial_add, on_trial_error"):
        for name in ("on_trial_add", "on_trial_error", "on_trial_result"):
            check(getattr(FIFOScheduler, name) is not getattr(StudyScheduler, name))


def developer_names() -> Iterator[tuple[str, str]]:
    """Every name of Ray that a file uses and Ray doesn't call public."""
    for file in (ROOT / "search").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            found: list[tuple[str, str]] = []
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ray":
                found = [(node.module or "", alias.name) for alias in node.names]
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("ray", "ray.tune", "tune"):
                found = [("ray.tune" if "tune" in ast.unparse(node.value) else "ray", node.attr)]
            for module, name in found:
                thing = getattr(importlib.import_module(module), name)
                kind = getattr(thing, "_annotated_type", None)
                if kind is not None and kind.name != "PUBLIC_API":
                    yield file.relative_to(ROOT).as_posix(), name


def test_names_for_ray_s_developers_stand_behind_the_fence_but_those_that_are_documented() -> None:
    with relied_on("_annotated_type, by which Ray marks what is for its developers"):
        found = set(developer_names())
        check(("search/trials/internals.py", "nodes") in found)
    outside = {(file, name) for file, name in found if file != "search/trials/internals.py" and name not in DOCUMENTED}
    assert outside == set()
