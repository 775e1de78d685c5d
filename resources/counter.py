"""The counter: one integer of 64 bits with sign."""

from typing import cast

from copycat.errors import Rejected
from copycat.machine import Commit, StateMachine, command, query
from copycat.protocol.client import Consistency
from copycat.resources.handle import AsyncHandle
from copycat.resources.values import INTEGER_MAX, INTEGER_MIN, check_integer


class CounterMachine(StateMachine):
    """The replicated side of a counter."""

    def __init__(self) -> None:
        self._count = 0

    @command
    def increment(self, commit: Commit, n: int) -> int:
        check_integer(n, "an increment")
        count = self._count + n
        if not INTEGER_MIN <= count <= INTEGER_MAX:
            raise Rejected(f"{self._count} + {n} is beyond 64 bits")
        self._count = count
        return count

    @command
    def set(self, commit: Commit, value: int) -> int:
        check_integer(value, "a count")
        previous, self._count = self._count, value
        return previous

    @command
    def compare_and_set(
        self,
        commit: Commit,
        expected: int,
        value: int,
    ) -> bool:
        check_integer(expected, "a count")
        check_integer(value, "a count")
        if self._count != expected:
            return False
        self._count = value
        return True

    @query
    def value(self) -> int:
        return self._count


class AsyncDistributedCounter(AsyncHandle):
    """An integer that all clients share, for asyncio. It begins at 0 and has 64 bits with sign.

    Each call counts once, however often the client had to send it.
    """

    resource_type = "counter"
    resource_version = CounterMachine.version

    async def increment(self, n: int = 1, *, timeout_s: float | None = None) -> int:
        """Add ``n``, which may be negative. Returns the new value.

        Raises:
            Rejected: the sum is beyond 64 bits with sign; the value stays.
        """
        check_integer(n, "an increment")
        return cast("int", await self._command("increment", n, timeout_s=timeout_s))

    async def value(
        self,
        *,
        consistency: Consistency = Consistency.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> int:
        """The value."""
        count = await self._query("value", consistency=consistency, timeout_s=timeout_s)
        return cast("int", count)

    async def set(self, value: int, *, timeout_s: float | None = None) -> int:
        """Set the value. Returns the one it had before."""
        check_integer(value, "a count")
        return cast("int", await self._command("set", value, timeout_s=timeout_s))

    async def compare_and_set(
        self, expected: int, value: int, *, timeout_s: float | None = None
    ) -> bool:
        """Set the value if it is ``expected``. Returns whether it was."""
        check_integer(expected, "a count")
        check_integer(value, "a count")
        done = await self._command("compare_and_set", expected, value, timeout_s=timeout_s)
        return cast("bool", done)
