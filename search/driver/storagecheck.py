"""Whether every node can read and write the place of the checkpoints, tried before a search starts."""

import uuid
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import ray
from pyarrow.fs import FileSystem, FileType, LocalFileSystem

from haan.errors import InputError
from search.driver.batchqueue import BatchQueue
from search.driver.nodes import Cluster, Node, Unanswered, probe

_RULE = "must be a place that all nodes reach (s3://..., an NFS folder)"


def check(place: str, nodes: Sequence[Node], asked: Sequence[Node] = ()) -> tuple[Node, ...]:
    """Writes a file from here, has every other node read it and write one back, and leaves the place as it was.

    nodes: those that run trials. asked: where more than the storage is to be known of nodes, all that are asked for
    their room, those of `nodes` among them. Returns them as probed. Raises InputError, naming the node and the fix,
    and Left.
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
        probed = probe(asked or others, {node.id: partial(_answer, place, mark) for node in others})
        for node in others:
            if _read(system, _file(root, mark, node.id)) != mark:
                what = f"what node {node.host} writes there is not the same"
                raise InputError(f"search.storage: {_RULE}, got {place!r}: {what}")
        return probed
    except Unanswered as error:
        if error.node not in others:
            raise
        raise _refused(place, error.node.host, error.reason) from None
    except FileNotFoundError as error:
        raise InputError(f"search.storage: {_RULE}, got {place!r}: a node's file is not seen here: {error}") from None
    except OSError as error:
        raise InputError(f"search.storage: must be a place that can be written, got {place!r}: {error}") from None
    finally:
        files = [_file(root, mark), *(_file(root, mark, node.id) for node in others)]
        _leave(system, files, root if made else None)


def _refused(place: str, host: str, reason: str) -> InputError:
    what = f"which node {host} can't use: {reason}; mount the same folder on {host}, or name another place"
    return InputError(f"search.storage: {_RULE}, got {place!r}, {what}")


def untried(place: str, cluster: Cluster) -> str | None:
    """What to say of a folder that nodes which the autoscaler may start have to mount: they can't be asked yet."""
    if "://" in place or not cluster.startable:
        return None
    queue = BatchQueue.here()
    if queue is not None and queue.folder.root.is_relative_to(place):  # a worker that doesn't see that doesn't join
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


def _answer(place: str, mark: str) -> None:
    """On a node: reads the driver's file and writes another. A folder that isn't there is not made."""
    system, root = FileSystem.from_uri(place)
    if _read(system, _file(root, mark)) != mark:
        raise OSError("another text was read than was written")
    _write(system, _file(root, mark, ray.get_runtime_context().get_node_id()), mark)
