"""Servers: which endpoints a session dials, which servers it reaches, and which one it uses.

Sessions on one node share its links: ``SharedLinks`` knows what is up and hangs up an endpoint
when no session wants it any more. ``Servers`` is one session's own view and choice.
"""

from dataclasses import replace
from math import inf

from copycat.actors.environment import (
    Identity,
    Links,
    NodeConnected,
    NodeDisconnected,
    NodeUnreachable,
    Traffic,
)
from copycat.actors.hello import TOO_MANY
from copycat.client.options import SessionOptions
from copycat.client.window import Window

DIAL_NEXT_AFTER_S = 0.25  # an endpoint that says nothing for so long does not hold up the next
OTHER_CLUSTER = "it is a server of another cluster than those reached before"
DOUBT_S = 10.0  # how long a server that failed us is the last choice


class SharedLinks:
    """The links of one node, and how many sessions want each.

    All servers that are used are of one cluster, that of the first one which was reached. A node of
    the sessions' own says so from then on, and so the runtime refuses servers of another cluster,
    which may well bear the same names.

    Attributes:
        up: the servers that are connected, by name, with the endpoint that was dialled.
        failures: why an endpoint is not connected, in one line.
        window: for what all sessions send.
    """

    def __init__(self, identity: Identity | None = None) -> None:
        """``identity``: how the node has introduced itself; None for one that others use, too."""
        self.up: dict[str, str] = {}
        self.failures: dict[str, str] = {}
        self.window = Window()
        self._wishes: dict[str, int] = {}
        self._identity = identity

    def want(self, links: Links, endpoint: str) -> None:
        """One more session wants to be connected to this endpoint."""
        self._wishes[endpoint] = self._wishes.get(endpoint, 0) + 1
        links.dial(endpoint, spare=bool(self.up))

    def drop(self, links: Links, endpoint: str) -> None:
        """One session fewer wants it."""
        left = self._wishes[endpoint] - 1
        if left:
            self._wishes[endpoint] = left
        else:
            del self._wishes[endpoint]
            self.failures.pop(endpoint, None)
            links.hang_up(endpoint)

    def connected(self, links: Links, notice: NodeConnected) -> None:
        """A link to a server is up. Every session may say so."""
        own = self._identity
        if own is not None and not own.cluster_id:
            self._identity = replace(own, cluster_id=notice.cluster_id)
            links.introduce(self._identity)
        elif own is not None and notice.cluster_id not in (0, own.cluster_id):
            links.refuse(notice.node, OTHER_CLUSTER)  # it was up before it could be refused
            return
        if self.up.get(notice.node) != notice.endpoint:
            self.up[notice.node] = notice.endpoint
            for endpoint in self._wishes:
                links.dial(endpoint, spare=True)
                self.hurry(links, endpoint)
        self.failures.pop(notice.endpoint, None)

    def hurry(self, links: Links, endpoint: str) -> None:
        """Dial an endpoint at once that may be there again, whatever back-off it was in. One that
        had no room has been there, and needs its time for those who had some."""
        failure = self.failures.get(endpoint)
        if failure is None or failure.endswith(TOO_MANY):
            return
        if endpoint not in self.up.values():
            del self.failures[endpoint]  # so that it is hurried once for each failure
            links.hang_up(endpoint)
            links.dial(endpoint, spare=bool(self.up))

    def disconnected(self, links: Links, notice: NodeDisconnected) -> None:
        """A link is gone. While others are up the rest is spare; with the last one all are needed."""
        if self.up.get(notice.node) == notice.endpoint:
            del self.up[notice.node]
            for endpoint in self._wishes if not self.up else ():
                links.dial(endpoint)
                self.hurry(links, endpoint)
            self.failures[notice.endpoint] = notice.reason

    def unreachable(self, notice: NodeUnreachable) -> None:
        """An endpoint could not be reached; it is tried again by the runtime."""
        self.failures[notice.endpoint] = notice.reason


class Servers:
    """The servers of a cluster as one session knows them.

    Attributes:
        dial_at_s: when to call ``dial_next``; ``inf`` if nothing is left to be dialled.
        leader_term: of the last news about a leader; 0 if there have been none.
        window: what all sessions of this node have under way.
    """

    def __init__(
        self,
        options: SessionOptions,
        shared: SharedLinks,
        links: Links,
    ) -> None:
        self.dial_at_s = inf
        self._given = options.endpoints
        self._members: tuple[str, ...] = ()  # as the servers themselves call them
        self._selection = options.selection
        self.window = shared.window
        self._shared = shared
        self._links = links
        self._dialled: dict[str, None] = {}
        self._doubted_at_s: dict[str, float] = {}  # by name of the server
        self._leader = ""  # its endpoint
        self.leader_term = 0

    # Dialling.

    def dial_next(self, now_s: float) -> None:
        """Dial the next endpoint in the order in which they were given, then the members."""
        left = [e for e in (*self._given, *self._members) if e not in self._dialled]
        self.dial_at_s = now_s + DIAL_NEXT_AFTER_S if len(left) > 1 else inf
        if left:
            self._dial(left[0])

    def _dial(self, endpoint: str) -> None:
        if endpoint not in self._dialled:
            self._dialled[endpoint] = None
            self._shared.want(self._links, endpoint)

    def hang_up(self, endpoint: str) -> None:
        """Give an endpoint up, as far as this session is concerned."""
        if endpoint in self._dialled:
            del self._dialled[endpoint]
            self._shared.drop(self._links, endpoint)

    def learn(self, members: tuple[str, ...], using: str) -> None:
        """Stand ready to move: dial all members, by the names that the servers themselves use.

        Args:
            members: endpoints of the servers; none leaves things as they are.
            using: the server in use. Its link stays, by whatever name it was dialled.
        """
        if not members:
            return
        self._members = members
        for endpoint in list(self._dialled):
            if endpoint not in members and endpoint != self._shared.up.get(using):
                self.hang_up(endpoint)
        for endpoint in members:
            self._dial(endpoint)
        self.dial_at_s = inf

    # News of links.

    def connected(self, notice: NodeConnected) -> None:
        """A link to a server is up. Whatever it did not do before, it may do now."""
        self._doubted_at_s.pop(notice.node, None)
        self._shared.connected(self._links, notice)

    def unreachable(self, notice: NodeUnreachable, now_s: float) -> None:
        """An endpoint could not be reached: the next one is due."""
        self._shared.unreachable(notice)
        if notice.refused and notice.endpoint in self._members and self._uses_other_name():
            # This is the server we reach by another name, as "localhost" is: one link will do.
            self.hang_up(notice.endpoint)
        elif self.dial_at_s != inf and not self._shared.up:
            self.dial_at_s = now_s

    def _uses_other_name(self) -> bool:
        return any(endpoint not in self._members for endpoint in self._shared.up.values())

    def disconnected(self, notice: NodeDisconnected) -> None:
        """A link is gone; with the last one all names of servers count again."""
        self._shared.disconnected(self._links, notice)
        if not self._shared.up:
            for endpoint in (*self._members, *self._given) if self._members else ():
                self._dial(endpoint)

    def traffic(self, name: str) -> Traffic:
        """What has gone over the link to a server."""
        return self._links.traffic(name)

    # The choice.

    def choose(self, now_s: float) -> str:
        """The name of the best server that is connected, or ""."""
        up = self._shared.up
        if not up:
            return ""
        order = list(dict.fromkeys((*self._given, *self._members)))
        worst = len(order)

        def rank(name: str) -> tuple[float, bool, int]:
            endpoint = up[name]
            return (
                self._doubted_at_s[name] if self.is_doubted(name, now_s) else -inf,
                not (self._selection == "leader" and endpoint == self._leader),
                order.index(endpoint) if endpoint in order else worst,
            )

        return min(up, key=rank)

    def doubt(self, name: str, now_s: float) -> None:
        """A server did not do what it should: prefer others for a while, and look for them."""
        self._doubted_at_s[name] = now_s
        for endpoint in self._dialled:
            self._shared.hurry(self._links, endpoint)

    def is_doubted(self, name: str, now_s: float) -> bool:
        """Whether others are preferred."""
        return now_s - self._doubted_at_s.get(name, -inf) < DOUBT_S

    def leader_changed(self, endpoint: str, term: int) -> bool:
        """Note who leads.

        Args:
            endpoint: the leader's, or "" when none is known.
            term: news of an older term are ignored.

        Returns:
            Whether these are news and name a leader.
        """
        is_older = term < self.leader_term or (term == self.leader_term and not endpoint)
        if is_older or (term, endpoint) == (self.leader_term, self._leader):
            return False
        if term > self.leader_term:
            name = next((name for name, at in self._shared.up.items() if at == endpoint), "")
            self._doubted_at_s.pop(name, None)
        self._leader, self.leader_term = endpoint, term
        if endpoint and self._selection == "leader":
            self._dial(endpoint)
            self._shared.hurry(self._links, endpoint)
        return bool(endpoint)

    def better_than(self, using: str, now_s: float) -> str:
        """The server to move to from the one in use, or "": the leader, if that is the wish."""
        if self._selection == "any" or not self._leader:
            return ""
        best = self.choose(now_s)
        is_leader = self._shared.up.get(best) == self._leader
        return best if best != using and is_leader else ""

    def causes(self, using: str, said: str) -> tuple[tuple[str, str], ...]:
        """What is known of every endpoint.

        Args:
            using: the server in use, or "".
            said: why it refused what it was asked last, or "" if it did not.
        """
        names = {endpoint: name for name, endpoint in self._shared.up.items()}

        def cause(endpoint: str) -> str:
            name = names.get(endpoint)
            if name is None:
                return self._shared.failures.get(endpoint, "no answer yet")
            return said if said and name == using else f"connected to {name}"

        return tuple((endpoint, cause(endpoint)) for endpoint in self._dialled)

    @property
    def are_reached(self) -> bool:
        """Whether a server is connected."""
        return bool(self._shared.up)

    def close(self) -> None:
        """Let go of all links."""
        for endpoint in list(self._dialled):
            self.hang_up(endpoint)
        self.dial_at_s = inf
