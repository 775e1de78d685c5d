"""Processes that a measurement starts, and that do not outlive it."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.driver import LINE_BYTES_MAX

HOST = "127.0.0.1"
END_S = 3.0
TAIL_CHARACTERS = 2_000


class DriverFailed(Exception):
    """A driver said that it could not, or said nothing."""


class Processes:
    """Everything that one cluster consists of; leaving the context kills and removes it."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="copycat-bench-"))
        self._all: list[subprocess.Popen[bytes]] = []

    def start(
        self, name: str, command: list[str], *, talks: bool = False
    ) -> subprocess.Popen[bytes]:
        """Start a process; what it writes to standard error is kept in a file.

        Args:
            talks: it reads standard input and writes standard output; else they are closed.
        """
        pipe = subprocess.PIPE if talks else subprocess.DEVNULL
        with self.directory.joinpath(f"{name}.err").open("ab") as errors:
            process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=errors,
                cwd=Path(__file__).resolve().parent.parent,
                start_new_session=True,  # so that Ctrl-C is ours to act on
                bufsize=0,
            )  # fmt: skip
        self._all.append(process)
        return process

    def errors(self, name: str) -> str:
        """The end of what a process wrote to standard error."""
        return self.directory.joinpath(f"{name}.err").read_text(errors="replace")[-TAIL_CHARACTERS:]

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_error: object) -> None:
        for process in self._all:
            process.kill()
        for process in self._all:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        shutil.rmtree(self.directory, ignore_errors=True)


class DriverProcess:
    """A driver in a process of its own, from the side that tells it what to do."""

    def __init__(self, processes: Processes, name: str, arguments: list[str]) -> None:
        self.name = name
        self._processes = processes
        self._process = processes.start(name, [sys.executable, "-m", *arguments], talks=True)
        self._read = bytearray()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def send_signal(self, how: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(how)

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait()

    def ask(self, do: str, *, within_s: float, **arguments: Any) -> Any:
        """Tell it and wait for its answer."""
        self.tell(do, **arguments)
        return self.answer(within_s)

    def tell(self, do: str, **arguments: Any) -> None:
        """Tell it what to do; ``answer`` is to follow."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")

    def answer(self, within_s: float) -> Any:
        """Wait for an answer.

        Raises:
            DriverFailed: it could not do it, or it has ended, or it did not answer in time.
        """
        answer = json.loads(self._line(within_s))
        if "failed" in answer:
            raise DriverFailed(f"{self.name}: {answer['failed']}")
        return answer["ok"]

    def _line(self, within_s: float) -> bytes:
        assert self._process.stdout is not None
        while b"\n" not in self._read:
            if not select.select([self._process.stdout], [], [], within_s)[0]:
                raise DriverFailed(f"{self.name}: no answer within {within_s:.0f} s")
            chunk = os.read(self._process.stdout.fileno(), LINE_BYTES_MAX)
            if not chunk:
                raise DriverFailed(f"{self.name} has ended: {self._processes.errors(self.name)}")
            self._read += chunk
        line, _, rest = bytes(self._read).partition(b"\n")
        self._read = bytearray(rest)
        return line


def end_as_if_interrupted() -> None:
    """Clean up also when the bench itself is told to end."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)
