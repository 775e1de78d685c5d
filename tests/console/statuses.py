"""Statuses as servers would tell them, for tests of what is made of them."""

from dataclasses import replace

from copycat.client.status import Answer, NoAnswer
from copycat.console.dashboard.model import Observer, Picture
from copycat.protocol.status import PeerStatus, Status

NAMES = ("n1", "n2", "n3")
WALL_S = 1_792_332_131.0  # 14:02:11Z on some day
NOTES = (
    f"{WALL_S * 1000 - 9000:.0f} info member of cluster 6f1c09aa6f1c09aa",
    f"{WALL_S * 1000 - 8000:.0f} info n2 leads in term 42",
    f"{WALL_S * 1000 - 1000:.0f} warning stepped down in term 42: no majority was heard",
)


def endpoint(name: str) -> str:
    """Where a server listens."""
    return f"127.0.0.1:740{name[1:]}"


def status(name: str, role: str = "follower", term: int = 42, leader: str = "n2") -> Status:
    """A server in the middle of its life; the leader knows its followers."""
    leads = role == "leader"
    peers = tuple(
        PeerStatus(
            name=other,
            endpoint=endpoint(other),
            connected=True,
            match_index=918_204 if leads else None,
            contact_age_ms=27 if leads else None,
            match_stood_ms=0 if leads else None,
        )
        for other in NAMES
        if other != name
    )
    return Status(
        request=1,
        name=name,
        server_id=int(name[1:]),
        cluster_id=7,
        role=role,
        serves=leads,
        term=term,
        leader=leader,
        last_index=918_204,
        commit_index=918_203,
        applied_index=918_200,
        apply_stood_ms=3,
        log_bytes=41 << 20,
        log_time_us=1,
        sessions=118,
        connections=40,
        resources=(("users", "map"), ("hits", "counter"), ("locks/nightly", "lock")),
        resource_count=3,
        commands_applied=10_000,
        queries_answered=5_000,
        elections_started=1,
        uptime_ms=3 * 86_400_000,
        election_timeout_ms=600,
        peers=peers,
        handlers=(),
        notes=NOTES if leads else NOTES[:2],
    )


def silence(name: str, reason: str = "connection refused") -> NoAnswer:
    """A server that does not answer."""
    return NoAnswer(endpoint(name), name, reason, refused=False)


def healthy() -> list[Answer]:
    """Three servers, n2 leads."""
    return [status("n2", "leader"), status("n1"), status("n3")]


def later(answers: list[Answer], seconds: float) -> list[Answer]:
    """The same servers after some work."""
    return [
        replace(
            each,
            commands_applied=each.commands_applied + round(1240 * seconds),
            queries_answered=each.queries_answered + round(100 * seconds),
            uptime_ms=each.uptime_ms + round(1000 * seconds),
        )
        if isinstance(each, Status)
        else each
        for each in answers
    ]


def seen(*looks: list[Answer]) -> Picture:
    """What is shown after these looks, ten seconds apart, the last of them at ``WALL_S``."""
    observer = Observer()
    for number, answers in enumerate(looks):
        ago_s = (len(looks) - 1 - number) * 10.0
        picture = observer.observe(answers, 1000.0 - ago_s, WALL_S - ago_s)
    return picture
