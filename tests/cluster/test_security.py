"""Who gets into a cluster."""

import shlex
import subprocess

import pytest

from tests.cluster.conftest import Phase
from tests.cluster.lab import Lab
from tests.cluster.own import HEAD, OwnMachines

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
_JOIN = """
import logging, ray
# A Ray client that is refused ends with a timeout; its log alone says why.
logging.getLogger("ray.util.client.worker").setLevel("DEBUG")
ray.init(address={address!r}, logging_level="ERROR")
print("JOINED", sum(node["Alive"] for node in ray.nodes()))
"""
_ASK = "from urllib.request import urlopen; print('ANSWERED', urlopen('http://{address}/api/jobs/', timeout=60).status)"


def python(lab: Lab, host: int, code: str, env: dict[str, str]) -> "subprocess.Popen[str]":
    """Starts a stranger's Python program on a host: he has another home, and of the cluster's settings none."""
    command = f"mkdir -p /tmp/stranger; HOME=/tmp/stranger timeout 300 python -c {shlex.quote(code)}"
    return lab.popen(host, command, env)


def said(process: "subprocess.Popen[str]") -> str:
    return process.communicate(timeout=330)[0]


# Twice and three times so long; a driver would ask 20 times, for three minutes, a Ray client for 5 + 10 + 15 s.
_REFUSED_AFTER = {"RAY_NUM_REDIS_GET_RETRIES": "2", "RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S": "5"}
STRANGERS = {
    "without a token": _REFUSED_AFTER,
    "without a token, in token mode": _REFUSED_AFTER | {"RAY_AUTH_MODE": "token"},
    "with a wrong token": _REFUSED_AFTER | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64},
}


@pytest.fixture(scope="module")
def answers(cluster: OwnMachines, phase: Phase) -> dict[str, str]:
    """What clients say that join as a driver and as a Ray client, all at once: strangers, and one with the token."""
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": cluster.token}
    clients = STRANGERS | {"with it": token | {"RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S": "60"}}
    started = {}
    with phase("eight clients knock"):
        for name, env in clients.items():
            for address in (f"{cluster.lab.address(HEAD)}:6379", f"ray://{cluster.lab.address(HEAD)}:6386"):
                started[f"{name}, {address}"] = python(cluster.lab, 2, _JOIN.format(address=address), env)
        return {name: said(process) for name, process in started.items()}


def test_a_client_without_the_token_is_refused(answers: dict[str, str]) -> None:
    refused = {name: answer for name, answer in answers.items() if not name.startswith("with it")}
    assert len(refused) == 6
    for name, answer in refused.items():
        assert "JOINED" not in answer, name
        assert "authentication token" in answer.lower(), f"{name}: {answer}"


def test_a_client_with_the_token_is_let_in(answers: dict[str, str]) -> None:
    let_in = {name: answer for name, answer in answers.items() if name.startswith("with it")}
    assert len(let_in) == 2
    for name, answer in let_in.items():
        assert "JOINED 3" in answer, f"{name}: {answer}"


def test_the_dashboard_answers_on_the_head_alone_and_only_with_the_token(cluster: OwnMachines) -> None:
    lab = cluster.lab
    answer = said(python(lab, HEAD, _ASK.format(address="127.0.0.1:8265"), {}))
    assert "ANSWERED" not in answer and "401" in answer
    answer = said(python(lab, 2, _ASK.format(address=f"{lab.address(HEAD)}:8265"), {}))
    assert "ANSWERED" not in answer and "Connection refused" in answer
