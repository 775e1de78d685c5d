"""What a monitor says when a rule was broken: the rule, what broke it, and what led to it."""

from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any

from copycat.actors.frame import decode_payload
from copycat.actors.simulated_links import FRAME_LENGTH_BYTES
from copycat.actors.simulation import Simulation
from copycat.protocol.raft import AppendEntries
from copycat.storage.batch import Batch, BatchKind
from copycat.storage.errors import BatchCorruptError
from copycat.types import Index

LINES_TOLD = 30
LINES_KEPT = 10_000  # for rules that are checked when all is over
COMMITS_TOLD = 10  # besides; there are so many that they would push out everything else
DELIVERIES_TOLD = 10
ENTRY_DELIVERIES_TOLD = 6  # besides, of requests that carry the entry concerned
RECORDS_TOLD = 3  # of one request

Line = tuple[int, float, int, str]
"""Event, virtual time, number, what happened."""


class InvariantViolated(AssertionError):
    """A rule that must always hold did not, in a simulated world.

    Attributes:
        rule: the rule, in words.
        detail: who broke it, and how.
        seed: of the world in which it happened.
    """

    def __init__(self, rule: str, detail: str, seed: int, story: str) -> None:
        self.rule = rule
        self.detail = detail
        self.seed = seed
        super().__init__(f"{rule}\n  {detail}\n{story}")

    def __reduce__(self) -> tuple[type[Exception], tuple[str]]:
        # It crosses process borders when seeds are run in several processes.
        return AssertionError, (str(self),)


class Story:
    """The recent happenings of a simulated world, as far as they concern its servers.

    Attributes:
        replay: the command that runs the same world again; empty when there is none.
        survey: describes all servers as they are now, and what they have at an index if there is
            one.
        names: of servers, by id.
    """

    def __init__(self, simulation: Simulation, servers: tuple[str, ...]) -> None:
        self.replay = ""
        self.survey: Callable[[Index | None], list[str]] = lambda _index: []
        self.names: dict[int, str] = {}
        self._simulation = simulation
        self._servers = servers
        self._lines: deque[Line] = deque(maxlen=LINES_KEPT)
        self._commits: deque[Line] = deque(maxlen=LINES_KEPT)
        self._told = 0

    def tell(self, who: str, what: str) -> None:
        """Add a line.

        Args:
            who: a server, or who did something to servers.
            what: what happened, as a sentence that goes on after ``who``.
        """
        self._lines.append(self._line(f"{who} {what}"))

    def tell_commit(self, who: str, index: Index) -> None:
        """Add that a server's commit index has moved."""
        self._commits.append(self._line(f"{who} commits {index}"))

    def _line(self, what: str) -> Line:
        self._told += 1
        return (self._simulation.events, self._simulation.now_s, self._told, what)

    def violated(
        self,
        rule: str,
        detail: str,
        *,
        who: tuple[str, ...] = (),
        index: Index | None = None,
        until_s: float = inf,
    ) -> InvariantViolated:
        """The error to raise for a broken rule.

        Args:
            rule, detail: see ``InvariantViolated``.
            who: whose messages are told, of servers and clients; empty: those between servers.
            index: of the entry concerned, if there is one.
            until_s: when it was broken, if that is not now.
        """
        simulation = self._simulation
        told = [line for line in self._lines if line[1] <= until_s][-LINES_TOLD:]
        told += [line for line in self._commits if line[1] <= until_s][-COMMITS_TOLD:]
        told += self._deliveries(who or self._servers, index, until_s)
        text = [
            f"  at {simulation.now_s:.6f} s, event {simulation.events:,}, seed {simulation.seed}",
            "the servers now:",
            *(f"  {line}" for line in self.survey(index)),
            "what happened to the servers before:",
            *(f"  {when_s:11.6f} s {event:7,}  {what}" for event, when_s, _, what in sorted(told)),
        ]
        if self.replay:
            text.append(f"replay: {self.replay}")
        return InvariantViolated(rule, detail, simulation.seed, "\n".join(text))

    def _deliveries(self, who: tuple[str, ...], index: Index | None, until_s: float) -> list[Line]:
        """The last messages to or from those concerned, and those that carry the entry concerned.

        What clients say to servers is left out if no client is concerned.
        """
        servers = self._servers
        with_clients = not all(name in servers for name in who)
        latest: list[Line] = []
        carriers: list[Line] = []
        number = 0  # a message is told before what it did, which has numbers above 0
        for delivery in reversed(self._simulation.network.latest):
            event, when_s, source, target, frame = delivery
            if when_s > until_s or not (source in who or target in who):
                continue
            if not with_clients and not (source in servers and target in servers):
                continue
            for message in _messages(frame):
                number -= 1
                words = told_message(message, self.names)
                line = (event, when_s, number, f"{source} > {target}  {words}")
                if len(latest) < DELIVERIES_TOLD:
                    latest.append(line)
                elif index is not None and _carries(message, index):
                    carriers.append(line)
        return latest + carriers[:ENTRY_DELIVERIES_TOLD]


def told_message(message: Any, names: dict[int, str]) -> str:
    """A message on one line: servers by their names, batches by their places, other bytes by their
    number."""
    words = [type(message).__name__]
    for name in type(message).__annotations__:
        value = getattr(message, name)
        known = names.get(value) if type(value) is int else None
        words.append(f"{name}={known or _told_value(value)}")
    return " ".join(words)


def _told_value(value: Any) -> str:
    if type(value) is bytes:
        return f"<{len(value)} bytes>"
    if type(value) is tuple and value and type(value[0]) is bytes:
        told = [_told_record(record) for record in value]
        if len(told) > RECORDS_TOLD:
            told[RECORDS_TOLD - 1 : -1] = [f"{len(told) - RECORDS_TOLD} more"]
        return f"[{', '.join(told)}]"
    return repr(value)


def _told_record(record: bytes) -> str:
    try:
        return told_batch(Batch.decode(record))
    except BatchCorruptError:
        return f"<{len(record)} bytes>"


def told_batch(batch: Batch) -> str:
    """A batch in a few words: its place, and what it is."""
    what = f"{batch.base_index}..{batch.last_index} of term {batch.term}: {batch.kind.name}"
    if batch.kind is BatchKind.BUNDLE:
        parts = [f"{part.session} from {part.first_sequence}" for part in batch.commands()]
        return f"{what} of sessions {', '.join(parts)}"
    if not batch.session:
        return what
    sequence = f" from {batch.first_sequence}" if batch.first_sequence else ""
    return f"{what} of session {batch.session}{sequence}"


def _messages(frame: bytes) -> list[Any]:
    return [message for *_, message in decode_payload(frame[FRAME_LENGTH_BYTES:])]


def _carries(message: Any, index: Index) -> bool:
    if type(message) is not AppendEntries or not message.batches:
        return False
    try:
        first, last = Batch.decode(message.batches[0]), Batch.decode(message.batches[-1])
    except BatchCorruptError:
        return False
    return first.base_index <= index <= last.last_index
