"""The monitor of events: while there is calm, each soon reaches a client that lives.

A client that uses a server which is not of the core gets time to leave it: until it asks that
server something, and then as much as its patience allows. One that is left with servers which have
failed it has no such time once it is linked with one of the core.
"""

from collections.abc import Callable
from dataclasses import dataclass

from copycat.actors.simulated_node import SimulatedNode
from copycat.client.contact import KEEP_ALIVE_PART
from copycat.client.patience import NO_LEADER_PATIENCE_S
from copycat.client.session import ClientSession
from copycat.types import SessionId

EVENTS_WITHIN_S = 2.0
"""Of calm under a leader of the core, until an event reaches a client that uses a server of it."""


@dataclass(slots=True)
class _Waiting:
    """A client to which something was published.

    Attributes:
        session: of the client.
        events: how many were published in it.
        since_s: when they had been.
        by_s: when they must have come.
        uses: the server that the client uses, and whether it has to leave that first.
    """

    session: SessionId
    events: int
    since_s: float
    by_s: float
    uses: tuple[str, bool]


class EventTimes:
    """What clients wait for in one world."""

    def __init__(self, near: Callable[[float], None]) -> None:
        """Nobody waits; ``near`` is told what part of its time an event has taken."""
        self._near = near
        self._waiting: dict[str, _Waiting] = {}  # by the name of the client's node

    def clear(self) -> None:
        """There is no calm."""
        self._waiting.clear()

    def forget(self, who: str) -> None:
        """A client does not live."""
        self._waiting.pop(who, None)

    def look(
        self,
        now_s: float,
        node: SimulatedNode,
        client: ClientSession,
        core: dict[str, int],
        *,
        published: int,
        heard: int,
    ) -> str | None:
        """Look at a client that lives.

        Args:
            now_s: by the time of the world.
            node, client: whom.
            core: the lives of the servers of the core, by name.
            published: how many events there are for its session.
            heard: how many it has heard of them.

        Returns:
            What is wrong, if an event is late.
        """
        who, session = node.name, client.session
        leaves_within_s = _leaves_within_s(node, client, core)
        uses = client._attachment.node, leaves_within_s is not None
        by_s = now_s + EVENTS_WITHIN_S + (leaves_within_s or 0.0)
        waiting = self._waiting.get(who)
        if waiting is None or waiting.session != session or heard >= waiting.events:
            self._waiting[who] = _Waiting(session, published, now_s, by_s, uses)
            return None
        if uses != waiting.uses:
            waiting.uses = uses
            waiting.by_s = (max if leaves_within_s is not None else min)(by_s, waiting.by_s)
        waited_s = now_s - waiting.since_s
        self._near(waited_s / (waiting.by_s - waiting.since_s))
        if now_s <= waiting.by_s:
            return None
        return (
            f"{who} has heard {heard} events of session {session}, of {waiting.events} that were"
            f" published {waited_s:.1f} s ago"
        )


def _leaves_within_s(
    node: SimulatedNode, client: ClientSession, core: dict[str, int]
) -> float | None:
    """How long a client may stay with the server that it uses; None: that is one of the core, or
    such a one is preferred."""
    attachment, servers = client._attachment, client._servers
    linked = {name for name, life in core.items() if node.links.leads_to(name, life)}
    if attachment.node in linked:
        return None
    patience_s = max(NO_LEADER_PATIENCE_S, client._patience._silence_s)
    if attachment.connection is not None:
        return client._options.timeout_s * KEEP_ALIVE_PART + patience_s
    now_s = client._now_s()
    preferred = {name for name in linked if not servers.is_doubted(name, now_s)}
    is_doubted = not attachment.node or servers.is_doubted(attachment.node, now_s)
    return None if is_doubted and preferred else patience_s
