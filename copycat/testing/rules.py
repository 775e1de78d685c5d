"""The rules that must always hold, in words: what a monitor says when one was broken.

Every rule has a planted bug that breaks it, so that its monitor is known to see (the tests hold
that). Numbers of chapters are those of the Raft dissertation.
"""

ELECTION_SAFETY = "Election Safety: a term has at most one leader (§3.4)"
VOTES = "Votes: a leader has the durable votes of a majority (§3.4, §3.8)"
BALLOT = "Ballot: the term never falls, and in one term there is one vote (§3.4)"
DURABLE_BALLOT = (
    "Durability: a server remembers its term and its vote, and changes no vote on its disk (§3.8)"
)
DURABLE_LOG = "Durability: what a server's log has reported as synced survives every crash (§3.8)"
DAMAGE_NOTICED = (
    "Damage: a server does not start with files that are damaged, where anything contradicts them"
)
COPIES_REFUSED = (
    "Identity: who was brought back as it was in an earlier life is refused by all who have met a"
    " later one"
)
APPEND_ONLY = "Leader Append-Only: a leader never drops or changes what is in its log (§3.5)"
LOG_MATCHING = (
    "Log Matching: logs that have a batch of one index and term are the same up to there (§3.5)"
)
LOG_UNCHANGED = "Log Matching: what is in a log never changes (§3.5)"
LOG_TIME = "Log time: it never goes back from one batch to the next"
REPLICATION = "Replication: the match index grows, and what it says is durable there (§3.5)"
COVERED = "Replication: a follower acknowledges no more than the requests of that term have covered (§3.5)"
COMMITTED_STAYS = "Commitment: what a server knows to be committed stays in its log (§3.6)"
COMMIT_GROWS = "Commitment: the commit index grows, and stays within the log"
COMMIT_OWN_TERM = "Commitment: a leader counts copies only of entries of its own term (§3.6.2)"
COMMIT_DURABLE = "Commitment: what a leader commits is durable on a majority (§3.8, §10.2.1)"
LEADER_COMPLETENESS = (
    "Leader Completeness: what was committed in an earlier term is in the log of every leader"
    " (§3.6.3)"
)
SAME_COMMITTED = (
    "State Machine Safety: no two servers commit different batches at one index (§3.6.3)"
)
SAME_APPLIED = "State Machine Safety: servers apply what is committed, in log order (§3.6.3)"
SAME_STATE = (
    "State Machine Safety: servers that have applied the same log have the same state (§3.6.3)"
)
SAME_ANSWERS = "State Machine Safety: servers give the same answers (§6.3)"
SAME_EVENTS = "State Machine Safety: servers publish the same events (§6.3)"
READS_CONFIRMED = (
    "Reads: a leader gives out an index when a majority has answered what it sent after it was"
    " asked (§6.4)"
)
READS_TOLD_APART = (
    "Reads: each question for an index has a number of its own, so no answer to an earlier one"
    " fits (§6.4)"
)
READS_FRESH = (
    "Reads: a read sees all that was committed anywhere when it arrived, or at the leader when that"
    " was asked (§6.4)"
)
QUERIES_IN_ORDER = (
    "Sessions: a query sees the commands before it, and nothing older than its session has seen"
    " (§6.4)"
)
EXACTLY_ONCE = (
    "Exactly once: a command of a session is applied at one index, after the one before it, however"
    " often it is in the log (§6.3)"
)
ANSWERS_IN_ORDER = (
    "Answers: a client is told what its commands did, in their order, without a gap and nothing"
    " twice (§6.3)"
)
EVENTS_IN_ORDER = (
    "Events: a session hears what was published to it in order, without a gap and nothing twice"
    " (§6.3)"
)
DOUBT_IN_TIME = "Sessions: a client doubts its session before it can have expired (§6.3)"
HANDLERS_SHORT = (
    "Time: a handler keeps its server from all else for its budget and one element, and no longer"
)
LED = "Time: without faults there is soon a leader that serves, and it stays"
SESSIONS_KEPT = "Time: without faults no session of a client that lives expires"
TIMERS_ON_TIME = (
    "Time: a timer fires after its delay, the time without a leader that serves, and a heartbeat"
)
EVENTS_SOON = "Time: without faults an event soon reaches a client that lives"
QUEUES_BOUNDED = "Memory: what waits anywhere stays within the budget that is stated for it"
LOCKS_OF_THE_LIVING = "Locks: nobody holds or awaits a lock whose session has ended"
HOLDERS_KEEP = "Locks: only its holder gives a lock away, or the end of the holder's session"
TOKENS_GROW = "Locks: every grant has a larger token than all before"
LONGEST_FIRST = "Locks: whoever has waited longest gets it next"
