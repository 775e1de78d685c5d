"""``copycat.local()``: a real cluster inside this process, for scripts, notebooks and tests.

Real servers with real files and real sockets on loopback, on one background thread. It shares the
interpreter with your program, so it is for trying things out and not for load.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from copycat.actors.network import free_ports
from copycat.actors.network_thread import NetworkThread
from copycat.client.blocking import Client
from copycat.errors import InvalidArgument
from copycat.host import ServerHost
from copycat.machine import StateMachine, installed_catalog
from copycat.server.options import ServerOptions
from copycat.server.users_code import Recursion

HOST = "127.0.0.1"
HEARTBEAT_S = 0.030
ELECTION_TIMEOUT_MIN_S = 0.150
ELECTION_TIMEOUT_MAX_S = 0.300
SEGMENT_BYTES = 1 << 20
POLL_S = 0.005


class LocalCluster:
    """A running cluster of this process; made by ``local``."""

    def __init__(
        self,
        nodes: int,
        types: Mapping[str, type[StateMachine]] | None,
        directory: Path | None,
    ) -> None:
        if not 1 <= nodes <= 9:
            raise InvalidArgument(f"a cluster has 1 to 9 servers, not {nodes}")
        self._catalog = installed_catalog(types)
        self._temporary = directory is None
        self._directory = directory or Path(tempfile.mkdtemp(prefix="copycat-"))
        ports = free_ports(nodes, HOST)
        self._peers = {f"n{place}": f"{HOST}:{port}" for place, port in enumerate(ports, 1)}
        self._thread = NetworkThread("copycat-local")
        self._hosts: dict[str, ServerHost] = {}
        self._clients: list[Client] = []
        self._closed = False
        try:
            for name in self._peers:
                self._thread.run(self._start(name))
        except BaseException:
            self.close()
            raise

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where clients of other programs, or asyncio ones, find the servers."""
        return tuple(self._peers.values())

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all servers, running or not."""
        return tuple(self._peers)

    def client(self, **options: Any) -> Client:
        """A blocking client; it is closed with the cluster. Takes the options of ``Client``."""
        client = Client(*self.endpoints, **options)
        self._clients.append(client)
        return client

    def leader(self) -> str | None:
        """The name of the server that leads now by its own account; None when none does."""
        for name, host in self._hosts.items():
            if not host.stopped and self._thread.call(host.leads):
                return name
        return None

    def kill(self, name: str) -> None:
        """Stop a server as a crash would: no farewell; its files stay."""
        self._thread.call(self._hosts[name].stop)

    def kill_leader(self, timeout_s: float = 5.0) -> str:
        """Kill the server that leads, waiting for one if there is none; returns its name.

        Raises:
            TimeoutError: no server has led for ``timeout_s``.
        """
        try:
            name = self._thread.run(self._wait_for_leader(), timeout_s)
        except TimeoutError:
            running = sum(not host.stopped for host in self._hosts.values())
            raise TimeoutError(
                f"no server has led for {timeout_s:g} s: {running} of {len(self._peers)} run, and"
                f" {len(self._peers) // 2 + 1} have to"
            ) from None
        self.kill(name)
        return name

    def restart(self, name: str) -> None:
        """Start a killed server again with its files; a running one is killed first."""
        self.kill(name)
        self._thread.run(self._start(name))

    def close(self) -> None:
        """End clients and servers; data in a temporary directory is removed. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for client in self._clients:
            client.close()
        for host in self._hosts.values():
            self._thread.call(host.stop)
        self._thread.stop()
        if self._temporary:
            shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> "LocalCluster":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<LocalCluster {', '.join(self._peers)}>"

    async def _start(self, name: str) -> None:
        options = ServerOptions(
            name=name,
            peers=self._peers,
            catalog=self._catalog,
            heartbeat_s=HEARTBEAT_S,
            election_timeout_min_s=ELECTION_TIMEOUT_MIN_S,
            election_timeout_max_s=ELECTION_TIMEOUT_MAX_S,
            segment_bytes=SEGMENT_BYTES,
            recursion=Recursion.SHARED,
        )
        host = ServerHost(
            options,
            listen=self._peers[name],
            directory=self._directory / name,
            shares_loop=True,
        )
        self._hosts[name] = host
        await host.start()

    async def _wait_for_leader(self) -> str:
        while True:
            for name, host in self._hosts.items():
                if not host.stopped and host.leads():
                    return name
            await asyncio.sleep(POLL_S)


def local(
    nodes: int = 3,
    *,
    types: Mapping[str, type[StateMachine]] | None = None,
    directory: Path | None = None,
) -> LocalCluster:
    """Start a cluster in this process; use it as a context manager.

    Args:
        nodes: how many servers.
        types: your own types of resources by name, besides the installed ones.
        directory: where the servers keep their files; None: a temporary place, removed at the end.
    """
    return LocalCluster(nodes, types, directory)
