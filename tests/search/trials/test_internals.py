"""The private names of Ray and Ray Tune, one by one: which of them broke when its version moved."""

import ast
import copy
import importlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import psutil
import pytest
import ray
from ray._raylet import AuthenticationMode, get_authentication_mode, validate_authentication_token
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayActorError, RayTaskError
from ray.train._internal.storage import StorageContext
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.utils.object_cache import _ObjectCache

from search.trials import internals
from search.trials.failures import StudyTrial, is_loss
from search.trials.hooks import StudyScheduler
from tests.knock import is_refusal, knock
from tests.paths import ROOT

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

pytestmark = pytest.mark.ray

READ = "2.60.0"
DOCUMENTED = {"Searcher", "TrialScheduler", "Trial"}  # for whoever writes a searcher or a scheduler
MIB = 2**20
SECRET = "5" * 64


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


def test_the_token_and_its_mode_are_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    # First of all here: a Ray that this process has joined would let it in no longer, and Ray's C++ end it.
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/a/file")
    with relied_on("AuthenticationTokenLoader.reset_cache and Config.initialize"):
        with internals.token("a" * 64):
            check(get_authentication_mode() == AuthenticationMode.TOKEN)
            check(validate_authentication_token("Bearer " + "a" * 64))
            check("RAY_AUTH_TOKEN_PATH" not in os.environ)
        check(get_authentication_mode() == AuthenticationMode.DISABLED and "RAY_AUTH_TOKEN" not in os.environ)
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == "/a/file"


@pytest.fixture(scope="module")
def one_ray() -> Iterator[str]:
    """A local Ray as a search starts it; the id of its node."""
    with ExitStack() as held:
        with relied_on("ray.init(_system_config=...), ENABLE_RAY_CLUSTER and AuthenticationTokenLoader"):
            held.enter_context(internals.token(SECRET))
            held.callback(ray.shutdown)
            internals.start_own(num_cpus=1, object_store_memory=100 * MIB, resources={"marked": 1}, log_to_driver=False)
        yield ray.get_runtime_context().get_node_id()


def listening() -> list[tuple[str, int]]:
    """Address and port of all that this process and what it started listen on."""
    me = psutil.Process()
    there = [one for process in (me, *me.children(recursive=True)) for one in process.net_connections("inet")]
    return [(one.laddr.ip.removeprefix("::ffff:"), one.laddr.port) for one in there if one.status == "LISTEN"]


def test_a_raylet_is_known_by_its_words(one_ray: str) -> None:
    with relied_on("the command line of Ray's raylet"):
        (found,) = [one for one in internals.raylets() if one.node_id == one_ray]
        check(found.address == ray.get_runtime_context().gcs_address and found.uid == os.getuid())
        check(found.socket.is_socket() and found.socket.is_relative_to(found.session) and found.joinable)
        check({"CPU", "marked"} <= found.resources and found.same is True)


def test_processes_of_a_ray_that_is_joined_import_the_drivers_code(tmp_path: Path) -> None:
    """They did as the Ray was started: trials ran another checkout's code, in silence."""
    (tmp_path / "only_here.py").write_text("")
    driver = (
        "import sys, ray; from pathlib import Path; from search.trials import internals\n"
        "internals.start_own(num_cpus=1, job_config=internals.code_of(Path(sys.argv[1])), logging_level='ERROR')\n"
        "print(ray.get(ray.remote(num_cpus=0)(lambda: __import__('only_here').__file__).remote()))"
    )
    with relied_on("ray.job_config.JobConfig(_py_driver_sys_path=...)"):
        words = [sys.executable, "-c", driver, str(tmp_path)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, cwd=ROOT)
        check(done.stdout.strip() == str(tmp_path / "only_here.py"))


def test_a_ray_of_ones_own_is_reached_from_this_machine_alone(one_ray: str) -> None:
    with relied_on("ray._private.ray_constants.ENABLE_RAY_CLUSTER"):
        check({address for address, _ in listening()} == {"127.0.0.1"})


@pytest.mark.parametrize("token", [None, "0" * 64])
def test_a_stranger_gets_no_answer_on_any_port(one_ray: str, token: str | None) -> None:
    answers = {port: knock(f"127.0.0.1:{port}", token) for _, port in listening()}
    assert {port: said for port, said in answers.items() if not is_refusal(said)} == {}
    assert any(said <= {"401", "403"} for said in answers.values())
    assert sum("UNAUTHENTICATED" in said for said in answers.values()) >= 4


def test_a_ray_answers_who_has_its_token_and_refuses_others(one_ray: str) -> None:
    with relied_on("ray._raylet.GcsClient"):
        address = ray.get_runtime_context().gcs_address
        check(internals.look(address, 30, os.environ) == internals.Answer((one_ray,)))
        strange = os.environ | {"RAY_AUTH_TOKEN": "0" * 64}
        check(internals.look(address, 30, strange) == internals.Answer((), refused=True))


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"])
def test_what_is_no_ray_does_not_answer(says: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer_once, args=(server, says), daemon=True).start()
        began = time.monotonic()
        assert internals.look(f"127.0.0.1:{server.getsockname()[1]}", 0.5, os.environ) is None
        assert time.monotonic() - began < 60  # importing Ray on a busy machine; its client itself takes longer


def answer_once(server: socket.socket, says: bytes) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(100)
        connection.sendall(says)
        time.sleep(1)


def test_nodes_from_outside_and_drain(one_ray: str) -> None:
    address = ray.get_runtime_context().gcs_address
    with relied_on("ray._raylet.GcsClient.get_all_node_info"):
        (node,) = internals.nodes_at(address, timeout_s=10)
        check((node.id, node.is_head) == (one_ray, True) and node.labels["ray.io/node-id"] == one_ray)
    with relied_on("ray._raylet.GcsClient.drain_node"):  # of a node that isn't there: this one is for other tests
        internals.drain(address, "f" * 56, "a test", 60)


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
