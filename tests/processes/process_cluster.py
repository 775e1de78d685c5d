"""Three ``copycat serve`` processes on loopback, to be killed by tests."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from copycat.actors.network import free_ports

HOST = "127.0.0.1"


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

    def start(self, name: str) -> None:
        """Start one server."""
        peers = ",".join(f"{peer}={endpoint}" for peer, endpoint in self.peers.items())
        with (self.directory / f"{name}.err").open("ab") as errors:
            self.processes[name] = subprocess.Popen(
                [
                    *(sys.executable, "-m", "copycat", "serve", "--id", name),
                    *("--listen", self.peers[name], "--peers", peers),
                    *("--data", str(self.directory / name)),
                ],
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )

    def kill(self, name: str) -> None:
        """kill -9."""
        self.processes[name].kill()
        self.processes[name].wait()

    def errors(self, name: str) -> str:
        """What a server wrote to stderr in all its lives."""
        return (self.directory / f"{name}.err").read_text()

    def __enter__(self) -> "ProcessCluster":
        for name in self.peers:
            self.start(name)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGKILL)
        for process in self.processes.values():
            process.wait()


def now_s() -> float:
    """The test's own clock, for limits on waiting."""
    return time.monotonic()
