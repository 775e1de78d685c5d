"""What a leader learns from answers, and whom it sends what: chapters 3.5 and 3.7."""

from collections.abc import Iterator
from itertools import pairwise
from unittest.mock import patch
from zlib import crc32

import pytest

from copycat.actors.simulation import Simulation
from copycat.protocol.raft import AppendEntries, AppendEntriesReply
from copycat.server import replicator
from copycat.server.membership import LOST_DATA
from copycat.storage.batch import Batch
from copycat.storage.errors import MemoryDamagedError, UnknownRecordError
from lone_server import HEARTBEAT_S, Heard, LoneServer, append, batch

KIND_AT = 5


@pytest.fixture
def lone() -> Iterator[LoneServer]:
    """One of three servers."""
    with Simulation(1) as simulation:
        yield LoneServer(simulation)


def indexes(lone: LoneServer, name: str) -> list[list[int]]:
    """The indexes in each request that a voice has heard."""
    return [
        [Batch.decode(record).base_index for record in request.batches]
        for request in lone.heard(name, AppendEntries)
    ]


def reply_to(
    lone: LoneServer, name: str, heard: Heard, *, accepted: bool, match_index: int
) -> None:
    """Answer a request that was heard some time ago."""
    request = heard.message
    reply = AppendEntriesReply(
        request.term, accepted, match_index, request.request, request.round, False
    )
    lone.say(name, reply, heard.sender)


def streaming(lone: LoneServer) -> None:
    """Let the server lead, with n2 and n3 at index 1."""
    lone.elect("n2")
    lone.accept("n2")
    lone.accept("n3")
    lone.forget()


def matches(lone: LoneServer) -> int:
    return lone.server.following()["n3"].match_index


# Answers and requests.


def test_each_request_has_a_number_of_its_own(lone: LoneServer) -> None:
    """§3.5: the answer of a follower says which request it is of."""
    streaming(lone)
    for nonce in (1, 2):
        lone.propose_session("n2", nonce)
    lone.pass_time(2 * HEARTBEAT_S)
    numbers = [request.request for request in lone.heard("n3", AppendEntries)]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert lone.replicate("n2", append(9, 1)).request == 1


def test_a_late_acceptance_proves_what_it_says_and_no_more(lone: LoneServer) -> None:
    """§3.5: it moves the match index as far as it goes, and what is not known still has to be
    found out."""
    streaming(lone)
    for nonce in (1, 2, 3):
        lone.propose_session("n2", nonce)
    first, second, third = [one for one in lone.voices["n3"].heard if one.message.batches]
    reply_to(lone, "n3", third, accepted=False, match_index=1)
    lone.forget()
    reply_to(lone, "n3", second, accepted=True, match_index=3)
    reply_to(lone, "n3", first, accepted=True, match_index=2)
    assert (matches(lone), indexes(lone, "n3")) == (3, [])
    lone.pass_time(2 * HEARTBEAT_S)
    assert lone.heard("n3", AppendEntries)[-1].prev_index == 3
    lone.accept("n3")
    assert indexes(lone, "n3")[-1] == [4]


def test_a_late_refusal_changes_nothing(lone: LoneServer) -> None:
    """§3.5: what is refused after a later request was accepted is refused no more; nothing is sent
    because of it."""
    streaming(lone)
    lone.propose_session("n2", 1)
    early = lone.last_heard("n3", AppendEntries)
    reply_to(lone, "n3", early, accepted=False, match_index=1)
    for _ in range(2):
        lone.accept("n3")
    assert matches(lone) == 2
    lone.forget()
    for _ in range(3):
        reply_to(lone, "n3", early, accepted=False, match_index=1)
    assert (matches(lone), indexes(lone, "n3")) == (2, [])
    lone.propose_session("n2", 2)
    assert indexes(lone, "n3") == [[3]]


def test_one_refusal_that_comes_twice_is_answered_once(lone: LoneServer) -> None:
    """§3.5: the copy is of a request from before the leader began to ask."""
    streaming(lone)
    lone.propose_session("n2", 1)
    refused = lone.last_heard("n3", AppendEntries)
    lone.forget()
    for _ in range(3):
        reply_to(lone, "n3", refused, accepted=False, match_index=1)
    assert indexes(lone, "n3") == [[]]


# Who is sent what.


def test_a_request_that_was_lost_is_noticed_by_the_next(lone: LoneServer) -> None:
    """§3.5: a heartbeat says what must be there before it; who lacks it says so, and gets it."""
    streaming(lone)
    lone.propose_session("n2", 1)
    lone.forget()
    lone.run_until(lambda: lone.heard("n3", AppendEntries))
    assert lone.heard("n3", AppendEntries)[-1].prev_index == 2
    lone.refuse("n3", hint=1)
    assert lone.heard("n3", AppendEntries)[-1].prev_index == 1
    assert indexes(lone, "n3") == [[], []]
    lone.accept("n3")
    assert indexes(lone, "n3")[-1] == [2]


def test_who_is_silent_hears_heartbeats_and_is_not_fed(lone: LoneServer) -> None:
    """§3.5: to a follower that does not answer the same is not sent again, nor anything new; when
    it answers, it is sent what it lacks, once."""
    streaming(lone)
    lone.propose_session("n2", 1)
    for _ in range(8):
        lone.pass_time(HEARTBEAT_S)
        lone.accept("n2")
    lone.forget()
    for nonce in range(2, 10):
        lone.propose_session("n2", nonce)
        lone.accept("n2")
    lone.pass_time(HEARTBEAT_S)
    heard = lone.heard("n3", AppendEntries)
    assert 1 <= len(heard) <= 2
    assert indexes(lone, "n3") == [[]] * len(heard)
    lone.accept("n3")
    assert matches(lone) == 2
    assert indexes(lone, "n3")[len(heard) :] == [list(range(3, 11))]


def test_a_request_has_a_bounded_number_of_batches(lone: LoneServer) -> None:
    """§10.2.2: what a follower lacks goes in several requests, of which few are under way before it
    answers, however small they are."""
    lone.replicate("n2", append(1, *[1] * 40))
    lone.elect("n2")
    with (
        patch.object(replicator, "REQUEST_BATCHES_MAX", 5),
        patch.object(replicator, "BATCHES_IN_FLIGHT_MAX", 10),
    ):
        lone.refuse("n3", hint=10)
        lone.forget()
        lone.pass_time(HEARTBEAT_S)
        lone.accept("n3")
        assert indexes(lone, "n3")[1:] == [[*range(11, 16)], [*range(16, 21)]]
        lone.accept("n3")
        assert indexes(lone, "n3")[3:] == [[*range(21, 26)], [*range(26, 31)]]


# What cannot be read.


def test_a_damaged_request_is_answered_as_far_as_it_was_whole(lone: LoneServer) -> None:
    """§3.5: the follower takes what it can check, says how far that goes, and notes the rest."""
    request = append(1, 1, 1, 1)
    damaged = bytearray(request.batches[1])
    damaged[-1] ^= 1
    records = (request.batches[0], bytes(damaged), request.batches[2])
    reply = lone.replicate("n2", AppendEntries(1, 2, 0, 0, 3, 1, records, 0, 7))
    assert (reply.accepted, reply.match_index, reply.request) == (True, 1, 7)
    assert (lone.log, lone.commit_index) == ([1], 1)
    assert any("damaged" in note for note in lone.server.notes.all())


def test_what_was_damaged_is_sent_again_with_growing_pauses(lone: LoneServer) -> None:
    """§3.5: a leader that hears that its request was damaged looks at its own copy, and sends it
    again later and later, not as often as it is answered."""
    streaming(lone)
    lone.propose_session("n2", 1)
    times = []
    for _ in range(6):
        times.append(lone.simulation.now_s)
        lone.accept("n3", match_index=1)
        lone.forget()
        while [2] not in indexes(lone, "n3"):
            lone.pass_time(HEARTBEAT_S / 4)
            if lone.heard("n3", AppendEntries):
                lone.accept("n2")
                if [2] not in indexes(lone, "n3"):
                    lone.accept("n3")
    pauses = [after - before for before, after in pairwise(times)]
    assert pauses[-1] > 4 * pauses[0]
    lone.accept("n3")
    assert matches(lone) == 2


def test_a_leader_whose_own_copy_is_damaged_stops(lone: LoneServer) -> None:
    """§3.5: another server, whose log is whole, can then lead."""
    streaming(lone)
    lone.propose_session("n2", 1)
    cached = lone.server.log.batch_at(2)
    cached.record = cached.record[:-1] + bytes([cached.record[-1] ^ 1])
    with pytest.raises(MemoryDamagedError, match="index 2 of the log"):
        lone.accept("n3", match_index=1)


def test_a_record_that_only_a_newer_version_knows_stops_a_follower(lone: LoneServer) -> None:
    """§3.5: it cannot go on without it, so it says what it is and what to do, and stores nothing."""
    record = bytearray(batch(2, 1).record)
    record[KIND_AT] = 77
    record[:4] = crc32(record[4:]).to_bytes(4, "little")
    with pytest.raises(UnknownRecordError, match=r"kind 77 at index 2.*version"):
        lone.say("n2", AppendEntries(1, 2, 0, 0, 2, 1, (batch(1, 1).record, bytes(record)), 0, 1))


# What was acknowledged and is gone (§3.8).


def lost(lone: LoneServer) -> bool:
    return lone.server.following()["n3"].has_lost_data


def test_who_lacks_what_it_acknowledged_is_refused(lone: LoneServer) -> None:
    """§3.8: a follower must keep what it has acknowledged. One that is asked after the leader knew
    of it, and does not have it, is told, and no longer counts."""
    streaming(lone)
    lone.propose_session("n3", 1)
    lone.accept("n3")
    assert lone.commit_index == 2
    lone.propose_session("n3", 2)
    lone.refuse("n3", hint=1)
    assert lost(lone)
    assert any(LOST_DATA in note for note in lone.server.notes.all())
    lone.propose_session("n2", 3)
    assert lone.commit_index == 2
    lone.accept("n2")
    assert lone.commit_index == 4


def test_who_was_overtaken_by_its_own_answer_is_not_refused(lone: LoneServer) -> None:
    """§3.8: what was asked before the leader knew of the acknowledgement says nothing about it."""
    streaming(lone)
    lone.propose_session("n2", 1)
    lone.propose_session("n2", 2)
    first, second = [one for one in lone.voices["n3"].heard if one.message.batches]
    reply_to(lone, "n3", first, accepted=True, match_index=2)
    reply_to(lone, "n3", second, accepted=False, match_index=1)
    assert (matches(lone), lost(lone)) == (2, False)
    assert lone.heard("n3", AppendEntries)[-1].prev_index == 2


def test_who_has_everything_again_counts_again(lone: LoneServer) -> None:
    """§3.8: its directory was brought back as it had been."""
    streaming(lone)
    lone.propose_session("n2", 1)
    lone.refuse("n3", hint=0)
    assert lost(lone)
    lone.run_until(lambda: lone.server.peers["n3"].connected)
    lone.run_until(lambda: lone.heard("n3", AppendEntries))
    lone.forget()
    lone.run_until(lambda: lone.heard("n3", AppendEntries))
    lone.accept("n3")
    assert not lost(lone)
    assert indexes(lone, "n3")[-1] == [2]
