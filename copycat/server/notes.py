"""Notes: the recent happenings of one server, for its log and for status."""

import logging
from collections import deque

from copycat.actors.environment import Clock

NOTES_MAX = 50
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING}


class Notes:
    """The last happenings, newest last."""

    def __init__(self, clock: Clock, name: str) -> None:
        self._clock = clock
        self._name = name
        self._log = logging.getLogger("copycat.server")
        self._notes: deque[str] = deque(maxlen=NOTES_MAX)

    def add(self, level: str, text: str) -> None:
        """Keep a note and log it.

        Args:
            level: "info" or "warning" (an operator should look).
            text: one line.
        """
        self._log.log(_LEVELS[level], "%s server=%s", text, self._name)
        self._notes.append(f"{self._clock.wall_time_s() * 1000:.0f} {level} {text}")

    def all(self) -> tuple[str, ...]:
        """The notes as ``Status`` carries them: "<wall ms> <level> <text>"."""
        return tuple(self._notes)
