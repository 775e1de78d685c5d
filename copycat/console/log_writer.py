"""The log of a server process: lines go to stderr from a thread of their own.

Whoever logs never waits for who reads. Lines wait within bounds; when there are too many the oldest
are dropped, and so are repetitions of one kind, as strangers can cause them without an end. Both
are counted, and told when there is room.
"""

import logging
import os
import select
import threading
from collections import deque

LINES_MAX = 1000  # that wait for the reader
BURST = 20  # lines of one kind at once
PER_S = 1.0  # and so many more a second
KINDS_MAX = 1000
CLOSE_TIMEOUT_S = 1.0
STDERR = 2


class _Kind:
    """Lines that differ only in their particulars."""

    def __init__(self, now_s: float) -> None:
        self.left = float(BURST)
        self.looked_s = now_s
        self.dropped = 0

    def admits(self, now_s: float) -> bool:
        self.left = min(BURST, self.left + (now_s - self.looked_s) * PER_S)
        self.looked_s = now_s
        if self.left < 1:
            self.dropped += 1
            return False
        self.left -= 1
        return True


class LogWriter(logging.Handler):
    """A handler that writes to a descriptor without holding anybody up."""

    def __init__(self, descriptor: int = STDERR) -> None:
        self._descriptor = descriptor
        self._lines: deque[str] = deque()
        self._dropped = 0
        self._kinds: dict[tuple[str, int, str], _Kind] = {}
        self._some = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()
        super().__init__()  # last: at the end of the process it is closed, and so must have a thread

    def emit(self, record: logging.LogRecord) -> None:
        """Let a line wait for its turn, unless there were many like it."""
        text = record.getMessage()
        if record.levelno < logging.ERROR:
            key = (record.name, record.levelno, text.partition(" ")[0])
            kind = self._kinds.get(key)
            if kind is None:
                if len(self._kinds) >= KINDS_MAX:
                    self._kinds.clear()
                kind = self._kinds[key] = _Kind(record.created)
            if not kind.admits(record.created):
                return
            if kind.dropped:
                record.msg, record.args = f"{text} (and {kind.dropped} more like it before)", ()
                kind.dropped = 0
        self._lines.append(self.format(record))
        if len(self._lines) > LINES_MAX:
            self._lines.popleft()
            self._dropped += 1
        self._some.set()

    def close(self) -> None:
        """Write what waits, if somebody reads it soon; nothing that is written to stderr later holds
        up the end of the process."""
        was_closed, self._closing = self._closing, True
        self._some.set()
        if not was_closed:
            self._thread.join(CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._descriptor)
            os.close(nowhere)
        super().close()

    def _write_all(self) -> None:
        try:
            while self._lines or not self._closing:
                self._some.wait()
                self._some.clear()
                while self._lines:
                    self._write(self._next())
        except OSError:
            self._closing = True  # nobody will ever read it

    def _next(self) -> str:
        assert self.lock is not None, "every handler has one"
        with self.lock:
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                return f"{dropped} lines were dropped here: nobody read them"
            return self._lines.popleft()

    def _write(self, line: str) -> None:
        left = memoryview((line + "\n").encode(errors="backslashreplace"))
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                select.select([], [self._descriptor], [])
