"""Watchdog: a thread that watches one server's calls of users' code.

A method of a state machine runs on the server's only loop, so while it works nothing else does, not
even the server's own timers. A query changes nothing, so one that works for too long is interrupted:
else its client would take it from server to server, and hold up all of them. A command may never be
interrupted, as that would make its end one server's own; it is named, so that somebody sees it.

An interruption is an exception that this thread raises in the server's. It hits the query or nothing:

- it is sent while the query's row of calls is ``running``, at most once in each, and is caught
  there wherever it arrives;
- a row that ends beside it takes it back (``withdraw``) before it leaves that place. Either it sees
  ``interruption``, or this thread sees that the row is not ``running`` any more: each writes its own
  word before it reads the other's.

Where nothing runs this thread sleeps, until a row begins that finds it so; by the same rule it sees the
row, or the row sees that nobody watches.
"""

import ctypes
import logging
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

from copycat.server import resource
from copycat.server.users_code import QueryInterrupted, UsersCode

log = logging.getLogger("copycat.server")

LOOK_EVERY_S = 0.25
QUERY_LOOKS = 2
"""A query is interrupted after so many looks that find it at work: before its client, who waits for
0.8 s, takes it to the next server."""
NAMED_LOOKS = 4
FRAMES_TOLD = 5
WAKING = signal.SIGURG  # nobody else uses it, and who does not know it ignores it

_raise_in_thread = ctypes.pythonapi.PyThreadState_SetAsyncExc


class Watchdog:
    """It watches from ``start`` to ``stop`` the server that lives on the thread which calls them."""

    def __init__(self, users_code: UsersCode) -> None:
        self._users_code = users_code
        self._server = 0  # the thread that it lives on
        self._over = threading.Event()
        self._began = threading.Event()  # a row, which found that nobody watches
        self._deciding = threading.Lock()
        self._wake: Callable[[], None] = _sleep_on
        self._thread = threading.Thread(target=self._watch, name="copycat-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._server = threading.get_ident()
        self._thread.start()

    def stop(self) -> None:
        """Watch no more. A second call changes nothing."""
        self._over.set()
        self._began.set()
        if self._thread.is_alive():
            self._thread.join()

    def own_signal(self) -> None:
        """Have also a query end that waits in a call of the system, such as a sleep. It takes a signal,
        and so the main thread of a process that has no other use for it."""
        signal.signal(WAKING, lambda _number, _frame: None)
        server = threading.get_ident()
        self._wake = lambda: signal.pthread_kill(server, WAKING)

    def _watch(self) -> None:
        users_code = self._users_code
        seen, looks = users_code.place(), 0
        interrupted: object = None
        while not self._over.wait(LOOK_EVERY_S):
            if users_code.running is None:
                self._sleep()
                seen, looks = users_code.place(), 0
                continue
            place = users_code.place()
            if place is None or seen is None or place[0] is not seen[0] or place[1] != seen[1]:
                seen, looks = place, 0
                continue
            looks += 1
            row, at, told = place
            may_end = users_code.is_query(row)
            if looks == QUERY_LOOKS and may_end and row is not interrupted:
                interrupted, stack = row, self._stack()
                if self.interrupt(row, at):
                    log.warning(
                        "query is interrupted %s for_s=%.1f stack=%s",
                        told, looks * LOOK_EVERY_S, stack,
                    )  # fmt: skip
            elif looks == NAMED_LOOKS:
                log.error(
                    "state machine does not come to its end %s for_s=%.1f stack=%s",
                    told, looks * LOOK_EVERY_S, self._stack(),
                )  # fmt: skip

    def _sleep(self) -> None:
        """Return when a row of calls begins, or when all is over."""
        users_code = self._users_code
        self._began.clear()
        users_code.unwatched = self._began.set
        if users_code.running is None and not self._over.is_set():
            self._began.wait()
        users_code.unwatched = None

    def interrupt(self, row: object, at: int) -> bool:
        """Interrupt the query at this place of a row of calls, once a row, unless the row has ended."""
        users_code = self._users_code
        with self._deciding:
            users_code.interruption = (at, self._withdraw)
            if users_code.running is not row:
                return False  # and a later row takes back what there is not
            _raise_in_thread(ctypes.c_ulong(self._server), ctypes.py_object(QueryInterrupted))
            self._wake()
            return True

    def _withdraw(self) -> None:
        """Take the interruption back; called by the server's thread."""
        with self._deciding:
            _raise_in_thread(ctypes.c_ulong(self._server), None)

    def _stack(self) -> str:
        """The innermost frames of users' code, in one line."""
        frame: FrameType | None = sys._current_frames().get(self._server)
        told: list[str] = []
        while frame is not None and frame.f_code.co_filename != resource.__file__:
            if len(told) == FRAMES_TOLD:
                told.append("...")
                break
            code = frame.f_code
            told.append(f"{code.co_name} ({code.co_filename}:{frame.f_lineno})")
            frame = frame.f_back
        return " < ".join(told)


def _sleep_on() -> None:
    """Nothing wakes a call of the system; the query ends when that does."""
