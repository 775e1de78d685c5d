"""One real server whose cluster is made of voices: the test alone decides what the others say.

The server is called n1; n2 and the others are voices, which keep what they hear and say what they
are given. So a rule about one server is tested against that server, message by message.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from copycat.actors import Actor, Identity, NodeAddress
from copycat.actors.codec import encode
from copycat.actors.environment import NodeConnected, NodeDisconnected, NodeUnreachable
from copycat.actors.simulation import Simulation
from copycat.protocol.client import SERVER
from copycat.protocol.introductions import Introduce, Welcome
from copycat.protocol.raft import (
    AppendEntries,
    AppendEntriesReply,
    PreVote,
    PreVoteReply,
    Propose,
    RequestVote,
    RequestVoteReply,
)
from copycat.server.options import ServerOptions
from copycat.server.server import Server
from copycat.storage.batch import Batch, BatchKind
from copycat.storage.lives import packed, unpacked
from copycat.testing.cluster import CATALOG

M = TypeVar("M")

NAME = "n1"
HEARTBEAT_S = 0.3
TIMEOUT_MIN_S = 1.0  # long against a round, so that nothing happens by itself in between
TIMEOUT_MAX_S = 2.0
ROUND_S = 0.02  # messages there and back, with a sync, take less
WAIT_MAX_S = 3 * TIMEOUT_MAX_S
LIFE = 1  # of every voice

SERVER_ADDRESS = NodeAddress.well_known(NAME, SERVER)


class Heard(NamedTuple):
    """A message that a voice has heard, and who said it."""

    message: Any
    sender: NodeAddress


class Voice(Actor):
    """Stands for another server, or for a client: keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []

    def receiveMessage(self, message: Any, sender: NodeAddress) -> None:
        """Keep it, but for news of links, and answer who introduces itself."""
        if isinstance(message, Introduce):
            self.send(sender, Introduce(packed((LIFE,)), 0))
            self.send(sender, Welcome(unpacked(message.lives)[-1]))
        elif not isinstance(message, NodeConnected | NodeDisconnected | NodeUnreachable | Welcome):
            self.heard.append(Heard(message, sender))


def batch(index: int, term: int, kind: BatchKind = BatchKind.NO_OP, **rest: Any) -> Batch:
    """A batch of one index; its log time is as many seconds as its index, if nothing else is said."""
    rest = {"count": 1, "log_time_us": index * 1_000_000, "wall_time_us": 0} | rest
    return Batch.encode(kind=kind, base_index=index, term=term, **rest)


def append(
    term: int,
    *entries: int | Batch,
    prev: tuple[int, int] = (0, 0),
    commit: int = 0,
    leader: int = 2,
    number: int = 1,
    log_time_us: int = 0,
) -> AppendEntries:
    """What the leader of a term sends.

    Args:
        term: the leader's.
        entries: batches, or the terms of empty ones.
        prev: index and term of what is before them.
        commit: the leader's commit index.
        leader: its server id; that of n2 if nothing else is said.
        number: of the round.
        log_time_us: the leader's.
    """
    records = []
    for index, entry in enumerate(entries, prev[0] + 1):
        made = entry if isinstance(entry, Batch) else batch(index, entry)
        records.append(made.record)
    return AppendEntries(term, leader, *prev, commit, number, tuple(records), log_time_us, 1)


class LoneServer:
    """The server n1 and the voices around it.

    Attributes:
        simulation: the world.
        disk: of the server; it outlives its crashes.
        others: the names of the other servers.
        voices: the others by name, and clients. The id of the server n2 is 2, and so on.
    """

    def __init__(self, simulation: Simulation, servers: int = 3) -> None:
        """Let the server found its cluster, and start it again: it follows nobody, in term 0."""
        self.simulation = simulation
        self.disk = simulation.disk(NAME)
        self.voices: dict[str, Voice] = {}
        self._peers = {f"n{place}": f"n{place}:7401" for place in range(1, servers + 1)}
        self.others = [name for name in self._peers if name != NAME]
        for place, name in enumerate(self._peers, 1):
            if name != NAME:
                identity = Identity(name, node_id=place, offers=CATALOG.offers())
                self.join(identity, self._peers[name])
        self.start()
        self.run_until(lambda: self.server.membership.established)
        self.restart()
        self.pass_time(ROUND_S)

    def join(self, identity: Identity, endpoint: str | None = None) -> None:
        """Add a voice; one without an endpoint is a client, and connects to the server."""
        node = self.simulation.node(identity, endpoint=endpoint)
        node.spawn(Voice, serial=SERVER)
        self.voices[identity.name] = node.actor_at(SERVER)
        if endpoint is None:
            node.links.dial(self._peers[NAME])
            self.pass_time(ROUND_S)

    def start(self) -> None:
        """Start the server with what is on its disk."""
        node = self.simulation.node(Identity(NAME), endpoint=self._peers[NAME], disk=self.disk)
        options = ServerOptions(
            name=NAME,
            peers=self._peers,
            catalog=CATALOG,
            heartbeat_s=HEARTBEAT_S,
            election_timeout_min_s=TIMEOUT_MIN_S,
            election_timeout_max_s=TIMEOUT_MAX_S,
            segment_bytes=64 << 10,
        )
        node.spawn(Server, options, serial=SERVER)
        self.server: Server = node.actor_at(SERVER)
        self.id = self.server.identity.server_id

    def restart(self) -> None:
        """Cut the server's power: it has what was synced, and nothing else."""
        self.disk.crash(0.0)
        self.simulation.crash(NAME, lose_unsynced=False)
        self.start()
        self.pass_time(ROUND_S)

    @contextmanager
    def disk_held(self) -> Iterator[None]:
        """Let the disk end nothing inside; at the end it does."""
        self.disk.stall(10 * ROUND_S)
        began_s = self.simulation.now_s
        yield
        passed_s = self.simulation.now_s - began_s
        assert passed_s < 10 * ROUND_S, "the disk was held for all of it"
        self.pass_time(10 * ROUND_S - passed_s + ROUND_S)

    # Time.

    def pass_time(self, duration_s: float) -> None:
        """Let this much time pass."""
        self.simulation.run_for(duration_s)

    def run_until(self, condition: Callable[[], object]) -> None:
        """Let time pass until a condition holds."""
        end_s = self.simulation.now_s + WAIT_MAX_S
        while not condition():
            assert self.simulation.now_s < end_s, "it never came true"
            self.pass_time(ROUND_S / 4)

    # Words.

    def say(self, name: str, message: Any, to: NodeAddress = SERVER_ADDRESS) -> list[Any]:
        """Let a voice say something; returns what it hears within a round."""
        voice = self.voices[name]
        before = len(voice.heard)
        voice.send(to, message)
        self.pass_time(ROUND_S)
        return [heard.message for heard in voice.heard[before:]]

    def ask(self, name: str, message: Any, kind: type[M]) -> M:
        """Let a voice ask something; returns the one answer of this kind that it hears."""
        (answer,) = [heard for heard in self.say(name, message) if isinstance(heard, kind)]
        return answer

    def replicate(self, name: str, request: AppendEntries) -> AppendEntriesReply:
        """Let a voice replicate to the server."""
        return self.ask(name, request, AppendEntriesReply)

    def votes_for(self, name: str, term: int, last: tuple[int, int] = (0, 0)) -> bool:
        """Whether the server votes for another one, whose log ends with this index and term."""
        request = RequestVote(term, int(name[1:]), *last)
        return self.ask(name, request, RequestVoteReply).granted

    def would_vote_for(self, name: str, term: int, last: tuple[int, int] = (0, 0)) -> bool:
        """Whether it would, as it says when it is asked before."""
        return self.ask(name, PreVote(term, int(name[1:]), *last, 1), PreVoteReply).granted

    def heard(self, name: str, kind: type[M]) -> list[M]:
        """All messages of a kind that a voice has heard and not forgotten."""
        return [one.message for one in self.voices[name].heard if isinstance(one.message, kind)]

    def last_heard(self, name: str, kind: type) -> Heard:
        """The last message of a kind that a voice has heard, with its sender."""
        return [one for one in self.voices[name].heard if isinstance(one.message, kind)][-1]

    def forget(self) -> None:
        """Let the voices forget what they have heard."""
        for voice in self.voices.values():
            voice.heard.clear()

    # What the others do again and again.

    def run_until_asked(self, kind: type) -> None:
        """Let time pass until every other server has newly heard a request of this kind."""
        self.forget()
        self.run_until(lambda: all(self.heard(name, kind) for name in self.others))

    def answer_pre_vote(self, name: str, *, granted: bool = True, term: int = 0) -> None:
        """Answer the last pre-vote; a refusal carries the term of who refuses."""
        request, asker = self.last_heard(name, PreVote)
        reply = PreVoteReply(
            request.term if granted else term, int(name[1:]), granted, request.round
        )
        self.say(name, reply, asker)

    def answer_vote(self, name: str, *, granted: bool = True) -> None:
        """Answer the last request for a vote."""
        request, asker = self.last_heard(name, RequestVote)
        self.say(name, RequestVoteReply(request.term, int(name[1:]), granted), asker)

    def stand(self, *voters: str) -> None:
        """Wait until the server asks, and let these grant it, so that it is a candidate."""
        self.run_until_asked(PreVote)
        for name in voters:
            self.answer_pre_vote(name)
        self.run_until(lambda: self.role == "candidate" and self.heard(voters[0], RequestVote))

    def elect(self, *voters: str) -> None:
        """Have the server elected by these and itself. The others have been sent its first entry;
        nobody has accepted anything."""
        self.stand(*voters)
        for name in voters:
            self.answer_vote(name)
        assert self.role == "leader"

    def accept(self, name: str, *, match_index: int | None = None) -> None:
        """Accept the last AppendEntries that a voice has heard; up to here, if that is said."""
        request, asker = self.last_heard(name, AppendEntries)
        if match_index is None:
            records = request.batches
            match_index = Batch.decode(records[-1]).last_index if records else request.prev_index
        self._answer(name, request, asker, accepted=True, match_index=match_index)

    def refuse(self, name: str, hint: int) -> None:
        """Refuse the last AppendEntries that a voice has heard."""
        request, asker = self.last_heard(name, AppendEntries)
        self._answer(name, request, asker, accepted=False, match_index=hint)

    def _answer(
        self,
        name: str,
        request: AppendEntries,
        asker: NodeAddress,
        *,
        accepted: bool,
        match_index: int,
    ) -> None:
        reply = AppendEntriesReply(
            request.term, accepted, match_index, request.request, request.round, False
        )
        self.say(name, reply, asker)

    def propose_session(self, name: str, nonce: int) -> None:
        """Have a session opened, as the connection of a client at this server would."""
        operations = encode([nonce.to_bytes(16, "big"), "client", 60_000])
        self.say(name, Propose(int(BatchKind.OPEN_SESSION), 0, 0, 1, 0, 0, operations))

    # What the server knows.

    @property
    def role(self) -> str:
        """What it does in Raft."""
        return self.server.role_title

    @property
    def term(self) -> int:
        """Its term."""
        return self.server.ballot.term

    @property
    def log(self) -> list[int]:
        """The term of each index of its log, which has batches of one index only."""
        log = self.server.log
        return [log.term_at(index) for index in range(1, log.last_index + 1)]

    @property
    def commit_index(self) -> int:
        """How far it knows the log to be committed."""
        return self.server.commit_index

    @property
    def applied_index(self) -> int:
        """How far it has applied the log."""
        return self.server.progress.applied_index
