"""Reads: linearizable queries of this server's clients, asked of the leader in groups (§6.4).

All that arrive in one turn share one ``ReadIndex``; the leader's confirmation is shared by the
groups of all servers. What the leader does not answer is refused: a read changes nothing, so its
client may ask again.
"""

from typing import TYPE_CHECKING

from copycat.actors import NodeAddress
from copycat.protocol.client import Refusal, Refused, Request
from copycat.protocol.raft import ReadIndex, ReadIndexReply
from copycat.server.server_actor import ServerActor
from copycat.server.steps import FlushReads, LeaderNews, Read, RunReads

if TYPE_CHECKING:
    from copycat.server.server import Server

GROUPS_MAX = 1024
PATIENCE_TIMEOUTS = 2  # longest election time-outs; a group without an answer by then was lost


class Reads(ServerActor):
    """Groups of reads that wait for a read index."""

    from_servers = frozenset((ReadIndexReply,))

    def __init__(self, server: "Server") -> None:
        self.server = server
        self._arrived: list[Read] = []
        self._asked: dict[int, tuple[float, list[Read]]] = {}  # when, and which; in order
        self._requests = 0

    def read(self, message: Read, sender: NodeAddress) -> None:
        """Collect a read of this turn."""
        self._arrived.append(message)
        if len(self._arrived) == 1:
            self.send(self.address, FlushReads())

    def flush_reads(self, message: FlushReads, sender: NodeAddress) -> None:
        """Ask the leader for one index for all of this turn."""
        reads, self._arrived = self._arrived, []
        self._give_up_lost()
        leader = self.server.leader_address
        if leader is None:
            self._refuse(reads, Refusal.NO_LEADER)
        elif len(self._asked) >= GROUPS_MAX:
            self._refuse(reads, Refusal.OVERLOADED)
        else:
            self._requests += 1
            self._asked[self._requests] = (self.server.now_s(), reads)
            self.send(leader, ReadIndex(self._requests))

    def read_index_reply(self, message: ReadIndexReply, sender: NodeAddress) -> None:
        """Let the reads run at the leader's index."""
        _, reads = self._asked.pop(message.request, (0.0, None))
        if reads is None:
            return
        if message.index == 0:
            self._refuse(reads, Refusal.NO_LEADER)
        else:
            self.send(self.server.applier, RunReads(message.index, tuple(reads)))

    def leader_news(self, message: LeaderNews, sender: NodeAddress) -> None:
        """What the former leader was asked will not be answered."""
        asked, self._asked = self._asked, {}
        for _, reads in asked.values():
            self._refuse(reads, Refusal.NO_LEADER)

    def _give_up_lost(self) -> None:
        """Refuse what was asked over a link that has lost it: nobody else would ever end it."""
        patience_s = PATIENCE_TIMEOUTS * self.server.options.election_timeout_max_s
        lost_before_s = self.server.now_s() - patience_s
        while self._asked:
            request = next(iter(self._asked))
            asked_s, reads = self._asked[request]
            if asked_s > lost_before_s:
                break
            del self._asked[request]
            self._refuse(reads, Refusal.NO_LEADER)

    def _refuse(self, reads: list[Read], reason: Refusal) -> None:
        text = f"{self.server.options.name} knows no leader (term {self.server.ballot.term})"
        if reason == Refusal.OVERLOADED:
            text = "too many reads wait for the leader"
        for read in reads:
            if read.queries is not None:
                session, request, number = read.queries.session, Request.QUERIES, read.queries.read
            else:
                assert read.attach is not None, "a read has queries or attaches a session"
                session, request, number = read.attach.session, Request.ATTACH_SESSION, 0
            self.send(read.connection, Refused(session, int(request), number, int(reason), text))
