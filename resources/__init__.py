"""What users come for: each resource is one file with its machine and its handle.

Here are the handles and what they give and take, loaded when first used: ``Async...`` for
programs with an event loop, the same names without it for all others.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from copycat.protocol.client import Consistency
    from copycat.resources.blocking.counter import DistributedCounter
    from copycat.resources.blocking.grant import LockGrant
    from copycat.resources.blocking.lock import DistributedLock
    from copycat.resources.blocking.map import DistributedMap
    from copycat.resources.blocking.subscription import Subscription
    from copycat.resources.blocking.topic import DistributedTopic
    from copycat.resources.changes import Cleared, MapEvent, Put, Removed, Resync
    from copycat.resources.counter import AsyncDistributedCounter
    from copycat.resources.lock import AsyncDistributedLock, AsyncLockGrant, Holder
    from copycat.resources.map import AsyncDistributedMap, Versioned
    from copycat.resources.subscription import AsyncSubscription
    from copycat.resources.topic import AsyncDistributedTopic, Gap

__all__ = [
    "AsyncDistributedCounter",
    "AsyncDistributedLock",
    "AsyncDistributedMap",
    "AsyncDistributedTopic",
    "AsyncLockGrant",
    "AsyncSubscription",
    "Cleared",
    "Consistency",
    "DistributedCounter",
    "DistributedLock",
    "DistributedMap",
    "DistributedTopic",
    "Gap",
    "Holder",
    "LockGrant",
    "MapEvent",
    "Put",
    "Removed",
    "Resync",
    "Subscription",
    "Versioned",
]

_HOMES = {
    "AsyncDistributedCounter": "counter",
    "AsyncDistributedLock": "lock",
    "AsyncDistributedMap": "map",
    "AsyncDistributedTopic": "topic",
    "AsyncLockGrant": "lock",
    "AsyncSubscription": "subscription",
    "Cleared": "changes",
    "Consistency": "handle",
    "DistributedCounter": "blocking.counter",
    "DistributedLock": "blocking.lock",
    "DistributedMap": "blocking.map",
    "DistributedTopic": "blocking.topic",
    "Gap": "topic",
    "Holder": "lock",
    "LockGrant": "blocking.grant",
    "MapEvent": "changes",
    "Put": "changes",
    "Removed": "changes",
    "Resync": "changes",
    "Subscription": "blocking.subscription",
    "Versioned": "map",
}


if not TYPE_CHECKING:  # type checkers read the imports above, and find misspelt names

    def __getattr__(name: str) -> object:
        """Load a public name from its home at its first use."""
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'copycat.resources' has no attribute {name!r}")
        value = getattr(import_module(f"copycat.resources.{home}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """The names of this module, those not yet loaded included."""
    return sorted({*globals(), *__all__})
