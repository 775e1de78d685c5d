"""MapModel: what a ``DistributedMap`` does, key by key as far as its operations allow."""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

from copycat.errors import InvalidArgument
from copycat.testing.history import Operation, Outcome
from copycat.testing.models import Impossible, Model
from copycat.types import Index


class _Entry(NamedTuple):
    """A key with its value."""

    key: Hashable
    value: Any
    version: Index  # or one that the unknown version is larger than
    is_exact: bool  # whether the version is known


class _State(NamedTuple):
    """A map, or some of its keys."""

    entries: tuple[_Entry, ...]  # in the order of insertion
    last_version: Index  # the largest one known


class MapModel(Model):
    """A ``DistributedMap``, by the methods of its handle and with what they return.

    - For one key, checked key by key: ``get``, ``get_entry``, ``contains``, ``put``,
      ``put_if_absent``, ``replace``, ``remove``. The last two take a version or none.
    - For some keys, which are checked together: ``put_many``, ``get_many``.
    - For all keys: ``length``, ``clear``, ``keys`` (a tuple, and only what came as one page) and
      ``popitem`` (None when the map is empty). A history with one of these is checked as a whole,
      which takes far longer when many clients are at work; ``check_by_index`` does not mind.

    To iterate over several pages is not one operation and has no place in a history.
    """

    initial = _State((), 0)
    queries = frozenset({"get", "get_entry", "contains", "get_many", "length", "keys"})

    def keys(self, operation: Operation) -> tuple[Hashable, ...] | None:
        """The keys that an operation names."""
        arguments = operation.arguments
        match operation.method:
            case "length" | "clear" | "keys" | "popitem":
                return None
            case "get_many":
                return tuple(arguments[0])
            case "put_many":
                return tuple([key for key, _ in arguments[0]])
        return arguments[:1]

    def step(self, state: _State, operation: Operation) -> Sequence[_State]:
        """As the class says."""
        arguments = operation.arguments
        match operation.method, len(arguments):
            case "get", 1:
                entry = _find(state, arguments[0])
                return _answer(operation, None if entry is None else entry.value, state)
            case "put", 2:
                entry = _find(state, arguments[0])
                after = _put(state, entry, *arguments)
                return _answer(operation, None if entry is None else entry.value, after)
            case "get_entry", 1:
                return self._get_entry(state, operation, *arguments)
            case "contains", 1:
                return _answer(operation, _find(state, arguments[0]) is not None, state)
            case "put_if_absent", 2:
                entry = _find(state, arguments[0])
                if entry is not None:
                    return _answer(operation, entry.value, state)
                return _answer(operation, None, _put(state, None, *arguments))
            case "replace", 2 | 3:
                return self._replace(state, operation, *arguments)
            case "remove", 1 | 2:
                return self._remove(state, operation, *arguments)
        return self._step_many(state, operation)

    def _step_many(self, state: _State, operation: Operation) -> Sequence[_State]:
        arguments = operation.arguments
        match operation.method, len(arguments):
            case "length", 0:
                return _answer(operation, len(state.entries), state)
            case "keys", 0:
                return _answer(operation, tuple([entry.key for entry in state.entries]), state)
            case "clear", 0:
                return _answer(operation, None, _State((), state.last_version))
            case "popitem", 0:
                if not state.entries:
                    return _answer(operation, None, state)
                last = state.entries[-1]
                after = _State(state.entries[:-1], state.last_version)
                return _answer(operation, (last.key, last.value), after)
            case "get_many", 1:
                entries = [_find(state, key) for key in dict.fromkeys(arguments[0])]
                found = [(entry.key, entry.value) for entry in entries if entry is not None]
                return _answer(operation, tuple(sorted(found, key=repr)), state)
            case "put_many", 1:
                after = state
                for key, value in arguments[0]:
                    after = _put(after, _find(after, key), key, value)
                return _answer(operation, None, after)
        raise InvalidArgument(f"{operation} is no operation on one map")

    def _get_entry(self, state: _State, operation: Operation, key: Hashable) -> Sequence[_State]:
        entry, found = _find(state, key), operation.result
        if entry is None or found is None or operation.outcome is Outcome.UNKNOWN:
            return _answer(operation, entry, state)  # both None, or unequal
        if entry.value != found.value or not _may_have(entry, found.version):
            return Impossible
        return (_set(state, entry, found.value, found.version, is_exact=True),)

    def _replace(
        self,
        state: _State,
        operation: Operation,
        key: Hashable,
        value: Any,
        version: Index | None = None,
    ) -> Sequence[_State]:
        entry, result = _find(state, key), operation.result
        is_known = operation.outcome is Outcome.OK
        possible = []
        if entry is not None and _may_have(entry, version):
            last = max(state.last_version, version or 0)
            if not is_known:
                possible.append(_set(state, entry, value, last, is_exact=False))
            elif result is not None and result > last:
                possible.append(_set(state, entry, value, result, is_exact=True))
        if (not is_known or result is None) and _may_lack(entry, version):
            possible.append(state)
        return possible

    def _remove(
        self, state: _State, operation: Operation, key: Hashable, version: Index | None = None
    ) -> Sequence[_State]:
        entry, result = _find(state, key), operation.result
        is_known = operation.outcome is Outcome.OK
        possible = []
        fits = entry is not None and (not is_known or result == entry.value)
        if fits and entry is not None and _may_have(entry, version):
            rest = tuple([other for other in state.entries if other is not entry])
            possible.append(_State(rest, max(state.last_version, version or 0)))
        if (not is_known or result is None) and _may_lack(entry, version):
            possible.append(state)
        return possible


def _answer(operation: Operation, result: Any, after: _State) -> Sequence[_State]:
    if operation.outcome is Outcome.UNKNOWN or operation.result == result:
        return (after,)
    return Impossible


def _find(state: _State, key: Hashable) -> _Entry | None:
    for entry in state.entries:
        if entry.key == key:
            return entry
    return None


def _put(state: _State, entry: _Entry | None, key: Hashable, value: Any) -> _State:
    """Write a value, under a version larger than all that are known."""
    if entry is None:
        new = _Entry(key, value, state.last_version, is_exact=False)
        return _State((*state.entries, new), state.last_version)
    return _set(state, entry, value, state.last_version, is_exact=False)


def _set(state: _State, entry: _Entry, value: Any, version: Index, *, is_exact: bool) -> _State:
    new = _Entry(entry.key, value, version, is_exact)
    entries = tuple([new if other is entry else other for other in state.entries])
    return _State(entries, max(state.last_version, version))


def _may_have(entry: _Entry, version: Index | None) -> bool:
    """Whether the entry has this version; None: whichever it has."""
    if version is None:
        return True
    return version == entry.version if entry.is_exact else version > entry.version


def _may_lack(entry: _Entry | None, version: Index | None) -> bool:
    """Whether the entry is not there, or has another version."""
    if entry is None:
        return True
    return version is not None and (not entry.is_exact or version != entry.version)
