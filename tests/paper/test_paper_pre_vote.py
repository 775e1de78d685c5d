"""Pre-votes, rule by rule: chapter 9.6 of the dissertation."""

from collections.abc import Iterator

import pytest

from copycat.actors.simulation import Simulation
from copycat.protocol.raft import PreVote, PreVoteReply, RequestVote
from lone_server import TIMEOUT_MAX_S, TIMEOUT_MIN_S, LoneServer, append


@pytest.fixture
def lone() -> Iterator[LoneServer]:
    """One of three servers."""
    with Simulation(1) as simulation:
        yield LoneServer(simulation)


def test_to_ask_for_pre_votes_raises_no_term(lone: LoneServer) -> None:
    """§9.6: a server that is cut off asks for ever, and comes back in the term it had."""
    lone.replicate("n2", append(3))
    lone.pass_time(20 * TIMEOUT_MAX_S)
    asked = lone.heard("n3", PreVote)
    assert len(asked) >= 20
    assert {request.term for request in asked} == {4}
    assert (lone.role, lone.term) == ("follower", 3)
    assert lone.heard("n3", RequestVote) == []


def test_a_pre_vote_promises_nothing(lone: LoneServer) -> None:
    """§9.6: all who could win are told so; the term does not move and the vote is still free."""
    assert lone.would_vote_for("n2", 5)
    assert lone.would_vote_for("n3", 5)
    assert lone.would_vote_for("n3", 9)
    assert (lone.term, lone.server.ballot.voted_for) == (0, 0)
    assert lone.votes_for("n2", 5)


def test_a_pre_vote_of_no_later_term_is_refused(lone: LoneServer) -> None:
    """§9.6: whoever would stand in a term that has come already is told which it is."""
    assert lone.votes_for("n2", 5)
    reply = lone.ask("n3", PreVote(5, 3, 9, 4, 1), PreVoteReply)
    assert (reply.granted, reply.term) == (False, 5)
    assert lone.would_vote_for("n3", 6, last=(9, 4))


@pytest.mark.parametrize(
    ("last", "granted"),
    [((3, 2), True), ((1, 3), True), ((2, 2), False), ((9, 1), False), ((0, 0), False)],
)
@pytest.mark.parametrize("role", ["follower", "candidate"])
def test_a_pre_vote_is_for_who_has_as_much_as_the_voter(
    lone: LoneServer, role: str, last: tuple[int, int], granted: bool
) -> None:
    """§9.6: with a log that wins no vote (§3.6.1) one is not encouraged to stand."""
    lone.replicate("n2", append(2, 1, 1, 2))
    if role == "candidate":
        lone.stand("n2")
    else:
        lone.pass_time(TIMEOUT_MIN_S)
    assert lone.would_vote_for("n3", 9, last) == granted
    assert lone.role == role


def test_who_hears_a_leader_gives_no_pre_vote(lone: LoneServer) -> None:
    """§9.6: one server that has lost the leader is no reason for an election."""
    lone.replicate("n2", append(1))
    assert not lone.would_vote_for("n3", 2, last=(9, 1))
    lone.pass_time(TIMEOUT_MIN_S)
    assert lone.would_vote_for("n3", 2, last=(9, 1))


def test_a_leader_gives_no_pre_vote(lone: LoneServer) -> None:
    """§9.6: it knows best that there is one."""
    lone.elect("n2")
    assert not lone.would_vote_for("n3", 9, last=(9, 8))
    assert (lone.role, lone.term) == ("leader", 1)


def test_only_with_the_pre_votes_of_a_majority_a_server_stands() -> None:
    """§9.6: of five servers three have to agree, itself among them; who says so twice is one."""
    with Simulation(1) as simulation:
        lone = LoneServer(simulation, servers=5)
        lone.run_until_asked(PreVote)
        lone.answer_pre_vote("n2")
        lone.answer_pre_vote("n2")
        lone.answer_pre_vote("n4", granted=False)
        lone.answer_pre_vote("n5", granted=False)
        assert (lone.role, lone.term) == ("follower", 0)
        lone.answer_pre_vote("n3")
        assert (lone.role, lone.term) == ("candidate", 1)


def test_a_refusal_of_a_later_term_is_believed(lone: LoneServer) -> None:
    """§9.6: a server that is behind learns the term, and asks for the one after it."""
    lone.run_until_asked(PreVote)
    lone.answer_pre_vote("n2", granted=False, term=7)
    assert (lone.role, lone.term) == ("follower", 7)
    lone.run_until_asked(PreVote)
    assert [request.term for request in lone.heard("n2", PreVote)] == [8]


def test_pre_votes_for_another_term_do_not_count(lone: LoneServer) -> None:
    """§9.6: an answer is to the question that was asked, whatever the term was before."""
    lone.run_until_asked(PreVote)
    request, asker = lone.last_heard("n2", PreVote)
    for term in (0, 2):
        lone.say("n2", PreVoteReply(term, 2, True, request.round), asker)
        assert (lone.role, lone.term) == ("follower", 0)
    lone.answer_pre_vote("n2")
    assert lone.role == "candidate"


def test_pre_votes_end_when_a_leader_is_heard(lone: LoneServer) -> None:
    """§9.6: an answer that comes after the leader's request finds nobody who asks."""
    lone.replicate("n2", append(1))
    lone.run_until_asked(PreVote)
    lone.replicate("n2", append(1))
    lone.answer_pre_vote("n3")
    assert (lone.role, lone.term) == ("follower", 1)


def test_a_late_pre_vote_does_not_count_in_a_later_round(lone: LoneServer) -> None:
    """§9.6: who would have voted a while ago may hear a leader by now."""
    lone.run_until_asked(PreVote)
    first, asker = lone.last_heard("n2", PreVote)
    lone.run_until(lambda: lone.last_heard("n2", PreVote).message.round > first.round)
    lone.say("n2", PreVoteReply(first.term, 2, True, first.round), asker)
    assert lone.role == "follower"
    lone.answer_pre_vote("n2")
    assert lone.role == "candidate"


def test_a_pre_vote_in_the_name_of_another_does_not_count() -> None:
    """§9.6: each member has one, whatever number it gives itself."""
    with Simulation(1) as simulation:
        lone = LoneServer(simulation, servers=5)
        lone.run_until_asked(PreVote)
        request, asker = lone.last_heard("n2", PreVote)
        for voter in (2, 3, 4, 99):
            lone.say("n2", PreVoteReply(request.term, voter, True, request.round), asker)
        assert lone.role == "follower"


def test_who_has_not_answered_is_asked_again(lone: LoneServer) -> None:
    """§9.6: a question or its answer may have been lost; the round is the same."""
    lone.run_until_asked(PreVote)
    first = lone.last_heard("n2", PreVote).message
    lone.run_until(lambda: len(lone.heard("n2", PreVote)) == 2)
    assert lone.last_heard("n2", PreVote).message == first
    lone.answer_pre_vote("n2")
    assert lone.role == "candidate"
