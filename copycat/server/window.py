"""The leader's gate for commands: each session's batches reach the log in sequence, once a copy.

One that comes ahead of its turn waits in a bounded window; one that came before is dropped here,
since whoever holds the client's connection answers it when it is applied. When only a part of a
batch was applied, the session goes on with the rest of it: what was appended behind is passed by when
it is applied, and comes again.
"""

from copycat.actors import NodeAddress
from copycat.protocol.client import Refusal
from copycat.protocol.raft import Propose
from copycat.types import SessionId

WAITING_PER_SESSION_MAX = 64
WAITING_BYTES_MAX = 64 << 20  # of all sessions together
FORGOTTEN_MAX = 1024  # sessions that ended and are still in the leader's table
EARLY_MAX = 4096  # requests a new leader keeps until it may serve


Held = tuple[Propose, NodeAddress]  # with its sender
Waiting = dict[int, Held]  # of one session, by first sequence


class Sequencer:
    """What a leader has appended of each session, and what waits for its turn."""

    def __init__(self, applied: dict[SessionId, int], cut: dict[SessionId, None]) -> None:
        self._applied = applied  # the Applier's tables; sessions that ended leave them
        self._cut = cut
        cut.clear()  # nothing is appended yet
        self._appended: dict[SessionId, int] = {}
        self._waiting: dict[SessionId, Waiting] = {}
        self._waiting_bytes = 0

    def arrive(self, message: Propose, sender: NodeAddress) -> list[Held] | Refusal | None:
        """What to append now in this order, why nothing, or None: nothing is to be done now."""
        session = message.session
        applied = self._applied.get(session)
        if applied is None:
            self._appended.pop(session, None)
            self._drop_all(self._waiting.pop(session, {}))
            return Refusal.UNKNOWN_SESSION
        appended = max(applied, self._appended.get(session, 0))
        if message.first_sequence <= appended:
            if not self._is_rest(message, applied):
                return None
            appended = message.first_sequence - 1
        waiting = self._waiting.get(session)
        if message.first_sequence > appended + 1:
            if waiting is None:
                self._forget_ended()
                waiting = self._waiting[session] = {}
            for stale in [first for first in waiting if first <= appended]:
                self._take(waiting, stale)
            if message.first_sequence in waiting:
                self._take(waiting, message.first_sequence)  # a copy takes its place
            size_bytes = len(message.operations)
            if (
                len(waiting) >= WAITING_PER_SESSION_MAX
                or self._waiting_bytes + size_bytes > WAITING_BYTES_MAX
            ):
                return Refusal.OVERLOADED
            waiting[message.first_sequence] = (message, sender)
            self._waiting_bytes += size_bytes
            return None
        ready = [(message, sender)]
        appended += message.count
        while waiting and appended + 1 in waiting:
            following = self._take(waiting, appended + 1)
            ready.append(following)
            appended += following[0].count
        if waiting is not None and not waiting:
            del self._waiting[session]
        self._appended[session] = appended
        self._forget_ended()
        return ready

    def _is_rest(self, message: Propose, applied: int) -> bool:
        """Whether this goes on behind a batch of which a part was applied, and was not appended yet."""
        before = message.first_sequence - 1
        if applied == before and message.session in self._cut:
            del self._cut[message.session]
            return True
        # Its client has answers to all before it, so another server has applied more than this one,
        # which has to believe it: to append a copy does no harm.
        return applied < before == message.response_sequence

    def _forget_ended(self) -> None:
        """Let go of sessions that have ended, when they may be many."""
        applied = self._applied
        limit = 2 * len(applied) + FORGOTTEN_MAX
        if len(self._appended) > limit:
            self._appended = {s: n for s, n in self._appended.items() if s in applied}
        if len(self._waiting) > limit:
            for session in [session for session in self._waiting if session not in applied]:
                self._drop_all(self._waiting.pop(session))

    def _take(self, waiting: Waiting, first_sequence: int) -> Held:
        held = waiting.pop(first_sequence)
        self._waiting_bytes -= len(held[0].operations)
        return held

    def _drop_all(self, waiting: Waiting) -> None:
        for first_sequence in list(waiting):
            self._take(waiting, first_sequence)

    def waiting(self) -> list[Held]:
        """All that waits, for a leader that ends."""
        return [held for batches in self._waiting.values() for held in batches.values()]
