"""Patience: how long the session waits for the server in use, and after a refusal."""

from math import inf
from typing import TYPE_CHECKING

from copycat.actors.environment import Traffic
from copycat.protocol.client import Refusal, Refused

if TYPE_CHECKING:
    from random import Random

SILENCE_FIRST_S = 0.8  # of a server that was asked something, before another one is tried
SILENCE_LAST_S = 6.0
NO_LEADER_PATIENCE_S = 1.0  # with a server that knows no leader, before another one is asked
BYTES_PER_S_MIN = 1 << 20  # of what is under way; a server that has much to do gets more time
LOOK_AGAIN_S = 0.1
MOVING_BYTES_MIN = 4096  # since the last look; bytes that move are a sign of life
BACK_OFF_FIRST_S = 0.025  # after a refusal
BACK_OFF_LAST_S = 0.2
OVERLOADED_LAST_S = 1.0  # a cluster that has no room is left alone for longer


class Patience:
    """What the session has put up with since the cluster last did what it was asked.

    Attributes:
        refusal: the last one since then, or None.
        bytes_move: whether much has gone over the link lately; nothing is sent again then.
    """

    def __init__(self, random: "Random") -> None:
        self.refusal: Refused | None = None
        self._random = random
        self._unheard_since_s = inf
        self.bytes_move = False
        self._looked_s = -inf
        self._traffic = Traffic(0, 0, 0)
        self._silence_s = SILENCE_FIRST_S
        self._refused_since_s = inf
        self._back_off_s = BACK_OFF_FIRST_S

    def ends_at_s(self, under_way_bytes: int) -> float:
        """When the server in use has been silent for too long, if it stays silent.

        Args:
            under_way_bytes: what this client has sent and has no answer to.
        """
        return self._unheard_since_s + self._silence_s + under_way_bytes / BYTES_PER_S_MIN

    def look(self, traffic: Traffic, now_s: float) -> None:
        """Note what has gone over the link since the last look; if it was much, silence counts
        from now on."""
        before, before_s = self._traffic, self._looked_s
        if now_s < before_s + LOOK_AGAIN_S:
            return
        self._traffic, self._looked_s = traffic, now_s
        received_bytes = traffic.received_bytes - before.received_bytes
        sent_bytes = traffic.taken_bytes - before.taken_bytes if before.unsent_bytes else 0
        self.bytes_move = before_s > -inf and max(received_bytes, sent_bytes) >= MOVING_BYTES_MIN
        if self.bytes_move and before_s >= self._unheard_since_s:
            self._unheard_since_s = now_s

    def asked(self, now_s: float) -> None:
        """The server in use was asked something."""
        self._unheard_since_s = min(self._unheard_since_s, now_s)

    def heard(self) -> None:
        """The server in use has said something."""
        self._unheard_since_s = inf

    def ended(self) -> None:
        """The server in use was given up; with each one in a row the next gets more time."""
        self._silence_s = min(self._silence_s * 2, SILENCE_LAST_S)

    def begins(self) -> None:
        """Another server, or another connection, comes into use."""
        self._unheard_since_s = self._refused_since_s = inf
        self._looked_s = -inf
        self.bytes_move = False

    def refused(self, refusal: Refused, now_s: float) -> bool:
        """A request was refused.

        Returns:
            Whether this server has been without a leader for so long that others should be asked.
        """
        self.refusal = refusal
        self._refused_since_s = min(self._refused_since_s, now_s)
        waited_s = now_s - self._refused_since_s
        return refusal.reason == Refusal.NO_LEADER and waited_s >= NO_LEADER_PATIENCE_S

    def back_off_s(self) -> float:
        """How long to wait before the next attempt: ever longer, and not all clients alike."""
        delay_s = self._back_off_s * (0.5 + self._random.random())
        refusal = self.refusal
        is_full = refusal is not None and refusal.reason == Refusal.OVERLOADED
        last_s = OVERLOADED_LAST_S if is_full else BACK_OFF_LAST_S
        self._back_off_s = min(self._back_off_s * 2, last_s)
        return delay_s

    def restored(self) -> None:
        """The cluster did what it was asked."""
        self.refusal = None
        self._refused_since_s = inf
        self._silence_s = SILENCE_FIRST_S
        self._back_off_s = BACK_OFF_FIRST_S
