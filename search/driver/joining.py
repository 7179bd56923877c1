"""Which Ray a search joins: the one that was named, or one that this user started on this machine; nobody else's."""

import os
import pwd
import socket
from collections.abc import Iterable, Sequence

import ray

from haan.cli import CHECKOUT
from haan.errors import InputError
from search.driver.localray import PRIVATE, QUIET
from search.trials import internals
from search.trials.internals import Raylet

_CONNECT_S = 10
_ANSWER_S, _ASKED_ANSWER_S = 2, 10  # of one's own Ray: where any was asked for, a busy machine must not hide it
_NAMED_ANSWER_S = 3  # of whatever listens at an address


def join_mine(option: str | None) -> tuple[bool, tuple[str, ...]]:
    """Joins a cluster that this user started here, if one answers; whether, and what is to be said of others.

    option: what asked for one ("auto"). Raises InputError where it did and there is none.
    """
    there = internals.raylets()
    found = mine(there, os.getuid())
    silent = []
    for raylet in found:
        patience = _ASKED_ANSWER_S if option else _ANSWER_S
        answer = internals.look(raylet.address, patience, internals.with_token(os.environ))
        if answer is not None and not answer.refused:
            internals.show_token()
            _init(raylet.address, option or "--address")
            return True, ()
        why = "does not answer" if answer is None else "wants another token than yours"
        silent.append(f"your Ray at {raylet.address} {why}")
    said = _aside(there, silent)
    if option is not None:
        has = "; ".join(said) or "none runs here"
        fix = "on a cluster's head, `ray up FILE` starts it"
        raise InputError(f"{option}: must be a Ray cluster that this user started here, got 'auto': {has}; {fix}")
    return False, said


def mine(there: Iterable[Raylet], uid: int) -> list[Raylet]:
    """Those of this user that can be joined from here, one a cluster, the last started first.

    Not the local Ray of another search, nor one in a container.
    """
    own = [one for one in there if one.uid == uid and one.same and PRIVATE not in one.resources and _holds(one, uid)]
    clusters = {one.address: one for one in sorted(own, key=lambda one: (one.session.name, one.pid))}
    return list(clusters.values())[::-1]


def _holds(raylet: Raylet, uid: int) -> bool:
    """Whether its files are this user's as well."""
    try:
        return all(os.lstat(one).st_uid == uid for one in (raylet.session, raylet.socket))
    except OSError:
        return False


def _aside(there: Sequence[Raylet], silent: Sequence[str]) -> tuple[str, ...]:
    """What is left alone and may surprise, in one line at most. A search's own Ray surprises nobody."""
    others = {one.uid for one in there if one.uid != os.getuid() and PRIVATE not in one.resources}
    said = [*silent, *([f"Ray of {', '.join(sorted(map(_name, others)))} runs here"] if others else [])]
    return (f"{'; '.join(said)}: left alone",) if said else ()


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def join(known: str, option: str) -> None:
    """Joins the cluster of an address. Raises InputError where no Ray answers there, or not to this user."""
    plain = "://" not in known
    host, _, port = known.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():  # Ray itself tries for minutes
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
        except OSError as error:
            raise _refusal(known, option, str(error)) from None
        if plain:
            _check(known, option)
    _init(known, option)


def _check(known: str, option: str) -> None:
    """Raises InputError where Ray would try for long, or end this process: what answers is no Ray, or not ours."""
    answer = internals.look(known, _NAMED_ANSWER_S, os.environ)
    if answer is None:
        raise _refusal(known, option, f"what listens there did not answer as a Ray does within {_NAMED_ANSWER_S} s")
    if answer.refused:
        fix = "RAY_AUTH_MODE=token shows the token of ~/.ray/auth_token, RAY_AUTH_TOKEN_PATH=FILE another"
        raise _refusal(known, option, f"it wants another token than this user showed; {fix}")
    here = [one for one in internals.raylets() if one.node_id in answer.nodes]
    if here and not any(one.joinable for one in here):
        owners = ", ".join(sorted({_name(one.uid) for one in here}))
        raise _refusal(known, option, f"its files here are {owners}'s, and not for this user to write")
    if not here:
        fix = f"`ray start --address={known}` makes it one"
        raise _refusal(known, option, f"this machine is none of its {len(answer.nodes)} node(s); {fix}")


def _init(known: str, option: str) -> None:
    try:
        ray.init(address=known, job_config=internals.code_of(CHECKOUT), **QUIET)
    except (OSError, ValueError, RuntimeError) as error:
        raise _refusal(known, option, str(error)) from None


def _refusal(known: str, option: str, reason: str) -> InputError:
    return InputError(f"{option}: must be a Ray cluster that answers, got {known!r}: {' '.join(reason.split())}")
