"""A cluster under measurement: its three servers and its two clients."""

import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from bench.driver import PROBES_END_S
from bench.measuring import clock
from bench.processes import HOST, DriverProcess, Processes
from copycat.actors.network import free_ports

SERVERS = 3
READY_S = 30.0
CONNECT_S = 60.0
LOST_IN_S = 0.5


class Cluster(ABC):
    """Three servers of one system on loopback; a client at the leader, one for a follower."""

    title: ClassVar[str]
    """What the table calls it."""

    note: ClassVar[str] = ""
    """What to know about its figures."""

    def __init__(self, processes: Processes) -> None:
        """Prepare the clients; no server runs before ``cold_start``."""
        self.processes = processes

    @classmethod
    def missing(cls) -> str | None:
        """What has to be installed before it can be measured; None if nothing."""
        return None

    @abstractmethod
    def cold_start(self) -> float:
        """Start everything. Returns the seconds until a client's first write was acknowledged."""

    @property
    @abstractmethod
    def client(self) -> DriverProcess:
        """The client that is connected to the leader."""

    @property
    @abstractmethod
    def follower_client(self) -> DriverProcess:
        """The client for another server; it is connected only while it is needed."""

    @contextmanager
    def both_clients(self) -> Iterator[tuple[DriverProcess, DriverProcess]]:
        """The client at the leader and, for as long as this lasts, the one at a follower."""
        follower_client = self.follower_client
        follower_client.ask("connect", within_s=CONNECT_S, follower=True)
        yield self.client, follower_client
        follower_client.ask("close", within_s=CONNECT_S)

    @abstractmethod
    def server_pids(self) -> list[int]:
        """The processes of the servers that run."""

    @abstractmethod
    def client_pids(self) -> list[int]:
        """The process of the client at the leader, unless it is a server itself."""

    @abstractmethod
    def lose_leader(self, how: signal.Signals) -> float:
        """Send the leader a signal, KILL or STOP, under writes.

        Returns:
            Seconds until a write that was begun after it was acknowledged. The lost server is
            then started again, and the client is connected as after ``cold_start``.
        """


class ServersAndClients(Cluster):
    """A cluster whose servers are programs of their own, as nearly all are."""

    module: ClassVar[str]
    """What the clients run."""

    def __init__(self, processes: Processes) -> None:
        super().__init__(processes)
        self._servers: dict[str, subprocess.Popen[bytes]] = {}
        self.ports = free_ports(SERVERS * self.ports_per_server, HOST)
        self.endpoints = {f"n{n + 1}": f"{HOST}:{self.ports[n]}" for n in range(SERVERS)}
        self._clients = [
            DriverProcess(processes, f"client-{n}", [self.module, *self.endpoints.values()])
            for n in range(2)
        ]
        for each in self._clients:
            each.answer(READY_S)

    ports_per_server: ClassVar[int] = 1

    @abstractmethod
    def command(self, name: str) -> list[str]:
        """How to start a server."""

    @property
    def client(self) -> DriverProcess:
        return self._clients[0]

    @property
    def follower_client(self) -> DriverProcess:
        return self._clients[1]

    def server_pids(self) -> list[int]:
        return [process.pid for process in self._servers.values()]

    def client_pids(self) -> list[int]:
        return [self.client.pid]

    def cold_start(self) -> float:
        begun_s = clock()
        for name in self.endpoints:
            self._start(name)
        return self._connect() - begun_s

    def lose_leader(self, how: signal.Signals) -> float:
        leader = self.client.ask("leader", within_s=CONNECT_S)
        lost_s = clock() + LOST_IN_S
        self.client.tell("probe", lost_s=lost_s, lost=leader)
        name = next(name for name, endpoint in self.endpoints.items() if endpoint == leader)
        time.sleep(max(0.0, lost_s - clock()))
        self._servers[name].send_signal(how)
        again_s: float = self.client.answer(PROBES_END_S + CONNECT_S)
        self._servers[name].kill()
        self._servers[name].wait()
        self._start(name)
        time.sleep(1.0)
        self._connect()
        return again_s - lost_s

    def _start(self, name: str) -> None:
        self._servers[name] = self.processes.start(name, self.command(name))

    def _connect(self) -> float:
        connected_s: float = self.client.ask("connect", within_s=CONNECT_S, follower=False)
        return connected_s


def python(*arguments: Any) -> list[str]:
    """A command of this interpreter."""
    return [sys.executable, *map(str, arguments)]
