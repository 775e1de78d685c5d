"""PySyncObj: its client is a node of the cluster, so the drivers are the servers."""

import asyncio
import importlib.util
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

from bench import driver
from bench.cluster import CONNECT_S, LOST_IN_S, READY_S, SERVERS, Cluster
from bench.measuring import Meter, Samples, Span, clock, key_of, value_of
from bench.processes import HOST, DriverProcess, Processes
from copycat.actors.network import free_ports

CALL_S = 20.0
POLL_S = 0.001
LOCK_S = 75.0


class PySyncObjCluster(Cluster):
    """Three nodes with a journal each, otherwise with default settings."""

    title = "PySyncObj"
    note = (
        "PySyncObj: with its journal, which it never syncs. Its client is the leader itself, its"
        " reads are writes, its locks are polled. By default it sends what has gathered every"
        " 0.1 s; at once is appendEntriesUseBatch=False."
    )
    sends_at_once: ClassVar[bool] = False

    def __init__(self, processes: Processes) -> None:
        super().__init__(processes)
        self.endpoints = [f"{HOST}:{port}" for port in free_ports(SERVERS, HOST)]
        self._nodes: dict[str, DriverProcess] = {}
        self._leader = ""

    @classmethod
    def missing(cls) -> str | None:
        if importlib.util.find_spec("pysyncobj") is None:
            return "PySyncObj: pip install pysyncobj (make bench does it)"
        return None

    @property
    def client(self) -> DriverProcess:
        return self._nodes[self._leader]

    @property
    def follower_client(self) -> DriverProcess:
        return next(node for name, node in self._nodes.items() if name != self._leader)

    def server_pids(self) -> list[int]:
        return [node.pid for node in self._nodes.values()]

    def client_pids(self) -> list[int]:
        return []

    def cold_start(self) -> float:
        begun_s = clock()
        for endpoint in self.endpoints:
            self._start(endpoint)
        for node in self._nodes.values():
            node.answer(READY_S)
        return self._connect() - begun_s

    def lose_leader(self, how: signal.Signals) -> float:
        lost_s = clock() + LOST_IN_S
        survivors = [node for name, node in self._nodes.items() if name != self._leader]
        for node in survivors:
            node.tell("probe", lost_s=lost_s, lost=self._leader)
        time.sleep(max(0.0, lost_s - clock()))
        self.client.send_signal(how)
        again_s: float = min(node.answer(CONNECT_S) for node in survivors)
        self.client.kill()
        self._start(self._leader)
        self.client.answer(READY_S)
        time.sleep(1.0)
        self._connect()
        return again_s - lost_s

    def _start(self, endpoint: str) -> None:
        partners = [other for other in self.endpoints if other != endpoint]
        name = f"node-{self.endpoints.index(endpoint)}"
        journal = self.processes.directory / name
        batches = "at-once" if self.sends_at_once else "batches"
        arguments = ["bench.pysyncobj_peer", str(journal), batches, endpoint, *partners]
        self._nodes[endpoint] = DriverProcess(self.processes, name, arguments)

    def _connect(self) -> float:
        for node in self._nodes.values():
            node.tell("connect", follower=False)
        connected_s: float = min(node.answer(CONNECT_S) for node in self._nodes.values())
        self._leader = next(iter(self._nodes.values())).ask("leader", within_s=CONNECT_S)
        return connected_s


class PySyncObjAtOnceCluster(PySyncObjCluster):
    """The same, with the one setting that makes single writes fast."""

    title = "PySyncObj, at once"
    note = ""
    sends_at_once = True


class PySyncObjDriver:
    """See ``driver.Driver``. It may block its loop, on which nothing else is."""

    def __init__(self, journal: str, batches: str, endpoint: str, *partners: str) -> None:
        from pysyncobj.batteries import ReplLockManager

        self._lock = ReplLockManager(autoUnlockTime=LOCK_S)
        self._store = _new_store(journal, batches, endpoint, partners, self._lock)
        self._begun = 0

    async def connect(self, *, follower: bool) -> float:
        """Wait until the node has a leader, and write."""
        while not (self._store.isReady() and self._store._getLeader()):
            time.sleep(POLL_S)  # noqa: ASYNC251 - see the class
        self._store.put(driver.last_key(), value_of(0), sync=True, timeout=CALL_S)
        return clock()

    async def leader(self) -> str:
        """As far as this node knows."""
        while (leader := self._store._getLeader()) is None:
            time.sleep(POLL_S)  # noqa: ASYNC251 - see the class
        return str(leader.id)

    async def writes(self, in_flight: int, span: Span) -> Samples:
        """A replicated method with a callback, which calls it again."""
        put = self._store.put
        return self._closed_loop(
            lambda number, done: put(key_of(number), value_of(number), callback=done),
            in_flight,
            span,
        )

    async def session_writes(self, sessions: int, connections: int, span: Span) -> Samples:
        """It has neither."""
        raise driver.Lacking("no sessions")

    async def reads(self, in_flight: int, span: Span) -> Samples:
        """A replicated method that reads."""
        get = self._store.get
        return self._closed_loop(
            lambda number, done: get(key_of(number), callback=done), in_flight, span
        )

    async def lock_cycles(self, span: Span) -> Samples:
        """The lock of its batteries."""
        meter = Meter(span)
        while (now_s := clock()) < meter.end_s:
            self._lock.tryAcquire("alone", sync=True, timeout=CALL_S)
            self._lock.release("alone", sync=True, timeout=CALL_S)
            meter.note(now_s)
        return meter.samples()

    async def contend(self, seconds: float) -> list[tuple[float, float]]:
        """Try until it is had."""
        held, end_s = [], clock() + seconds
        while clock() < end_s:
            if self._lock.tryAcquire("wanted", sync=True, timeout=CALL_S):
                held.append((clock(), clock()))
                self._lock.release("wanted", sync=True, timeout=CALL_S)
            await asyncio.sleep(POLL_S)
        return held

    async def publish(self, span: Span) -> Samples:
        """A replicated method that is noticed where it is applied."""

        async def tell(value: bytes) -> None:
            self._store.tell(value, sync=True, timeout=CALL_S)

        return await driver.publish(tell, span)

    async def observe(self, span: Span) -> Samples:
        """Notice it."""
        meter = Meter(span)
        self._store.told = lambda value: meter.note(driver.time_of_bytes(value))
        await asyncio.sleep(max(0.0, meter.end_s - clock()))
        self._store.told = None
        return meter.samples()

    async def probe(self, lost_s: float, lost: str) -> float:
        """Through this node, which is left."""
        acknowledged_s: list[float] = []

        def acknowledge(begun_s: float) -> Callable[[object, int], None]:
            def done(_result: object, reason: int) -> None:
                if reason == 0 and begun_s > lost_s:
                    acknowledged_s.append(clock())

            return done

        number = 0
        while not acknowledged_s:
            if clock() > lost_s + driver.PROBES_END_S:
                raise TimeoutError("no write succeeded after the loss")
            number += 1
            self._store.put(key_of(number), b"", callback=acknowledge(clock()))
            await asyncio.sleep(driver.PROBE_EVERY_S)
        return acknowledged_s[0]

    async def close(self) -> None:
        """The process ends, which ends its threads."""

    def _closed_loop(
        self, begin: Callable[[int, Callable[..., None]], None], in_flight: int, span: Span
    ) -> Samples:
        meter, ended = Meter(span), threading.Semaphore(0)

        def go_on(begun_s: float, number: int) -> None:
            def done(_result: object, reason: int) -> None:
                if reason != 0:
                    raise RuntimeError(f"an operation failed: {reason}")
                now_s = meter.note(begun_s)
                if now_s < meter.end_s:
                    go_on(now_s, number + in_flight)
                else:
                    ended.release()

            begin(number, done)

        for number in range(in_flight):
            go_on(clock(), number)
        for _ in range(in_flight):
            if not ended.acquire(timeout=span.warm_up_s + span.measured_s + CALL_S):
                raise TimeoutError("an operation did not end")
        return meter.samples()


def _new_store(
    journal: str, batches: str, endpoint: str, partners: tuple[str, ...], lock: Any
) -> Any:
    from pysyncobj import SyncObj, SyncObjConf, replicated

    class Store(SyncObj):  # type: ignore[misc]  # it carries no types
        """A replicated dict."""

        def __init__(self) -> None:
            configuration = SyncObjConf(
                journalFile=f"{journal}.journal",
                fullDumpFile=f"{journal}.dump",
                appendEntriesUseBatch=batches == "batches",
            )
            self.told: Callable[[bytes], object] | None = None
            super().__init__(endpoint, list(partners), configuration, consumers=[lock])
            self._values: dict[str, bytes] = {}  # behind it, else it is not in its dumps

        @replicated  # type: ignore[untyped-decorator]
        def put(self, key: str, value: bytes) -> None:
            self._values[key] = value

        @replicated  # type: ignore[untyped-decorator]
        def get(self, key: str) -> bytes | None:
            return self._values.get(key)

        @replicated  # type: ignore[untyped-decorator]
        def tell(self, value: bytes) -> None:
            if self.told is not None:
                self.told(value)

    return Store()


if __name__ == "__main__":
    asyncio.run(driver.serve(PySyncObjDriver(*sys.argv[1:])))
