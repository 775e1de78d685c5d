"""Notes: the recent happenings of one server, for its log and for status."""

import logging
from collections import deque
from dataclasses import dataclass

from copycat.actors.environment import Clock

NOTES_MAX = 50
AGAIN_FIRST_S = 1.0  # before a warning is said again; then twice as long, and so on
AGAIN_LAST_S = 60.0
TEXTS_MAX = 1000
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING}


@dataclass(slots=True)
class _Repeated:
    """A warning that may come again and again, as long as its cause is there."""

    pause_s: float
    until_s: float
    dropped: int = 0


class Notes:
    """The last happenings, newest last. A warning that repeats another one is said after growing
    pauses only."""

    def __init__(self, clock: Clock, name: str) -> None:
        self._clock = clock
        self._name = name
        self._log = logging.getLogger("copycat.server")
        self._notes: deque[str] = deque(maxlen=NOTES_MAX)
        self._repeated: dict[str, _Repeated] = {}  # by text

    def add(self, level: str, text: str) -> None:
        """Keep a note and log it.

        Args:
            level: "info" or "warning" (an operator should look).
            text: one line.
        """
        if level == "warning":
            dropped = self._dropped(text)
            if dropped is None:
                return
            if dropped:
                text += f" (and {dropped} more like it before)"
        self._log.log(_LEVELS[level], "%s server=%s", text, self._name)
        self._notes.append(f"{self._clock.wall_time_s() * 1000:.0f} {level} {text}")

    def _dropped(self, text: str) -> int | None:
        """How often a warning was dropped since it was said last; None: it is dropped now."""
        now_s = self._clock.monotonic_s()
        known = self._repeated.get(text)
        if known is not None and now_s < known.until_s:
            known.dropped += 1
            return None
        pause_s, dropped = AGAIN_FIRST_S, 0
        if known is not None:
            dropped = known.dropped
            if now_s < known.until_s + known.pause_s:  # else its cause had gone
                pause_s = min(2 * known.pause_s, AGAIN_LAST_S)
        elif len(self._repeated) >= TEXTS_MAX:
            self._repeated.clear()
        self._repeated[text] = _Repeated(pause_s, now_s + pause_s)
        return dropped

    def all(self) -> tuple[str, ...]:
        """The notes as ``Status`` carries them: "<wall ms> <level> <text>"."""
        return tuple(self._notes)
