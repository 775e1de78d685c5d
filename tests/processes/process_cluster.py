"""Three ``copycat serve`` processes on loopback, to be killed by tests."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from copycat import Client
from copycat.actors.network import free_ports
from copycat.client.status import ask_status
from copycat.protocol.status import Status
from copycat.resources import DistributedCounter

HOST = "127.0.0.1"
WAIT_S = 30.0
COPYCAT = (sys.executable, "-m", "copycat")


class ProcessCluster:
    """Real server processes with data in a directory of the test."""

    def __init__(self, directory: Path, servers: int = 3) -> None:
        self.directory = directory
        ports = free_ports(servers, HOST)
        self.peers = {f"n{place}": f"{HOST}:{port}" for place, port in enumerate(ports, 1)}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where clients dial."""
        return tuple(self.peers.values())

    def words(self, name: str) -> list[str]:
        """The command line of one server."""
        peers = ",".join(f"{peer}={endpoint}" for peer, endpoint in self.peers.items())
        place = ["--listen", self.peers[name], "--data", str(self.directory / name)]
        return [*COPYCAT, "serve", "--id", name, *place, "--peers", peers]

    def start(self, name: str, *prefix: str) -> None:
        """Start one server; ``prefix`` is a program that runs it, in the same process."""
        with (self.directory / f"{name}.err").open("ab") as errors:
            self.processes[name] = subprocess.Popen(
                [*prefix, *self.words(name)], stdout=subprocess.DEVNULL, stderr=errors
            )

    def kill(self, name: str) -> None:
        """kill -9."""
        self.processes[name].kill()
        self.processes[name].wait()

    def errors(self, name: str) -> str:
        """What a server wrote to stderr in all its lives."""
        return (self.directory / f"{name}.err").read_text()

    def last_words(self, name: str) -> str:
        """The last line that a server wrote. None of its lines may belong to a traceback."""
        errors = self.errors(name)
        assert "Traceback" not in errors
        return errors.splitlines()[-1] if errors else ""

    def ended(self, name: str) -> int:
        """Wait until a server has ended by itself. Returns its exit code."""
        return self.processes[name].wait(WAIT_S)

    def others(self, name: str) -> list[str]:
        """All servers but one."""
        return [other for other in self.peers if other != name]

    def statuses(self) -> dict[str, Status]:
        """What the servers that answer tell of themselves, by name."""
        answers = asyncio.run(ask_status(self.endpoints, timeout_s=2.0))
        return {answer.name: answer for answer in answers if isinstance(answer, Status)}

    def leader(self) -> str:
        """Wait until a server leads that all others who answer follow. Returns its name."""
        found: list[str] = []

        def agreed() -> bool:
            known = self.statuses()
            found[:] = [name for name, status in known.items() if status.role == "leader"]
            return len(found) == 1 and all(each.leader == found[0] for each in known.values())

        until(agreed, "the servers agree on a leader")
        return found[0]

    def copycat(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of the command line on this cluster. It never shows a traceback."""
        ended = subprocess.run(
            [*COPYCAT, *words],
            env={**os.environ, "COPYCAT_ENDPOINTS": ",".join(self.endpoints)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        assert "Traceback" not in ended.stderr
        return ended

    def __enter__(self) -> Self:
        for name in self.peers:
            self.start(name)
        return self

    def __exit__(self, *_error: object) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGKILL)
        for process in self.processes.values():
            process.wait()


def count(cluster: ProcessCluster, times: int) -> int:
    """Increment one by one, so that each stands in a record of its own. Returns the count."""
    with Client(*cluster.endpoints, timeout_s=WAIT_S) as client:
        counter = client.open(DistributedCounter, "hits")
        return [counter.increment() for _ in range(times)][-1]


def now_s() -> float:
    """The test's own clock, for limits on waiting."""
    return time.monotonic()


def until(condition: Callable[[], bool], what: str) -> None:
    """Look until it is so."""
    end_s = now_s() + WAIT_S
    while not condition():
        assert now_s() < end_s, f"it never happened: {what}"
        time.sleep(0.02)
