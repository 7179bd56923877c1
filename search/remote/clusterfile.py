"""What is surely wrong in a `ray up` file, and what Ray itself would only find with machines running, or never."""

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from haan.errors import InputError
from haan.files import read_text

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_IMAGE = re.compile(r"ami-([0-9a-f]{8}|[0-9a-f]{17})|resolve:ssm:/\S+")
PLACEHOLDER = re.compile(r"YOUR[-_][A-Z0-9_-]*[A-Z0-9]|\b192\.0\.2\.\d+\b")  # such addresses are nobody's (RFC 5737)


def read(file: Path) -> dict[str, Any]:
    """A cluster file as YAML has it. Raises InputError when it is none, or when something is surely wrong in it."""
    try:
        config = yaml.safe_load(read_text(file))
    except yaml.YAMLError as error:
        raise InputError(f"{file}: must be YAML, got {' '.join(str(error).split())}") from None
    if not isinstance(config, dict) or not isinstance(config.get("provider"), dict):
        raise InputError(f"{file}: must be a `ray up` file with cluster_name, provider and auth, got another")
    found = problems(config, str(file))
    if found:
        raise InputError(found)
    return config


def is_for_slurm(file: Path) -> bool:
    """Whether it is a file of `search.remote.slurmfile`: its provider says so. Raises InputError."""
    try:
        config = yaml.safe_load(read_text(file))
    except yaml.YAMLError:  # the reader of either kind says what is wrong
        return False
    provider = config.get("provider") if isinstance(config, dict) else None
    return isinstance(provider, dict) and provider.get("type") == "slurm"


def problems(config: Mapping[str, Any], file: str) -> list[str]:
    """What surely fails, or leaves the cluster open: one message each, with file, key, rule and value.

    Ray's own check of keys and types comes with `ray up`; this one names what passes it.
    """
    found = [*_unedited(config), *_token(config), *_dashboard(config)]
    if config["provider"].get("type") == "aws":
        found += _aws(config)
    return [f"{file}: {message}" for message in found]


def _unedited(config: Mapping[str, Any]) -> Iterator[str]:
    for key, text in _texts(config, ""):
        placeholder = PLACEHOLDER.search(text)
        if placeholder:
            yield f"{key}: must be edited, got {placeholder[0]!r}; put your own in its place"


def _token(config: Mapping[str, Any]) -> Iterator[str]:
    """Ray without a token in force answers everybody who reaches its ports, and runs what they send."""
    fix = "see cluster.yaml"
    if "RAY_AUTH_MODE=token" not in " ".join(text for _, text in _texts(config, "")):
        yield f"setup_commands: must export RAY_AUTH_MODE=token on every node, got no such line; {fix}"
    mounts = config.get("file_mounts") or {}
    if not any(str(place).endswith(".ray/auth_token") for place in mounts):
        yield f"file_mounts: must bring ~/.ray/auth_token to every node, got {sorted(mounts)}; {fix}"


def _dashboard(config: Mapping[str, Any]) -> Iterator[str]:
    """The dashboard runs what it is sent; left out, the option is Ray's loopback."""
    for index, command in enumerate(config.get("head_start_ray_commands") or ()):
        host = _option(str(command), "--dashboard-host")
        if host is not None and host not in _LOOPBACK:
            key = f"head_start_ray_commands[{index}]"
            yield f"{key}: --dashboard-host must be 127.0.0.1, got {host!r}; `ray dashboard FILE` reaches it from there"


def _aws(config: Mapping[str, Any]) -> Iterator[str]:
    for name, kind in (config.get("available_node_types") or {}).items():
        node = kind.get("node_config") or {}
        key = f"available_node_types.{name}"
        yield from _image(f"{key}.node_config.ImageId", node, bool(config.get("docker")))


def _image(key: str, node: Mapping[str, Any], docker: bool) -> Iterator[str]:
    """Without an image Ray takes one of Ubuntu 18.04, for whose C library PyTorch has no wheels."""
    image = node.get("ImageId")
    if image is None:
        if not docker and "LaunchTemplate" not in node:
            yield f"{key}: must name an image, got none; Ray's default is too old for PyTorch, see cluster.yaml"
    elif not _IMAGE.fullmatch(str(image)):
        yield f"{key}: must be ami- and 8 or 17 hexadecimal digits, or resolve:ssm:/PARAMETER, got {image!r}"


def _option(command: str, name: str) -> str | None:
    """The value of an option in a shell command."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
        if word == name:
            return following
    return None


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every text below a value, keys of mappings too, with where it stands."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            below = f"{key}.{name}" if key else str(name)
            yield below, str(name)
            yield from _texts(inner, below)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, f"{key}[{index}]")
