"""Introductions: each life of a server is made known to the others before it speaks to them.

Every start draws a life and appends it, durably, to those before. Two servers that are linked say
which lives they have had, and each keeps durably the last one that it met of the other. Who lacks a
life that another one has met is an earlier copy of that server, or one beside it: it has forgotten
what it promised since, and stops.

Of two processes with one directory's past, the second is refused while the first one answers. A
life that is new is met when there is no link to the one before any more, and it was looked for at its
endpoint since; or when nothing came of asking and of looking for an election time-out.

Invariants: a life is durable here before it is introduced, and at the other server before any message
of it is taken; who was met last stays so until a life is introduced that has the former behind it.
"""

from functools import partial
from typing import TYPE_CHECKING

from copycat.actors import NodeAddress
from copycat.actors.environment import Disk
from copycat.errors import LEAVE_STOPPED, IdentityRefused
from copycat.protocol.client import SERVER
from copycat.protocol.introductions import AskAlive, Introduce, StillAlive, Unwelcome, Welcome
from copycat.server.steps import PeerLinked
from copycat.storage.lives import Lives, packed, unpacked

if TYPE_CHECKING:
    from copycat.server.peers import Peer
    from copycat.server.server import Server

AGAIN_S = 0.25  # an introduction that was not answered is said again
Introduction = Introduce | Welcome | Unwelcome | AskAlive | StillAlive


class _Candidate:
    """A life that is new to this server, and not met yet.

    Attributes:
        incarnation, life: of the node, and of the server.
        met_as: what the lives had become when it was written; 0 before.
    """

    def __init__(self, incarnation: int, life: int) -> None:
        self.incarnation = incarnation
        self.life = life
        self.met_as = 0


class Introductions:
    """What this server knows of lives, its own and its peers'."""

    def __init__(self, server: "Server", disk: Disk) -> None:
        """Begin a life; ``lives`` has to be made durable before anybody is told."""
        self._server = server
        self.lives = Lives(disk)
        self._candidates: dict[str, _Candidate] = {}  # by the name of the peer
        self._confirmed: dict[str, None] = {}  # who has met the present life
        self._repeating = False
        self._warned = ""
        self._begun_as = 0  # what the lives had become with this one

    def begin(self, floor_sequence: int) -> None:
        """Draw the number of this life, and have it made durable with that of its floor."""
        random = self._server.environment.random
        life = 0
        while life in {0, *self.lives.own}:
            life = random.getrandbits(64)
        self.lives.begin(life, floor_sequence)
        if not self._server.peers:
            self.lives.forget_early()
        self._begun_as = self.lives.written
        self.lives.start_sync(self._server.address)

    @property
    def has_begun(self) -> bool:
        """Whether the present life is durable, so that others may be told."""
        return 0 < self._begun_as <= self.lives.durable

    @property
    def _life(self) -> int:
        return self.lives.own[-1] if self._begun_as else 0

    # Links.

    def linked(self, peer: "Peer", incarnation: int) -> None:
        """There is a link to an incarnation of a peer's node."""
        self._introduce(peer, incarnation)
        self._repeat()

    def unlinked(self, peer: "Peer", incarnation: int) -> None:
        """A link to an incarnation of a peer's node has gone."""
        peer.look_at_links()
        if incarnation == peer.incarnation and not peer.has_link(incarnation):
            peer.sought = False
        candidate = self._candidates.get(peer.name)
        if candidate is not None and not candidate.met_as:
            if not peer.has_link(candidate.incarnation):
                del self._candidates[peer.name]
            else:
                self._meet_if_alone(peer, candidate)

    def sought(self, peer: "Peer") -> None:
        """A peer was looked for at its endpoint; there is a link if it was found."""
        peer.sought = True
        candidate = self._candidates.get(peer.name)
        if candidate is not None and not candidate.met_as:
            self._meet_if_alone(peer, candidate)

    def _repeat(self) -> None:
        if not self._repeating:
            self._repeating = True
            self._server.wake_after(AGAIN_S, self.again)

    def again(self) -> None:
        """Say again what was lost on its way."""
        self._repeating = False
        for peer in self._server.peers.values():
            if peer.links and not peer.connected:
                for incarnation in dict.fromkeys(incarnation for _, incarnation in peer.links):
                    self.linked(peer, incarnation)

    def _introduce(self, peer: "Peer", incarnation: int) -> None:
        if not self._server.membership.introduced:
            return  # the other server refuses who has no id yet
        met = self.lives.met.get(peer.server_id, 0)
        candidate = self._candidates.get(peer.name)
        if candidate is not None and candidate.met_as > self.lives.durable:
            met = 0  # not before it is durable
        self._send(peer, incarnation, Introduce(packed(self.lives.own), met))

    def _send(self, peer: "Peer", incarnation: int, message: object) -> None:
        self._server.send(NodeAddress(peer.name, incarnation, SERVER), message)

    def _warn(self, text: str) -> None:
        """Note what somebody may say again and again; repetitions are not noted."""
        if text != self._warned:
            self._warned = text
            self._server.note("warning", text)

    # What peers say.

    def is_linked(self, sender: NodeAddress) -> bool:
        """Whether an actor of another node is linked as one of the peers, met or not."""
        peer = self._server.peers.get(sender.node)
        return peer is not None and peer.has_link(sender.incarnation)

    def handle(self, message: Introduction, sender: NodeAddress) -> None:
        """A linked peer says who it is, or what it knows of this server."""
        peer, incarnation = self._server.peers[sender.node], sender.incarnation
        match message:
            case Introduce():
                self._introduced(peer, message, incarnation)
            case Welcome():
                self._welcomed(peer, message, incarnation)
            case Unwelcome():
                self._refused(peer, message)
            case AskAlive():
                self._send(peer, incarnation, StillAlive(message.life))
            case StillAlive():
                self._alive(peer, incarnation)

    def _introduced(self, peer: "Peer", message: Introduce, incarnation: int) -> None:
        try:
            lives = unpacked(message.lives)
        except ValueError:
            lives = ()
        if not lives or 0 in lives:
            self._warn(f"{peer.name} introduced itself without a life")
            return
        met, life = self.lives.met.get(peer.server_id, 0), lives[-1]
        if met and met not in lives:
            self._warn(
                f"refused a copy of {peer.name}: it knows nothing of the life {met:016x} that this"
                " server has met",
            )
            self._introduce(peer, incarnation)  # it is told so by what was met
            return
        if message.met and message.met not in self.lives.own:
            raise IdentityRefused(
                f"{peer.name} has met a life {message.met:016x} of {self._server.options.name} that"
                " this server knows nothing of: its data directory is an earlier copy, or was brought"
                " back as it was, and it has forgotten what it promised since."
                f" Start it with the newest directory, as it was when it last stopped, or {LEAVE_STOPPED}"
            )
        candidate = self._candidates.get(peer.name)
        if candidate is not None and candidate.incarnation == incarnation:
            return
        if life == met and peer.incarnation in (0, incarnation):
            self._alive(peer, incarnation)
            self._welcome(peer, incarnation, life)
        elif candidate is None:
            self._consider(peer, _Candidate(incarnation, life))

    def _consider(self, peer: "Peer", candidate: _Candidate) -> None:
        """Meet a new life, unless an earlier one may still be there."""
        self._candidates[peer.name] = candidate
        self._meet_if_alone(peer, candidate)
        if candidate.met_as:
            return
        for incarnation in self._rivals(peer, candidate.incarnation):
            self._send(peer, incarnation, AskAlive(self.lives.met.get(peer.server_id, 0)))
        wait_s = self._server.options.election_timeout_max_s
        self._server.wake_after(wait_s, partial(self._silent, candidate))

    def _meet_if_alone(self, peer: "Peer", candidate: _Candidate) -> None:
        # Who listens at the peer's endpoint has to be looked for: an earlier life may be there, that
        # has lost its link just now, or of which this server knows nothing since its own start.
        if peer.sought and not self._rivals(peer, candidate.incarnation):
            self._meet(peer, candidate)

    def _rivals(self, peer: "Peer", incarnation: int) -> list[int]:
        """The other incarnations of a peer's node to which there is a link."""
        linked = dict.fromkeys(linked for _, linked in peer.links)
        return [other for other in linked if other != incarnation]

    def _silent(self, candidate: _Candidate) -> None:
        """The time is over in which an earlier life could have said that it is still there."""
        for name, waiting in self._candidates.items():
            if waiting is candidate and not candidate.met_as:
                self._meet(self._server.peers[name], candidate)
                return

    def _meet(self, peer: "Peer", candidate: _Candidate) -> None:
        self.lives.meet(peer.server_id, candidate.life)
        candidate.met_as = self.lives.written
        self.lives.start_sync(self._server.address)

    def disk_done(self) -> None:
        """Welcome those whose lives have become durable."""
        for name, candidate in list(self._candidates.items()):
            if 0 < candidate.met_as <= self.lives.durable:
                del self._candidates[name]
                peer = self._server.peers[name]
                self._welcome(peer, candidate.incarnation, candidate.life)
                for incarnation in self._rivals(peer, candidate.incarnation):
                    self._introduce(peer, incarnation)  # it has to know, when it wakes up

    def _welcome(self, peer: "Peer", incarnation: int, life: int) -> None:
        is_new = peer.incarnation != incarnation
        peer.incarnation = incarnation
        peer.address = NodeAddress(peer.name, incarnation, SERVER)
        self._send(peer, incarnation, Welcome(life))
        if is_new or not peer.connected:
            self._look_at(peer)

    def _welcomed(self, peer: "Peer", message: Welcome, incarnation: int) -> None:
        if message.life != self._life:
            return
        # A second process by the peer's name may say this, too: it is no word of the first.
        known = [
            each for each in peer.welcomed_by if each == peer.incarnation or peer.has_link(each)
        ]
        peer.welcomed_by = tuple(dict.fromkeys([*known, incarnation]))
        self._look_at(peer)

    def _look_at(self, peer: "Peer") -> None:
        """See whether both know each other by now; what was sent before may be lost."""
        peer.look_at_links()
        if not peer.connected:
            self._repeat()
            return
        if peer.name not in self._confirmed:
            self._confirmed[peer.name] = None
            if len(self._confirmed) == len(self._server.peers):
                self.lives.forget_early()
                self.lives.start_sync(self._server.address)
        self._server.step(self._server.role, PeerLinked(peer.name))

    def _refused(self, peer: "Peer", message: Unwelcome) -> None:
        if message.life == self._life:
            raise IdentityRefused(
                f"{peer.name} refused {self._server.options.name}: {message.reason}."
                " Two servers were started from one data directory or from copies of it: keep the one"
                " that runs, and remove the other"
            )

    def _alive(self, peer: "Peer", incarnation: int) -> None:
        """The earlier life answers: who came by its name is refused."""
        candidate = self._candidates.get(peer.name)
        if candidate is None or candidate.met_as or candidate.incarnation == incarnation:
            return
        del self._candidates[peer.name]
        reason = f"{peer.name} is running elsewhere, and still answers"
        self._warn(f"refused a second server: {reason}")
        self._send(peer, candidate.incarnation, Unwelcome(candidate.life, reason))
