"""ServerActor: what the actors of a server share: whom they listen to, and how they fail.

Anybody who reaches a server can put any message into the mailbox of any of its actors. So each
class names what it takes from other nodes; the rest is dropped before it is looked at. Messages
from the own node are not asked about.

Invariant: only the servers of the cluster take part in Raft.
"""

from typing import TYPE_CHECKING, Any, ClassVar

from copycat.actors import Actor, NodeAddress

if TYPE_CHECKING:
    from copycat.server.server import Server


class ServerActor(Actor):
    """An actor of a server. By default it takes nothing from other nodes.

    Attributes:
        from_anybody: the messages it takes from every node.
        from_servers: those it takes from the other servers of the cluster only; a class that
            has any has its ``server``.
    """

    fail_stop = True
    from_anybody: ClassVar[frozenset[type]] = frozenset()
    from_servers: ClassVar[frozenset[type]] = frozenset()
    server: "Server"

    def admits(self, message: Any, sender: NodeAddress) -> bool:
        """Whether this class takes such a message from that node."""
        kind = type(message)
        if kind not in self.from_servers:
            return self.admits_from_anybody(kind, sender)
        membership = self.server.membership
        if membership.is_server(sender):
            return True
        membership.note_stranger(sender.node, kind.__name__)
        return False

    def admits_from_anybody(self, kind: type, sender: NodeAddress) -> bool:
        """The same of messages that are not taken from servers only."""
        return kind in self.from_anybody
