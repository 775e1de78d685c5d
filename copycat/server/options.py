"""What a server is told at its start, and which of it makes sense together."""

from collections.abc import Mapping
from dataclasses import dataclass

from copycat.errors import ConfigurationError
from copycat.machine import Catalog
from copycat.server.users_code import Recursion
from copycat.types import NAME_CHARACTERS_MAX

SERVERS_MAX = 9
TIMING = "election-timeout/"
SESSION_TIMEOUT_MIN_S = 1.0
SESSION_TIMEOUT_ELECTIONS = 1.5  # longest election time-outs: no session is shorter


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """The settings of one server.

    Attributes:
        name: this server's name, one of ``peers``.
        peers: the endpoint ("host:port") of every server of the cluster by name, this one's too.
        catalog: the types of resources this server knows.
        heartbeat_s: how often an idle leader says that it leads.
        election_timeout_min_s: a follower that hears nothing for this long, or up to the
            maximum by chance, asks for an election.
        election_timeout_max_s: see above; also how long a leader goes on without a majority.
        session_timeout_max_s: the longest session time-out that a client gets.
        segment_bytes: the size of one preallocated segment of the log.
        failed_entries: indexes of commands that nobody is to carry out, as an operator has decided;
            all servers must have the same.
        recursion: who knows how deep users' code may call, and so whether ``RecursionError`` is a
            result or stops the server.

    Raises:
        ConfigurationError: the settings contradict each other; nothing was started.
    """

    name: str
    peers: Mapping[str, str]
    catalog: Catalog
    heartbeat_s: float = 0.050
    election_timeout_min_s: float = 0.300
    election_timeout_max_s: float = 0.600
    session_timeout_max_s: float = 3600.0
    segment_bytes: int = 8 << 20
    recursion: Recursion = Recursion.UNKNOWN
    failed_entries: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if self.name not in self.peers:
            raise ConfigurationError(
                f"the server is called {self.name!r}, but the peers are {', '.join(self.peers)}:"
                " name it as one of them"
            )
        if len(self.peers) > SERVERS_MAX:
            raise ConfigurationError(
                f"{len(self.peers)} servers were named, at most {SERVERS_MAX} can vote"
            )
        for name in self.peers:
            if not 0 < len(name) <= NAME_CHARACTERS_MAX or not name.isprintable():
                raise ConfigurationError(f"{name!r:.80} cannot be the name of a server")
        if len(set(self.peers.values())) != len(self.peers):
            raise ConfigurationError("two peers have the same endpoint")
        if self.heartbeat_s <= 0 or self.heartbeat_s * 3 > self.election_timeout_min_s:
            raise ConfigurationError(
                f"the heartbeat of {self.heartbeat_s * 1000:.0f} ms must be above 0 and at most a"
                f" third of the shortest election time-out,"
                f" {self.election_timeout_min_s * 1000:.0f} ms"
            )
        if self.election_timeout_min_s >= self.election_timeout_max_s:
            raise ConfigurationError(
                "the shortest election time-out must be below the longest, or votes are split"
            )
        if self.session_timeout_min_s > self.session_timeout_max_s:
            longest_s = self.session_timeout_max_s / SESSION_TIMEOUT_ELECTIONS
            raise ConfigurationError(
                f"an election time-out of {self.election_timeout_max_s:.0f} s is too long, for"
                f" sessions last longer than that: the longest may be {longest_s:.0f} s"
            )

    @property
    def session_timeout_min_s(self) -> float:
        """The shortest session time-out that a client gets; it outlasts an election."""
        return max(SESSION_TIMEOUT_MIN_S, SESSION_TIMEOUT_ELECTIONS * self.election_timeout_max_s)

    @property
    def timing(self) -> str:
        """What a server says in its HELLO of its election time-out; the version of a type of resource
        ends in no dot."""
        shortest, longest = self.election_timeout_min_s, self.election_timeout_max_s
        return f"{TIMING}{shortest * 1000:.0f}ms..{longest * 1000:.0f}ms."

    @property
    def votes_again_s(self) -> float:
        """How long votes are waited for before who has not given one is asked again."""
        return self.election_timeout_min_s / 2

    @property
    def majority(self) -> int:
        """How many voters decide."""
        return len(self.peers) // 2 + 1
