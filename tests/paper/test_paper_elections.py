"""Terms and elections, rule by rule: chapters 3.3, 3.4, 3.6.1 and 3.8 of the dissertation, 4.2.3."""

from collections.abc import Iterator
from itertools import pairwise

import pytest

from copycat.actors.simulation import Simulation
from copycat.protocol.raft import (
    AppendEntries,
    AppendEntriesReply,
    PreVote,
    RequestVote,
    RequestVoteReply,
)
from lone_server import (
    HEARTBEAT_S,
    ROUND_S,
    TIMEOUT_MAX_S,
    TIMEOUT_MIN_S,
    LoneServer,
    append,
)


@pytest.fixture
def lone() -> Iterator[LoneServer]:
    """One of three servers."""
    with Simulation(1) as simulation:
        yield LoneServer(simulation)


# Terms (§3.3).


def test_a_request_of_an_earlier_term_is_refused(lone: LoneServer) -> None:
    """§3.3: who still lives in an earlier term is refused, and told the current one."""
    assert lone.replicate("n2", append(3)).accepted
    reply = lone.replicate("n3", append(2, 2, leader=3))
    assert (reply.accepted, reply.term) == (False, 3)
    assert lone.log == []
    assert lone.server.leader == "n2"
    lone.pass_time(TIMEOUT_MIN_S)
    vote = lone.ask("n3", RequestVote(2, 3, 0, 0), RequestVoteReply)
    assert (vote.granted, vote.term) == (False, 3)
    assert lone.term == 3


@pytest.mark.parametrize("role", ["follower", "candidate", "leader"])
def test_a_request_of_a_later_term_makes_a_follower(lone: LoneServer, role: str) -> None:
    """§3.3: whatever a server is, it enters the later term that it is told of, and follows there."""
    if role == "candidate":
        lone.stand("n2")
    elif role == "leader":
        lone.elect("n2")
    assert lone.role == role
    assert lone.replicate("n3", append(9, leader=3)).accepted
    assert (lone.role, lone.term, lone.server.leader) == ("follower", 9, "n3")


def test_an_answer_of_a_later_term_ends_a_candidacy(lone: LoneServer) -> None:
    """§3.3: a candidate that is refused by a server of a later term is a candidate no more."""
    lone.stand("n2")
    _, candidate = lone.last_heard("n3", RequestVote)
    lone.say("n3", RequestVoteReply(9, 3, False), candidate)
    assert (lone.role, lone.term) == ("follower", 9)


def test_an_answer_of_a_later_term_deposes_a_leader(lone: LoneServer) -> None:
    """§3.3: a leader that is refused by a server of a later term steps down."""
    lone.elect("n2")
    _, leader = lone.last_heard("n3", AppendEntries)
    lone.say("n3", AppendEntriesReply(9, False, 0, 1, 1, False), leader)
    assert (lone.role, lone.term) == ("follower", 9)


# Votes (§3.4).


def test_a_server_has_one_vote_in_a_term(lone: LoneServer) -> None:
    """§3.4: who comes first gets it, as often as it asks; in the next term it is free again."""
    assert lone.votes_for("n2", 1)
    assert not lone.votes_for("n3", 1)
    assert lone.votes_for("n2", 1)
    assert lone.votes_for("n3", 2)
    assert not lone.votes_for("n2", 2)


def test_a_candidate_votes_for_itself_in_a_new_term(lone: LoneServer) -> None:
    """§3.4: it raises its term by one, asks all others in it, and has no vote left for them."""
    lone.replicate("n2", append(4))
    lone.stand("n2")
    assert lone.term == 5
    assert lone.server.ballot.voted_for == lone.id
    for name in ("n2", "n3"):
        (request,) = lone.heard(name, RequestVote)
        assert (request.term, request.candidate) == (5, lone.id)
        assert not lone.votes_for(name, 5)


def test_the_votes_of_a_majority_make_a_leader() -> None:
    """§3.4: of five servers three have to vote; a vote that comes twice is one, a refusal none."""
    with Simulation(1) as simulation:
        lone = LoneServer(simulation, servers=5)
        lone.stand("n2", "n3")
        lone.answer_vote("n2")
        lone.answer_vote("n2")
        lone.answer_vote("n4", granted=False)
        lone.answer_vote("n5", granted=False)
        assert lone.role == "candidate"
        lone.answer_vote("n3")
        assert lone.role == "leader"


def test_a_vote_of_an_earlier_term_does_not_count(lone: LoneServer) -> None:
    """§3.4: what was promised for one election is nothing in the next."""
    lone.stand("n2")
    _, earlier = lone.last_heard("n2", RequestVote)
    lone.run_until(lambda: lone.role == "follower")
    lone.stand("n2")
    assert lone.term == 2
    for candidate in (earlier, lone.server.role):
        lone.say("n2", RequestVoteReply(1, 2, True), candidate)
        assert lone.role == "candidate"
    lone.answer_vote("n2")
    assert lone.role == "leader"


def test_a_vote_in_the_name_of_another_does_not_count() -> None:
    """§3.4: each member has one, whatever number it gives itself."""
    with Simulation(1) as simulation:
        lone = LoneServer(simulation, servers=5)
        lone.stand("n2", "n3")
        request, candidate = lone.last_heard("n2", RequestVote)
        for voter in (2, 4, 5, 99):
            lone.say("n2", RequestVoteReply(request.term, voter, True), candidate)
        assert lone.role == "candidate"
        lone.answer_vote("n3")
        assert lone.role == "leader"


def test_who_has_not_voted_is_asked_again(lone: LoneServer) -> None:
    """§3.4: a request or its answer may have been lost; it is the same election."""
    lone.stand("n2")
    lone.run_until(lambda: len(lone.heard("n2", RequestVote)) == 2)
    first, second = lone.heard("n2", RequestVote)
    assert first == second
    lone.answer_vote("n2")
    assert (lone.role, lone.term) == ("leader", first.term)


def test_a_candidate_follows_the_leader_of_its_term(lone: LoneServer) -> None:
    """§3.4: another one has won this election, and is obeyed at once."""
    lone.stand("n2")
    assert lone.replicate("n3", append(1, 1, leader=3)).accepted
    assert (lone.role, lone.term, lone.log) == ("follower", 1, [1])
    lone.answer_vote("n2")
    assert lone.role == "follower"


def test_a_candidate_does_not_follow_a_leader_of_an_earlier_term(lone: LoneServer) -> None:
    """§3.4: it refuses, and goes on as a candidate."""
    lone.replicate("n2", append(1))
    lone.stand("n3")
    reply = lone.replicate("n2", append(1, 1))
    assert (reply.accepted, reply.term) == (False, 2)
    assert (lone.role, lone.log) == ("candidate", [])


def test_a_new_leader_says_at_once_that_it_leads(lone: LoneServer) -> None:
    """§3.4: everybody hears of it before another election begins."""
    lone.stand("n2")
    lone.answer_vote("n2")  # takes one round
    for name in ("n2", "n3"):
        assert [request.term for request in lone.heard(name, AppendEntries)] == [1]


def test_an_idle_leader_says_again_and_again_that_it_leads(lone: LoneServer) -> None:
    """§3.4: nobody, whether it answers or not, is left without a request for a heartbeat."""
    lone.elect("n2")
    lone.accept("n2")
    lone.pass_time(HEARTBEAT_S)
    for _ in range(10):
        lone.forget()
        lone.pass_time(HEARTBEAT_S + ROUND_S)
        for name in ("n2", "n3"):
            assert lone.heard(name, AppendEntries)
        lone.accept("n2")
    assert lone.role == "leader"


def test_who_hears_a_leader_asks_for_no_election(lone: LoneServer) -> None:
    """§3.4: heartbeats keep a follower; it asks when they have been missing for a time-out."""
    for _ in range(30):
        lone.replicate("n2", append(1))
        lone.pass_time(HEARTBEAT_S)
    assert lone.heard("n3", PreVote) == []
    lone.replicate("n2", append(1))
    lone.pass_time(TIMEOUT_MIN_S - 2 * ROUND_S)
    assert lone.heard("n3", PreVote) == []
    lone.pass_time(TIMEOUT_MAX_S - TIMEOUT_MIN_S + 2 * ROUND_S)
    assert lone.heard("n3", PreVote)


def test_who_has_voted_waits_for_the_outcome(lone: LoneServer) -> None:
    """§3.4: a vote is given with a whole election time-out for the one who has it."""
    for _ in range(5):
        assert lone.votes_for("n2", 1)
        lone.pass_time(TIMEOUT_MIN_S - 2 * ROUND_S)
    assert lone.heard("n2", PreVote) == []


def test_who_refuses_its_vote_waits_no_longer(lone: LoneServer) -> None:
    """§3.4: within a term, a candidate that cannot win does not keep those from standing who can."""
    lone.replicate("n2", append(1, 1))
    began_s = lone.simulation.now_s
    while not lone.heard("n3", PreVote):
        assert not lone.votes_for("n3", 1)
        lone.pass_time(TIMEOUT_MIN_S / 5)
        assert lone.simulation.now_s - began_s < TIMEOUT_MAX_S + TIMEOUT_MIN_S / 2


def test_election_timeouts_are_drawn_anew_each_time(lone: LoneServer) -> None:
    """§3.4: between the shortest and the longest, so that votes are seldom split again."""
    moments_s: list[float] = []
    lone.run_until_asked(PreVote)
    for _ in range(20):
        rounds = {request.round for request in lone.heard("n2", PreVote)}
        while lone.last_heard("n2", PreVote).message.round in rounds:
            lone.pass_time(ROUND_S / 4)
        moments_s.append(lone.simulation.now_s)
    waits_s = [later - earlier for earlier, later in pairwise(moments_s)]
    assert all(TIMEOUT_MIN_S - ROUND_S <= wait_s <= TIMEOUT_MAX_S + ROUND_S for wait_s in waits_s)
    assert max(waits_s) - min(waits_s) > (TIMEOUT_MAX_S - TIMEOUT_MIN_S) / 2


def test_a_split_vote_is_followed_by_another_election(lone: LoneServer) -> None:
    """§3.4: a candidate that neither wins nor loses stands again after a time-out, a term later."""
    lone.stand("n2")
    lone.answer_vote("n2", granted=False)
    lone.answer_vote("n3", granted=False)
    lone.pass_time(TIMEOUT_MAX_S)
    lone.elect("n2")
    assert lone.term == 2


# Who may be elected (§3.6.1).


@pytest.mark.parametrize(
    ("last", "granted"),
    [
        pytest.param((3, 2), True, id="the same end"),
        pytest.param((4, 2), True, id="longer"),
        pytest.param((1, 3), True, id="shorter, of a later term"),
        pytest.param((2, 2), False, id="shorter"),
        pytest.param((9, 1), False, id="longer, of an earlier term"),
        pytest.param((0, 0), False, id="empty"),
    ],
)
def test_only_who_has_as_much_as_the_voter_gets_its_vote(
    lone: LoneServer, last: tuple[int, int], granted: bool
) -> None:
    """§3.6.1: the term of the last entry decides, then the length of the log."""
    lone.replicate("n2", append(2, 1, 1, 2))
    lone.pass_time(TIMEOUT_MIN_S)
    assert lone.votes_for("n3", 3, last) == granted
    assert lone.term == 3


# What survives (§3.8).


def test_a_vote_is_not_said_before_it_is_durable(lone: LoneServer) -> None:
    """§3.8: a vote that a crash could take back has not been given."""
    with lone.disk_held():
        assert lone.say("n2", RequestVote(1, 2, 0, 0)) == []
        assert lone.server.ballot.voted_for == 2
    assert [vote.granted for vote in lone.heard("n2", RequestVoteReply)] == [True]


def test_a_vote_survives_a_restart(lone: LoneServer) -> None:
    """§3.8: a server that has lost power still knows its term, and for whom it voted."""
    assert lone.votes_for("n2", 5)
    lone.restart()
    assert lone.term == 5
    assert not lone.votes_for("n3", 5)
    assert lone.votes_for("n2", 5)


def test_a_term_is_not_said_before_it_is_durable(lone: LoneServer) -> None:
    """§3.8: a candidate asks for votes when its disk has the term and its own vote."""
    lone.run_until_asked(PreVote)
    with lone.disk_held():
        lone.answer_pre_vote("n2")
        assert lone.role == "candidate"
        assert lone.heard("n2", RequestVote) == []
    assert [request.term for request in lone.heard("n2", RequestVote)] == [1]


def test_the_own_vote_counts_when_it_is_durable(lone: LoneServer) -> None:
    """§3.8: with one vote of another a candidate leads only when it cannot forget its own."""
    lone.run_until_asked(PreVote)
    with lone.disk_held():
        lone.answer_pre_vote("n2")
        lone.say("n2", RequestVoteReply(1, 2, True), lone.server.role)
        assert lone.role == "candidate"
    assert lone.role == "leader"


# Disruptive servers (§4.2.3).


def test_who_hears_a_leader_does_not_vote(lone: LoneServer) -> None:
    """§4.2.3: nor does it enter the candidate's term, until a shortest time-out has passed."""
    lone.replicate("n2", append(1))
    assert not lone.votes_for("n3", 7)
    assert lone.term == 1
    lone.pass_time(TIMEOUT_MIN_S)
    assert lone.votes_for("n3", 7)
    assert lone.term == 7


def test_a_leader_is_not_deposed_by_a_request_for_a_vote(lone: LoneServer) -> None:
    """§4.2.3: a leader that does its work goes on with it, in its term."""
    lone.elect("n2")
    assert not lone.votes_for("n3", 7, last=(9, 6))
    assert (lone.role, lone.term) == ("leader", 1)
