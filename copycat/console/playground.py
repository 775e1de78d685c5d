"""The playground: a cluster of real server processes on this machine, for trying things out.

Each server is a ``copycat serve`` in a process group of its own, with data and log below one
directory. The file ``playground.json`` there says which servers there are and which processes
they are; it is written before a process is relied on and is always replaced as a whole.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from copycat.actors.endpoint import parse_endpoint
from copycat.actors.network import free_ports
from copycat.client.status import Inquiry
from copycat.console.health import health_of
from copycat.errors import ConfigurationError, CopycatError, IdentityRefused

HOST = "127.0.0.1"
SERVERS = 3  # of a playground, if nobody says how many
STOP_TIMEOUT_S = 5.0
POLL_S = 0.02
FILE = "playground.json"
PID_MAX = 2**22  # of Linux; other systems have fewer
LOG_TAIL_BYTES = 4096


class PlaygroundError(CopycatError):
    """The playground could not be started or stopped."""


class NoPlaygroundError(PlaygroundError):
    """There is no playground."""


@dataclass(frozen=True, slots=True)
class Process:
    """One server of a playground, and the process that it is or was last.

    Attributes:
        name: the server's.
        endpoint: where it listens.
        pid: of the process; 0 when it was stopped on purpose.
        started: when the process began, in the system's ticks: pids are used again.
    """

    name: str
    endpoint: str
    pid: int = 0
    started: int = 0

    def is_running(self) -> bool:
        """Whether the process is still there."""
        return self.pid != 0 and _start_of(self.pid) == self.started


class Playground:
    """A cluster below one directory.

    Attributes:
        directory: where data, logs and ``playground.json`` are.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    def of_user(cls) -> "Playground":
        """The one that ``copycat cluster`` speaks of."""
        state = os.environ.get("XDG_STATE_HOME", "")
        base = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
        return cls(base / "copycat" / "playground")

    def processes(self) -> list[Process]:
        """Its servers, running or not; none if there is no playground.

        Raises:
            PlaygroundError: the file cannot be read.
        """
        try:
            content = json.loads((self.directory / FILE).read_text(encoding="utf-8"))
            processes = [Process(**each) for each in content["servers"]]
            for each in processes:
                if not (type(each.pid) is type(each.started) is int and 0 <= each.pid <= PID_MAX):
                    raise ValueError(f"there is no process {each.pid!r:.40}")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise PlaygroundError(
                f"{self.directory / FILE} cannot be read: {error.strerror}"
            ) from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise PlaygroundError(
                f"{self.directory / FILE} is damaged: {error}; if no server runs any more,"
                f" remove {self.directory}"
            ) from error

        return processes

    def endpoints(self) -> tuple[str, ...]:
        """Where its servers listen; empty if it was not started, or was stopped."""
        return tuple(each.endpoint for each in self.processes() if each.pid)

    def log_file(self, name: str) -> Path:
        """Where a server of this name writes what happens to it."""
        return self.directory / f"{name}.log"

    def start(self, servers: int | None = None) -> list[Process]:
        """Start all servers that do not run; those of a stopped playground keep their data, and
        their ports if those are still free.

        Returns when the processes exist, which is before they have found each other.

        Args:
            servers: how many; None: as many as there are, or three.

        Raises:
            ConfigurationError: there is a playground with another number of servers.
            PlaygroundError: the directory cannot be used.
        """
        with self._locked():
            processes = self.processes()
            count = servers or len(processes) or SERVERS
            if processes and len(processes) != count:
                raise ConfigurationError(
                    f"the playground has {len(processes)} servers, not {count}: use those, or"
                    " remove it with `copycat cluster down --wipe`"
                )
            running = any(each.is_running() for each in processes)
            if not running and not (processes and all(map(_is_free, processes))):
                ports = free_ports(count, HOST)
                processes = [Process(f"n{n}", f"{HOST}:{port}") for n, port in enumerate(ports, 1)]
            return self._start_missing(processes)

    def _start_missing(self, processes: list[Process]) -> list[Process]:
        for place, process in enumerate(processes):
            if not process.is_running():
                self._start_at(place, processes)
        return processes

    def _start_at(self, place: int, processes: list[Process]) -> None:
        with _unbroken():  # nobody finds a server again that runs and is not written down
            processes[place] = self._spawn(processes[place], processes)
            self._write(processes)

    async def elect(self, timeout_s: float, servers: int | None = None) -> str:
        """Wait for a leader. Returns its name.

        Args:
            timeout_s: how long at most.
            servers: how many have to answer; None: all.

        Raises:
            PlaygroundError: a server has ended meanwhile, or there was no leader in time. The
                servers that run go on.
        """
        end_s = time.monotonic() + timeout_s
        running = [each for each in self.processes() if each.is_running()]
        async with Inquiry(tuple(each.endpoint for each in running)) as inquiry:
            while True:
                health = health_of(await inquiry.ask(1.0))
                enough = health.total if servers is None else servers
                if health.leader is not None and len(health.statuses) >= enough:
                    return health.leader
                for each in running:
                    if not each.is_running():
                        raise self._ended(each)
                if time.monotonic() > end_s:
                    raise PlaygroundError(
                        f"the servers have no leader after {timeout_s:g} s; their logs are in"
                        f" {self.directory}"
                    )
                await asyncio.sleep(POLL_S)

    def _ended(self, process: Process) -> CopycatError:
        """Why a server has ended by itself, as an error with its exit code if that is known."""
        words = self.last_words(process.name).removeprefix("copycat: ")
        text = f"server {process.name} has ended: {words}"
        codes = {child.pid: child.returncode for child in _children}
        kinds = {8: IdentityRefused, 2: ConfigurationError}
        return kinds.get(codes.get(process.pid, 1), PlaygroundError)(text)

    def restart(self, name: str) -> None:
        """Start a server again that does not run, with its data and on its old port."""
        with self._locked():
            processes = self.processes()
            for place, process in enumerate(processes):
                if process.name == name and not process.is_running():
                    self._start_at(place, processes)

    def kill(self, name: str) -> None:
        """Kill one server as a crash would (KILL): it says no farewell, its files stay."""
        with self._locked():
            for process in self.processes():
                if process.name == name and process.is_running():
                    os.killpg(process.pid, signal.SIGKILL)
                    _wait_for_end([process], STOP_TIMEOUT_S)

    def stop(self, *, force: bool = False, wipe: bool = False) -> int:
        """Stop all servers: by TERM, and after five seconds by KILL. Returns how many ran.

        Args:
            force: KILL at once. Nothing that was acknowledged is lost by that.
            wipe: remove data and logs as well.

        Raises:
            NoPlaygroundError: there is none.
            PlaygroundError: a process did not end.
        """
        if not self.directory.exists():
            raise NoPlaygroundError("there is no playground; `copycat cluster up` starts one")
        with self._locked():
            processes = self.processes()
            running = [each for each in processes if each.is_running()]
            if not force:
                _signal(running, signal.SIGTERM)
                _wait_for_end(running, STOP_TIMEOUT_S)
            _signal(running, signal.SIGKILL)
            if not _wait_for_end(running, STOP_TIMEOUT_S):
                raise PlaygroundError("some servers do not end, not even by KILL; see `ps`")
            self._write([Process(each.name, each.endpoint) for each in processes])
            if wipe:
                shutil.rmtree(self.directory, ignore_errors=True)
        return len(running)

    def last_words(self, name: str) -> str:
        """The last line of a server's log; empty if there is none."""
        try:
            with self.log_file(name).open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - LOG_TAIL_BYTES))
                lines = file.read().decode(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""

    def _spawn(self, process: Process, processes: list[Process]) -> Process:
        peers = ",".join(f"{each.name}={each.endpoint}" for each in processes)
        with self.log_file(process.name).open("ab") as log:
            command = [*_python(), "-m", "copycat", "serve", "--id", process.name]
            command += ["--listen", process.endpoint, "--peers", peers]
            command += ["--data", str(self.directory / process.name)]
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _children.append(child)
        return Process(process.name, process.endpoint, child.pid, _start_of(child.pid))

    def _write(self, processes: list[Process]) -> None:
        content = json.dumps({"servers": [asdict(each) for each in processes]}, indent=1)
        new = self.directory / f"{FILE}.new"
        new.write_text(content + "\n", encoding="utf-8")
        new.replace(self.directory / FILE)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One command at a time changes a playground."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = (self.directory / "lock").open("w")
        except OSError as error:
            raise PlaygroundError(f"{self.directory} cannot be used: {error.strerror}") from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


@contextlib.contextmanager
def _unbroken() -> Iterator[None]:
    """Let signals that would end this process wait until the block has ended."""
    received: list[int] = []
    ending = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
    ]
    if threading.current_thread() is not threading.main_thread():
        ending = []  # signals do not break into other threads
    before = {number: signal.signal(number, lambda n, _: received.append(n)) for number in ending}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        signal.raise_signal(received[0])


_children: list["subprocess.Popen[bytes]"] = []  # those of this process, to be waited for


def _is_free(process: Process) -> bool:
    """Whether a server could listen on its port again."""
    host, port = parse_endpoint(process.endpoint)
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        try:
            trial.bind((host, port))
        except OSError:
            return False
    return True


def _python() -> list[str]:
    """The interpreter, which finds this very package and no stray module beside the user."""
    at_hand = Path(__file__).resolve().parents[2] == Path.cwd()
    return [sys.executable] if at_hand else [sys.executable, "-P"]


def _start_of(pid: int) -> int:
    """When a process began; 0 if there is none, or only its remains."""
    for child in _children:
        child.poll()  # a child that ended would stay in the table of processes
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    fields = stat.rpartition(")")[2].split()
    return 0 if fields[0] in "ZX" else int(fields[19])


def _signal(processes: list[Process], number: signal.Signals) -> None:
    for process in processes:
        if process.is_running():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)


def _wait_for_end(processes: list[Process], timeout_s: float) -> bool:
    """Whether all processes have ended within the time."""
    end_s = time.monotonic() + timeout_s
    while any(process.is_running() for process in processes):
        if time.monotonic() > end_s:
            return False
        time.sleep(POLL_S)
    return True
