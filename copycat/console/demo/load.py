"""Load: writers that note what was acknowledged to them, and the account at the end."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from copycat.client.asynchronous import AsyncClient
from copycat.errors import NotApplied, OutcomeUnknown
from copycat.resources import AsyncDistributedCounter, AsyncDistributedMap

WRITERS = 4
TIMEOUT_S = 10.0
PAUSE_S = 0.05  # before trying again


@dataclass(slots=True)
class Account:
    """What the writers were told.

    Attributes:
        acknowledged: the entries of the map that were acknowledged.
        increments: of the counter that were acknowledged.
        unknown: increments whose outcome nobody knows.
        times_s: when something was acknowledged.
    """

    acknowledged: dict[str, int] = field(default_factory=dict)
    increments: int = 0
    unknown: int = 0
    times_s: list[float] = field(default_factory=list)

    def gap_s(self, since_s: float) -> float:
        """The longest time between two acknowledgements, of which the later came after a moment."""
        pairs = zip(self.times_s, self.times_s[1:], strict=False)
        return max((after - before for before, after in pairs if after > since_s), default=0.0)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the cluster has what it acknowledged.

    Attributes:
        lost: keys that were acknowledged and are not there, or not with their value.
        count: the counter's value.
        is_exact: whether nothing was lost and nothing counted twice.
    """

    lost: tuple[str, ...]
    count: int
    is_exact: bool


class Load:
    """Several writers, each with a client of its own; ``async with`` runs them."""

    def __init__(self, endpoints: Sequence[str]) -> None:
        self.account = Account()
        self._endpoints = tuple(endpoints)
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Load":
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._write(number)) for number in range(WRITERS)]
        return self

    async def __aexit__(self, *_error: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def finish(self) -> None:
        """Let all writers end what they have begun; raises what made one fail."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def get_on(self, more: int, timeout_s: float) -> None:
        """Wait until so many more writes are acknowledged.

        Raises:
            TimeoutError: that took too long.
        """
        goal = len(self.account.times_s) + more
        async with asyncio.timeout(timeout_s):
            while len(self.account.times_s) < goal:
                if all(task.done() for task in self._tasks):
                    await asyncio.gather(*self._tasks)
                await asyncio.sleep(PAUSE_S)

    async def _write(self, number: int) -> None:
        account = self.account
        async with AsyncClient(*self._endpoints, timeout_s=TIMEOUT_S, name=f"writer-{number}") as c:
            ledger: AsyncDistributedMap[str, int] = await c.open(AsyncDistributedMap, "ledger")
            hits = await c.open(AsyncDistributedCounter, "ledger-hits")
            turn = 0
            while not self._stopping:
                turn += 1
                try:
                    await ledger.put(f"{number}-{turn}", turn)
                    account.acknowledged[f"{number}-{turn}"] = turn
                    account.times_s.append(time.monotonic())
                except (NotApplied, OutcomeUnknown):
                    await asyncio.sleep(PAUSE_S)
                try:
                    await hits.increment()
                    account.increments += 1
                    account.times_s.append(time.monotonic())
                except NotApplied:
                    await asyncio.sleep(PAUSE_S)
                except OutcomeUnknown:
                    account.unknown += 1


async def audit(client: AsyncClient, account: Account) -> Verdict:
    """Compare what was acknowledged with what is there."""
    ledger: AsyncDistributedMap[str, Any] = await client.open(AsyncDistributedMap, "ledger")
    hits = await client.open(AsyncDistributedCounter, "ledger-hits")
    there = await ledger.to_dict()
    lost = tuple(key for key, turn in account.acknowledged.items() if there.get(key) != turn)
    count = await hits.value()
    counted = account.increments <= count <= account.increments + account.unknown
    return Verdict(lost, count, not lost and counted)
