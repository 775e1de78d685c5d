"""How things are measured: closed loops, latencies, processor time and memory from /proc."""

import asyncio
import os
import platform
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

KEYS = 10_000
KEY_STRIDE = 7_919  # prime, so that neighbours in time are no neighbours in the key space
VALUE_BYTES = 100
TICKS_PER_S = os.sysconf("SC_CLK_TCK")

clock = time.monotonic  # the same for all processes of a machine


@dataclass(frozen=True, slots=True)
class Span:
    """How long a closed loop runs: first unmeasured, then measured."""

    warm_up_s: float
    measured_s: float


@dataclass(frozen=True, slots=True)
class Samples:
    """What came of a closed loop.

    Attributes:
        per_s: operations that ended in the measured time, a second.
        p50_ms, p99_ms: their latencies; 0 if there were none.
        operations: all of them, those of the warm-up included.
    """

    per_s: float
    p50_ms: float
    p99_ms: float
    operations: int


class Meter:
    """Takes the times of one closed loop."""

    def __init__(self, span: Span) -> None:
        self.begin_s = clock() + span.warm_up_s
        self.end_s = self.begin_s + span.measured_s
        self.operations = 0
        self._latencies_s: list[float] = []

    def note(self, start_s: float) -> float:
        """An operation that began at ``start_s`` has ended. Returns the time."""
        now_s = clock()
        self.operations += 1
        if self.begin_s <= now_s < self.end_s:
            self._latencies_s.append(now_s - start_s)
        return now_s

    def samples(self) -> Samples:
        """All of it together."""
        ordered = sorted(self._latencies_s)
        return Samples(
            per_s=len(ordered) / (self.end_s - self.begin_s),
            p50_ms=percentile(ordered, 50) * 1000,
            p99_ms=percentile(ordered, 99) * 1000,
            operations=self.operations,
        )


async def closed_loop(
    operations: Iterable[Callable[[int], Awaitable[object]]], span: Span
) -> Samples:
    """Run each operation in a coroutine of its own, one call after the other, all at once.

    Args:
        operations: called with a number that differs from call to call.
    """
    workers = list(operations)
    meter = Meter(span)

    async def work(operation: Callable[[int], Awaitable[object]], number: int) -> None:
        now_s = clock()
        while now_s < meter.end_s:
            await operation(number)
            now_s = meter.note(now_s)
            number += len(workers)

    await asyncio.gather(*[work(operation, place) for place, operation in enumerate(workers)])
    return meter.samples()


def key_of(number: int) -> str:
    """A key of 16 bytes, one of ``KEYS``."""
    return f"key-{number * KEY_STRIDE % KEYS:012d}"


def value_of(number: int) -> bytes:
    """A value of 100 bytes that begins with the number."""
    return number.to_bytes(8) + _FILLING


_FILLING = os.urandom(VALUE_BYTES - 8)


def percentile(ordered: list[float], percent: int) -> float:
    """The value below which so many percent of the others lie; 0 if there are none."""
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)] if ordered else 0.0


def processor_s(pid: int) -> float:
    """Seconds of a core that a process with all its threads has used."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def memory_mb(pid: int) -> float:
    """Resident memory of a process, in millions of bytes."""
    return int(_stat(pid)[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def machine_busy_s() -> float:
    """Seconds of all cores that anybody on this machine has used."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
    user, nice, system, _idle, _waiting, interrupts, soft_interrupts = ticks[:7]
    return (user + nice + system + interrupts + soft_interrupts) / TICKS_PER_S


def _stat(pid: int) -> list[str]:
    # The command's name stands in parentheses and may hold anything.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def machine() -> str:
    """The machine in one line."""
    processors = Path("/proc/cpuinfo").read_text().split("\n")
    model = next((p.partition(":")[2].strip() for p in processors if "model name" in p), "?")
    memory_kb = int(Path("/proc/meminfo").read_text().split()[1])
    return (
        f"{os.cpu_count()} cores of {model}, {memory_kb / 1e6:.0f} GB, Linux"
        f" {platform.release()}, Python {platform.python_version()}"
    )


def commit() -> str:
    """What is measured: the commit of this checkout, with + if files differ from it."""
    root = Path(__file__).resolve().parent.parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--exclude=*", "--dirty=+"],
            cwd=root, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()
