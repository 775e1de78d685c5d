"""Two servers that apply one log with a club in it: whoever has joined hears what is shouted."""

from collections.abc import Iterator
from typing import Any

from copycat.actors import Actor, Identity, NodeAddress
from copycat.actors.codec import decode, encode
from copycat.actors.simulation import Simulation
from copycat.machine import Catalog, Commit, StateMachine, command
from copycat.protocol.client import Events, SessionEnded
from copycat.server.applier import Applier
from copycat.server.progress import Attachment, Attachments, Progress
from copycat.server.steps import Advance
from copycat.storage.batch import Batch, BatchKind
from copycat.testing.replicated_state import text_of

TIMEOUT_MS = 60_000


class Club(StateMachine):
    """Tells its members what somebody shouts, and who has left."""

    def __init__(self) -> None:
        self.members: dict[int, None] = {}

    @command
    def join(self, commit: Commit) -> None:
        """Be told from now on."""
        self.members[commit.session] = None

    @command
    def shout(self, commit: Commit, size_bytes: int) -> None:
        """Tell all members something of this size."""
        commit.publish(self.members, "shouted", bytes(size_bytes))

    @command
    def whisper(self, commit: Commit, session: int, size_bytes: int) -> None:
        """Tell one session."""
        commit.publish(session, "whispered", bytes(size_bytes))

    def session_ended(self, commit: Commit, session: int) -> None:
        """A member that leaves makes the others hear of it."""
        self.members.pop(session, None)
        commit.publish(self.members, "left", session)


class Log:
    """The batches that are to be applied."""

    def __init__(self) -> None:
        self._batches: dict[int, Batch] = {}
        self.last_index = 0

    def read_ahead(self, index: int, last_index: int) -> Iterator[Batch]:
        """Those from one index to another."""
        return iter([self._batches[place] for place in range(index, last_index + 1)])

    def append(self, kind: BatchKind, session: int = 0, **fields: Any) -> int:
        """Add a batch of one index; returns that."""
        self.last_index += 1
        self._batches[self.last_index] = Batch.encode(
            kind=kind,
            base_index=self.last_index,
            count=1,
            term=1,
            log_time_us=self.last_index,
            wall_time_us=0,
            session=session,
            **fields,
        )
        return self.last_index


class Listener(Actor):
    """A connection, or what an Applier takes for one."""

    def __init__(self, heard: list[Any]) -> None:
        self._heard = heard

    def receiveMessage(self, message: Any, sender: NodeAddress) -> Any:
        """Keep everything."""
        self._heard.append(message)


class Clubhouse:
    """A log with a club in it, and two servers that apply it, the first with all the clients."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self.log = Log()
        self.heard: list[Any] = []
        self._sequences: dict[int, int] = {}
        node = simulation.node(Identity("n"))
        self._attachments = Attachments()
        self.node = node
        self._begin_connection()
        self.appliers: list[Applier] = []
        for attachments in (self._attachments, Attachments()):
            arguments = (self._connection, self.log, Catalog({"club": Club}), Progress())
            self.appliers.append(node.actor_at(node.spawn(Applier, *arguments, attachments).serial))
        founder = self.open_session()
        self.club = self.log.append(
            BatchKind.OPEN_RESOURCE,
            founder,
            first_sequence=1,
            operations=encode(["club", "club", 1]),
        )

    def _begin_connection(self) -> None:
        self._connection = self.node.spawn(Listener, self.heard)
        self._attachments.begin(self._connection)

    def open_session(self) -> int:
        """Open a session; returns its id."""
        nonce = self.log.last_index.to_bytes(16, "big")
        self._attachments.ask(nonce, Attachment(self._connection, self._connection))
        session = self.log.append(
            BatchKind.OPEN_SESSION, operations=encode([nonce, "", TIMEOUT_MS])
        )
        self._sequences[session] = 0
        return session

    def command(self, session: int, method: str, *arguments: Any, event_sequence: int = 0) -> int:
        """Append a command; returns its index."""
        self._sequences[session] += 1
        return self.log.append(
            BatchKind.COMMANDS,
            session,
            first_sequence=self._sequences[session],
            event_sequence=event_sequence,
            operations=encode([[self.club, method, *arguments]]),
        )

    def joined(self) -> int:
        """A new session that has joined the club."""
        session = self.open_session()
        self.command(session, "join")
        return session

    def apply(self) -> None:
        """Have everything applied; both servers must have the same state then."""
        for applier in self.appliers:
            applier.advance(Advance(self.log.last_index), applier.address)
        self._simulation.run_for(0.01)
        first, second = (text_of(applier) for applier in self.appliers)
        assert first == second

    def told(self, session: int) -> list[list[Any]]:
        """The events that a session was sent, in order, each as [event, values]."""
        sent = [words for words in self.heard if type(words) is Events and words.session == session]
        ends = [0, *(words.last_sequence for words in sent)]
        assert [words.first_sequence - 1 for words in sent] == ends[:-1]
        return [decode(event)[1:] for words in sent for event in words.events]

    def ended(self) -> list[int]:
        """The sessions whose client was told of their end, in order."""
        return [words.session for words in self.heard if type(words) is SessionEnded]

    def open_sessions(self) -> list[int]:
        """The sessions that are open."""
        return list(self.appliers[0]._sessions)
