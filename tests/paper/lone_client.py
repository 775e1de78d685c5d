"""A client of the lone server whose every message the test makes, and batches of its session.

In a log that is made by hand the session is opened by entry 1 and the counter by entry 2; commands
come from entry 3 on.
"""

from typing import Any, TypeVar

from copycat.actors import Identity, NodeAddress
from copycat.actors.codec import decode, encode
from copycat.protocol.client import (
    AttachSession,
    AttachSessionReply,
    Consistency,
    OpenSession,
    OpenSessionReply,
    SubmitCommands,
    SubmitQueries,
)
from copycat.storage.batch import Batch, BatchKind
from lone_server import SERVER_ADDRESS, LoneServer, batch

M = TypeVar("M")

NAME = "client"
NONCE = bytes(16)
SESSION = 1
COUNTER = 2
TIMEOUT_S = 10


def opening(timeout_s: float = TIMEOUT_S) -> list[Batch]:
    """The first two entries, of term 1: the session and the counter."""
    session = encode([NONCE, NAME, round(timeout_s * 1000)])
    counter = encode(["hits", "counter", 1])
    return [
        batch(SESSION, 1, BatchKind.OPEN_SESSION, operations=session),
        batch(
            COUNTER, 1, BatchKind.OPEN_RESOURCE,
            session=SESSION, first_sequence=1, operations=counter,
        ),
    ]  # fmt: skip


def increment(index: int, sequence: int, **rest: Any) -> Batch:
    """An entry of term 1: a command that counts."""
    operations = encode([[COUNTER, "increment", 1]])
    named = {"session": SESSION, "first_sequence": sequence, "operations": operations} | rest
    return batch(index, 1, BatchKind.COMMANDS, **named)


class LoneClient:
    """A node that is no server.

    Attributes:
        session: the session that it has; that of the log made by hand before it has asked.
    """

    def __init__(self, lone: LoneServer) -> None:
        lone.join(Identity(NAME))
        self._lone = lone
        self._connection = SERVER_ADDRESS
        self.session = SESSION

    def say(self, message: Any) -> list[Any]:
        """Say something to the connection; returns what is heard within a round."""
        return self._lone.say(NAME, message, self._connection)

    def heard(self, kind: type[M]) -> list[M]:
        """All that was heard of a kind."""
        return self._lone.heard(NAME, kind)

    def ask_for_session(self, nonce: bytes = NONCE) -> None:
        """Ask for a session, as often as you like."""
        self.say(OpenSession(nonce, NAME, TIMEOUT_S * 1000))

    def enter_session(self) -> None:
        """Go on with the session that was granted last."""
        reply, self._connection = self._last(OpenSessionReply)
        self.session = reply.session

    def attach(self) -> None:
        """Go on with the session of the log made by hand."""
        self.say(AttachSession(SESSION, NONCE, SESSION))
        _, self._connection = self._last(AttachSessionReply)

    def _last(self, kind: type[M]) -> tuple[M, NodeAddress]:
        return self._lone.last_heard(NAME, kind)

    def command(self, sequence: int, received: int = 0) -> SubmitCommands:
        """The command of this sequence, which counts; all answers up to ``received`` have come."""
        operations = encode([[COUNTER, "increment", 1]])
        return SubmitCommands(self.session, sequence, 1, received, 0, operations)

    def query(self, read: int, consistency: Consistency) -> SubmitQueries:
        """The query of this number, which reads the counter."""
        operations = encode([[COUNTER, "value"]])
        return SubmitQueries(self.session, read, 1, consistency, 0, 0, operations)


def values_in(results: bytes) -> list[Any]:
    """The values in the results of commands or queries, none of which failed."""
    values, failures = decode(results)
    assert failures == []
    assert type(values) is list
    return values
