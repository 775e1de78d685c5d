"""Reads: linearizable queries of this server's clients, asked of the leader in groups (§6.4).

All that arrive in one turn share one ``ReadIndex``; the leader's confirmation is shared by the
groups of all servers. What the leader does not answer is refused: a read changes nothing, so its
client may ask again.

A read is held by its connection, and its group has only its number: so what a connection leaves
behind is let go of at once, however much waits.
"""

from collections import deque
from typing import TYPE_CHECKING

from copycat.actors import NodeAddress
from copycat.actors.budget import Budget
from copycat.protocol.client import Refusal
from copycat.protocol.raft import ReadIndex, ReadIndexReply
from copycat.server.reading import HeldReads, refusal_of
from copycat.server.server_actor import ServerActor
from copycat.server.steps import (
    ConnectionGone,
    FlushReads,
    LeaderNews,
    Read,
    RefuseReads,
    RunReads,
)

if TYPE_CHECKING:
    from copycat.server.server import Server

GROUPS_MAX = 1024
GROUP_READS_MAX = 4096
PATIENCE_TIMEOUTS = 2  # longest election time-outs; a group without an answer by then was lost

Group = list[tuple[int, HeldReads]]
"""Numbers of reads, and who holds them."""


class Reads(ServerActor):
    """Groups of reads that wait for a read index."""

    from_servers = frozenset((ReadIndexReply,))

    def __init__(self, server: "Server") -> None:
        self.server = server
        self._held: dict[NodeAddress, HeldReads] = {}  # by connection, until it goes
        self._added = 0
        self._arrived: Group = []
        self._asked: dict[int, tuple[float, Group]] = {}  # when, and which; in order
        self._requests = 0
        self._refused: deque[tuple[Group, Refusal, str]] = deque()  # to be told so

    def read(self, message: Read, sender: NodeAddress) -> None:
        """Collect a read of this turn."""
        connection = message.connection
        if not self.server.attachments.has(connection):
            return  # it has gone while this was on its way
        held = self._held.get(connection)
        if held is None:
            held = self._held[connection] = HeldReads()
        self._added += 1
        if not held.hold(self._added, message):
            text = "too many queries of this connection wait for the leader"
            self._tell(message, Refusal.OVERLOADED, text)
            return
        self._arrived.append((self._added, held))
        if len(self._arrived) == 1:
            self.send(self.address, FlushReads())
        elif len(self._arrived) == GROUP_READS_MAX:
            self._ask()

    def flush_reads(self, message: FlushReads, sender: NodeAddress) -> None:
        """Ask the leader for one index for all of this turn."""
        self._give_up_lost()
        if self._arrived:
            self._ask()

    def _ask(self) -> None:
        group, self._arrived = self._arrived, []
        leader = self.server.leader_address
        if leader is None:
            self._refuse(group, Refusal.NO_LEADER)
        elif len(self._asked) >= GROUPS_MAX:
            self._refuse(group, Refusal.OVERLOADED)
        else:
            self._requests += 1
            self._asked[self._requests] = (self.server.now_s(), group)
            self.send(leader, ReadIndex(self._requests))

    def read_index_reply(self, message: ReadIndexReply, sender: NodeAddress) -> None:
        """Let the reads run at the leader's index."""
        _, group = self._asked.pop(message.request, (0.0, None))
        if group is None:
            return
        if message.index == 0:
            self._refuse(group, Refusal.NO_LEADER)
            return
        taken = [held.take(number) for number, held in group]
        reads = tuple([read for read in taken if read is not None])
        self.send(self.server.applier, RunReads(message.index, reads))

    def leader_news(self, message: LeaderNews, sender: NodeAddress) -> None:
        """What the former leader was asked will not be answered."""
        asked, self._asked = self._asked, {}
        for _, group in asked.values():
            self._refuse(group, Refusal.NO_LEADER)

    def connection_gone(self, message: ConnectionGone, sender: NodeAddress) -> None:
        """Nobody waits for the reads of a connection any more."""
        held = self._held.pop(message.connection, None)
        if held is not None:
            held.reads.clear()

    def _give_up_lost(self) -> None:
        """Refuse what was asked over a link that has lost it: nobody else would ever end it."""
        patience_s = PATIENCE_TIMEOUTS * self.server.options.election_timeout_max_s
        lost_before_s = self.server.now_s() - patience_s
        while self._asked:
            request = next(iter(self._asked))
            asked_s, group = self._asked[request]
            if asked_s > lost_before_s:
                break
            del self._asked[request]
            self._refuse(group, Refusal.NO_LEADER)

    def _refuse(self, group: Group, reason: Refusal) -> None:
        text = f"{self.server.options.name} knows no leader (term {self.server.ballot.term})"
        if reason == Refusal.OVERLOADED:
            text = "too many reads wait for the leader"
        self._refused.append((group, reason, text))
        if len(self._refused) == 1:
            self.send(self.address, RefuseReads())

    def refuse_reads(self, message: RefuseReads, sender: NodeAddress) -> None:
        """Tell who waits for what is refused, as far as the time goes."""
        budget = Budget(self.environment.clock)
        while self._refused:
            group, reason, text = self._refused[0]
            group.reverse()  # to take from its end what was first
            while group:
                if budget.spent:
                    group.reverse()
                    self.send(self.address, RefuseReads())
                    return
                number, held = group.pop()
                read = held.take(number)
                if read is not None:
                    self._tell(read, reason, text)
            self._refused.popleft()

    def _tell(self, read: Read, reason: Refusal, text: str) -> None:
        self.send(read.connection, refusal_of(read, reason, text))
