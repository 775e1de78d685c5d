"""The map: keys with values that have versions, in the order of insertion.

A version is the log index of the command that wrote the value: it grows with every write of a
key, also when the key was removed meanwhile, so that equal versions mean the same value.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from copycat.errors import InvalidType
from copycat.machine import Commit, command, query
from copycat.protocol.client import Consistency
from copycat.resources.changes import MapEvent, Resync, change
from copycat.resources.handle import AsyncHandle, Promise
from copycat.resources.pages import PAGE_BYTES_MAX, PAGE_ITEMS, PAGE_ITEMS_MAX, AsyncPages
from copycat.resources.subscription import (
    EVENTS_BUFFERED_MAX,
    AsyncSubscription,
    PublishingMachine,
)
from copycat.resources.values import (
    KEYS_MAX,
    K,
    Key,
    V,
    check_count,
    check_encoded,
    check_integer,
    check_key,
    check_list,
    decode_value,
    divided,
    encoded_pairs,
    value_to_send,
)
from copycat.types import Unencoded

D = TypeVar("D")

_PLACES_SEEN_MAX = 10_000  # for one page: most of them may have been removed
_PLACES_TIDIED = 2_048  # at once, when more than half of all are of removed keys
_REMOVED_KEPT_MAX = 64  # so few removed keys are not worth tidying up


class MapMachine(PublishingMachine):
    """The replicated side of a map: values are bytes that it does not look into."""

    # Each insertion of a key draws a number, which is where a page can go on: overwriting keeps
    # it, removal ends it. Invariant: _numbers grows, _keys stands beside it with None for what
    # was removed, and both, without the removed, are in the order of the dict _entries.

    def __init__(self) -> None:
        super().__init__()
        self._entries: dict[Key, list[Any]] = {}  # key -> [version, value, number]
        self._numbers: list[int] = []
        self._keys: list[Key | None] = []
        self._last_number = 0
        self._tidied = 0  # so many of the first places were tidied up last

    @command
    def put(self, commit: Commit, key: Key, value: bytes) -> bytes | None:
        if type(key) is not str or key not in self._entries:  # else it was checked when it came
            check_key(key)
        check_encoded(value)
        return self._put(commit, key, value)

    @command
    def put_many(self, commit: Commit, pairs: list[list[Any]]) -> None:
        check_list(pairs)
        check_count(pairs, "put_many")
        for pair in pairs:
            if type(pair) is not list or len(pair) != 2:
                raise InvalidType("put_many takes a list of pairs of key and value")
            check_key(pair[0])
            check_encoded(pair[1])
        for key, value in pairs:
            self._put(commit, key, value)

    @command
    def put_if_absent(self, commit: Commit, key: Key, value: bytes) -> bytes | None:
        """Returns the value that was there, or None when there was none."""
        check_key(key)
        check_encoded(value)
        entry = self._entries.get(key)
        if entry is not None:
            return cast("bytes", entry[1])
        return self._put(commit, key, value)

    @command
    def replace(self, commit: Commit, key: Key, value: bytes, version: int | None) -> int | None:
        """Returns the new version, or None when nothing was replaced."""
        check_key(key)
        check_encoded(value)
        if not self._is_at(key, version):
            return None
        self._put(commit, key, value)
        return commit.index

    @command
    def remove(self, commit: Commit, key: Key, version: int | None) -> bytes | None:
        check_key(key)
        if not self._is_at(key, version):
            return None
        return self._remove(commit, key)

    @command
    def popitem(self, commit: Commit) -> list[Any] | None:
        """Removes what was inserted last, as the dict does."""
        if not self._entries:
            return None
        key = next(reversed(self._entries))
        return [key, self._remove(commit, key)]

    @command
    def clear(self, commit: Commit) -> None:
        if self._entries:
            for places in (self._entries, self._numbers, self._keys):
                places.clear()
            self._tidied = 0
            self._tell(commit, "cleared")

    @query
    def get(self, key: Key) -> list[Any] | None:
        """Returns version and value."""
        if type(key) is not str or key not in self._entries:  # else it was checked when it came
            check_key(key)
        entry = self._entries.get(key)
        return None if entry is None else entry[:2]

    @query
    def get_many(self, keys: list[Key]) -> list[Any]:
        """Returns version and value, or None, for each key; at PAGE_BYTES_MAX it stops."""
        check_list(keys)
        check_count(keys, "get_many")
        for key in keys:
            check_key(key)
        found: list[Any] = []
        size_bytes = 0
        for key in keys:
            if size_bytes >= PAGE_BYTES_MAX:
                break
            entry = self._entries.get(key)
            found.append(None if entry is None else entry[:2])
            size_bytes += 1 if entry is None else len(entry[1])
        return found

    @query
    def contains(self, key: Key) -> bool:
        check_key(key)
        return key in self._entries

    @query
    def length(self) -> int:
        return len(self._entries)

    @query
    def page(self, after: int, until: int | None, items_max: int, whole: bool) -> list[Any]:
        """Returns where to go on or None, where it all ends, and rows.

        Rows are keys, or lists of key, version and value if ``whole``. There are at most
        ``PAGE_ITEMS_MAX``; fewer, or none, where much has been removed.
        """
        until = self._last_number if until is None else until
        for number in (after, until, items_max):
            check_integer(number, "a number of a page", minimum=0)
        place = bisect_right(self._numbers, after)
        end = bisect_right(self._numbers, until)
        items_max = min(items_max, PAGE_ITEMS_MAX)
        seen_end = min(end, place + _PLACES_SEEN_MAX)
        rows: list[Any] = []
        size_bytes = 0
        while place < seen_end and len(rows) < items_max and size_bytes < PAGE_BYTES_MAX:
            key = self._keys[place]
            place += 1
            if key is None:
                continue
            size_bytes += 9 if type(key) is int else len(cast("str | bytes", key))
            if whole:
                version, value, _ = self._entries[key]
                rows.append([key, version, value])
                size_bytes += len(value)
            else:
                rows.append(key)
        return [self._numbers[place - 1] if place < end else None, until, rows]

    def _is_at(self, key: Key, version: int | None) -> bool:
        """Whether the key is there, with this version if one is given."""
        if version is not None:
            check_integer(version, "a version", minimum=0)
        entry = self._entries.get(key)
        return entry is not None and version in (None, entry[0])

    def _put(self, commit: Commit, key: Key, value: bytes) -> bytes | None:
        entry = self._entries.get(key)
        previous = None
        if entry is None:
            self._last_number += 1
            self._entries[key] = [commit.index, value, self._last_number]
            self._numbers.append(self._last_number)
            self._keys.append(key)
        else:
            previous = cast("bytes", entry[1])
            entry[0], entry[1] = commit.index, value
        if self._audience:  # few maps have one
            self._tell(commit, "put", key, value)
        return previous

    def _remove(self, commit: Commit, key: Key) -> bytes:
        _, value, number = self._entries.pop(key)
        place = bisect_left(self._numbers, number)
        assert self._keys[place] == key, "each entry is where its number stands"
        self._keys[place] = None
        if len(self._keys) > 2 * len(self._entries) + _REMOVED_KEPT_MAX:
            self._tidy_some()
        self._tell(commit, "removed", key)
        return cast("bytes", value)

    def _tidy_some(self) -> None:
        """Leave out what was removed, in some places after those of the last time."""
        start, end = self._tidied, self._tidied + _PLACES_TIDIED
        left = [key for key in self._keys[start:end] if key is not None]
        self._keys[start:end] = left
        self._numbers[start:end] = [self._entries[key][2] for key in left]
        self._tidied = start + len(left) if start + len(left) < len(self._keys) else 0


@dataclass(frozen=True, slots=True)
class Versioned(Generic[V]):
    """A value and the version it has: the log index of the command that wrote it."""

    value: V
    version: int


class AsyncDistributedMap(AsyncHandle, Generic[K, V]):
    """A map that all clients share, for asyncio.

    Keys are exactly str, bytes or int: at most ``KEY_BYTES_MAX`` bytes, 64 bits. Values are what
    the codec carries: None, bool, int, float, str, bytes, lists and dicts, at most
    ``VALUE_BYTES_MAX`` encoded bytes. They are copied in and out: changing a value that was got
    changes nothing in the map.

    Two calls are two operations, between which others may write. To change what you have read,
    pass its version to ``replace`` or ``remove`` and begin again if it had changed.
    """

    resource_type = "map"
    resource_version = MapMachine.version

    async def get(
        self,
        key: K,
        default: D | None = None,
        *,
        consistency: Consistency = Consistency.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> V | D | None:
        """The value of the key, or ``default``."""
        found = await self.get_entry(key, consistency=consistency, timeout_s=timeout_s)
        return default if found is None else found.value

    async def get_entry(
        self,
        key: K,
        *,
        consistency: Consistency = Consistency.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> Versioned[V] | None:
        """The value of the key with its version, or None if the key is not there."""
        check_key(key)
        found = await self._query("get", key, consistency=consistency, timeout_s=timeout_s)
        return _versioned(found)

    async def get_many(
        self,
        keys: Iterable[K],
        *,
        consistency: Consistency = Consistency.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> dict[K, V]:
        """The values of those of the keys that are there.

        One query, hence one moment, for up to ``KEYS_MAX`` keys whose values have less than
        ``PAGE_BYTES_MAX`` bytes together; beyond that one for each so many keys or bytes.
        """
        wanted = list(keys)
        for key in wanted:
            check_key(key)
        wanted = list(dict.fromkeys(wanted))
        values: dict[K, V] = {}
        while wanted:
            found = await self._query(
                "get_many", wanted[:KEYS_MAX], consistency=consistency, timeout_s=timeout_s
            )
            values.update(
                (key, decode_value(entry[1]))
                for key, entry in zip(wanted, found, strict=False)
                if entry is not None
            )
            wanted = wanted[len(found) :]
        return values

    async def put(self, key: K, value: V, *, timeout_s: float | None = None) -> V | None:
        """Set the value of the key. Returns the value it had before, or None."""
        check_key(key)
        sent = value_to_send(value)
        return cast("V | None", _value(await self._command("put", key, sent, timeout_s=timeout_s)))

    async def put_many(self, values: Mapping[K, V], *, timeout_s: float | None = None) -> None:
        """Set many values in one command: all or none of them, with one version.

        Raises:
            TooLarge: more than ``KEYS_MAX`` keys, or keys and values of more than
                ``OPERATION_BYTES_MAX`` bytes together. Nothing was sent: divide them.
        """
        check_count(values, "put_many")
        await self._command("put_many", encoded_pairs(values), timeout_s=timeout_s)

    async def _update(self, values: Mapping[K, V]) -> None:
        """The dict's ``update``: as many commands as it takes, one after the other."""
        for part in divided(encoded_pairs(values)):
            await self._command("put_many", part, timeout_s=None)

    async def put_if_absent(self, key: K, value: V, *, timeout_s: float | None = None) -> V | None:
        """Set the value of the key unless it has one. Returns the one it has, or None if set."""
        check_key(key)
        sent = value_to_send(value)
        found = await self._command("put_if_absent", key, sent, timeout_s=timeout_s)
        return cast("V | None", _value(found))

    async def _set_default(self, key: K, value: V) -> V:
        """The dict's ``setdefault``, which tells a stored None from nothing stored."""
        check_key(key)
        sent = value_to_send(value)
        found = await self._command("put_if_absent", key, sent, timeout_s=None)
        if found is None:
            return cast("V", sent.value if isinstance(sent, Unencoded) else decode_value(sent))
        return cast("V", decode_value(found))

    async def replace(
        self, key: K, value: V, *, version: int | None = None, timeout_s: float | None = None
    ) -> int | None:
        """Set the value of the key if it is there, and if given has this version.

        Returns:
            The new version, or None when nothing was replaced.
        """
        check_key(key)
        _check_version(version)
        sent = value_to_send(value)
        replaced = await self._command("replace", key, sent, version, timeout_s=timeout_s)
        return cast("int | None", replaced)

    async def remove(
        self, key: K, *, version: int | None = None, timeout_s: float | None = None
    ) -> V | None:
        """Remove the key if it is there, and if given has this version. Returns its value."""
        _check_version(version)
        return cast("V | None", _value(await self._take(key, version, timeout_s)))

    async def _take(
        self, key: K, version: int | None = None, timeout_s: float | None = None
    ) -> bytes | None:
        """What ``remove`` has removed, encoded, so that None means that there was nothing."""
        check_key(key)
        removed = await self._command("remove", key, version, timeout_s=timeout_s)
        return cast("bytes | None", removed)

    async def popitem(self, *, timeout_s: float | None = None) -> tuple[K, V]:
        """Remove the key that was inserted last. Returns it and its value.

        Raises:
            KeyError: the map is empty.
        """
        pair = await self._command("popitem", timeout_s=timeout_s)
        if pair is None:
            raise KeyError(f"{self!r} is empty")
        return pair[0], decode_value(pair[1])

    async def clear(self, *, timeout_s: float | None = None) -> None:
        """Remove all keys in one command."""
        await self._command("clear", timeout_s=timeout_s)

    async def contains(
        self,
        key: K,
        *,
        consistency: Consistency = Consistency.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> bool:
        """Whether the key is there."""
        check_key(key)
        found = await self._query("contains", key, consistency=consistency, timeout_s=timeout_s)
        return cast("bool", found)

    async def length(
        self,
        *,
        consistency: Consistency = Consistency.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> int:
        """How many keys there are."""
        count = await self._query("length", consistency=consistency, timeout_s=timeout_s)
        return cast("int", count)

    def keys(
        self,
        *,
        page_items: int = PAGE_ITEMS,
        consistency: Consistency = Consistency.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> AsyncPages[K]:
        """Iterate over the keys in the order of insertion; see ``AsyncPages``.

        Args:
            timeout_s: for each page.
        """
        fetch = self._pages(False, consistency, timeout_s)
        return AsyncPages(fetch, lambda row: cast("K", row), page_items)

    def items(
        self,
        *,
        page_items: int = PAGE_ITEMS,
        consistency: Consistency = Consistency.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> AsyncPages[tuple[K, V]]:
        """Iterate over keys and values in the order of insertion; see ``AsyncPages``.

        Args:
            timeout_s: for each page.
        """
        fetch = self._pages(True, consistency, timeout_s)
        return AsyncPages(fetch, lambda row: (row[0], decode_value(row[2])), page_items)

    def values(
        self,
        *,
        page_items: int = PAGE_ITEMS,
        consistency: Consistency = Consistency.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> AsyncPages[V]:
        """Iterate over the values in the order of insertion of their keys; see ``AsyncPages``.

        Args:
            timeout_s: for each page.
        """
        fetch = self._pages(True, consistency, timeout_s)
        return AsyncPages(fetch, lambda row: decode_value(row[2]), page_items)

    def _pages(
        self, whole: bool, consistency: Consistency, timeout_s: float | None
    ) -> Callable[[int, int | None, int], Promise[list[Any]]]:
        def fetch(after: int, until: int | None, items_max: int) -> Promise[list[Any]]:
            return self._query(
                "page", after, until, items_max, whole, consistency=consistency, timeout_s=timeout_s
            )

        return fetch

    async def to_dict(
        self,
        *,
        consistency: Consistency = Consistency.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> dict[K, V]:
        """All keys and values, read in pages: not of one moment while others write."""
        return {
            key: value
            async for key, value in self.items(consistency=consistency, timeout_s=timeout_s)
        }

    def watch(
        self, *, buffered_max: int = EVENTS_BUFFERED_MAX
    ) -> AsyncSubscription[MapEvent[K, V]]:
        """Be told each change: ``async with map.watch() as events``, then ``async for``.

        The events are ``Put``, ``Removed`` and ``Cleared`` for every change after the
        subscription was opened, this client's own included; ``Resync`` where some may be missing.

        Args:
            buffered_max: how many events may wait to be read before a gap is made of them.
        """
        return AsyncSubscription(self._client, self._resource, change, Resync, buffered_max)


def _check_version(version: object) -> None:
    if version is not None:
        check_integer(version, "a version", minimum=0)


def _value(encoded: bytes | None) -> Any:
    return None if encoded is None else decode_value(encoded)


def _versioned(found: list[Any] | None) -> Versioned[Any] | None:
    return None if found is None else Versioned(decode_value(found[1]), found[0])
