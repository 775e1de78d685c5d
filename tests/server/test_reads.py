"""Reads that wait cost nothing until they are ready, and then as much time as a handler has."""

from types import SimpleNamespace
from typing import Any

import pytest

from copycat.actors import NodeAddress
from copycat.actors.budget import Budget
from copycat.actors.codec import decode, encode
from copycat.actors.simulation import Simulation
from copycat.machine import StateMachine, query
from copycat.protocol.client import (
    RESULTS_BYTES_MAX,
    AttachSession,
    Branch,
    Consistency,
    QueriesReply,
    Refusal,
    Refused,
    SubmitQueries,
)
from copycat.protocol.raft import ReadIndexReply
from copycat.server.delivery import Delivery
from copycat.server.operations import MORE_AT_ONCE, QUERIES_AT_ONCE, Router
from copycat.server.progress import Attachment, Attachments, Progress
from copycat.server.reading import READS_BYTES_MAX, ReadQueue
from copycat.server.resource import Resource
from copycat.server.steps import ConnectionGone, Read
from copycat.testing.cluster import SimulatedCluster

CLIENT = NodeAddress("client", 1, 1000)
CONNECTION = NodeAddress("n1", 1, 2000)
SESSION = 7
QUERY = encode([[1, "value"]])


class Steps(Budget):
    """A budget that is spent when it has been asked so often."""

    def __init__(self, count: int) -> None:
        self._count = count

    @property
    def spent(self) -> bool:
        self._count -= 1
        return self._count < 0


class Sent:
    """An actor that only notes what it sends, over links that take everything."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.step: Any = None
        links = SimpleNamespace(flush=lambda _: None, unsent_bytes=lambda _: 0)
        self.environment = SimpleNamespace(links=links)

    def send(self, target: NodeAddress, message: Any) -> None:
        self.messages.append(message)


class Counting(StateMachine):
    """Answers how many queries were run, with as many bytes as it is told."""

    def __init__(self) -> None:
        self.run = 0
        self.size_bytes = 0

    @query
    def value(self) -> Any:
        """The next number."""
        self.run += 1
        return bytes(self.size_bytes) if self.size_bytes else self.run


class Queue:
    """A queue of reads of one session, and what it sends."""

    def __init__(self) -> None:
        self.sent = Sent()
        resource = Resource(1, "counting/1", Counting)
        self.machine: Any = resource.machine
        self.sent.step = lambda _, step: resource.answer_queries(step, CONNECTION)
        router = Router(self.sent)  # type: ignore[arg-type]
        router.resources[1] = NodeAddress("n1", 1, 3000)
        self.progress = Progress()
        self.progress.sequences[SESSION] = 0
        self.attachments = Attachments()
        self.attachments.begin(CONNECTION)
        self.attachments.attach(SESSION, Attachment(CONNECTION, CLIENT))
        sent: Any = self.sent
        delivery = Delivery(sent, {}, self.attachments)
        self.reads = ReadQueue(sent, self.progress, router, delivery)

    def add(self, number: int, *, sequence: int = 0, index: int = 0, count: int = 1) -> None:
        operations = encode([[1, "value"]] * count)
        queries = SubmitQueries(SESSION, number, count, 1, sequence, index, operations)
        self.reads.add(Read(queries, None, CONNECTION, CLIENT), 0, self.attachments)

    def run(self, budget: Budget) -> list[int]:
        """Run what is ready; returns the reads that were answered."""
        self.sent.messages.clear()
        self.reads.run_ready(budget)
        assert all(type(message) is QueriesReply for message in self.sent.messages)
        return [message.read for message in self.sent.messages]


def test_reads_that_are_ready_at_once_take_turns() -> None:
    """However many they are, a handler runs what it has time for, and the rest goes on."""
    queue = Queue()
    for number in range(1, 11):
        queue.add(number)
    assert queue.run(Steps(4)) == [1, 2, 3, 4]
    assert queue.reads.are_ready
    assert queue.run(Steps(100)) == [5, 6, 7, 8, 9, 10]
    assert not queue.reads.are_ready


def test_reads_behind_commands_take_turns_too() -> None:
    """What has waited for the command before it goes on where it stopped."""
    queue = Queue()
    for number in range(1, 11):
        queue.add(number, sequence=5)
    assert queue.run(Steps(100)) == []
    assert not queue.reads.are_ready
    queue.progress.sequences[SESSION] = 5
    queue.reads.moved(SESSION)
    assert queue.run(Steps(4)) == [1, 2, 3]
    assert queue.reads.are_ready
    assert queue.run(Steps(100)) == [4, 5, 6, 7, 8, 9, 10]
    assert not queue.reads.are_ready


def test_reads_that_wait_for_commands_cost_nothing_until_these_are_applied() -> None:
    """10,000 sessions whose reads wait are not looked at when another one's is ready."""
    queue = Queue()
    for session in range(100, 10_100):
        queue.progress.sequences[session] = 0
        queue.attachments.attach(session, Attachment(CONNECTION, CLIENT))
        queries = SubmitQueries(session, 1, 1, 1, 9, 0, QUERY)
        queue.reads.add(Read(queries, None, CONNECTION, CLIENT), 0, queue.attachments)
    queue.run(Steps(20_000))
    queue.add(1)
    budget = Steps(10)
    assert queue.run(budget) == [1]
    assert budget._count > 0, "the time is asked for before each further element"


def test_the_queries_of_one_read_take_turns() -> None:
    """A few are run before the time is looked at, more if there is some left, and the answer is of
    all, in order."""
    queue = Queue()
    count = 3 * (QUERIES_AT_ONCE + MORE_AT_ONCE * QUERIES_AT_ONCE) + 3
    queue.add(1, count=count)
    turns = 0
    while not (answered := queue.run(Steps(1))):
        assert queue.reads.are_ready
        turns += 1
    assert answered == [1]
    assert turns == 3
    assert decode(queue.sent.messages[0].results) == [list(range(1, count + 1)), []]


def test_a_read_under_way_goes_with_its_connection() -> None:
    """Nobody is answered, and nothing is left to be done."""
    queue = Queue()
    queue.add(1, count=(2 + MORE_AT_ONCE) * QUERIES_AT_ONCE)
    assert queue.run(Steps(1)) == []
    queue.attachments.drop(CONNECTION)
    queue.reads.drop(CONNECTION)
    assert not queue.reads.are_ready
    assert queue.run(Steps(100)) == []


def test_answers_that_cannot_be_sent_are_not_all_made() -> None:
    """As soon as they are too large the rest is not asked for, and the client is told to divide."""
    queue = Queue()
    queue.machine.size_bytes = RESULTS_BYTES_MAX // 8
    queue.add(1, count=512)
    queue.reads.run_ready(Steps(1000))
    [refused] = queue.sent.messages
    assert type(refused) is Refused
    assert refused.reason == Refusal.TOO_LARGE
    assert queue.machine.run == QUERIES_AT_ONCE


def test_an_answer_that_cannot_be_encoded_fails_alone() -> None:
    """An int of more than 64 bits among others, which would not be read as an int."""
    queue = Queue()
    queue.machine.run = 2**64 - 2
    queue.add(1, count=2)
    assert queue.run(Steps(100)) == [1]
    values, [[place, branch, kind, _]] = decode(queue.sent.messages[0].results)
    assert values == [2**64 - 1, None]
    assert (place, branch, kind) == (1, Branch.QUERY_FAILED, "Unencodable")


def reads_of_a_follower(simulation: Simulation) -> tuple[SimulatedCluster, Any]:
    """A cluster, and the Reads of a server whose questions the leader never gets."""
    cluster = SimulatedCluster(simulation, monitored=False)
    cluster.start()
    leader = cluster.wait_for_leader()
    name = next(name for name in cluster.names if name != leader)
    server = cluster.server(name)
    server.attachments.begin(CONNECTION)
    return cluster, cluster.node(name).actor_at(server.reads.serial)


def read(number: int, size_bytes: int = 0) -> Read:
    """A linearizable read of a connection."""
    consistency = int(Consistency.LINEARIZABLE)
    queries = SubmitQueries(SESSION, number, 1, consistency, 0, 0, bytes(size_bytes))
    return Read(queries, None, CONNECTION, CLIENT)


def test_reads_that_wait_for_the_leader_are_bounded_by_connection() -> None:
    """What is asked of the leader counts as what waits for the log does."""
    with Simulation(3) as simulation:
        _, reads = reads_of_a_follower(simulation)
        told: list[Any] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reads, "_tell", lambda read, reason, text: told.append((read, reason)))
            for number in range(70):
                reads.read(read(number, 1 << 20), CONNECTION)
            held = reads._held[CONNECTION]
            assert READS_BYTES_MAX - (2 << 20) < held.size_bytes <= READS_BYTES_MAX
            assert {reason for _, reason in told} == {Refusal.OVERLOADED}
            assert len(told) == 70 - len(held.reads)
            other = NodeAddress("n1", 1, 2001)
            reads.server.attachments.begin(other)
            reads.read(Read(None, AttachSession(1, b"", 0), other, CLIENT), other)
            assert len(reads._held[other].reads) == 1


def test_reads_that_wait_for_the_leader_go_with_their_connection() -> None:
    """They are let go of at once, and the leader's answer finds nobody."""
    with Simulation(4) as simulation:
        _, reads = reads_of_a_follower(simulation)
        for number in range(5):
            reads.read(read(number, 1000), CONNECTION)
        held = reads._held[CONNECTION]
        reads.server.attachments.drop(CONNECTION)
        reads.connection_gone(ConnectionGone(CONNECTION, "c"), CONNECTION)
        assert not held.reads
        reads.read(read(9), CONNECTION)
        assert CONNECTION not in reads._held
        sent: list[Any] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reads, "send", lambda target, message: sent.append(message))
            reads.flush_reads(None, CONNECTION)
            [number] = reads._asked
            reads.read_index_reply(ReadIndexReply(number, 5), CONNECTION)
        assert sent[-1].reads == ()


def test_reads_that_are_refused_are_told_so_in_turns() -> None:
    """10,000 reads whose leader has gone do not keep their server from all else."""
    with Simulation(5) as simulation:
        _, reads = reads_of_a_follower(simulation)
        told: list[int] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reads, "_tell", lambda read, *_: told.append(read.queries.read))
            for number in range(10_000):
                reads.read(read(number), CONNECTION)
            reads.flush_reads(None, CONNECTION)
            reads.leader_news(None, CONNECTION)
            patch.setattr("copycat.server.reads.Budget", lambda _: Steps(4_000))
            turns = 0
            while reads._refused:
                reads.refuse_reads(None, CONNECTION)
                turns += 1
        assert turns == 3
        assert told == list(range(10_000))
