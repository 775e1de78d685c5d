"""``copycat`` as a user runs it: as a process, with an environment of the test's own."""

import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ
from typing import Any

from copycat.console.playground import Playground
from sources import ROOT

WAIT_S = 30.0
COPYCAT = (sys.executable, "-m", "copycat")


class Shell:
    """A place to run commands from, whose playground is below one directory."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("COPYCAT") and name not in ("COLUMNS", "LINES")
        }
        self.environment["XDG_STATE_HOME"] = str(state)
        self.playground = Playground(state / "copycat" / "playground")

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end. Whatever it does, it shows no traceback."""
        ended = subprocess.run(
            [*COPYCAT, *words],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        assert "Traceback" not in ended.stderr
        return ended

    def begin(self, *words: str) -> "subprocess.Popen[str]":
        """Start a command."""
        return subprocess.Popen(
            [*COPYCAT, *words],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def status(self) -> dict[str, Any]:
        """What ``status --json`` prints."""
        document: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
        return document


@contextmanager
def started(state: Path) -> Iterator[Shell]:
    """A shell with a playground of three servers that runs."""
    shell = Shell(state)
    up = shell.run("cluster", "up")
    assert up.returncode == 0, up.stderr
    try:
        yield shell
    finally:
        shell.run("cluster", "down", "--force", "--wipe")


def end(process: "subprocess.Popen[str]", number: int = signal.SIGINT) -> tuple[int, str, str]:
    """Send a signal. Returns the exit code and what was printed."""
    process.send_signal(number)
    out, err = process.communicate(timeout=WAIT_S)
    assert "Traceback" not in err
    return process.returncode, out, err


def read_line(process: "subprocess.Popen[str]", *, of_errors: bool = False) -> str:
    """The next line that a command prints."""
    stream = process.stderr if of_errors else process.stdout
    assert stream is not None
    ready, _, _ = select.select([stream], [], [], WAIT_S)
    assert ready, "the command prints nothing"
    return stream.readline().rstrip("\n")


def until(condition: Callable[[], bool], what: str) -> None:
    """Look until it is so."""
    end_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end_s, f"it never happened: {what}"
        time.sleep(0.02)


class Screen:
    """A command on a terminal of its own."""

    def __init__(self, shell: Shell, *words: str, width: int = 80, height: int = 24) -> None:
        self.terminal, inner = pty.openpty()
        self.size(width, height)
        self.shown = ""
        self.process = subprocess.Popen(
            [*COPYCAT, *words],
            cwd=ROOT,
            env={**shell.environment, "TERM": "xterm-256color"},
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
        )
        os.close(inner)

    def size(self, width: int, height: int) -> None:
        """Make the terminal so large."""
        ioctl(self.terminal, TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def press(self, keys: str) -> None:
        """Type; what was shown so far is forgotten."""
        self.shown = ""
        os.write(self.terminal, keys.encode())

    def wait_for(self, text: str) -> None:
        """Read until this text is shown."""
        end_s = time.monotonic() + WAIT_S
        while text not in self.shown:
            assert time.monotonic() < end_s, f"{text!r} is not in {self.shown[-2000:]!r}"
            self._read()

    def wait_for_end(self) -> int:
        """Read until the command has ended. Returns its exit code."""
        end_s = time.monotonic() + WAIT_S
        while self.process.poll() is None:
            assert time.monotonic() < end_s, "the command does not end"
            self._read()
        while self._read():
            pass
        return self.process.returncode

    def close(self) -> None:
        """Take the terminal away."""
        self.process.kill()
        self.process.wait()
        os.close(self.terminal)

    def _read(self) -> bool:
        ready, _, _ = select.select([self.terminal], [], [], 0.05)
        if not ready:
            return False
        try:
            read = os.read(self.terminal, 65536)
        except OSError:  # the other side is closed
            return False
        self.shown += read.decode(errors="replace")
        return bool(read)
