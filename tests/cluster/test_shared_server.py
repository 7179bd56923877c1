"""A server that two people share: `ada`, who was there first, and `ben`, who searches. On one host of a lab of its own.

Ada's Ray is open to all, as `ray start --head` leaves it where nobody made a token. She searches beside it, and so does
Ben, twice at once; all of that is started once, and what each test tells is what it saw.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.cluster.conftest import Phase, _lab
from tests.cluster.lab import CHECKOUT, OP, Lab, User
from tests.knock import is_refusal
from tests.search.spaces import tiny_space

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

ADA, BEN = (User(name, uid, Path(f"/home/{name}")) for name, uid in (("ada", 7011), ("ben", 7012)))
_PORT = 6379
_WEB = 8123
_ENDS_S = 900
# All that each user's processes listen on: "USER ADDRESS PORT", a line each.
_LISTENING = """
import psutil
for process in psutil.process_iter():
    for one in process.net_connections("inet"):
        if one.status == "LISTEN":
            print(process.username(), one.laddr.ip.removeprefix("::ffff:"), one.laddr.port)
"""


@dataclass
class Server:
    """The host, and who does what on it."""

    lab: Lab

    def start(self, user: User, command: str, env: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
        """A user's shell command, in his home; PATH and the checkout are everybody's."""
        known = {"PYTHONPATH": str(CHECKOUT), "RAY_raylet_start_wait_time_s": "240"}
        return self.lab.popen(OP, command, known | dict(env or {}), user=user)

    def run(self, user: User, command: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Its exit code, and what it says."""
        return ended(self.start(user, command, env))


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    said, _ = process.communicate(timeout=_ENDS_S)
    return process.returncode, said


def search(*words: str) -> str:
    return f"python {CHECKOUT}/search/run.py tiny.yaml {' '.join(words)}"


def patient(command: str) -> str:
    """Again where Ray didn't start: the 30 s for its raylet, few for three at once on two cores, stand in its code."""
    return f"{command} || {{ [ $? = 2 ] && {command}; }}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The host with two users, who each have a space."""
    plain = Lab.from_environment()
    for lab in _lab(replace(plain, prefix=f"{plain.prefix}-server")):
        lab.up(0)
        folder = tmp_path_factory.mktemp("space")
        text = tiny_space(folder, epochs=2, trials=2, confirm=None).read_text()
        for user in (ADA, BEN):
            lab.add_user(OP, user)
            lab.op(f"cat > tiny.yaml << 'END'\n{text}\nEND", user=user)
        yield Server(lab)


@pytest.fixture(scope="module")
def web(server: Server) -> Iterator[None]:
    """Something that is no Ray."""
    process = server.start(BEN, f"exec python -m http.server {_WEB} --bind 127.0.0.1")
    yield
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@dataclass(frozen=True)
class Seen:
    """What came of the searches, by who searched, and of the look at them while they ran."""

    ends: Mapping[str, tuple[int, str]]
    listening: tuple[tuple[str, str, int], ...]
    knocked: str


@pytest.fixture(scope="module")
def seen(server: Server, phase: Phase) -> Seen:
    """Ada's open Ray, and beside it her search and two of Ben's, one of which has one core, all at once."""
    with phase("ada's ray start"):
        code, said = server.run(ADA, f"ray start --head --port={_PORT} --num-cpus=1 --include-dashboard=false")
        assert code == 0, said
    with phase("three searches at once"):
        under_way = {
            "ada": server.start(ADA, patient(search("--name a --address local"))),
            "ben": server.start(BEN, patient(search("--name b"))),
            "ben on a core": server.start(BEN, patient("taskset -c 0 " + search("--name c"))),
        }
        ports = await_ports(server)
        theirs = [f"127.0.0.1:{port}" for user, _, port in ports if user == BEN.name]
        knocked = server.run(ADA, f"python {CHECKOUT}/tests/knock.py {' '.join(theirs)}")[1]
        ends = {name: ended(process) for name, process in under_way.items()}
    return Seen(ends, ports, knocked)


def await_ports(server: Server) -> tuple[tuple[str, str, int], ...]:
    """What the users listen on, once both of Ben's searches have workers."""
    limit = time.monotonic() + _ENDS_S
    while time.monotonic() < limit:
        if int(server.lab.op("pgrep -u ben -fc ray:: || true")) >= 6:  # agents of two Rays, and their workers
            words = [line.split() for line in server.lab.op(["python", "-c", _LISTENING]).splitlines()]
            return tuple((user, address, int(port)) for user, address, port in words)
        time.sleep(0.5)
    pytest.fail("ben's searches did not start")


def test_searches_of_two_people_and_two_of_one_run_side_by_side(seen: Seen) -> None:
    for name, (code, said) in seen.ends.items():
        assert code == 0, f"{name}: {said}"
        assert "Running on a local Ray of its own" in said and "Trials: " in said
        assert not any(word in said for word in ("Unauthenticated", "Permission denied", "SIGABRT", "Traceback")), said


def test_another_s_ray_is_left_alone_in_one_line(seen: Seen, server: Server) -> None:
    for name in ("ben", "ben on a core"):
        lines = [line for line in seen.ends[name][1].splitlines() if "ada" in line]
        assert lines == ["Ray of ada runs here: left alone"]
    assert "left alone" not in seen.ends["ada"][1]
    code, said = server.run(
        ADA, 'python -c \'import ray; ray.init("auto", logging_level="ERROR"); print(len(ray.nodes()))\''
    )
    assert code == 0 and said.split()[-1] == "1", said


def test_a_search_takes_the_cores_that_it_was_given(seen: Seen) -> None:
    said = seen.ends["ben on a core"][1]
    assert "a local Ray of its own: 1 node(s), 1 CPUs" in said and "1 at once" in said
    if (os.cpu_count() or 1) > 1:
        assert f"Given: 1 of the machine's {os.cpu_count()} CPUs (affinity, as taskset sets it)" in said


def test_a_stranger_is_refused_at_every_port(seen: Seen) -> None:
    mine = [(address, port) for user, address, port in seen.listening if user == BEN.name]
    assert len(mine) >= 8 and {address for address, _ in mine} == {"127.0.0.1"}
    (answers,) = json.loads(seen.knocked)
    assert set(answers) == {f"127.0.0.1:{port}" for _, port in mine}
    for place, said in answers.items():
        assert is_refusal(set(said)) or said == ["CLOSED"], (place, said)  # a process that ended meanwhile


def test_nothing_is_left_in_folders_that_all_share(seen: Seen, server: Server) -> None:
    assert server.lab.op("find /tmp /dev/shm -user ben") == ""


@pytest.mark.parametrize(
    ("before", "options", "says"),
    [
        ("", f"--address 127.0.0.1:{_PORT}", "its files here are ada's, and not for this user to write"),
        ("", f"--address 127.0.0.1:{_WEB}", "what listens there did not answer as a Ray does within 3 s"),
        ("", "--address auto", "Ray of ada runs here: left alone; on a cluster's head, `ray up FILE` starts it"),
        ("ulimit -u 100; ", "", "ulimit -u: must let this user have "),
        ("ulimit -n 500; ", "", "ulimit -n: must let a search open 1,024 files, got 500"),
    ],
)
def test_what_can_not_be_used_is_one_line(
    seen: Seen, server: Server, web: None, before: str, options: str, says: str
) -> None:
    code, said = server.run(BEN, f"{before}{search('--name e', options)}")
    assert code == 2 and says in said.splitlines()[-1] and len(said.splitlines()) == 2, said


def test_ones_own_ray_is_joined_beside_another_s_and_by_nobody_without_its_token(
    seen: Seen, server: Server, phase: Phase
) -> None:
    address = f"127.0.0.1:{_PORT + 1}"
    with phase("ben's own ray start, a plan on it, and ada at its door"):
        token = "(umask 077; ray get-auth-token --generate > /dev/null)"
        start = f"ray start --head --port={_PORT + 1} --num-cpus=1 --include-dashboard=false --temp-dir=/tmp/b"
        code, said = server.run(BEN, f"mkdir -p /tmp/b && {token} && {start}", {"RAY_AUTH_MODE": "token"})
        assert code == 0, said
        code, said = server.run(BEN, search("--dry-run"), {"RAY_ADDRESS": "auto"})
        assert code == 0 and "Running on the Ray cluster found: 1 node(s), 1 CPUs" in said, said
        code, said = server.run(ADA, search(f"--name d --address {address}"))
    assert code == 2 and said.count("\n") == 2, said  # the first says what is being done
    assert "it wants another token than this user showed" in said, said
