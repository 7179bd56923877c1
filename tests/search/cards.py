"""What TensorBoard would show of an event file."""

import struct
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event


def events(file: Path) -> list[Event]:
    """All of a file: records of length, its checksum, an event, its checksum."""
    found, content = [], file.read_bytes()
    while content:
        (size,) = struct.unpack("<Q", content[:8])
        found.append(Event.FromString(content[12 : 12 + size]))
        content = content[16 + size :]
    return found


def scalars(file: Path, tag: str) -> list[float]:
    """The values of one curve."""
    return [value.simple_value for event in events(file) for value in event.summary.value if value.tag == tag]
