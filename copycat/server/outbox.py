"""The outbox: what may be said only when the ballot and the log it depends on are durable.

A Raft step changes ballot and log in memory at once; what it says about them waits here.
Positions in ``written`` only grow, so the queue is in the order in which it may leave.
"""

from collections import deque
from typing import Any

from copycat.actors import Actor, NodeAddress
from copycat.storage.ballot import Ballot
from copycat.storage.log import Log


class Outbox:
    """Messages that wait for the disk."""

    def __init__(self, ballot: Ballot, log: Log) -> None:
        self._ballot = ballot
        self._log = log
        self._waiting: deque[tuple[int, int, Actor, NodeAddress, Any]] = deque()

    def send(self, sender: Actor, target: NodeAddress, message: Any) -> None:
        """Send a message as soon as everything that was written so far is durable."""
        ballot, log = self._ballot, self._log
        if not self._waiting and ballot.durable == ballot.written and log.durable == log.written:
            sender.send(target, message)
        else:
            self._waiting.append((ballot.written, log.written, sender, target, message))

    def release(self) -> None:
        """Send what has become sayable."""
        waiting = self._waiting
        ballot_durable, log_durable = self._ballot.durable, self._log.durable
        while waiting and waiting[0][0] <= ballot_durable and waiting[0][1] <= log_durable:
            _, _, sender, target, message = waiting.popleft()
            sender.send(target, message)
            # Whoever waits for it goes on while this server applies what is committed.
            sender.environment.links.flush(target.node)

    def __len__(self) -> int:
        return len(self._waiting)
