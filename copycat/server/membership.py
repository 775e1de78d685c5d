"""Membership: who this server is, who the others are, and whether those who call are they.

The first start needs all servers up once: nobody takes part before everybody's id is known and
written down. After that a known name with another id is a server that was wiped (or a second one),
and it is refused: it has forgotten its votes and what it acknowledged.
"""

from typing import TYPE_CHECKING

from copycat.actors import NodeAddress
from copycat.actors.environment import Disk, Identity, NodeConnected, NodeUnreachable
from copycat.errors import BRING_BACK, LEAVE_STOPPED, ConfigurationError, IdentityRefused
from copycat.server.options import TIMING
from copycat.storage.amnesia import refuse_amnesia
from copycat.storage.identity import ClusterConfiguration, ServerIdentity, cluster_id_of

if TYPE_CHECKING:
    from copycat.server.peers import Peer
    from copycat.server.server import Server

MISSING_FIRST_S = 1.0  # when a first start says for whom it waits
MISSING_LAST_S = 60.0  # how rarely it says it again

ANOTHER_IDENTITY = "another server is known by this name"
"""How a refusal begins that a server must not survive."""

LOST_DATA = "it has lost what it had acknowledged"
"""How a refusal begins that a server must not survive, however long it has taken part."""

BY_THE_OTHER_NODE = "refused by the other node: "
"""How the runtime begins the reason when the other node refused."""

NOT_A_MEMBER = "is not one of the servers"
"""What a server is told whose name is in nobody's list."""


class Membership:
    """The identity of this server and the founding configuration of its cluster."""

    def __init__(self, server: "Server", disk: Disk) -> None:
        self._server = server
        self.identity = ServerIdentity(disk)
        self.configuration = ClusterConfiguration(disk)
        self.files = (self.identity, self.configuration)
        self._begun = False  # ballot, log and floor are durable as they were found
        self._dialled = False
        self._founding = False  # the configuration is being written for the first time
        self._taking_part = False
        self._missing: dict[str, str] = {}  # by endpoint, why a peer cannot be reached
        self._tell_missing_s = server.now_s() + MISSING_FIRST_S
        self._tell_again_s = MISSING_FIRST_S
        self._stranger = ("", "")  # whose message was dropped last, and which
        options = server.options
        refuse_amnesia(
            self.identity,
            self.configuration,
            server.ballot,
            server.log.floor,
            server.introductions.lives,
            server.log.last_term,
        )
        if self.identity.server_id == 0:
            if not server.ballot.written:
                server.ballot.begin()
            self.identity.establish(options.name, server.environment.random.getrandbits(64) or 1)
        elif self.identity.name != options.name:
            raise ConfigurationError(
                f"the data directory belongs to server {self.identity.name!r}, and this server was"
                f" told to be {options.name!r}: use its own directory, or its own name"
            )
        self._compare_names()
        server.ballot.start_sync(server.address)
        server.log.start_sync(server.address)
        self.configuration.start_sync(server.address)
        self.disk_done()

    @property
    def introduced(self) -> bool:
        """Whether this server's id is durable, so that others may be told."""
        return self._dialled

    @property
    def established(self) -> bool:
        """Whether it is known, and durable, who the servers of the cluster are."""
        return self._taking_part

    def name_of(self, server_id: int) -> str | None:
        """The name of a member; None when the id is not a member's."""
        for name, member in self.configuration.servers:
            if member == server_id:
                return name
        return None

    def is_server(self, sender: NodeAddress) -> bool:
        """Whether an actor of another node belongs to a server of this cluster: one that was found
        to be who it says, in the life that this server has met last."""
        peer = self._server.peers.get(sender.node)
        return peer is not None and peer.incarnation == sender.incarnation != 0

    def note_stranger(self, node: str, message: str) -> None:
        """Note that a message was dropped which only a server may send; repetitions are not noted."""
        if (node, message) != self._stranger:
            self._stranger = (node, message)
            self._server.note(
                "warning", f"dropped {message} of {node}, which is no server of this cluster"
            )

    def _compare_names(self) -> None:
        stored = sorted(name for name, _ in self.configuration.servers)
        told = sorted(self._server.options.peers)
        if stored and stored != told:
            raise ConfigurationError(
                f"the cluster was founded by {', '.join(stored)}, and this server was told that it"
                f" is {', '.join(told)}: give the peers it has; nothing was changed"
            )
        for name, server_id in self.configuration.servers:
            if name in self._server.peers:
                self._know(self._server.peers[name], server_id)

    def disk_done(self) -> None:
        """Go on when something has become durable. The life comes after a floor that was written for
        it, and the identity last: whoever has one has the other files, too."""
        identity, configuration = self.files
        server = self._server
        if not self._begun and server.ballot.durable == server.ballot.written:
            self._begun = server.log.begin_life((server.ballot.term, server.ballot.voted_for))
            if self._begun:
                server.introductions.begin(server.log.floor.sequence)
        if not self._dialled and server.introductions.has_begun:
            identity.start_sync(server.address)
        if (
            not self._dialled
            and identity.durable == identity.written
            and server.introductions.has_begun
        ):
            self._dialled = True
            self._introduce()
            for peer in self._server.peers.values():
                self._server.environment.links.dial(peer.endpoint)
            self._found_if_complete()
        if (
            configuration.cluster_id
            and configuration.durable == configuration.written
            and self._dialled
            and not self._taking_part
        ):
            self._taking_part = True
            self._introduce()
            self._server.note("info", f"member of cluster {configuration.cluster_id:016x}")
            self._server.become_follower(self._first_patience_s() if self._founding else None)

    def _first_patience_s(self) -> float:
        """A new cluster has no leader to wait for: its servers ask one after the other."""
        rank = [name for name, _ in self.configuration.servers].index(self._server.options.name)
        return self._server.options.election_timeout_min_s * (rank + 1) / 4

    def _introduce(self) -> None:
        cluster_id = self.configuration.cluster_id
        self._server.environment.links.introduce(
            Identity(
                name=self._server.options.name,
                cluster_id=cluster_id,
                node_id=self.identity.server_id,
                offers=self._server.offers,
            )
        )

    def _found_if_complete(self) -> None:
        """Write down who the servers are, once every one has said its id."""
        peers = self._server.peers.values()
        if self.configuration.cluster_id or not all(peer.server_id for peer in peers):
            return
        ids = {self.identity.server_id, *(peer.server_id for peer in peers)}
        assert len(ids) == len(peers) + 1, "servers draw different ids"
        founders = sorted(
            [
                (self._server.options.name, self.identity.server_id),
                *((peer.name, peer.server_id) for peer in peers),
            ]
        )
        for peer in peers:
            if peer.cluster_id not in (0, cluster_id_of(founders)):
                # Whoever was wiped, or was never a member, must not found another cluster with
                # those who have one; they are about to say why.
                self._server.note(
                    "warning", f"{peer.name} is a member of another cluster {peer.cluster_id:016x}"
                )
                return
        self._founding = True
        self.configuration.establish(founders)
        self.configuration.start_sync(self._server.address)

    # Who calls.

    def peer_connected(self, peer: "Peer", link: NodeConnected) -> bool:
        """Whether the node that calls itself by a member's name is that member."""
        if link.node_id == 0:
            self._server.environment.links.refuse(link.node, "it has not said its server id yet")
            return False
        if peer.server_id not in (0, link.node_id):
            text = (
                f"{ANOTHER_IDENTITY}: {peer.name} has id {peer.server_id:016x} in cluster"
                f" {self.configuration.cluster_id:016x}, and this one says {link.node_id:016x};"
                " its data directory was wiped or belongs to another cluster"
            )
            self._server.note("warning", f"refused {link.node}: {text}")
            self._server.environment.links.refuse(link.node, text)
            return False
        if peer.server_id == 0 and link.node_id in self._known_ids():
            text = f"the id {link.node_id:016x} of {peer.name} is another server's"
            self._server.note("warning", f"refused {link.node}: {text}")
            self._server.environment.links.refuse(link.node, text)
            return False
        peer.cluster_id = link.cluster_id
        if peer.server_id == 0:
            self._know(peer, link.node_id)
            self._found_if_complete()
        return True

    def refuse_decisions(self, link: NodeConnected) -> None:
        """A peer carries out a command that is failed here, or the reverse: states would differ."""
        failed = ", ".join(map(str, sorted(self._server.options.failed_entries))) or "none"
        text = (
            f"other commands are failed there than here ({failed}): start every server with the same"
            " --fail-entry; it is kept from then on"
        )
        self._server.note("warning", f"refused {link.node}: {text}")
        self._server.environment.links.refuse(link.node, text)

    def compare_timing(self, link: NodeConnected) -> None:
        """Warn of a peer with another election time-out: elections would not be what either expects."""
        own = self._server.options.timing
        for told in link.offers:
            if told.startswith(TIMING) and told != own:
                theirs, ours = (each.removeprefix(TIMING)[:-1] for each in (told, own))
                self._server.note(
                    "warning",
                    f"{link.node} has an election time-out of {theirs:.60}, and this server of {ours}:"
                    " give all servers the same, or the one with the shorter disturbs the others",
                )

    def refuse_lost(self, peer: "Peer", seen: str) -> None:
        """Refuse a member that does not have any more what it had acknowledged to this server."""
        text = (
            f"{LOST_DATA}: {seen}; its data directory is an earlier copy, or its disk has lost data"
        )
        self._server.note("warning", f"refused {peer.name}: {text}")
        self._server.environment.links.refuse(peer.name, text)

    def _know(self, peer: "Peer", server_id: int) -> None:
        """Take whoever has a peer's name and this id for it: what it says comes before others'."""
        peer.server_id = server_id
        self._server.environment.links.prefer(peer.name, server_id)

    def _known_ids(self) -> list[int]:
        peers = self._server.peers.values()
        return [self.identity.server_id, *(peer.server_id for peer in peers if peer.server_id)]

    def stranger_connected(self, link: NodeConnected) -> None:
        """A node that is no peer: a client, or a server that thinks it belongs here."""
        if link.node_id == 0:
            return
        members = ", ".join(self._server.options.peers)
        text = f"{link.node} {NOT_A_MEMBER} {members}"
        self._server.note("warning", f"refused a server: {text}")
        self._server.environment.links.refuse(link.node, text)

    def unreachable(self, link: NodeUnreachable) -> None:
        """A peer was not reached. A first start needs them all: say now and then who is missing."""
        self._missing[link.endpoint] = link.reason
        now_s = self._server.now_s()
        if self._taking_part or now_s < self._tell_missing_s:
            return
        self._tell_again_s = min(2 * self._tell_again_s, MISSING_LAST_S)
        self._tell_missing_s = now_s + self._tell_again_s
        missing = ", ".join(
            f"{peer.name} at {peer.endpoint}: {self._missing.get(peer.endpoint, 'no answer yet')}"
            for peer in self._server.peers.values()
            if not peer.server_id
        )
        if missing:
            self._server.note("warning", f"the first start waits for {missing}")

    def refused(self, link: NodeUnreachable) -> None:
        """A peer will not talk to this server, which must stop if it is a wiped one or has a name
        that the cluster does not know."""
        # What this server has refused is reported in its own words: they were said, and must not stop it.
        if not link.reason.startswith(BY_THE_OTHER_NODE):
            return
        reason = link.reason.removeprefix(BY_THE_OTHER_NODE)
        said = f"{link.endpoint} refused {self._server.options.name}: {reason}."
        if LOST_DATA in reason:
            raise IdentityRefused(f"{said} It must not take part without it: {LEAVE_STOPPED}")
        if NOT_A_MEMBER in reason and not self._taking_part:
            raise ConfigurationError(
                f"{said} Give the name and the peers that the cluster was founded with"
            )
        if ANOTHER_IDENTITY in reason and not self._taking_part:
            raise IdentityRefused(
                f"{said} A server that lost its data must not come back under its old name: {BRING_BACK}"
            )
        self._server.note("warning", f"refused by {link.endpoint}: {reason}")
