"""Contact: when the cluster last heard of the session, as far as the client can know.

The client's *state* is one of:

- ``connecting``: there is no session yet, or no more; calls wait.
- ``connected``: the session is open, and was heard of lately.
- ``suspended``: for 80 % of the session's timeout no sign of life is known to have reached the
  cluster. The session may expire, so nothing that it held should be relied on any more. It may
  also turn out to be alive; then it is ``connected`` again.
- ``lost``: the cluster has ended the session. ``connecting`` follows at once.
- ``closed``: by the client itself, for good.
"""

from collections.abc import Callable
from math import inf

KEEP_ALIVE_PART = 1 / 3  # of the session's timeout without a sign of life
KEEP_ALIVE_AGAIN_PART = 1 / 6  # while one is unanswered
KEEP_ALIVE_REFUSED_S = 0.2
UNANSWERED_MAX = 16  # the answer to an earlier one says little
DOUBTFUL_PART = 0.8  # of the timeout without contact: what the session holds is doubtful


class Contact:
    """The state, by the signs of life of a session: its opening, its commands, its keep-alives.

    Only what is answered counts, and it counts from when it was *sent*: the cluster cannot have
    heard of it earlier, so it cannot end the session earlier than the client expects. An answer
    repeats the number of its keep-alive, so that a late one is not taken for a later one's.

    Attributes:
        state: see the module.
        keep_alive_at_s: when to send a keep-alive; ``inf`` before the session is open.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        """``tell`` is called with every new state."""
        self.state = "connecting"
        self.keep_alive_at_s = inf
        self._tell = tell
        self._timeout_s = inf
        self._latest_s = -inf
        self._is_awaited = False  # whether the latest keep-alive is on its way
        self._number = 0  # of the last one
        self._sent_s: dict[int, float] = {}  # by number, when those without an answer were sent

    def begin(self, timeout_s: float, opening_s: float, now_s: float) -> None:
        """A session is open that was asked for at some time.

        It is told of even if that was too long ago to mean much, for it has events from now on.
        """
        self._timeout_s = timeout_s
        self._latest_s = -inf
        self._is_awaited = False
        self._sent_s.clear()
        self.made(opening_s, now_s)
        self.change("connected")
        self.tick(now_s)

    def made(self, sent_s: float, now_s: float) -> None:
        """What was sent at this time has arrived; it may be too long ago to mean much."""
        self._latest_s = max(self._latest_s, sent_s)
        if not self._is_awaited:
            self.keep_alive_at_s = self._latest_s + self._timeout_s * KEEP_ALIVE_PART
        if self.state != "connected" and now_s < self._latest_s + self._timeout_s * DOUBTFUL_PART:
            self.change("connected")

    @property
    def doubtful_at_s(self) -> float:
        """From when on the session may have ended unknown to us; ``inf`` if not ``connected``."""
        if self.state != "connected":
            return inf
        return self._latest_s + self._timeout_s * DOUBTFUL_PART

    def tick(self, now_s: float) -> None:
        """Too long may have passed without contact."""
        if self.doubtful_at_s <= now_s:
            self.change("suspended")

    def change(self, state: str) -> None:
        """Go into a state, and tell of it if it is another."""
        if state != self.state:
            self.state = state
            self._tell(state)

    # Keep-alives.

    def hurry(self, now_s: float) -> bool:
        """Let a keep-alive be due, unless one is already, or is on its way.

        Returns:
            Whether it has become due.
        """
        if self._is_awaited or self.keep_alive_at_s <= now_s:
            return False
        self.keep_alive_at_s = now_s
        return True

    def keep_alive_sent(self, now_s: float) -> int:
        """A keep-alive is on its way; returns its number."""
        self._is_awaited = True
        self._number += 1
        self._sent_s[self._number] = now_s
        self._sent_s.pop(self._number - UNANSWERED_MAX, None)
        self.keep_alive_at_s = now_s + self._timeout_s * KEEP_ALIVE_AGAIN_PART
        return self._number

    def keep_alive_answered(self, number: int, now_s: float) -> None:
        """One has arrived."""
        sent_s = self._sent_s.pop(number, None)
        if sent_s is not None:
            self._is_awaited = self._is_awaited and number != self._number
            self.made(sent_s, now_s)

    def keep_alive_refused(self, now_s: float) -> None:
        """It was not taken: it has to be sent again soon."""
        self.keep_alive_at_s = now_s + KEEP_ALIVE_REFUSED_S
