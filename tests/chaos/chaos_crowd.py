"""Many sessions in one process, to be killed: idle ones, or such that write without end.

``python chaos_crowd.py SESSIONS WRITES ENDPOINT...``: each session increments the counter ``ballast``
so many times, one after the other; then all of them stay until the process ends. A line says when
all are open, a second one how many increments were answered.
"""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable

from copycat import AsyncClient, CopycatError
from copycat.resources import AsyncDistributedCounter

CONNECT_S = 20.0
SESSION_TIMEOUT_S = 3.0
CALL_S = 5.0
AT_ONCE = 64
CONNECTIONS = 20


async def write(session: AsyncClient, writes: int) -> int:
    """Increment, whatever goes wrong meanwhile. Returns how often it was answered."""
    answered = 0
    while answered < writes:
        try:
            ballast = await session.open(AsyncDistributedCounter, "ballast")
            while answered < writes:
                await ballast.increment(timeout_s=CALL_S)
                answered += 1
        except CopycatError:
            await asyncio.sleep(0.1)
    return answered


async def main(sessions: int, writes: int, endpoints: list[str]) -> None:
    """Open the sessions, write, and stay."""
    connections = [
        AsyncClient(*endpoints, timeout_s=CONNECT_S, session_timeout_s=SESSION_TIMEOUT_S)
        for _ in range(min(sessions, CONNECTIONS))
    ]
    opened = [each for each in connections if await succeeds(each.connect())]
    gate = asyncio.Semaphore(AT_ONCE)
    more: list[AsyncClient] = []

    async def open_beside(other: AsyncClient) -> None:
        async with gate:
            with contextlib.suppress(CopycatError):  # there may be no majority just now
                more.append(await other.new_session())

    rest = range(sessions - len(opened) if opened else 0)
    await asyncio.gather(*(open_beside(opened[place % len(opened)]) for place in rest))
    opened += more
    print(len(opened), flush=True)
    answered = await asyncio.gather(*(write(session, writes) for session in opened))
    print(sum(answered), flush=True)
    await asyncio.Event().wait()


async def succeeds(call: Awaitable[object]) -> bool:
    """Whether a call ends well."""
    try:
        await call
    except CopycatError:
        return False
    return True


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
