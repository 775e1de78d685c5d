"""The blocking lock. tools/blocking_handles.py writes it from resources/lock.py: edit that."""

from copycat.protocol.client import Consistency
from copycat.resources.blocking.grant import LockGrant
from copycat.resources.blocking.handle import BlockingHandle
from copycat.resources.lock import AsyncDistributedLock, Holder


class DistributedLock(BlockingHandle[AsyncDistributedLock]):
    """A lock that one program at a time holds.

    Whoever has waited longest gets it next. It is not reentrant: a second ``acquire`` in the same
    client waits like any other. A lock whose holder's session ends goes to the next.
    """

    asynchronous = AsyncDistributedLock

    def acquire(self, *, timeout_s: float | None = None) -> LockGrant:
        """Wait for the lock.

        Args:
            timeout_s: how long to wait in the queue, in log time, which stands still while the
                cluster has no leader. None waits for as long as it takes.

        Raises:
            LockTimeout: the time has passed. The request has been taken back.
            SessionExpired: the session was lost while waiting, and the place in the queue with it.
        """
        return LockGrant(self._runner.run(self._handle.acquire(timeout_s=timeout_s)), self._runner)

    def try_acquire(self) -> LockGrant | None:
        """Take the lock if it is free; None if it is not."""
        found = self._runner.run(self._handle.try_acquire())
        return None if found is None else LockGrant(found, self._runner)

    def holder(
        self, *, consistency: Consistency = Consistency.LINEARIZABLE, timeout_s: float | None = None
    ) -> Holder | None:
        """Who holds the lock, or None when it is free."""
        return self._runner.run(self._handle.holder(consistency=consistency, timeout_s=timeout_s))

    def waiting(
        self, *, consistency: Consistency = Consistency.LINEARIZABLE, timeout_s: float | None = None
    ) -> int:
        """How many requests are in the queue."""
        return self._runner.run(self._handle.waiting(consistency=consistency, timeout_s=timeout_s))
