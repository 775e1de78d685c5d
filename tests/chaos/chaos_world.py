"""Where chaos happens: server processes, each with a network of its own where that is possible.

``enter`` is called first of all. It runs the same program again in namespaces of its own: of
networks, mounts and processes. Whatever a run makes there is gone with its first process, however
that ends. Where namespaces are not allowed, the servers are on the loopback interface, and what
needs a network or a disk of its own is left out.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos_plan import CLIENTS
from chaos_relay import DEVICE
from copycat.actors.network import free_ports

UNSHARE = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
AS_ROOT = "--map-root-user"  # for those who are not root: they are it inside
PORT = 7400
NETWORK = "10.77.0"
CLIENTS_HOST = 100
SMALL_DISK_BYTES = 1 << 30
END_S = 10.0
TRIES_MAX = 50
CROWD = Path(__file__).with_name("chaos_crowd.py")
RELAY = Path(__file__).with_name("chaos_relay.py")
DISK_FAILED = "copycat: the disk failed to "

RULES = """
table inet chaos {
    set cut { type ipv4_addr; }
    set lossy { type ipv4_addr; }
    counter cut { }
    counter lossy { }
    chain input {
        type filter hook input priority 0; policy accept;
        ip saddr @cut counter name cut drop
        ip saddr @lossy numgen random mod 10 < 3 counter name lossy drop
    }
}
"""

INSTALL = {
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
    "ip": "iproute2",
    "ss": "iproute2",
    "nft": "nftables",
    "strace": "strace",
}
"""The Debian package of each program that is used."""


def missing(*programs: str) -> str:
    """How to get the first of these programs that is not there; "" when all are."""
    for program in programs:
        if shutil.which(program) is None:
            return f"{program} is missing: apt-get install {INSTALL[program]}"
    return ""


def run(*words: str, told: str = "") -> str:
    """Run a program that has to succeed. Returns what it wrote."""
    ended = subprocess.run(
        words, input=told, capture_output=True, text=True, timeout=END_S, check=False
    )
    if ended.returncode:
        raise OSError(f"{' '.join(words)}: {ended.stderr.strip() or ended.returncode}")
    return ended.stdout


def failure(*words: str) -> str:
    """Why a program fails here; "" when it does not."""
    try:
        run(*words)
    except (OSError, subprocess.SubprocessError) as error:
        return " ".join(str(error).split())
    return ""


def unshared() -> tuple[list[str], str]:
    """The words before a command that give it namespaces of its own, or why there are none."""
    reason = missing("unshare", "ip")
    if reason:
        return [], reason
    words = UNSHARE if os.geteuid() == 0 else [*UNSHARE, AS_ROOT]
    refused = failure(*words, "true")
    if refused:
        return [], f"no namespaces of our own: run it as root ({refused})"
    return words, ""


@dataclass(slots=True)
class Server:
    """One server.

    Attributes:
        process: None until it is started, and after it was killed.
        paused: whether it was sent SIGSTOP.
        disk_fails: whether its disk has done what makes a server stop, in this life.
    """

    name: str
    endpoint: str
    errors: Path
    process: "subprocess.Popen[bytes] | None" = None
    paused: bool = False
    disk_fails: bool = False


@dataclass(slots=True)
class World:
    """All servers of a run, and what stands between them.

    Attributes:
        directory: of the data and of what the servers say.
        no_networks, no_small_disk, no_strace, no_resets, no_relay: why not; "" where there are.
        ended_oddly: what nobody has done to a server: a line for each that ended by itself.
        disk_stops: how many servers have stopped because of their disks, as they should.
        resets: how many connections were broken.
        relayed: how many packets the relay has carried, and how many it has lost.
    """

    directory: Path
    names: Sequence[str]
    small_disk: str
    alone: str = ""  # why there are no namespaces of our own; "" when there are
    no_networks: str = ""
    no_small_disk: str = ""
    no_strace: str = ""
    no_resets: str = ""
    no_relay: str = ""
    servers: dict[str, Server] = field(default_factory=dict)
    ended_oddly: list[str] = field(default_factory=list)
    disk_stops: int = 0
    resets: int = 0
    relayed: list[int] = field(default_factory=lambda: [0, 0])
    _relay: "subprocess.Popen[str] | None" = None
    _relayed_pairs: set[tuple[str, str]] = field(default_factory=set)
    _helpers: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def __enter__(self) -> "World":
        if not self.alone:
            run("ip", "link", "set", "lo", "up")
        self.no_networks = self.alone or missing("nsenter", "mount", "nft") or self._make_networks()
        self.no_resets = self.no_networks or missing("ss") or self._try_resets()
        self.no_relay = self.no_networks or self._start_relay()
        self.no_small_disk = self.alone or missing("mount") or self._make_small_disk()
        self.no_strace = missing("strace") or self._try_strace()
        ports = free_ports(len(self.names), "127.0.0.1") if self.no_networks else []
        for place, name in enumerate(self.names):
            endpoint = f"127.0.0.1:{ports[place]}" if ports else f"{self.address(name)}:{PORT}"
            self.servers[name] = Server(name, endpoint, self.directory / f"{name}.err")
        for name in self.names:
            self.start(name)
        return self

    def __exit__(self, *_error: object) -> None:
        started: list[subprocess.Popen[Any]]
        started = [each.process for each in self.servers.values() if each.process is not None]
        started += self._helpers
        started += [] if self._relay is None else [self._relay]
        for process in started:
            process.kill()
        for process in started:
            process.wait()

    # Servers.

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where clients dial."""
        return tuple(server.endpoint for server in self.servers.values())

    def start(self, name: str) -> None:
        """Start a server, unless it runs."""
        server = self.servers[name]
        if server.process is not None:
            return
        peers = ",".join(f"{each.name}={each.endpoint}" for each in self.servers.values())
        words = [sys.executable, "-m", "copycat", "serve", "--id", name, "--insecure"]
        words += ["--listen", server.endpoint, "--peers", peers]
        words += ["--data", str(self.directory / name)]
        server.paused = server.disk_fails = False
        with server.errors.open("ab") as errors:
            server.process = subprocess.Popen(
                [*self._inside(name), *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is ours to act on
            )

    def kill(self, *names: str) -> None:
        """kill -9, of all of them at once."""
        self.look()
        dying = [self.servers[name] for name in names if self.servers[name].process is not None]
        for server in dying:
            assert server.process is not None
            server.process.kill()
        for server in dying:
            assert server.process is not None
            server.process.wait()
            server.process = None

    def pause(self, name: str) -> None:
        """SIGSTOP."""
        server = self.servers[name]
        if server.process is not None:
            server.process.send_signal(signal.SIGSTOP)
            server.paused = True

    def go_on(self, name: str) -> None:
        """SIGCONT."""
        server = self.servers[name]
        if server.process is not None and server.paused:
            server.process.send_signal(signal.SIGCONT)
        server.paused = False

    def look(self) -> None:
        """Take note of servers that have ended by themselves."""
        for server in self.servers.values():
            if server.process is None or server.process.poll() is None:
                continue
            code = server.process.returncode
            server.process = None
            written = server.errors.read_text(errors="replace").splitlines()
            last = written[-1] if written else "not a word"
            if server.disk_fails and (code == -signal.SIGKILL or last.startswith(DISK_FAILED)):
                self.disk_stops += 1
            else:
                self.ended_oddly.append(f"{server.name} ended with {code}: {last}")

    def tracebacks(self) -> list[str]:
        """The servers that have shown one."""
        return [
            f"{server.name} shows a traceback: {server.errors}"
            for server in self.servers.values()
            if server.errors.exists() and "Traceback" in server.errors.read_text(errors="replace")
        ]

    # Disks.

    def trace(self, name: str, *inject: str) -> "subprocess.Popen[bytes] | None":
        """Attach strace to a server, so that its syncs are tampered with; None if it is down.

        Args:
            name: of the server.
            inject: what happens to a sync, in the words of strace.
        """
        process = self.servers[name].process
        if process is None:
            return None
        words = ["strace", "-f", "-q", "-o", "/dev/null", "-p", str(process.pid)]
        words += ["-e", "trace=fdatasync,fsync"]
        words += ["-e", ":".join(["inject=fdatasync,fsync", *inject])]
        tracer = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self._helpers.append(tracer)
        return tracer

    def detach(self, tracer: "subprocess.Popen[bytes]") -> None:
        """Let a server do its syncs again."""
        tracer.terminate()
        tracer.wait(END_S)
        self._helpers.remove(tracer)

    def set_room(self, *, full: bool) -> None:
        """Leave no room on the small disk, or much."""
        place = self.directory / self.small_disk
        refused = ""
        for _ in range(TRIES_MAX):
            found = os.statvfs(place)
            used_bytes = (found.f_blocks - found.f_bfree) * found.f_frsize
            size_bytes = used_bytes if full else max(SMALL_DISK_BYTES, 2 * used_bytes)
            refused = failure("mount", "-o", f"remount,size={size_bytes}", str(place))
            if not refused:
                return
        # While the server writes, it has soon more than was measured.
        raise OSError(refused)

    # Weight.

    def starve(self, name: str, busy: int) -> "list[subprocess.Popen[bytes]]":
        """Let a server share one core with so many processes that never rest; see ``feed``."""
        core = {min(os.sched_getaffinity(0))}
        words = [sys.executable, "-c", "while True: pass"]
        hungry = [subprocess.Popen(words, stdin=subprocess.DEVNULL) for _ in range(busy)]
        self._helpers += hungry
        for process in hungry:
            os.sched_setaffinity(process.pid, core)
        self._bind(name, core)
        return hungry

    def feed(self, name: str, hungry: "list[subprocess.Popen[bytes]]") -> None:
        """Give the server its cores back."""
        self.dismiss(*hungry)
        self._bind(name, os.sched_getaffinity(0))

    def _bind(self, name: str, cores: set[int]) -> None:
        process = self.servers[name].process
        if process is not None:
            for thread in Path(f"/proc/{process.pid}/task").glob("*"):
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setaffinity(int(thread.name), cores)

    def crowd(self, sessions: int, writes: int) -> "subprocess.Popen[bytes]":
        """A process with many sessions, each of which writes so often; to be dismissed."""
        words = [sys.executable, str(CROWD), str(sessions), str(writes), *self.endpoints]
        crowd = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._helpers.append(crowd)
        return crowd

    def dismiss(self, *helpers: "subprocess.Popen[bytes]") -> None:
        """kill -9 of processes that are not servers."""
        for process in helpers:
            process.kill()
        for process in helpers:
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
            self._helpers.remove(process)

    # Networks.

    @staticmethod
    def address(place: str) -> str:
        """Of a server, or of the clients."""
        return f"{NETWORK}.{CLIENTS_HOST if place == CLIENTS else place.removeprefix('n')}"

    def let_pass(
        self, cut: Iterable[tuple[str, str]] = (), lossy: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Let all pass but what is named, as pairs of source and target."""
        told = {place: ["flush set inet chaos cut", "flush set inet chaos lossy"] for place in
                (*self.names, CLIENTS)}  # fmt: skip
        for kind, pairs in (("cut", cut), ("lossy", lossy)):
            for source, target in pairs:
                told[target].append(f"add element inet chaos {kind} {{ {self.address(source)} }}")
        for place, lines in told.items():
            run(*self._inside(place), "nft", "-f", "-", told="\n".join(lines))

    def relay(
        self,
        pairs: Collection[tuple[str, str]],
        delay_s: float = 0.0,
        bytes_per_s: float = 1.0,
        loss: float = 0.0,
    ) -> None:
        """Let what goes from the first to the second of each pair take the way through the relay,
        and everything else the straight one."""
        assert self._relay is not None, "without a relay nothing is relayed"
        assert self._relay.stdin is not None
        assert self._relay.stdout is not None
        if pairs:
            self._order([sorted(pairs), delay_s, bytes_per_s, loss])
        for source in self.names:
            for target in self.names:
                way = [f"{self.address(target)}/32", "dev", DEVICE, "src", self.address(source)]
                if (source, target) in pairs:
                    run("ip", "-n", source, "route", "replace", *way)
                elif (source, target) in self._relayed_pairs:
                    run("ip", "-n", source, "route", "del", *way)
        self._relayed_pairs = set(pairs)
        if not pairs:
            self._order([[], 0.0, 1.0, 0.0])

    def _order(self, order: list[Any]) -> None:
        relay = self._relay
        assert relay is not None, "there is a relay"
        assert relay.stdin is not None
        assert relay.stdout is not None
        relay.stdin.write(json.dumps(order) + "\n")
        relay.stdin.flush()
        self.relayed = json.loads(relay.stdout.readline())

    def reset(self, name: str) -> None:
        """Break all connections of a server; both ends notice at once."""
        broken = run(*self._inside(name), "ss", "-K", "-H", "-t", "dst", f"{NETWORK}.0/24")
        self.resets += len(broken.splitlines())

    def dropped(self, kind: str) -> int:
        """How many packets were, because of a ``cut`` or a ``lossy`` network."""
        places = () if self.no_networks else (*self.names, CLIENTS)
        told = [
            run(*self._inside(place), "nft", "list", "counter", "inet", "chaos", kind)
            for place in places
        ]
        return sum(int(each.partition("packets ")[2].split()[0]) for each in told)

    def _inside(self, place: str) -> list[str]:
        if self.no_networks or place == CLIENTS:
            return []
        return ["nsenter", f"--net=/run/netns/{place}"]

    def _make_networks(self) -> str:
        try:
            run("mount", "-t", "tmpfs", "none", "/run")  # names of networks are files there
            run("ip", "link", "add", "bridge", "type", "bridge")
            run("ip", "address", "add", f"{self.address(CLIENTS)}/24", "dev", "bridge")
            run("ip", "link", "set", "bridge", "up")
            run("nft", "-f", "-", told=RULES)
            for name in self.names:
                run("ip", "netns", "add", name)
                run(
                    "ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name
                )
                run("ip", "link", "set", name, "master", "bridge", "up")
                run("ip", "-n", name, "address", "add", f"{self.address(name)}/24", "dev", "eth0")
                run("ip", "-n", name, "link", "set", "lo", "up")
                run("ip", "-n", name, "link", "set", "eth0", "up")
                run(*self._inside(name), "nft", "-f", "-", told=RULES)
        except OSError as error:
            return f"no networks of our own: {error}"
        return ""

    def _start_relay(self) -> str:
        places = [f"{name}={self.address(name)}" for name in self.names]
        self._relay = subprocess.Popen(
            [sys.executable, str(RELAY), *places],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._relay.stdout is not None
        assert self._relay.stderr is not None
        if not self._relay.stdout.readline():
            lines = self._relay.stderr.read().strip().splitlines() or ["it has ended"]
            return f"no relay: {lines[-1]}"
        try:
            for name in self.names:
                run("ip", "-n", name, "link", "set", DEVICE, "up")
        except OSError as error:
            return f"no relay: {error}"
        return ""

    def _try_resets(self) -> str:
        return failure("ss", "-K", "-t", "dst", "192.0.2.1")

    def _make_small_disk(self) -> str:
        place = self.directory / self.small_disk
        place.mkdir(mode=0o700)
        size = f"size={SMALL_DISK_BYTES}"
        refused = failure("mount", "-t", "tmpfs", "-o", f"{size},mode=0700", "none", str(place))
        # Those who are root in their own namespaces only may mount it, and not everywhere change it.
        return refused or failure("mount", "-o", f"remount,{size}", str(place))

    def _try_strace(self) -> str:
        refused = failure("strace", "-f", "-o", "/dev/null", "-e", "inject=sync:retval=0", "true")
        return refused and f"strace may not trace here: run it as root ({refused})"


def now_s() -> float:
    """The clock of the run."""
    return time.monotonic()
