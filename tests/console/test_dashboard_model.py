"""Figures on the dashboard are those that servers told, or honest differences of them."""

from dataclasses import replace

from copycat.client.status import Answer
from copycat.console.dashboard.model import Observer
from copycat.protocol.status import Status
from statuses import NAMES, WALL_S, endpoint, healthy, later, seen, silence, status


def test_one_look_shows_no_rates() -> None:
    """A rate needs two looks; before that it is unknown, not zero."""
    picture = seen(healthy())
    assert (picture.write_per_s, picture.read_per_s) == (None, None)


def test_rates_are_differences() -> None:
    """Writes as the leader applies them, reads of all servers together."""
    picture = seen(healthy(), later(healthy(), 10))
    assert picture.write_per_s == 1240
    assert picture.read_per_s == 300
    assert picture.writes == (1240,)


def test_a_restarted_server_has_no_rate() -> None:
    """Its counters begin anew, so a difference would be nonsense."""
    restarted: list[Answer] = [
        replace(each, uptime_ms=5, commands_applied=3) if isinstance(each, Status) else each
        for each in healthy()
    ]
    picture = seen(healthy(), restarted)
    assert (picture.write_per_s, picture.read_per_s) == (None, None)


def test_a_server_that_was_away_has_no_rate() -> None:
    """What happened while nobody looked is not of the last moment."""
    away: list[Answer] = [silence("n2"), status("n1"), status("n3")]
    picture = seen(healthy(), away, later(healthy(), 10))
    assert picture.write_per_s is None


def test_both_curves_have_the_same_past() -> None:
    """A look that tells no rate leaves a gap, or what stands above each other is not of one time."""
    away: list[Answer] = [silence("n2"), status("n1"), status("n3")]
    picture = seen(healthy(), later(healthy(), 10), later(away, 20), later(away, 30))
    assert picture.writes == (1240, None, None)
    assert picture.reads == (300, 200, 200)


def test_an_address_is_not_forgotten() -> None:
    """A server does not tell its own; the others, who did, may be gone."""
    picture = seen(healthy(), [silence("n1"), status("n2", "candidate"), silence("n3")])
    assert [row.endpoint for row in picture.rows] == [endpoint(name) for name in NAMES]


def test_followers_are_measured_by_the_leader() -> None:
    """Match, lag and last contact are the leader's knowledge."""
    leader = status("n2", "leader")
    slow = replace(leader.peers[0], match_index=917_000, contact_age_ms=500)
    rows = seen([replace(leader, peers=(slow, leader.peers[1])), status("n1"), status("n3")]).rows
    assert [(row.match, row.lag, row.heard_s, row.condition) for row in rows] == [
        (917_000, 1_204, 0.5, "!BEHIND"),
        (918_204, None, None, "OK"),
        (918_204, 0, 0.027, "OK"),
    ]
    assert {row.apply_lag for row in rows} == {3}


def test_what_the_leader_does_not_know_is_unknown() -> None:
    """A new leader begins with match index 0, which says nothing about the follower."""
    leader = status("n2", "leader")
    peers = tuple(replace(peer, match_index=0) for peer in leader.peers)
    rows = seen([replace(leader, peers=peers), status("n1"), silence("n3")]).rows
    assert [(row.match, row.lag) for row in rows if not row.leads] == [(None, None)] * 2


def test_a_server_that_only_we_reach_is_cut_off() -> None:
    """The leader says that it has not heard of it for long."""
    leader = status("n2", "leader")
    cut = replace(leader.peers[0], connected=False, contact_age_ms=9_000)
    rows = seen([replace(leader, peers=(cut, leader.peers[1])), status("n1"), status("n3")]).rows
    assert [row.condition for row in rows] == ["XCUT", "OK", "OK"]


def test_a_server_that_went_is_remembered() -> None:
    """When it was seen last, and what it had noted."""
    picture = seen(healthy(), [silence("n2"), status("n1"), status("n3")])
    gone = picture.rows[1]
    assert (gone.condition, gone.seen_s, gone.reason) == ("XDOWN", 10, "connection refused")
    assert {event.server for event in picture.events} == {"n1", "n2", "n3"}


def test_the_time_without_a_leader_is_the_one_we_saw() -> None:
    """It begins with the first look that showed none, and ends with a leader."""
    candidates: list[Answer] = [
        replace(status(name, "candidate", 43, ""), elections_started=2) for name in ("n1", "n3")
    ]
    more: list[Answer] = [
        replace(each, term=48, elections_started=5) if isinstance(each, Status) else each
        for each in candidates
    ]
    picture = seen(healthy(), candidates, more)
    assert picture.leaderless is not None
    assert picture.leaderless.age_s == 10
    assert picture.leaderless.since_wall_s == WALL_S - 10
    assert (picture.leaderless.last_leader, picture.leaderless.term_before) == ("n2", 42)
    assert picture.leaderless.elections == 8
    assert seen(healthy(), candidates, healthy()).leaderless is None


def test_when_nobody_answers_nothing_is_known() -> None:
    """Not even that there is no leader; the last contact is remembered."""
    picture = seen(healthy(), [silence("n1"), silence("n2"), silence("n3")])
    assert picture.leaderless is None
    assert picture.last_contact_wall_s == WALL_S - 10


def test_events_are_newest_first_and_well_formed() -> None:
    """A note of an unknown form is left out instead of breaking the screen."""
    strange = replace(status("n1"), notes=("", "x", "12", "abc info text", "5000 info fine"))
    picture = Observer().observe([strange, status("n2", "leader")], 1.0, WALL_S)
    moments = [event.wall_s for event in picture.events]
    assert moments == sorted(moments, reverse=True)
    assert [event.text for event in picture.events if event.server == "n1"] == ["fine"]
