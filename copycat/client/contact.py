"""Contact: when the cluster last heard of the session, as far as the client can know."""

from math import inf

KEEP_ALIVE_PART = 1 / 3  # of the session's timeout without a sign of life
KEEP_ALIVE_AGAIN_PART = 1 / 6  # while one is unanswered
KEEP_ALIVE_REFUSED_S = 0.2
DOUBTFUL_PART = 0.8  # of the timeout without contact: what the session holds is doubtful


class Contact:
    """The signs of life of one session: its opening, its commands and its keep-alives.

    Only what is answered counts, and it counts from when it was *sent* first: the cluster cannot
    have heard of it earlier, so it cannot end the session earlier than the client expects.

    Attributes:
        timeout_s: the session's.
        keep_alive_at_s: when to send a keep-alive; ``inf`` before the session is open.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.keep_alive_at_s = inf
        self._latest_s = -inf
        self._keep_alive_s = inf  # when the one on its way was sent first

    def made(self, sent_s: float) -> None:
        """What was sent at this time has arrived."""
        self._latest_s = max(self._latest_s, sent_s)
        if self._keep_alive_s == inf:
            self.keep_alive_at_s = self._latest_s + self.timeout_s * KEEP_ALIVE_PART

    @property
    def doubtful_at_s(self) -> float:
        """From when on the session may have ended without our knowing."""
        return self._latest_s + self.timeout_s * DOUBTFUL_PART

    def keep_alive_sent(self, now_s: float) -> None:
        """A keep-alive is on its way."""
        self._keep_alive_s = min(self._keep_alive_s, now_s)
        self.keep_alive_at_s = now_s + self.timeout_s * KEEP_ALIVE_AGAIN_PART

    def keep_alive_answered(self) -> None:
        """It has arrived."""
        sent_s, self._keep_alive_s = self._keep_alive_s, inf
        if sent_s != inf:
            self.made(sent_s)

    def keep_alive_refused(self, now_s: float) -> None:
        """It was not taken: it has to be sent again soon."""
        self.keep_alive_at_s = now_s + KEEP_ALIVE_REFUSED_S
