"""Which Ray a search joins: made-up process lists and answers. A real Ray's words: trials/test_internals.py."""

import os
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from haan.errors import InputError
from search.driver import joining, nodes
from search.driver.localray import PRIVATE
from search.trials import internals
from search.trials.internals import Answer, Raylet

ME = os.getuid()
STRANGER = 61234  # no user of any machine


def listed(proc: Path, pid: int, session: Path, space: str = "1", **options: str) -> Path:
    """A raylet in a made-up process list; its session is there. space: its namespaces."""
    (session / "logs" / "events").mkdir(parents=True, exist_ok=True)
    (session / "socket").touch()
    known = {
        "--gcs-address": "10.0.0.1:6379",
        "--node_id": f"node-{pid}",
        "--session_dir": str(session),
        "--raylet_socket_name": f"{session}/socket",
        "--static_resource_list": "CPU,2,memory,300",
    } | {f"--{name.replace('_', '-') if name == 'gcs_address' else name}": value for name, value in options.items()}
    words = ["/somewhere/raylet/raylet", *(f"{key}={value}" for key, value in known.items()), "--head"]
    return process(proc, pid, words, space)


def process(proc: Path, pid: int | str, words: list[str], space: str = "1") -> Path:
    folder = proc / str(pid)
    (folder / "ns").mkdir(parents=True)
    (folder / "cmdline").write_bytes("\0".join(words).encode())
    for kind in ("pid", "mnt", "net"):
        (folder / "ns" / kind).symlink_to(f"{kind}:[{space}]")
    return folder


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    process(tmp_path / "proc", "self", ["python"])
    process(tmp_path / "proc", 1, ["init"])
    process(tmp_path / "proc", 2, [""])
    process(tmp_path / "proc", 3, ["grep", "raylet", "--gcs-address=10.0.0.9:1"])
    return tmp_path / "proc"


def test_the_raylets_of_a_process_list(proc: Path, tmp_path: Path) -> None:
    listed(proc, 7, tmp_path / "s", static_resource_list=f"CPU,2,{PRIVATE},1,memory,300")
    listed(proc, 8, tmp_path / "s", space="2")
    (listed(proc, 9, tmp_path / "s") / "ns" / "net").unlink()  # not for this user to see
    listed(proc, 10, tmp_path / "s", node_id="")  # of a version that says something else
    found = {one.pid: one for one in internals.raylets(proc)}
    assert sorted(found) == [7, 8, 9] and [found[pid].same for pid in (7, 8, 9)] == [True, False, None]
    assert found[7].resources == {"CPU", "memory", PRIVATE} and found[7].address == "10.0.0.1:6379"
    assert found[7].session == tmp_path / "s" and found[7].uid == ME


def raylet(session: Path, pid: int = 7, **about: object) -> Raylet:
    (session / "logs" / "events").mkdir(parents=True, exist_ok=True)
    (session / "socket").touch()
    plain = Raylet(pid, ME, "10.0.0.1:6379", f"node-{pid}", session, session / "socket", frozenset({"CPU"}), True)
    return replace(plain, **about)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "about",
    [{"uid": STRANGER}, {"same": False}, {"same": None}, {"resources": frozenset({PRIVATE})}, {"socket": Path("gone")}],
)
def test_only_what_this_user_started_here_is_joined(tmp_path: Path, about: dict[str, object]) -> None:
    assert joining.mine([raylet(tmp_path)], ME) == [raylet(tmp_path)]
    assert joining.mine([raylet(tmp_path, **about)], ME) == []


def test_files_of_another_user_are_not_joined(tmp_path: Path) -> None:
    assert joining.mine([raylet(tmp_path, uid=STRANGER)], STRANGER) == []


def test_of_several_clusters_the_one_started_last_comes_first_and_once(tmp_path: Path) -> None:
    old, new = (raylet(tmp_path / f"session_{day}", address=f"10.0.0.1:{day}") for day in (1, 2))
    assert joining.mine([old, new, replace(new, pid=8), old], ME)[0].address == "10.0.0.1:2"
    assert [one.address for one in joining.mine([new, old, old], ME)] == ["10.0.0.1:2", "10.0.0.1:1"]


class Rays:
    """Stands for the Rays of a machine. answers: by address. joined: the addresses that `ray.init` was given."""

    def __init__(self, there: list[Raylet], answers: Mapping[str, Answer | None], patch: pytest.MonkeyPatch):
        self.joined: list[str] = []
        patch.setattr(joining.internals, "raylets", lambda: there)
        patch.setattr(joining.internals, "look", lambda address, *_: answers.get(address))
        patch.setattr(joining.internals, "show_token", lambda: None)
        patch.setattr(joining.ray, "init", lambda address, **_: self.joined.append(address))


ADDRESS = "10.0.0.1:6379"
ANSWERS = Answer(("node-7",))


def test_ones_own_cluster_is_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rays = Rays([raylet(tmp_path)], {ADDRESS: ANSWERS}, monkeypatch)
    assert joining.join_mine(None) == (True, ()) and rays.joined == [ADDRESS]


@pytest.mark.parametrize(
    ("there", "answer", "said"),
    [
        ({"uid": STRANGER}, ANSWERS, f"Ray of user {STRANGER} runs here: left alone"),
        ({}, None, f"your Ray at {ADDRESS} does not answer: left alone"),
        ({}, Answer((), refused=True), f"your Ray at {ADDRESS} wants another token than yours: left alone"),
        ({"uid": STRANGER, "resources": frozenset({PRIVATE})}, None, None),
        ({"resources": frozenset({PRIVATE})}, None, None),
    ],
)
def test_what_is_left_alone_is_said_once_and_refused_where_a_cluster_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: dict[str, object], answer: Answer | None, said: str | None
) -> None:
    rays = Rays([raylet(tmp_path, **there), raylet(tmp_path, 8, **there)], {ADDRESS: answer}, monkeypatch)
    assert joining.join_mine(None) == (False, (said,) if said else ()) and rays.joined == []
    with pytest.raises(InputError) as refused:
        joining.join_mine("RAY_ADDRESS")
    rule = "RAY_ADDRESS: must be a Ray cluster that this user started here, got 'auto': "
    assert str(refused.value) == f"{rule}{said or 'none runs here'}; on a cluster's head, `ray up FILE` starts it"


@pytest.mark.parametrize(
    ("answer", "here", "reason"),
    [
        (None, True, "what listens there did not answer as a Ray does within 3 s"),
        (Answer((), refused=True), True, "it wants another token than this user showed; RAY_AUTH_MODE=token shows"),
        (ANSWERS, False, "this machine is none of its 1 node(s); `ray start --address="),
    ],
)
def test_a_named_address_that_can_not_be_joined_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer | None, here: bool, reason: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        rays = Rays([raylet(tmp_path)] if here else [], {address: answer}, monkeypatch)
        with pytest.raises(InputError) as refused:
            joining.join(address, "--address")
    rule = f"--address: must be a Ray cluster that answers, got {address!r}: "
    assert str(refused.value).startswith(rule + reason) and "\n" not in str(refused.value) and rays.joined == []


def test_a_named_cluster_whose_files_are_another_s_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining.internals.os, "access", lambda *_: False)  # root may write anywhere
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        rays = Rays([raylet(tmp_path, uid=STRANGER)], {address: ANSWERS}, monkeypatch)
        with pytest.raises(InputError, match=f"its files here are user {STRANGER}'s, and not for this user to write"):
            joining.join(address, "--address")
    assert rays.joined == []


def test_a_named_cluster_is_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        rays = Rays([raylet(tmp_path)], {address: ANSWERS}, monkeypatch)
        joining.join(address, "--address")
    assert rays.joined == [address]
    with pytest.raises(InputError, match="--address: must be a Ray cluster that answers, got .*: .*refused"):
        joining.join(address, "--address")


@pytest.mark.parametrize(
    ("address", "environment", "line"),
    [
        (None, "", "Starting Ray, unless one runs here already ..."),
        ("local", "10.0.0.1:6379", "Starting Ray ..."),
        (None, "10.0.0.1:6379", "Joining the Ray at 10.0.0.1:6379 ..."),
        ("auto", "", "Joining the Ray that runs here ..."),
    ],
)
def test_what_is_about_to_be_done_is_said(
    address: str | None, environment: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", environment)
    assert nodes.aim(address) == line
