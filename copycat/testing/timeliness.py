"""Monitors of time: what is right must also come soon, as long as nothing else is in the way.

They read times of the world, never of a clock that may be wrong. Most rules hold in *calm*: a
majority of the servers runs, is linked with all clients, and no fault is in force between them; see
``calm``. Each rule says how long calm must have lasted for it, since what a fault has left behind
takes its time, too.

Attributes of processors count: a handler may take its budget, and one element and what surrounds
it, which take longer on a slow node. Users' code is no part of it, since nobody can divide that.
"""

from typing import TYPE_CHECKING

from copycat.actors.budget import BUDGET_S
from copycat.actors.handler_times import LIMITS_S
from copycat.actors.network_link import WRITE_BUFFER_BYTES_MAX
from copycat.client.session import ClientSession
from copycat.server.roles.leader import TICK_AFTER_US, Leader
from copycat.testing import rules
from copycat.testing.applied import Applied
from copycat.testing.calm import Calm
from copycat.testing.event_times import EventTimes
from copycat.testing.queues import overfull
from copycat.testing.timer_times import TimerTimes
from copycat.testing.told import Told
from copycat.testing.violation import Story
from copycat.types import Index, SessionId

if TYPE_CHECKING:
    from copycat.actors.simulated_node import SimulatedNode
    from copycat.server.server import Server
    from copycat.testing.cluster import SimulatedCluster

LOOK_EVERY_S = 0.02
"""Rules that are no matter of microseconds are looked at so often."""

ELEMENT_S = LIMITS_S[0] - BUDGET_S
"""What a handler may take beside its budget, at scale 1."""

QUEUES_EVERY_S = 0.25
"""Queues are gone through so often."""

LED_WITHIN_S = 10.0
"""Of calm, until a leader serves: an election, a replay on a slow node, links that dial again."""

SETTLED_AFTER_S = 3.0
"""Of calm, after which a leader that serves stays: what was late has come, and links are up."""

LINKS_HELD = "Time: no link is cut because of what we have sent on it ourselves"


class Timeliness:
    """The monitors of time of one cluster.

    Attributes:
        calm: when what is right must come soon.
        worst: how close to its bound each rule has come, as a part of it.
        led_within_s: of calm, until a leader serves.
        link_bytes_max: how much of our own may wait on a link without its being cut.
    """

    def __init__(
        self, cluster: "SimulatedCluster", story: Story, applied: Applied, told: Told
    ) -> None:
        self.calm = Calm(cluster)
        self.worst: dict[str, float] = {}
        self.led_within_s = LED_WITHIN_S
        self.link_bytes_max = WRITE_BUFFER_BYTES_MAX
        self._cluster = cluster
        self._loop = cluster.simulation.loop  # it is asked after every event
        self._story = story
        self._applied = applied
        self._told = told
        self._looked_s = self._queues_looked_s = 0.0
        self._serving: tuple[str, int] | None = None  # who has served since calm, in which term
        self._hearers: tuple[int, ...] = ()  # the lives of servers when a leader served last
        self._timers = TimerTimes(lambda part: self._near(rules.TIMERS_ON_TIME, part))
        self._events = EventTimes(lambda part: self._near(rules.EVENTS_SOON, part))
        applied.on_expiry = self._check_expiry

    def started(self, name: str, node: "SimulatedNode", server: "Server") -> None:
        """A server has begun a new life."""
        handlers, scale = node.handlers, node.processor.scale
        handlers.limit_s = BUDGET_S + ELEMENT_S * scale

        def was_long(handler: str, took_s: float) -> None:
            self._check_handler(name, node, handler, took_s)

        handlers.heard = was_long
        self._timers.watch(name, node.actor_at(server.applier.serial))

    def _near(self, rule: str, part: float) -> None:
        self.worst[rule] = max(part, self.worst.get(rule, 0.0))

    # Handlers.

    def _check_handler(self, name: str, node: "SimulatedNode", handler: str, took_s: float) -> None:
        ended_s, limit_s = node.processor.time(), node.handlers.limit_s
        of_users_s = sum(
            worked_s for at_s, worked_s in node.processor.of_users if at_s > ended_s - took_s
        )
        self._near(rules.HANDLERS_SHORT, (took_s - of_users_s) / limit_s)
        if took_s - of_users_s > limit_s:
            self._fail(
                rules.HANDLERS_SHORT,
                f"{handler} of {name} takes {(took_s - of_users_s) * 1000:.1f} ms, where"
                f" {limit_s * 1000:.1f} are allowed at {node.processor.scale:g} times the cost",
                name,
            )

    # Calm, and who leads in it.

    def look(self) -> None:
        """Look at what takes its time, every few milliseconds of the world."""
        now_s = self._loop.now_s
        passed_s = now_s - self._looked_s
        if passed_s < LOOK_EVERY_S:
            return
        self._looked_s = now_s
        self._look_at_links()
        if now_s - self._queues_looked_s >= QUEUES_EVERY_S:
            self._queues_looked_s = now_s
            self._look_at_queues()
        began_s = self.calm.since_s
        self.calm.look(now_s)
        if self.calm.since_s != began_s or self.calm.since_s is None:
            self._serving = None
            self._events.clear()
        if self.calm.since_s is not None:
            self._look_at_calm(now_s, passed_s, self.calm.since_s)

    def _look_at_calm(self, now_s: float, passed_s: float, since_s: float) -> None:
        core = self.calm.lives
        leader, serves = self._look_at_leader(now_s - since_s)
        if leader is not None and leader not in core:
            # Much is up to it, and so nothing is demanded but that it, or another one, serves.
            self._events.clear()
            return
        if leader is not None and serves:
            self._timers.passed_s += passed_s
            if self._hearers and core[leader] not in self._hearers:
                # It knows only what is in the log.
                self._timers.passed_s -= TICK_AFTER_US / 1_000_000
            self._hearers = tuple(core.values())
            overdue = self._timers.overdue()
            if overdue is not None:
                self._fail(rules.TIMERS_ON_TIME, overdue[1], overdue[0])
        self._look_at_events(now_s, core)

    def _look_at_queues(self) -> None:
        for node in self._cluster.simulation.nodes.values():
            too_much = overfull(node)
            if too_much is not None:
                self._fail(rules.QUEUES_BOUNDED, f"at {node.name} {too_much}", node.name)

    def _look_at_links(self) -> None:
        for source, target, waiting_bytes in self._cluster.simulation.network.overfull:
            if waiting_bytes >= self.link_bytes_max:
                self._fail(
                    LINKS_HELD,
                    f"more than {waiting_bytes:,.0f} bytes of {source} wait for {target}, and so the"
                    " link was cut",
                    source,
                )

    def _look_at_leader(self, calm_s: float) -> tuple[str | None, bool]:
        """Who leads, and whether it serves."""
        name = self._cluster.leader()
        serving = None
        if name is not None:
            server = self._cluster.server(name)
            role = self._cluster.node(name).actor_at(server.role.serial)
            if type(role) is Leader and role._ready:
                serving = (name, server.ballot.term)
        if self._serving is None:
            if serving is None and calm_s > self.led_within_s:
                self._fail(rules.LED, f"after {calm_s:.1f} s of calm no leader serves")
            if serving is not None and serving[0] in self.calm.core and calm_s >= SETTLED_AFTER_S:
                self._serving = serving
        elif serving != self._serving:
            who, term = self._serving
            self._fail(
                rules.LED,
                f"{who} led in term {term} and served, and after {calm_s:.1f} s of calm"
                f" {'nobody serves' if serving is None else f'{name} leads in term {serving[1]}'}",
                who,
            )
        return name, serving is not None

    # Clients.

    def _lives_on(self, who: str, client: ClientSession) -> bool:
        node = self._cluster.simulation.nodes.get(who)
        return (
            node is not None
            and not node.stopped
            and not node.paused
            and node.clock.rate == 1.0
            and node.actor_at(client.address.serial) is client
        )

    def _check_expiry(self, name: str, session: SessionId, index: Index) -> None:
        self._told.check_expiry(name, session, index)
        now_s = self._cluster.simulation.now_s
        if self.calm.since_s is None:
            return
        for who, client in self._told.clients.items():
            timeout_s = client._options.timeout_s
            since_s = self.calm.since_s + timeout_s + SETTLED_AFTER_S
            if client.session == session and now_s > since_s and self._lives_on(who, client):
                raise self._story.violated(
                    rules.SESSIONS_KEPT,
                    f"{name} ends session {session} of {who}, which lives, after"
                    f" {now_s - self.calm.since_s:.1f} s of calm; its time-out is {timeout_s:g} s",
                    who=(name, who),
                    index=index,
                )

    def _look_at_events(self, now_s: float, core: dict[str, int]) -> None:
        for who, heard in self._told.heard().items():
            client = self._told.clients[who]
            if not self._lives_on(who, client):
                self._events.forget(who)
                continue
            late = self._events.look(
                now_s,
                self._cluster.simulation.nodes[who],
                client,
                core,
                published=len(self._applied.events.get(client.session, ())),
                heard=heard,
            )
            if late is not None:
                self._fail(rules.EVENTS_SOON, late, who)

    def _fail(self, rule: str, detail: str, *who: str) -> None:
        # It may be called out of a handler, whose exceptions are its node's.
        self._cluster.simulation.fail(self._story.violated(rule, detail, who=who))
