"""Peers: the other servers of the cluster, as this one knows them."""

from copycat.actors import NodeAddress
from copycat.protocol.client import SERVER
from copycat.types import Index


class Peer:
    """Another server.

    Attributes:
        name: its name, which addresses carry.
        endpoint: "host:port" as this server dials it.
        server_id: 0 until it has said it.
        cluster_id: of the cluster it takes part in, as it last said; 0 for none.
        address: of its Server; when its life was met, of that life alone.
        offers: the types of resources it knows, as it last said; None while it has not.
        links: the links to it that are up, by the endpoint dialled ("" when it dialled) and its
            incarnation; each side makes one.
        incarnation: of the node in its life that this server knows and has met; 0 for none.
        welcomed_by: the incarnations that know the present life of this server.
        sought: whether it was looked for at its endpoint, found or not, since the last link to the
            life that was met has gone.
        connected: whether there is a link to the life that was met, and each knows the other, so that
            something can be sent to it.
    """

    def __init__(self, name: str, endpoint: str) -> None:
        self.name = name
        self.endpoint = endpoint
        self.server_id = 0
        self.cluster_id = 0
        self.address = NodeAddress.well_known(name, SERVER)
        self.offers: tuple[str, ...] | None = None
        self.links: dict[tuple[str, int], None] = {}
        self.incarnation = 0
        self.welcomed_by: tuple[int, ...] = ()
        self.sought = False
        self.connected = False

    def has_link(self, incarnation: int) -> bool:
        """Whether there is a link to this incarnation of its node."""
        return any(linked == incarnation for _, linked in self.links)

    def look_at_links(self) -> None:
        """See whether it is connected, after anything has changed that ``connected`` rests on."""
        self.connected = self.incarnation in self.welcomed_by and self.has_link(self.incarnation)


class Following:
    """What a leader knows of one follower; lent to its Replicator, which alone writes it.

    Attributes:
        match_index: all up to here is known to be durable there.
        contact_s: when it last answered, on the monotonic clock.
        matched_s: when it last answered that it had more than before, or all that is committed.
        round: the latest confirmation of leadership it has echoed.
        serves_clients: whether it wants to learn of a new commit index at once.
        has_lost_data: whether it no longer has what it had acknowledged; it counts for nothing then.
    """

    def __init__(self, contact_s: float) -> None:
        self.match_index: Index = 0
        self.contact_s = contact_s
        self.matched_s = contact_s
        self.round = 0
        self.serves_clients = False
        self.has_lost_data = False
