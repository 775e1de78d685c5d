"""Replicated state as bytes: equal on two servers exactly when their state is equal.

All of a state machine's fields count, and the order of its dictionaries too, since a machine may
go through them. Each session and each resource is a part of its own, so that what has not changed
need not be looked at. Parts can be shown to a person when they differ.
"""

import difflib
import marshal
from collections.abc import Iterable
from typing import Any

from copycat.actors.cell import Cell
from copycat.actors.codec import decode, encode
from copycat.server.applier import Applier
from copycat.server.resource import Resource
from copycat.server.session import Session

Part = bytes
"""A piece of state, as ``marshal`` writes it: quickly, and by its content alone."""

DIFFERENCES_TOLD = 10
LINE_CHARACTERS_TOLD = 1_000

# Later versions of the format tell objects that are shared from equal ones.
_FORMAT_VERSION = 0
_PLAIN = frozenset({int, float, str, bytes, bool, type(None)})
_NO_FAILURES = encode([])
_NOT_ITS_OWN = ("_myRef", "environment", "address", "step", "_retained")
"""Fields of an actor that say where it lives, or are of all sessions."""

_slots: dict[type, tuple[str, ...]] = {}


def children_of(applier: Applier) -> dict[int, Cell]:
    """The actors that an Applier steps, by serial."""
    cell: Cell = applier._myRef
    return cell.children


def parts_of(applier: Applier) -> list[Part]:
    """All replicated state of one server."""
    children = children_of(applier)
    actors = (*applier._sessions.values(), *applier._router.resources.values())
    progress, due = applier._progress, applier._due
    whole = {
        "sequences": progress.sequences,
        "resources": progress.resources,
        "nonces": applier._nonces,
        "expiries": due.expiries(),
        "timers": due._timers,
    }
    return [_dumped(whole), *[part_of(children[at.serial].actor) for at in actors]]


def counts_of(applier: Applier) -> Part:
    """How many sessions, resources and timers there are on one server, and what sessions retain."""
    sessions, resources = len(applier._sessions), len(applier._router.resources)
    timers = len(applier._due._timers)
    retained_bytes = applier._retained.size_bytes
    return _dumped(("sessions", sessions, "resources", resources, "timers", timers, retained_bytes))


def part_of(actor: Session | Resource) -> Part:
    """All replicated state of one session or resource."""
    if type(actor) is Session:
        fields = vars(actor).copy()
        for name in _NOT_ITS_OWN:
            del fields[name]
        fields["_answers"] = {
            first: (last, index, state_of_results(results), counted_bytes)
            for first, (last, index, results, counted_bytes) in actor._answers.items()
        }
        # No event is plain, and there are events in nearly every session.
        fields["_events"] = [
            (*each[:3], [(event.content, event.holders) for event in each[3]])
            for each in actor._events
        ]
        return _dumped(fields)
    assert type(actor) is Resource, "an Applier steps sessions and resources"
    timers, drawn = actor.timers, actor._timers_drawn
    return _dumped((actor.resource, actor.kind, _fields(actor.machine), timers, drawn))


def state_of_results(results: bytes) -> Any:
    """What servers must agree on in the answers to a batch: all but the texts of failures."""
    if results.endswith(_NO_FAILURES):
        return results
    values, failures = decode(results)
    return [values, [failure[:-1] for failure in failures]]


def text_of(applier: Applier) -> str:
    """All replicated state of one server, a line for each part."""
    return _told(parts_of(applier))


def difference(mine: Iterable[Part], theirs: Iterable[Part]) -> str:
    """The parts that differ, a line for each."""
    lines = [
        line[:LINE_CHARACTERS_TOLD]
        for line in difflib.ndiff(_told(theirs).splitlines(), _told(mine).splitlines())
        if not line.startswith("  ")
    ]
    return "\n".join(lines[:DIFFERENCES_TOLD])


def _told(parts: Iterable[Part]) -> str:
    return "\n".join(repr(marshal.loads(part)) for part in parts)  # noqa: S302 - our own parts


def _dumped(value: Any) -> Part:
    try:
        return marshal.dumps(value, _FORMAT_VERSION)
    except ValueError:  # there is something in it that is not plain
        return marshal.dumps(_plain(value), _FORMAT_VERSION)


def _fields(value: Any) -> dict[str, Any]:
    names = _slots.get(type(value))
    if names is None:
        owners = reversed(type(value).__mro__)
        slots = [name for owner in owners for name in getattr(owner, "__slots__", ())]
        names = _slots[type(value)] = tuple(slots)
    found = {name: getattr(value, name) for name in names if hasattr(value, name)}
    return found | getattr(value, "__dict__", {})


def _plain(value: Any) -> Any:
    """A value made of plain ones, which is equal for equal content."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return ["set", *sorted(repr(_plain(item)) for item in value)]
    if isinstance(value, tuple):
        return tuple([_plain(item) for item in value])
    if hasattr(value, "__iter__"):
        return [type(value).__name__, *[_plain(item) for item in value]]
    return (type(value).__name__, _plain(_fields(value)))
