"""Who leads, as far as the answers of the servers allow to say."""

from dataclasses import replace

import pytest

from copycat.client.status import Answer
from copycat.console.cli.status import document, lines
from copycat.console.dashboard.model import Observer
from copycat.console.health import health_of
from statuses import WALL_S, healthy, silence, status


@pytest.mark.parametrize(
    ("answers", "leader", "verdict"),
    [
        (healthy(), "n2", "healthy"),
        ([*healthy()[:2], silence("n3")], "n2", "degraded"),
        ([silence("n1"), silence("n2")], None, "unreachable"),
        # It leads an older term than another server has seen: it is cut off, and leads no more.
        ([status("n2", "leader", 42), status("n1", "leader", 43, "n1")], "n1", "degraded"),
        ([status("n2", "leader", 42), status("n1", "candidate", 43, "")], None, "no leader"),
        # The others still believe in it, but it says itself that it does not lead.
        ([status("n1"), status("n3"), status("n2", "follower")], None, "no leader"),
        # We cannot reach it, but a majority follows it.
        ([status("n1"), status("n3"), silence("n2")], "n2", "degraded"),
        # One follower of three is not a majority: it may be the last to notice.
        ([status("n1"), silence("n3"), silence("n2")], None, "no leader"),
        ([status("n1"), status("n3", term=43, leader=""), silence("n2")], None, "no leader"),
        ([status(name, "inactive", 0, "") for name in ("n1", "n2", "n3")], None, "no leader"),
    ],
)
def test_the_leader_is_who_leads_the_highest_term(
    answers: list[Answer], leader: str | None, verdict: str
) -> None:
    """Whatever older terms or lonely followers say."""
    health = health_of(answers)
    assert (health.leader, health.verdict) == (leader, verdict)


def test_a_silent_server_has_the_name_that_others_give_it() -> None:
    """And its endpoint if nobody knows it."""
    stranger = replace(silence("n9"), name="")
    ids = [member.id for member in health_of([status("n1"), silence("n3"), stranger]).members]
    assert ids == ["127.0.0.1:7409", "n1", "n3"]


def test_a_server_of_another_cluster_counts_as_not_there() -> None:
    """It is not a follower of this one, whatever its name; one without a cluster may be yet."""
    foreign = replace(status("n3"), cluster_id=8)
    health = health_of([foreign, *healthy()[:2]])
    assert (health.verdict, health.leader, len(health.statuses)) == ("degraded", "n2", 2)
    assert "another cluster: 0000000000000008" in health.members[2].reason
    assert health_of([replace(foreign, cluster_id=0), *healthy()[:2]]).verdict == "healthy"


def test_a_server_that_stands_still_is_not_well() -> None:
    """Behind its commit index for more than a second it is no healthy one, though it answers."""
    n1, n2, n3 = status("n1"), status("n2", "leader"), status("n3")
    still = health_of([n1, n2, replace(n3, apply_stood_ms=1_001)])
    assert still.verdict == "degraded"
    assert [member.trouble for member in still.members] == ["", "", "stands still"]
    assert health_of([n1, n2, replace(n3, apply_stood_ms=1_000)]).verdict == "healthy"
    told = lines(still)
    assert told[0].startswith("degraded: leader n2, term 42, 3 of 3 servers reachable")
    assert told[-1].startswith(
        "n3 at 127.0.0.1:7403: stands still at 918,200 of 918,203 committed entries for 1"
    )
    rows = Observer().observe([n1, n2, replace(n3, apply_stood_ms=1_001)], 1.0, WALL_S).rows
    assert [row.condition for row in rows] == ["OK", "OK", "XSTILL"]


def test_a_server_that_takes_nothing_over_is_not_well() -> None:
    """It answers the leader, and lacks what is committed for more than five seconds."""
    leader = status("n2", "leader")
    behind = replace(leader.peers[0], match_index=8, match_stood_ms=5_001)
    answers = [status("n1"), replace(leader, peers=(behind, leader.peers[1])), status("n3")]
    assert health_of(answers).verdict == "degraded"
    assert lines(health_of(answers))[-1] == (
        "n1 at 127.0.0.1:7401: has taken over nothing behind entry 8 for 5s, of 918,203 committed ones"
        " that n2 has, which leads; the logs of both say why"
    )
    slow = replace(behind, match_stood_ms=5_000)
    answers[1] = replace(leader, peers=(slow, leader.peers[1]))
    assert health_of(answers).verdict == "healthy"


def test_a_leader_that_does_not_serve_yet_is_none() -> None:
    """A start with a long log: what was elected applies it first, and every call waits until then."""
    elected = replace(status("n2", "leader"), serves=False, applied_index=25_197)
    health = health_of([status("n1"), elected, status("n3")])
    assert (health.verdict, health.leader) == ("no leader", None)
    assert lines(health)[-1] == (
        "n2 at 127.0.0.1:7402: was elected in term 42 and serves nobody before it has applied what its"
        " log has: 25,197 of 918,203 committed entries"
    )
    rows = Observer().observe([status("n1"), elected, status("n3")], 1.0, WALL_S).rows
    assert [row.condition for row in rows] == ["OK", "!STARTS", "OK"]


def heard_ago(age_ms: int, longest_ms: int = 600) -> list[Answer]:
    """Three servers; n2 leads, and has not heard of n1 for so long."""
    leader = replace(status("n2", "leader"), election_timeout_ms=longest_ms)
    silent = replace(leader.peers[0], connected=False, contact_age_ms=age_ms)
    return [
        status("n1", term=41, leader=""),
        replace(leader, peers=(silent, leader.peers[1])),
        status("n3"),
    ]


def test_a_server_that_the_leader_does_not_hear_of_is_not_well() -> None:
    """It answers, in an old term: the cluster is not healthy, in words, as JSON and in the dashboard."""
    cut = health_of(heard_ago(1_001))
    assert (cut.verdict, cut.well) == ("degraded", 2)
    reason = (
        "takes no part: n2, which leads, has not heard of it for 1s; it is in term 41, not 42;"
        " the logs of both say why"
    )
    told = lines(cut)
    assert told[0].startswith("degraded: leader n2, term 42, 3 of 3 servers reachable")
    assert told[-1] == f"n1 at 127.0.0.1:7401: {reason}"
    written = document(cut)
    assert written["health"] == "degraded"
    assert [each["reason"] for each in written["servers"]] == [reason, None, None]
    rows = Observer().observe(heard_ago(1_001), 1.0, WALL_S).rows
    assert [(row.condition, row.reason) for row in rows] == [
        ("XCUT", reason), ("OK", ""), ("OK", ""),
    ]  # fmt: skip


def test_a_server_is_given_a_second_or_an_election_timeout() -> None:
    """What lasts shorter is a link that is made again, or a rare heartbeat."""
    assert health_of(heard_ago(1_000)).verdict == "healthy"
    assert health_of(heard_ago(5_000, longest_ms=6_000)).verdict == "healthy"
    assert health_of(heard_ago(6_001, longest_ms=6_000)).verdict == "degraded"


def test_what_is_not_there_is_said_once() -> None:
    """The verdict names the leader if there is one, and does not repeat itself."""
    health = health_of([status("n1", leader=""), silence("n2"), silence("n3")])
    assert lines(health)[0] == "no leader: term 42, 1 of 3 servers reachable"


def test_servers_are_in_the_order_of_their_numbers() -> None:
    """n2 comes before n10."""
    answers: list[Answer] = [replace(status("n1"), name=name) for name in ("n10", "n2", "b", "n1")]
    assert [member.id for member in health_of(answers).members] == ["b", "n1", "n2", "n10"]


def test_the_size_of_the_cluster_is_what_its_servers_say() -> None:
    """A single answer tells how many there are, and how many are needed."""
    health = health_of([status("n1")])
    assert (health.total, health.majority, health.term) == (3, 2, 42)
