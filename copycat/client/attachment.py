"""Attachment: the connection that carries the session now, and the way to the next one.

A session moves by attaching first: nothing is sent over a connection before the server has
answered there, and the server that was left is told only then.
"""

from collections.abc import Callable
from math import inf
from typing import Any

from copycat.actors.address import NodeAddress
from copycat.client.deadlines import Failure
from copycat.client.patience import Patience
from copycat.client.servers import Servers
from copycat.errors import CopycatError, NoLeader, Overloaded, Unreachable
from copycat.protocol.client import SERVER, DetachSession, Refusal
from copycat.types import SessionId

ASK_AGAIN_S = 1.0


class Attachment:
    """Which server carries the session.

    Attributes:
        node: the server in use, or "".
        connection: the actor in it that speaks for us; None before it has answered.
    """

    def __init__(
        self,
        servers: Servers,
        patience: Patience,
        send: Callable[[NodeAddress, Any], None],
        question: Callable[[float], Any],
    ) -> None:
        """Start without a server.

        Args:
            servers: to choose from.
            patience: with the one in use.
            send: puts a message on its way.
            question: what to ask a server for, at this time: the session.
        """
        self.node = ""
        self.connection: NodeAddress | None = None
        self._servers = servers
        self._patience = patience
        self._send = send
        self._question = question
        self._left: NodeAddress | None = None  # the connection we move away from
        self._ask_at_s = inf

    def use(self, node: str, now_s: float) -> None:
        """Ask a server for the session, or with "" wait for one."""
        if self.connection is not None:
            self._left = self.connection
        self.connection = None
        self.node = node
        self._patience.begins()
        self._ask_at_s = inf
        if node:
            self._ask(now_s)

    def reached(self, node: str, now_s: float) -> None:
        """A link to a server is up. One that has failed us, and was asked again since there was no
        other, is not waited for any longer."""
        if self.node in ("", node):
            self.use(node, now_s)
        elif self.connection is None and self._servers.is_doubted(self.node, now_s):
            self.use(self._servers.choose(now_s), now_s)
        else:
            self.move_to_leader(now_s)

    def use_best(self, now_s: float) -> None:
        """Ask the best server that is connected; the connection so far is gone."""
        self.use(self._servers.choose(now_s), now_s)
        self._left = None

    def move_on(self, now_s: float) -> None:
        """The server in use does not do what it should: take another one, if there is one."""
        self._servers.doubt(self.node, now_s)
        self.use(self._servers.choose(now_s), now_s)

    def move_to_leader(self, now_s: float) -> None:
        """Take the server that leads, if that is wished and it is another one."""
        leader = self._servers.better_than(self.node, now_s)
        if leader:
            self.use(leader, now_s)

    def _ask(self, now_s: float) -> None:
        self.ask_at(now_s + ASK_AGAIN_S)
        self._patience.asked(now_s)
        self._send(NodeAddress.well_known(self.node, SERVER), self._question(now_s))

    def ask_at(self, moment_s: float) -> None:
        """Ask the server in use again at this time, if it has not answered by then."""
        self._ask_at_s = moment_s

    def is_awaited(self, sender: NodeAddress) -> bool:
        """Whether this answer is the one that makes the server ours."""
        return sender.node == self.node and self.connection is None

    def made(self, connection: NodeAddress, session: SessionId, members: tuple[str, ...]) -> None:
        """The server in use has answered."""
        assert self.is_awaited(connection), "the answer of the server in use was waited for"
        self.heard(connection)
        self.connection = connection
        self._ask_at_s = inf
        if self._left is not None and self._left != connection:
            self._send(self._left, DetachSession(session))
        self._left = None
        self._servers.learn(members, self.node)

    def heard(self, sender: NodeAddress) -> None:
        """Something has come from a server."""
        if sender.node == self.node:
            self._patience.heard()

    @property
    def due_s(self) -> float:
        """When to call ``tick``."""
        ends_at_s = self._patience.ends_at_s(self._servers.window.taken_bytes)
        return min(self._ask_at_s, ends_at_s, self._servers.dial_at_s)

    def tick(self, now_s: float) -> None:
        """Do what is due: dial, ask again, or take another server."""
        if self._servers.dial_at_s <= now_s:
            self._servers.dial_next(now_s)
        if self.node:
            self._patience.look(self._servers.traffic(self.node), now_s)
        if self._patience.ends_at_s(self._servers.window.taken_bytes) <= now_s:
            self._patience.ended()
            self.move_on(now_s)
        elif self._ask_at_s <= now_s:
            self._ask(now_s)

    def why_not_applied(self) -> Failure:
        """What to say of a call that has certainly changed nothing."""
        refusal = self._patience.refusal
        causes = self._servers.causes(self.node, refusal.text if refusal is not None else "")
        if not self._servers.are_reached:
            return lambda: Unreachable("no server could be reached in time", causes=causes)
        if refusal is None:
            return lambda: Unreachable("the server in use did not answer in time", causes=causes)
        kind: type[CopycatError] = Overloaded
        told = "the cluster did not take it in time"
        if refusal.reason == Refusal.NO_LEADER:
            kind, told = NoLeader, "no leader was found in time"
        return lambda: kind(told, causes=causes)
