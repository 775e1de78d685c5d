"""The client's side of a measurement: a process that is told what to do, line by line.

A driver process reads one JSON object a line from its standard input, ``{"do": method, ...}``,
and answers each with one line, ``{"ok": result}`` or ``{"failed": why}``. It ends with its input.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Protocol

from bench.measuring import KEYS, Meter, Samples, Span, clock

LINE_BYTES_MAX = 1 << 20
PROBE_EVERY_S = 0.010
PROBES_END_S = 30.0
EVENTS_PAUSE_S = 0.002

Operation = Callable[[int], Awaitable[object]]
"""Something to be done again and again, told a number that differs from call to call."""


class Driver(Protocol):
    """What every peer can be asked for. A peer that lacks something raises ``Lacking``."""

    async def connect(self, *, follower: bool) -> float:
        """Connect to the leader, or to another server. Returns when a write was acknowledged."""

    async def leader(self) -> str:
        """The endpoint of the server that leads now."""

    async def writes(self, in_flight: int, span: Span) -> Samples:
        """Write, so many at a time."""

    async def session_writes(self, sessions: int, connections: int, span: Span) -> Samples:
        """Write over several connections, one at a time in each session."""

    async def reads(self, in_flight: int, span: Span) -> Samples:
        """Read linearizably, so many at a time."""

    async def lock_cycles(self, span: Span) -> Samples:
        """Acquire a lock that nobody else wants and release it, again and again."""

    async def contend(self, seconds: float) -> list[tuple[float, float]]:
        """Acquire a lock that others want. Returns when it was had and when given back."""

    async def publish(self, span: Span) -> Samples:
        """Write what others are told, one after the other, each with the time in it."""

    async def observe(self, span: Span) -> Samples:
        """Be told it. The latency is from before the write until here."""

    async def probe(self, lost_s: float, lost: str) -> float:
        """Write without pause around the loss of a server. Returns when the first one begun after it ended."""

    async def close(self) -> None:
        """Let go of everything."""


class Lacking(Exception):
    """The peer has no such thing."""


async def serve(driver: Driver) -> None:
    """Do what the lines on standard input say, until it ends."""
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    say({"ok": "ready"})
    try:
        while line := await lines.readline():
            say(await _answer(driver, json.loads(line)))
    finally:
        await driver.close()


async def _answer(driver: Driver, request: dict[str, Any]) -> dict[str, Any]:
    method = getattr(driver, request.pop("do"))
    if "span" in request:
        request["span"] = Span(*request["span"])
    try:
        result = await method(**request)
    except Exception as error:  # noqa: BLE001 - whatever a peer's client raises is a result
        return {"failed": f"{type(error).__name__}: {error}"[:300]}
    return {"ok": asdict(result) if isinstance(result, Samples) else result}


def say(answer: dict[str, Any]) -> None:
    """One line on standard output."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def probe(write: Operation, lost_s: float) -> float:
    """Begin a write every 10 ms, whatever became of the others.

    Returns:
        When the first one that was begun after ``lost_s`` was acknowledged.
    """
    acknowledged: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def one(number: int) -> None:
        begun_s = clock()
        with suppress(Exception):  # which is what a client without a leader gets
            await write(number)
            if begun_s > lost_s and not acknowledged.done():
                acknowledged.set_result(clock())

    tasks: list[asyncio.Task[None]] = []
    while not acknowledged.done():
        if clock() > lost_s + PROBES_END_S:
            raise TimeoutError(f"no write succeeded within {PROBES_END_S:.0f} s of the loss")
        tasks.append(asyncio.create_task(one(len(tasks))))
        await asyncio.wait([acknowledged], timeout=PROBE_EVERY_S)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return acknowledged.result()


async def publish(write: Callable[[bytes], Awaitable[object]], span: Span) -> Samples:
    """Write the time, one write after the other, with pauses in which events can arrive."""
    meter = Meter(span)
    while (now_s := clock()) < meter.end_s:
        await write(time_to_bytes(now_s))
        meter.note(now_s)
        await asyncio.sleep(EVENTS_PAUSE_S)
    return meter.samples()


def time_to_bytes(time_s: float) -> bytes:
    """A value of 100 bytes that tells a time, in nanoseconds."""
    return int(time_s * 1e9).to_bytes(8) + bytes(92)


def time_of_bytes(value: bytes) -> float:
    """The time that ``time_to_bytes`` has put there."""
    return int.from_bytes(value[:8]) / 1e9


def last_key() -> str:
    """A key that no closed loop writes."""
    return f"key-{KEYS:012d}"
