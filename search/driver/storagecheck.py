"""Whether every node can read and write the place of the checkpoints, tried before a search starts."""

import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import ray
from pyarrow.fs import FileSystem, FileType, LocalFileSystem
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from haan.errors import InputError
from search.driver.nodes import Cluster, Node

_ANSWER_S = 120
_RULE = "must be a place that all nodes reach (s3://..., an NFS folder)"


def check(place: str, nodes: Sequence[Node]) -> None:
    """Writes a file from here, has every other node read it and write one back, and leaves the place as it was.

    nodes: those that run trials. Raises InputError, naming the node and the fix.
    """
    mark = uuid.uuid4().hex
    try:
        system, root = FileSystem.from_uri(place)
        made = _made(system, root)
    except (OSError, ValueError) as error:
        raise InputError(f"search.storage: must be a place that can be written, got {place!r}: {error}") from None
    others = [node for node in nodes if not node.here]
    try:
        _write(system, _file(root, mark), mark)
        answers = [(node, _ask(node, place, mark)) for node in others]
        for node, answer in answers:
            _await(node.host, answer, place)
            if _read(system, _file(root, mark, node.id)) != mark:
                what = f"what node {node.host} writes there is not the same"
                raise InputError(f"search.storage: {_RULE}, got {place!r}: {what}")
    except FileNotFoundError as error:
        raise InputError(f"search.storage: {_RULE}, got {place!r}: a node's file is not seen here: {error}") from None
    except OSError as error:
        raise InputError(f"search.storage: must be a place that can be written, got {place!r}: {error}") from None
    finally:
        files = [_file(root, mark), *(_file(root, mark, node.id) for node in others)]
        _leave(system, files, root if made else None)


def untried(place: str, cluster: Cluster) -> str | None:
    """What to say of a folder that nodes which the autoscaler may start have to mount: they can't be asked yet."""
    if "://" in place or not cluster.startable:
        return None
    return (
        f"search.storage: {place} is a folder, and nodes that are not up yet can't be asked for it: mount it on "
        f"{cluster.more} as well, or their trials fail"
    )


def _made(system: FileSystem, root: str) -> bool:
    """Makes a folder that isn't there, as Ray Tune would; whether it was made. Object stores need none."""
    if not isinstance(system, LocalFileSystem) or system.get_file_info(root).type == FileType.Directory:
        return False
    system.create_dir(root)
    return True


def _write(system: FileSystem, path: str, text: str) -> None:
    with system.open_output_stream(path) as file:
        file.write(text.encode())


def _read(system: FileSystem, path: str) -> str:
    with system.open_input_stream(path) as file:
        return file.read().decode()


def _leave(system: FileSystem, files: Sequence[str], folder: str | None) -> None:
    """Takes away what was written. A place that refuses has been reported, or is by its first checkpoint."""
    for path in files:
        with suppress(OSError):
            if system.get_file_info(path).type == FileType.File:
                system.delete_file(path)
    if folder is not None:
        with suppress(OSError):  # not empty: something else has begun to write there
            Path(folder).rmdir()


def _file(root: str, mark: str, node: str = "driver") -> str:
    return f"{root}/.haan-{mark}-{node}"


def _ask(node: Node, place: str, mark: str) -> "ray.ObjectRef[None]":
    there = NodeAffinitySchedulingStrategy(node.id, soft=False)
    return ray.remote(num_cpus=0, max_retries=0)(_answer).options(scheduling_strategy=there).remote(place, mark)


def _answer(place: str, mark: str) -> None:
    """On a node: reads the driver's file and writes another. A folder that isn't there is not made."""
    system, root = FileSystem.from_uri(place)
    if _read(system, _file(root, mark)) != mark:
        raise OSError("another text was read than was written")
    _write(system, _file(root, mark, ray.get_runtime_context().get_node_id()), mark)


def _await(host: str, answer: "ray.ObjectRef[None]", place: str) -> None:
    try:
        ray.get(answer, timeout=_ANSWER_S)
    except RayError as error:
        reason = str(error).strip().splitlines()[-1]
        fix = f"mount the same folder on {host}, or name another place"
        raise InputError(
            f"search.storage: {_RULE}, got {place!r}, which node {host} can't use: {reason}; {fix}"
        ) from None
