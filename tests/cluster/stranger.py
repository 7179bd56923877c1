"""Asks ports what a stranger would. It stands alone, for it is run on hosts that have no tests; Ray brings grpcio.

`python stranger.py ADDRESS:PORT ...`, with STRANGER_TOKENS a JSON list of the tokens that it tries (null: none), prints
as JSON a mapping for each token: ADDRESS:PORT to the requests that were `refused` and those that were `let in`.
"""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException

import grpc

# A request of each service that Ray's processes offer, and that an empty message asks harmlessly.
METHODS = (
    "ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "ray.rpc.NodeManagerService/GetNodeStats",
    "ray.rpc.ObjectManagerService/Pull",
    "ray.rpc.CoreWorkerService/GetCoreWorkerStats",
    "ray.rpc.RayletDriver/ClusterInfo",
    "ray.rpc.ReporterService/GetTraceback",
)
PATHS = ("/", "/metrics", "/api/jobs/", "/api/job_agent/jobs/")
_LIMIT_S = 20


def ask(place: str, token: str | None) -> dict[str, list[str]]:
    """What a port says to each request."""
    heard: dict[str, list[str]] = {"refused": [], "let in": []}
    for request, answer in [*_by_grpc(place, token), *_by_http(place, token)]:
        heard["refused" if answer in ("UNAUTHENTICATED", "401", "403") else "let in"].append(f"{request}: {answer}")
    return heard


def _by_grpc(place: str, token: str | None) -> list[tuple[str, str]]:
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    answers = []
    with grpc.insecure_channel(place) as channel:
        for method in METHODS:
            try:
                channel.unary_unary(f"/{method}")(b"", metadata=metadata, timeout=_LIMIT_S)
                answers.append((method, "OK"))
            except grpc.RpcError as error:
                answers.append((method, error.code().name))
                if error.code() == grpc.StatusCode.UNAVAILABLE:
                    break  # it speaks no gRPC
    return [(method, answer) for method, answer in answers if answer not in ("UNIMPLEMENTED", "UNAVAILABLE")]


def _by_http(place: str, token: str | None) -> list[tuple[str, str]]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    answers = []
    for path in PATHS:
        connection = HTTPConnection(place, timeout=_LIMIT_S)
        try:
            connection.request("GET", path, headers=headers)
            answers.append((f"GET {path}", str(connection.getresponse().status)))
        except (OSError, HTTPException):
            break  # it speaks no HTTP
        finally:
            connection.close()
    return answers


def main(places: list[str]) -> None:
    """Asks them all at once, for a port that is silent takes its time."""
    tokens = json.loads(os.environ["STRANGER_TOKENS"])
    with ThreadPoolExecutor(16) as aside:
        asked = [{place: aside.submit(ask, place, token) for place in places} for token in tokens]
        told = [{place: answer.result() for place, answer in one.items()} for one in asked]
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
