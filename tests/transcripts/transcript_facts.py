"""What a transcript can ``expect``, or ``wait until``."""

from transcript_shown import log_lines
from transcript_stage import Stage
from transcript_words import fact, one_of, running


@fact("SERVER leads")
def leads(stage: Stage, name: str) -> bool:
    """It runs and believes to lead."""
    return name in stage.cluster.running and stage.cluster.server(name).role_title == "leader"


@fact("SERVER leads in term NUMBER")
def leads_in(stage: Stage, name: str, term: float) -> bool:
    """The same, in this term."""
    return leads(stage, name) and stage.cluster.server(name).ballot.term == term


@fact("SERVER does not lead")
def does_not_lead(stage: Stage, name: str) -> bool:
    """It is down, or knows that it does not lead."""
    return not leads(stage, name)


@fact("somebody leads")
def somebody_leads(stage: Stage) -> bool:
    """At least one server believes to."""
    return stage.cluster.leader() is not None


@fact("nobody leads")
def nobody_leads(stage: Stage) -> bool:
    """No server believes to."""
    return stage.cluster.leader() is None


@fact("SERVER follows SERVER")
def follows(stage: Stage, name: str, leader: str) -> bool:
    """It takes the other for the leader."""
    server = running(stage, name)
    return server.role_title == "follower" and server.leader == leader


@fact("SERVER stands")
def stands(stage: Stage, name: str) -> bool:
    """It is a candidate."""
    return running(stage, name).role_title == "candidate"


@fact("SERVER is in term NUMBER")
def is_in_term(stage: Stage, name: str, term: float) -> bool:
    """As far as it knows."""
    return running(stage, name).ballot.term == term


@fact("SERVER has voted for SERVER")
def has_voted(stage: Stage, name: str, other: str) -> bool:
    """In its term."""
    return running(stage, name).ballot.voted_for == running(stage, other).identity.server_id


@fact("SERVER is down")
def is_down(stage: Stage, name: str) -> bool:
    """It was not started, or has stopped."""
    return not stage.cluster.is_running(name)


@fact("SERVER runs")
def runs(stage: Stage, name: str) -> bool:
    """It was started and has not stopped."""
    return stage.cluster.is_running(name)


@fact("the log of SERVER ends with NUMBER")
def ends_with(stage: Stage, name: str, index: float) -> bool:
    """This is its last index."""
    return running(stage, name).log.last_index == index


@fact("SERVER has committed NUMBER")
def has_committed(stage: Stage, name: str, index: float) -> bool:
    """Its commit index."""
    return running(stage, name).commit_index == index


@fact("SERVER knows that NUMBER is on SERVER")
def knows_match(stage: Stage, name: str, index: float, other: str) -> bool:
    """The match index of a follower."""
    following = running(stage, name).following()
    return other in following and following[other].match_index == index


@fact("all logs are equal")
def logs_are_equal(stage: Stage) -> bool:
    """Of those that run, and committed to the end."""
    logs = log_lines(stage)
    return len(logs) == 1 and "|" not in logs[0]


@fact("NUMBER sessions are open")
def sessions_are_open(stage: Stage, count: float) -> bool:
    """On every server that runs."""
    return all(
        len(stage.cluster.server(name).progress.sequences) == count
        for name in stage.cluster.running
    )


@fact("CLIENT waits")
def client_waits(stage: Stage, name: str) -> bool:
    """What it has begun has not ended."""
    return any(not task.done() for task in stage.programs[name].under_way)


@fact("CLIENT is NAME")
def client_is(stage: Stage, name: str, state: str) -> bool:
    """connecting, connected, suspended, lost or closed."""
    states = ("connecting", "connected", "suspended", "lost", "closed")
    return stage.programs[name].client.state == one_of(states, state, "state of a client")


@fact("CLIENT has lost lock NAME")
def has_lost_lock(stage: Stage, name: str, lock: str) -> bool:
    """As far as it knows."""
    return stage.programs[name].has_lost(lock)


@fact("NUMBER MESSAGE are held")
def are_held(stage: Stage, count: float, kind: str) -> bool:
    """So many are kept back."""
    return stage.network.count_kept(kind) == count
