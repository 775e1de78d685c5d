"""Monitors of time: what is right must also come soon, as long as nothing else is in the way.

They read times of the world, never of a clock that may be wrong. Most rules hold in *calm*: all
servers run, and no fault is in force. Each rule says how long calm must have lasted for it, since
what a fault has left behind takes its time, too.

Attributes of processors count: a handler may take its budget, and one element and what surrounds
it, which take longer on a slow node. Users' code is no part of it, since nobody can divide that.
"""

from typing import TYPE_CHECKING

from copycat.actors.budget import BUDGET_S
from copycat.actors.handler_times import LIMITS_S
from copycat.actors.network_link import WRITE_BUFFER_BYTES_MAX
from copycat.client.session import ClientSession
from copycat.server.roles.leader import TICK_AFTER_US, Leader
from copycat.server.steps import FireTimer
from copycat.testing import rules
from copycat.testing.applied import Applied
from copycat.testing.queues import overfull
from copycat.testing.told import Told
from copycat.testing.violation import Story
from copycat.types import Index, SessionId

if TYPE_CHECKING:
    from copycat.actors.simulated_node import SimulatedNode
    from copycat.server.applier import Applier
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

EVENTS_WITHIN_S = 2.0
"""Of calm, until an event reaches a client that lives."""

TIMERS_WITHIN_S = 1.0
"""Beyond the delay: a heartbeat, an entry that lets log time pass, and what it takes to apply that
on a slow node."""

LINKS_HELD = "Time: no link is cut because of what we have sent on it ourselves"


class Timeliness:
    """The monitors of time of one cluster.

    Attributes:
        calm_since_s: since when no fault is in force; None: one is.
        worst: how close to its bound each rule has come, as a part of it.
        led_within_s: of calm, until a leader serves.
        bears_clogs: whether links that carry little are no fault.
        link_bytes_max: how much of our own may wait on a link without its being cut.
    """

    def __init__(
        self, cluster: "SimulatedCluster", story: Story, applied: Applied, told: Told
    ) -> None:
        self.calm_since_s: float | None = None
        self.worst: dict[str, float] = {}
        self.led_within_s = LED_WITHIN_S
        self.bears_clogs = False
        self.link_bytes_max = WRITE_BUFFER_BYTES_MAX
        self._cluster = cluster
        self._story = story
        self._applied = applied
        self._told = told
        self._looked_s = self._queues_looked_s = 0.0
        self._lives: tuple[int, ...] = ()
        self._serving: tuple[str, int] | None = None  # who has served since calm, in which term
        self._served_s = 0.0  # how long there was calm and a leader that served, altogether
        self._forgotten_s = 0.0  # of that, how much leaders may not have heard of
        self._hearers: tuple[int, ...] = ()  # the lives of servers when a leader served last
        self._timers: dict[tuple[int, int], tuple[float, float]] = {}  # begun, delay
        self._fired: set[tuple[int, int]] = set()
        self._waiting: dict[str, tuple[SessionId, int, float]] = {}  # by client: events, since when
        applied.on_expiry = self._check_expiry

    def started(self, name: str, node: "SimulatedNode", server: "Server") -> None:
        """A server has begun a new life."""
        handlers, scale = node.handlers, node.processor.scale
        handlers.limit_s = BUDGET_S + ELEMENT_S * scale

        def was_long(handler: str, took_s: float) -> None:
            self._check_handler(name, node, handler, took_s)

        handlers.heard = was_long
        self._watch_timers(name, node.actor_at(server.applier.serial))

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

    # Timers.

    def _watch_timers(self, name: str, applier: "Applier") -> None:
        due, step = applier._due, applier.step
        add_timer = due.add_timer

        def watched_add(due_us: int, index: Index, timer: int, resource: int) -> None:
            delay_s = (due_us - applier._log_time_us) / 1_000_000
            if (resource, timer) not in self._fired:
                began_s = self._served_s - self._forgotten_s
                self._timers.setdefault((resource, timer), (began_s, delay_s))
            add_timer(due_us, index, timer, resource)

        def watched_step(child: object, message: object, *sender: object) -> object:
            if type(message) is FireTimer:
                actor = applier._myRef.children[child].actor
                self._check_timer(name, actor.resource, message.timer)
            return step(child, message, *sender)  # type: ignore[arg-type]  # as it was called

        due.add_timer = watched_add  # type: ignore[method-assign]
        applier.step = watched_step  # type: ignore[method-assign, assignment]  # it hands all on

    def _check_timer(self, name: str, resource: int, timer: int) -> None:
        """The first server that fires it counts."""
        self._fired.add((resource, timer))
        planned = self._timers.pop((resource, timer), None)
        if planned is None:
            return
        began_s, delay_s = planned
        late_s = self._served_s - self._forgotten_s - began_s - delay_s
        self._near(rules.TIMERS_ON_TIME, late_s / TIMERS_WITHIN_S)
        if late_s > TIMERS_WITHIN_S:
            self._fail(
                rules.TIMERS_ON_TIME,
                f"{name} fires timer {timer} of resource {resource} {late_s:.3f} s after its"
                f" {delay_s:.3f} s, counting only calm under a leader that serves",
                name,
            )

    # Calm, and who leads in it.

    def look(self) -> None:
        """Look at what takes its time, every few milliseconds of the world."""
        now_s = self._cluster.simulation.now_s
        passed_s = now_s - self._looked_s
        if passed_s < LOOK_EVERY_S:
            return
        self._looked_s = now_s
        self._look_at_links()
        if now_s - self._queues_looked_s >= QUEUES_EVERY_S:
            self._queues_looked_s = now_s
            self._look_at_queues()
        lives = self._running_lives()
        if lives != self._lives or not self._is_calm():
            self._lives = lives
            self.calm_since_s = None
        elif self.calm_since_s is None:
            self.calm_since_s = now_s
        if self.calm_since_s is None:
            self._serving = None
            self._waiting.clear()
            return
        calm_s = now_s - self.calm_since_s
        serving = self._look_at_leader(calm_s)
        if serving is not None:
            self._served_s += passed_s
            if self._hearers and serving not in self._hearers:
                # It knows only what is in the log.
                self._forgotten_s += TICK_AFTER_US / 1_000_000
            self._hearers = lives
        self._look_at_events(now_s)

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

    def _running_lives(self) -> tuple[int, ...]:
        nodes = self._cluster.simulation.nodes
        return tuple(
            nodes[name].incarnation
            for name in self._cluster.names
            if name in nodes and not nodes[name].stopped
        )

    def _is_calm(self) -> bool:
        cluster = self._cluster
        lost = cluster.lost
        able = [name for name in cluster.names if name not in lost]
        return (
            len(able) >= cluster.majority
            and all(
                cluster.is_running(name)
                and not cluster.node(name).paused
                and cluster.node(name).clock.rate == 1.0
                and cluster.node(name).disk.is_well
                for name in able
            )
            and cluster.simulation.network.is_well(with_clogs=self.bears_clogs)
        )

    def _look_at_leader(self, calm_s: float) -> int | None:
        """The life of the leader that serves; None if there is none."""
        name = self._cluster.leader()
        role = None
        if name is not None:
            server = self._cluster.server(name)
            role = self._cluster.node(name).actor_at(server.role.serial)
        serves = type(role) is Leader and role._ready
        if serves:
            assert name is not None, "somebody serves"
            serving = (name, self._cluster.server(name).ballot.term)
            if self._serving is None and calm_s >= SETTLED_AFTER_S:
                self._serving = serving
        else:
            serving = None
        if self._serving is None:
            if not serves and calm_s > self.led_within_s:
                self._fail(rules.LED, f"after {calm_s:.1f} s of calm no leader serves")
        elif serving != self._serving:
            who, term = self._serving
            self._fail(
                rules.LED,
                f"{who} led in term {term} and served, and after {calm_s:.1f} s of calm"
                f" {'nobody serves' if serving is None else f'{name} leads in term {serving[1]}'}",
                who,
            )
        return self._cluster.node(name).incarnation if serves and name else None

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
        if self.calm_since_s is None:
            return
        for who, client in self._told.clients.items():
            timeout_s = client._options.timeout_s
            since_s = self.calm_since_s + timeout_s + SETTLED_AFTER_S
            if client.session == session and now_s > since_s and self._lives_on(who, client):
                raise self._story.violated(
                    rules.SESSIONS_KEPT,
                    f"{name} ends session {session} of {who}, which lives, after"
                    f" {now_s - self.calm_since_s:.1f} s of calm; its time-out is {timeout_s:g} s",
                    who=(name, who),
                    index=index,
                )

    def _look_at_events(self, now_s: float) -> None:
        for who, heard in self._told.heard().items():
            client = self._told.clients[who]
            session = client.session
            published = len(self._applied.events.get(session, ()))
            waiting = self._waiting.get(who)
            if not self._lives_on(who, client):
                self._waiting.pop(who, None)
            elif waiting is None or waiting[0] != session or heard >= waiting[1]:
                self._waiting[who] = (session, published, now_s)
            else:
                self._near(rules.EVENTS_SOON, (now_s - waiting[2]) / EVENTS_WITHIN_S)
                if now_s - waiting[2] > EVENTS_WITHIN_S:
                    self._fail(
                        rules.EVENTS_SOON,
                        f"{who} has heard {heard} events of session {session}, of {waiting[1]} that"
                        f" were published {now_s - waiting[2]:.1f} s ago",
                        who,
                    )

    def _fail(self, rule: str, detail: str, *who: str) -> None:
        # It may be called out of a handler, whose exceptions are its node's.
        self._cluster.simulation.fail(self._story.violated(rule, detail, who=who))
