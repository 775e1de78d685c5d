"""What makes a blocking map a ``MutableMapping``: each of its methods is one command."""

from collections.abc import (
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    MutableMapping,
    ValuesView,
)
from typing import Any, Generic, TypeVar, cast, overload

from copycat.protocol.client import Consistency
from copycat.resources.blocking.handle import BlockingHandle
from copycat.resources.blocking.pages import Pages
from copycat.resources.map import AsyncDistributedMap
from copycat.resources.values import K, V, decode_value

D = TypeVar("D")

_MISSING = cast("Any", object())


class Dictionary(BlockingHandle[AsyncDistributedMap[K, V]], MutableMapping[K, V], Generic[K, V]):
    """The methods of a dict on a map that all clients share."""

    # A handle is equal to itself only: comparing contents would read the whole map.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __getitem__(self, key: K) -> V:
        entry = self._runner.run(self._handle.get_entry(key))
        if entry is None:
            raise KeyError(key)
        return entry.value

    def __setitem__(self, key: K, value: V) -> None:
        self._runner.run(self._handle.put(key, value))

    def __delitem__(self, key: K) -> None:
        if self._runner.run(self._handle._take(key)) is None:
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return self._runner.run(self._handle.contains(cast("K", key)))

    def __len__(self) -> int:
        return self._runner.run(self._handle.length())

    def __iter__(self) -> Iterator[K]:
        return Pages(self._handle.keys(), self._runner)

    def keys(self) -> KeysView[K]:
        """The keys in the order of insertion, read in pages."""
        return KeysView(self)

    def values(self) -> ValuesView[V]:
        """The values in the order of insertion of their keys, read in pages."""
        return _Values(self)

    def items(self) -> ItemsView[K, V]:
        """Keys and values in the order of insertion, read in pages."""
        return _Items(self)

    def get(  # type: ignore[override]  # more than a dict can be asked for
        self,
        key: K,
        default: D | None = None,
        *,
        consistency: Consistency = Consistency.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> V | D | None:
        """The value of the key, or ``default``."""
        return self._runner.run(
            self._handle.get(key, default, consistency=consistency, timeout_s=timeout_s)
        )

    @overload
    def pop(self, key: K, /) -> V: ...

    @overload
    def pop(self, key: K, /, default: V | D) -> V | D: ...

    def pop(self, key: K, /, default: V | D = _MISSING) -> V | D:
        """Remove the key. Returns its value, or ``default`` if there is none.

        Raises:
            KeyError: the key is not there, and no default was given.
        """
        taken = self._runner.run(self._handle._take(key))
        if taken is not None:
            return cast("V", decode_value(taken))
        if default is _MISSING:
            raise KeyError(key)
        return default

    def popitem(self, *, timeout_s: float | None = None) -> tuple[K, V]:
        """Remove the key that was inserted last. Returns it and its value.

        Raises:
            KeyError: the map is empty.
        """
        return self._runner.run(self._handle.popitem(timeout_s=timeout_s))

    def setdefault(self, key: K, default: V) -> V:
        """The value of the key, which becomes ``default`` if it has none."""
        return self._runner.run(self._handle._set_default(key, default))

    def update(  # type: ignore[override]  # one command, so one shape of arguments after another
        self, other: Mapping[K, V] | Iterable[tuple[K, V]] = (), /, **more: V
    ) -> None:
        """Set many values, however many: in commands of up to ``KEYS_MAX`` keys, one after the other.

        Up to so many keys, of half a mebibyte with their values, it is one command. Beyond that it is not
        atomic: others may read or write in between, and after an error the first ones are set, and
        perhaps more. ``put_many`` sets all or none.
        """
        values: dict[Any, V] = {**dict(other), **more}
        self._runner.run(self._handle._update(values))

    def clear(self, *, timeout_s: float | None = None) -> None:
        """Remove all keys in one command."""
        self._runner.run(self._handle.clear(timeout_s=timeout_s))


class _Values(ValuesView[V]):
    """The values, in pages instead of one by one."""

    _mapping: "Dictionary[Any, V]"

    def __iter__(self) -> Iterator[V]:
        return Pages(self._mapping._handle.values(), self._mapping._runner)

    def __contains__(self, value: object) -> bool:
        return any(value is one or value == one for one in self)


class _Items(ItemsView[K, V]):
    """Keys and values, in pages instead of one by one."""

    _mapping: "Dictionary[K, V]"

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return Pages(self._mapping._handle.items(), self._mapping._runner)
