"""Replicated state as text: equal on two servers exactly when their state is equal.

All of a state machine's fields count, and the order of its dictionaries too, since a machine may
go through them. Text is compared by digest, and can be shown to a person when digests differ.
"""

import difflib
import hashlib
from typing import Any

from copycat.actors import NodeAddress
from copycat.actors.cell import Cell
from copycat.server.applier import Applier
from copycat.server.resource import Resource
from copycat.server.session import Session

_PLAIN = (int, float, str, bytes, bool, type(None))
DIFFERENCES_TOLD = 10


def children_of(applier: Applier) -> dict[NodeAddress, Cell]:
    """The actors that an Applier steps."""
    cell: Cell = applier._myRef
    return cell.children


def sessions_of(applier: Applier) -> dict[int, Session]:
    """The open sessions on one server, by id."""
    children = children_of(applier)
    return {session: children[at].actor for session, at in applier._sessions.items()}


def resources_of(applier: Applier) -> dict[int, Resource]:
    """The resources on one server, by id."""
    children = children_of(applier)
    return {resource: children[at].actor for resource, at in applier._router.resources.items()}


def text_of(applier: Applier) -> str:
    """All replicated state of one server, a line for each session and resource."""
    lines = [
        f"sequences {applier._progress.sequences!r}",
        f"resources {applier._progress.resources!r}",
        f"nonces {applier._nonces!r}",
        f"expiries {applier._due._sessions!r}",
    ]
    for number, session in sessions_of(applier).items():
        lines.append(f"session {number} {_plain(vars(session))!r}")
    for number, resource in resources_of(applier).items():
        timers = {timer: _plain(_fields(planned)) for timer, planned in resource.timers.items()}
        machine = _plain(vars(resource.machine))
        lines.append(
            f"resource {number} {resource.kind} {machine!r}"
            f" timers {timers!r} of {resource._timers_drawn}"
        )
    return "\n".join(lines)


def digest_of(text: str) -> bytes:
    """Sixteen bytes that stand for the text."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def difference(mine: str, theirs: str) -> str:
    """The lines in which two texts differ."""
    lines = [
        line
        for line in difflib.ndiff(theirs.splitlines(), mine.splitlines())
        if not line.startswith("  ")
    ]
    return "\n".join(lines[:DIFFERENCES_TOLD])


def _fields(value: Any) -> dict[str, Any]:
    slots = [
        name
        for owner in reversed(type(value).__mro__)
        for name in getattr(owner, "__slots__", ())
        if hasattr(value, name)
    ]
    return {name: getattr(value, name) for name in slots} | getattr(value, "__dict__", {})


def _plain(value: Any) -> Any:
    """A value whose ``repr`` depends on nothing but its content."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items() if key not in _LOCAL}
    if isinstance(value, set | frozenset):
        return ["set", *sorted(repr(_plain(item)) for item in value)]
    if isinstance(value, tuple):
        return tuple([_plain(item) for item in value])
    if hasattr(value, "__iter__"):
        return [type(value).__name__, *(_plain(item) for item in value)]
    return (type(value).__name__, _plain(_fields(value)))


_LOCAL = frozenset({"_myRef", "environment", "address"})
"""Fields of an actor that say where it lives."""
