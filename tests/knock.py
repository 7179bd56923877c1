"""A stranger at Ray's ports: what each answers who calls all that Ray's services have, or asks as a web client.

`python -m tests.knock PORT ...` prints a line each: the port and its answers.
"""

import http.client
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from contextlib import closing

import grpc
import ray.core.generated

from haan.cli import say

_ANSWER_S = 30


def rpc_methods() -> list[str]:
    """All that Ray's services have, whichever of them listens where."""
    modules = [one.name for one in pkgutil.iter_modules(ray.core.generated.__path__) if one.name.endswith("_pb2")]
    files = [importlib.import_module(f"ray.core.generated.{name}").DESCRIPTOR for name in modules]
    services = [service for file in files for service in file.services_by_name.values()]
    return [f"/{service.full_name}/{one.name}" for service in services for one in service.methods]


def knock(port: int, token: str | None = None) -> set[str]:
    """What a port of this machine answers: gRPC's names, or a web server's status; CLOSED where nothing listens."""
    told = [] if token is None else [("authorization", f"Bearer {token}")]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        calls = [channel.unary_unary(one).future(b"", timeout=_ANSWER_S, metadata=told) for one in rpc_methods()]
        answers = {call.code().name for call in calls}
    return answers if answers != {"UNAVAILABLE"} else {_web(port, dict(told))}


def _web(port: int, headers: dict[str, str]) -> str:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_S)) as connection:
        try:
            connection.request("GET", "/", headers=headers)
            return str(connection.getresponse().status)
        except ConnectionError:
            return "CLOSED"


def is_refusal(answers: set[str]) -> bool:
    """Whether a stranger got nothing: of gRPC, services that are not there or want a token; of the web, the same."""
    return answers <= {"UNAUTHENTICATED", "UNIMPLEMENTED"} or answers in ({"401"}, {"403"})


def main(ports: Sequence[str]) -> None:
    for port in ports:
        say(f"{port} {' '.join(sorted(knock(int(port))))}")


if __name__ == "__main__":
    main(sys.argv[1:])
