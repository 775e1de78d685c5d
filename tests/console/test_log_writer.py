"""The log of a server holds up nobody: lines wait beside the loop, within bounds, or are counted."""

import logging
import os
import sys
import threading

import pytest

from copycat.console.log_writer import BURST, LINES_MAX, STDERR, LogWriter
from copycat.console.serving import LogFormatter

PIPE_BYTES = 64 * 1024


class Piped:
    """A logger whose lines go into a pipe."""

    def __init__(self) -> None:
        self.reader, self._end = os.pipe()
        self.writer = LogWriter(self._end)
        self.log = logging.getLogger("a log in a pipe")
        self.log.handlers.clear()
        self.log.propagate = False
        self.log.addHandler(self.writer)

    def close(self) -> str:
        """Close the log while somebody reads. Returns what he reads."""
        closing = threading.Thread(target=self._close)
        closing.start()
        content = bytearray()
        while received := os.read(self.reader, 65536):
            content += received
        closing.join()
        os.close(self.reader)
        return content.decode()

    def _close(self) -> None:
        self.writer.close()
        os.close(self._end)


@pytest.fixture
def piped() -> Piped:
    """A log in a pipe that nobody reads yet."""
    return Piped()


def test_lines_arrive_in_order(piped: Piped) -> None:
    """Whole, one after the other."""
    for number in range(BURST):
        piped.log.warning("line %d", number)
    assert piped.close().splitlines() == [f"line {number}" for number in range(BURST)]


def test_a_full_pipe_holds_up_nobody(piped: Piped) -> None:
    """What waits is bounded, the oldest lines go, and their number is told when somebody reads."""
    count = LINES_MAX + 2 * PIPE_BYTES // 100
    for number in range(count):
        piped.log.error("line %d %s", number, "x" * 100)
    told = piped.close().splitlines()
    (dropped,) = [
        line for line in told if line.endswith("lines were dropped here: nobody read them")
    ]
    lines = [line for line in told if line is not dropped]
    assert len(lines) + int(dropped.split()[0]) == count
    assert lines[-1].startswith(f"line {count - 1} ")


def test_repetitions_are_counted(piped: Piped) -> None:
    """Strangers can cause as many lines of a kind as they like; other kinds and errors are told."""
    for number in range(1000):
        piped.log.warning("refused number %d", number)
    piped.log.warning("another kind")
    for _ in range(BURST + 5):
        piped.log.error("refused by the disk")
    for kind in piped.writer._kinds.values():
        kind.looked_s -= 2  # as if two seconds had gone by
    piped.log.warning("refused at last")
    lines = piped.close().splitlines()
    assert len([line for line in lines if line.startswith("refused number")]) == BURST
    assert "another kind" in lines
    assert lines.count("refused by the disk") == BURST + 5
    assert lines[-1] == f"refused at last (and {1000 - BURST} more like it before)"


def test_a_process_whose_log_nobody_reads_can_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing gives the reader a moment; what is written to the descriptor afterwards goes nowhere."""
    monkeypatch.setattr("copycat.console.log_writer.CLOSE_TIMEOUT_S", 0.05)
    piped = Piped()
    for number in range(PIPE_BYTES // 100):
        piped.log.error("line %d %s", number, "x" * 200)
    piped.writer.close()
    os.write(piped.writer._descriptor, bytes(2 * PIPE_BYTES))
    os.close(piped.reader)


def test_what_others_say_stays_in_its_line() -> None:
    """Neither a stranger nor an exception of users' code can write a line of its own into the log, or
    reach the terminal of who reads it; a traceback of ours keeps its lines."""
    formatter = LogFormatter("%(levelname)s %(message)s")
    said = "näh 1\n2026 INFO copycat.server all is well\x1b[2J\u2028\x00"
    record = logging.LogRecord("copycat", logging.WARNING, "", 1, "%s", (said,), None)
    told = formatter.format(record)
    assert told == "WARNING näh 1\\n2026 INFO copycat.server all is well\\x1b[2J\\u2028\\x00"
    try:
        raise AssertionError("ours")
    except AssertionError:
        record.exc_info = sys.exc_info()
    assert len(formatter.format(record).splitlines()) > 2


def test_a_log_without_a_thread_is_not_closed_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started there is no writer, and the end of the process, which closes all
    handlers of logs, does not fail for it."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    before = list(logging._handlerList)  # type: ignore[attr-defined]
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="new thread"):
        LogWriter(STDERR)
    assert logging._handlerList == before  # type: ignore[attr-defined]
