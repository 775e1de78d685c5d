"""The blocking counter. tools/blocking_handles.py writes it from resources/counter.py: edit that."""

from copycat.protocol.client import Consistency
from copycat.resources.blocking.handle import BlockingHandle
from copycat.resources.counter import AsyncDistributedCounter


class DistributedCounter(BlockingHandle[AsyncDistributedCounter]):
    """An integer that all clients share. It begins at 0 and has 64 bits with sign.

    Each call counts once, however often the client had to send it.
    """

    asynchronous = AsyncDistributedCounter

    def increment(self, n: int = 1, *, timeout_s: float | None = None) -> int:
        """Add ``n``, which may be negative. Returns the new value.

        Raises:
            Rejected: the sum is beyond 64 bits with sign; the value stays.
        """
        return self._runner.run(self._handle.increment(n, timeout_s=timeout_s))

    def value(
        self, *, consistency: Consistency = Consistency.LINEARIZABLE, timeout_s: float | None = None
    ) -> int:
        """The value."""
        return self._runner.run(self._handle.value(consistency=consistency, timeout_s=timeout_s))

    def set(self, value: int, *, timeout_s: float | None = None) -> int:
        """Set the value. Returns the one it had before."""
        return self._runner.run(self._handle.set(value, timeout_s=timeout_s))

    def compare_and_set(self, expected: int, value: int, *, timeout_s: float | None = None) -> bool:
        """Set the value if it is ``expected``. Returns whether it was."""
        return self._runner.run(self._handle.compare_and_set(expected, value, timeout_s=timeout_s))
