"""The blocking map. tools/blocking_handles.py writes it from resources/map.py: edit that."""

from collections.abc import Iterable, Mapping

from copycat.protocol.client import Consistency
from copycat.resources.blocking.dictionary import Dictionary
from copycat.resources.blocking.subscription import Subscription
from copycat.resources.changes import MapEvent
from copycat.resources.map import AsyncDistributedMap, Versioned
from copycat.resources.subscription import EVENTS_BUFFERED_MAX
from copycat.resources.values import K, V


class DistributedMap(Dictionary[K, V]):
    """A map that all clients share.

    Keys are exactly str, bytes or int: at most ``KEY_BYTES_MAX`` bytes, 64 bits. Values are what
    the codec carries: None, bool, int, float, str, bytes, lists and dicts, at most
    ``VALUE_BYTES_MAX`` encoded bytes. They are copied in and out: changing a value that was got
    changes nothing in the map.

    Two calls are two operations, between which others may write. To change what you have read,
    pass its version to ``replace`` or ``remove`` and begin again if it had changed.

    It is a ``MutableMapping``, and each of its methods is one operation: ``m[key] += 1`` is two,
    a read and a write. Two handles are equal only if they are the same object; compare contents
    with ``to_dict()``. Iteration reads pages of keys, as ``AsyncPages`` tells.
    """

    asynchronous = AsyncDistributedMap

    def get_entry(
        self,
        key: K,
        *,
        consistency: Consistency = Consistency.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> Versioned[V] | None:
        """The value of the key with its version, or None if the key is not there."""
        return self._runner.run(
            self._handle.get_entry(key, consistency=consistency, timeout_s=timeout_s)
        )

    def get_many(
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
        return self._runner.run(
            self._handle.get_many(keys, consistency=consistency, timeout_s=timeout_s)
        )

    def put(self, key: K, value: V, *, timeout_s: float | None = None) -> V | None:
        """Set the value of the key. Returns the value it had before, or None."""
        return self._runner.run(self._handle.put(key, value, timeout_s=timeout_s))

    def put_many(self, values: Mapping[K, V], *, timeout_s: float | None = None) -> None:
        """Set many values in one command: all or none of them, with one version.

        Raises:
            TooLarge: more than ``KEYS_MAX`` keys, or keys and values of more than
                ``OPERATION_BYTES_MAX`` bytes together. Nothing was sent: divide them.
        """
        return self._runner.run(self._handle.put_many(values, timeout_s=timeout_s))

    def put_if_absent(self, key: K, value: V, *, timeout_s: float | None = None) -> V | None:
        """Set the value of the key unless it has one. Returns the one it has, or None if set."""
        return self._runner.run(self._handle.put_if_absent(key, value, timeout_s=timeout_s))

    def replace(
        self, key: K, value: V, *, version: int | None = None, timeout_s: float | None = None
    ) -> int | None:
        """Set the value of the key if it is there, and if given has this version.

        Returns:
            The new version, or None when nothing was replaced.
        """
        return self._runner.run(
            self._handle.replace(key, value, version=version, timeout_s=timeout_s)
        )

    def remove(
        self, key: K, *, version: int | None = None, timeout_s: float | None = None
    ) -> V | None:
        """Remove the key if it is there, and if given has this version. Returns its value."""
        return self._runner.run(self._handle.remove(key, version=version, timeout_s=timeout_s))

    def contains(
        self,
        key: K,
        *,
        consistency: Consistency = Consistency.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> bool:
        """Whether the key is there."""
        return self._runner.run(
            self._handle.contains(key, consistency=consistency, timeout_s=timeout_s)
        )

    def length(
        self, *, consistency: Consistency = Consistency.LINEARIZABLE, timeout_s: float | None = None
    ) -> int:
        """How many keys there are."""
        return self._runner.run(self._handle.length(consistency=consistency, timeout_s=timeout_s))

    def to_dict(
        self, *, consistency: Consistency = Consistency.LINEARIZABLE, timeout_s: float | None = None
    ) -> dict[K, V]:
        """All keys and values, read in pages: not of one moment while others write."""
        return self._runner.run(self._handle.to_dict(consistency=consistency, timeout_s=timeout_s))

    def watch(self, *, buffered_max: int = EVENTS_BUFFERED_MAX) -> Subscription[MapEvent[K, V]]:
        """Be told each change: ``with map.watch() as events``, then ``for``.

        The events are ``Put``, ``Removed`` and ``Cleared`` for every change after the
        subscription was opened, this client's own included; ``Resync`` where some may be missing.

        Args:
            buffered_max: how many events may wait to be read before a gap is made of them.
        """
        return Subscription(self._handle.watch(buffered_max=buffered_max), self._runner)
