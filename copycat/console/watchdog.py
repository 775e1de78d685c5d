"""Watchdog: a thread that names the code of users which does not come to its end.

A method of a state machine runs on the server's only loop, so while it works nothing else does, not
even the server's own timers; and a command that never returns holds up every server that applies it.
"""

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from copycat.server import resource
from copycat.server.users_code import UsersCode

log = logging.getLogger("copycat.server")

LOOK_EVERY_S = 0.5  # a look wakes a process that may have nothing else to do
PATIENCE_LOOKS = 2
FRAMES_TOLD = 5


@contextmanager
def watching(users_code: UsersCode) -> Iterator[None]:
    """Log what users' code works at when it has worked at it for about a second.

    Args:
        users_code: of the server that lives on the calling thread.
    """
    over = threading.Event()
    server = threading.get_ident()
    thread = threading.Thread(
        target=_watch, args=(users_code, server, over), name="copycat-watchdog", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _watch(users_code: UsersCode, server: int, over: threading.Event) -> None:
    seen, looks = users_code.place(), 0
    while not over.wait(LOOK_EVERY_S):
        place = users_code.place()
        if place is None or seen is None or place[0] is not seen[0] or place[1] != seen[1]:
            seen, looks = place, 0
            continue
        looks += 1
        if looks == PATIENCE_LOOKS:
            log.error(
                "state machine does not come to its end %s for_s=%.1f stack=%s",
                place[-1], looks * LOOK_EVERY_S, _stack(sys._current_frames().get(server)),
            )  # fmt: skip


def _stack(frame: FrameType | None) -> str:
    """The innermost frames of users' code, in one line."""
    told: list[str] = []
    while frame is not None and frame.f_code.co_filename != resource.__file__:
        if len(told) == FRAMES_TOLD:
            told.append("...")
            break
        code = frame.f_code
        told.append(f"{code.co_name} ({code.co_filename}:{frame.f_lineno})")
        frame = frame.f_back
    return " < ".join(told)
