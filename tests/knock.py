"""A stranger at Ray's ports: what each answers who calls all that Ray's services have, or asks as a web client.

It stands alone, for it is run on hosts that have no tests; what it needs comes with Ray. `python knock.py ADDRESS:PORT
...` prints as JSON a mapping for each visit of KNOCKS: ADDRESS:PORT to its answers. KNOCKS is a JSON list of visits
`[token, gently]`: null is no token, and gently asks only what does no harm where it is let in. It is `[[null, false]]`
where it is not set.
"""

import http.client
import importlib
import json
import os
import pkgutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import grpc
import ray.core.generated

# A call of each service that an empty message asks harmlessly. Ray's Python does not know the third.
_HARMLESS = (
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.CoreWorkerService/GetCoreWorkerStats",
    "/ray.rpc.RayletDriver/ClusterInfo",
    "/ray.rpc.ReporterService/GetTraceback",
)
_PATHS = ("/", "/metrics", "/api/jobs/", "/api/job_agent/jobs/")
_ANSWER_S = 30


def rpc_methods() -> list[str]:
    """All that Ray's services have, whichever of them listens where."""
    modules = [one.name for one in pkgutil.iter_modules(ray.core.generated.__path__) if one.name.endswith("_pb2")]
    files = [importlib.import_module(f"ray.core.generated.{name}").DESCRIPTOR for name in modules]
    services = [service for file in files for service in file.services_by_name.values()]
    found = [f"/{service.full_name}/{one.name}" for service in services for one in service.methods]
    return sorted({*found, *_HARMLESS})


def knock(place: str, token: str | None = None, gently: bool = False) -> set[str]:
    """What ADDRESS:PORT answers: gRPC's names, or a web server's statuses; CLOSED where nothing listens."""
    told = [] if token is None else [("authorization", f"Bearer {token}")]
    methods = _HARMLESS if gently else rpc_methods()
    with grpc.insecure_channel(place) as channel:
        calls = [channel.unary_unary(one).future(b"", timeout=_ANSWER_S, metadata=told) for one in methods]
        answers = {call.code().name for call in calls}
    return answers if answers != {"UNAVAILABLE"} else {_web(place, path, dict(told)) for path in _PATHS}


def _web(place: str, path: str, headers: dict[str, str]) -> str:
    with closing(http.client.HTTPConnection(place, timeout=_ANSWER_S)) as connection:
        try:
            connection.request("GET", path, headers=headers)
            return str(connection.getresponse().status)
        except ConnectionError:
            return "CLOSED"


def is_refusal(answers: set[str]) -> bool:
    """Whether a stranger got nothing: of gRPC, services that are not there or want a token; of the web, the same."""
    return answers <= {"UNAUTHENTICATED", "UNIMPLEMENTED"} or answers <= {"401", "403"}


def main(places: Sequence[str]) -> None:
    """All places at once, for a port that is silent takes its time."""
    visits = json.loads(os.environ.get("KNOCKS", "[[null, false]]"))
    with ThreadPoolExecutor(16) as aside:
        asked = [{place: aside.submit(knock, place, *visit) for place in places} for visit in visits]
        told = [{place: sorted(answers.result()) for place, answers in one.items()} for one in asked]
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
