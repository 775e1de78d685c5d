"""UnderWay: how much a server's clients have under way to the leader, bounded where it enters.

Clients of ours keep to a smaller window of their own, so they meet these bounds only when many of
them share one follower's link to the leader. Whoever keeps to no window is refused.
"""

from collections import deque
from math import inf

from copycat.types import SessionId

SESSION_BYTES_MAX = 4 << 20
CLIENT_BYTES_MAX = 8 << 20
LINK_BYTES_MAX = 8 << 20
"""From one follower to the leader, of all its clients; Raft's messages share that link."""

BATCH_BYTES = 256  # what a batch is counted with besides its operations
SWEPT_AGAIN_S = 0.05
SESSIONS_KEPT_MIN = 1024


class _Session:
    """What is under way of one session, in the order it came."""

    __slots__ = ("batches", "client", "size_bytes")

    def __init__(self, client: str) -> None:
        self.client = client
        self.batches: deque[tuple[int, int, float]] = deque()  # first sequence, bytes, when it came
        self.size_bytes = 0


class UnderWay:
    """Commands that connections have handed the leader, until they are applied here or refused.

    What has been heard of no more for a while was lost on its way, and is forgotten.
    """

    def __init__(self, applied: dict[SessionId, int], lost_after_s: float) -> None:
        """``applied``: the Applier's table of sequences."""
        self._applied = applied
        self._lost_after_s = lost_after_s
        self._sessions: dict[SessionId, _Session] = {}
        self._clients: dict[str, int] = {}  # bytes
        self._size_bytes = 0
        self._swept_s = -inf

    def take(
        self,
        session: SessionId,
        client: str,
        first_sequence: int,
        size_bytes: int,
        now_s: float,
        unsent_bytes: int | None,
    ) -> str:
        """Let a batch be under way; each bound lets one pass, however large it is.

        What is next of a session passes when later ones are under way: they wait for it.

        Args:
            session, client: whose it is, and the node it comes from.
            first_sequence, size_bytes: of its operations.
            now_s: the time.
            unsent_bytes: what waits for the link to the leader; None if this server leads.

        Returns:
            Why it may not be; empty if it is.
        """
        size_bytes += BATCH_BYTES
        held = self._sessions.get(session)
        if held is not None and unsent_bytes is None and len(held.batches) == 1:
            # As nearly always: the one before it is done.
            (before, before_bytes, _), of_client = held.batches[0], self._clients.get(client, 0)
            more_bytes = size_bytes - before_bytes
            if (
                before <= self._applied.get(session, 0)
                and held.client == client
                and of_client + more_bytes <= CLIENT_BYTES_MAX
            ):
                held.batches[0] = (first_sequence, size_bytes, now_s)
                held.size_bytes = size_bytes
                self._size_bytes += more_bytes
                self._clients[client] = of_client + more_bytes
                return ""
        if held is None:
            if len(self._sessions) >= max(SESSIONS_KEPT_MIN, 2 * len(self._clients)):
                self._sweep(now_s)
            held = self._sessions[session] = _Session(client)
        elif held.batches:
            self._forget_done(held, session, now_s)
        text = ""
        if held.size_bytes and held.size_bytes + size_bytes > SESSION_BYTES_MAX:
            text = f"{held.size_bytes:,} bytes of this session are under way"
        elif (
            unsent_bytes is not None or self._clients.get(client, 0) + size_bytes > CLIENT_BYTES_MAX
        ) and self._why_full(client, size_bytes, unsent_bytes):
            self._sweep(now_s)
            text = self._why_full(client, size_bytes, unsent_bytes)
            self._sessions[session] = held  # it may have been swept away
        if text and not self._is_waited_for(held, session, first_sequence):
            return text
        if held.client != client:
            moved_bytes = held.size_bytes
            self._count(held, -moved_bytes)
            held.client = client
            self._count(held, moved_bytes)
        taken = (first_sequence, size_bytes, now_s)
        if held.batches and first_sequence < held.batches[0][0]:
            held.batches.appendleft(taken)  # those behind it were passed by, and wait for it
        else:
            held.batches.append(taken)
        held.size_bytes += size_bytes
        self._size_bytes += size_bytes
        self._clients[client] = self._clients.get(client, 0) + size_bytes
        return ""

    def _is_waited_for(self, held: _Session, session: SessionId, first_sequence: int) -> bool:
        """Whether it is next of its session, and only later ones are under way."""
        if first_sequence != self._applied.get(session, 0) + 1:
            return False
        return bool(held.batches) and all(batch[0] > first_sequence for batch in held.batches)

    def _why_full(self, client: str, size_bytes: int, unsent_bytes: int | None) -> str:
        of_client = self._clients.get(client, 0)
        if of_client and of_client + size_bytes > CLIENT_BYTES_MAX:
            return f"{of_client:,} bytes of this client are under way"
        if unsent_bytes is not None:
            of_link = max(self._size_bytes, unsent_bytes)
            if of_link and of_link + size_bytes > LINK_BYTES_MAX:
                return f"{of_link:,} bytes are under way from this server to the leader"
        return ""

    def refused(self, session: SessionId, first_sequence: int) -> None:
        """The leader has not taken a batch."""
        held = self._sessions.get(session)
        if held is None:
            return
        for batch in held.batches:
            if batch[0] == first_sequence:
                held.batches.remove(batch)
                self._count(held, -batch[1])
                return

    def clear(self) -> None:
        """There is another leader, or another link to it."""
        self._size_bytes = 0
        self._sessions.clear()
        self._clients.clear()

    def _sweep(self, now_s: float) -> None:
        """Forget what is done of all sessions, if that was not just tried."""
        if now_s < self._swept_s + SWEPT_AGAIN_S:
            return
        self._swept_s = now_s
        for session, held in list(self._sessions.items()):
            self._forget_done(held, session, now_s)
            if not held.batches:
                del self._sessions[session]

    def _forget_done(self, held: _Session, session: SessionId, now_s: float) -> None:
        batches, applied = held.batches, self._applied.get(session)
        lost_before_s = now_s - self._lost_after_s
        done_bytes = 0
        while batches and (
            applied is None or batches[0][0] <= applied or batches[0][2] < lost_before_s
        ):
            done_bytes += batches.popleft()[1]
        if done_bytes:
            self._count(held, -done_bytes)

    def _count(self, held: _Session, size_bytes: int) -> None:
        held.size_bytes += size_bytes
        self._size_bytes += size_bytes
        of_client = self._clients.get(held.client, 0) + size_bytes
        if of_client:
            self._clients[held.client] = of_client
        else:
            self._clients.pop(held.client, None)
