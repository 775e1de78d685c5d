"""All links of a node in the real world: dialling, admitting, choosing one, telling the watchers."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from copycat.actors.address import NodeAddress
from copycat.actors.budget import Budget
from copycat.actors.environment import (
    DRAINED_BYTES_MAX,
    Identity,
    LinkDrained,
    NodeConnected,
    NodeDisconnected,
    NodeUnreachable,
    Traffic,
)
from copycat.actors.frame import FIRST_FRAME_BYTES_MAX, Unreadable, encode_control
from copycat.actors.hello import REPLACED, TOO_MANY, Hello, hello_of
from copycat.actors.message import BULK_MESSAGES
from copycat.actors.network_dial import Dial, connect
from copycat.actors.network_intake import Intake
from copycat.actors.network_link import Link
from copycat.actors.network_listener import room_for_links

if TYPE_CHECKING:
    from copycat.actors.network import NetworkNode

LOOK_EVERY_S = 1.0  # at each link, whether anything was heard of the other node
LOOKS_AT_ONCE = 256
FLUSHES_AT_ONCE = 64  # between two looks at the clock
REFUSED_MAX = 8  # messages that nobody takes, of a node that is guarded against
DEAD_LETTERS_MAX = 1024  # of a stranger, who may be a client that has not heard of a link's end yet
BULK_RETRY_S = 1.0


class NetworkLinks:
    """The connections of one node; see ``environment.Links``.

    Attributes:
        lost: messages that were dropped, as there was no link or it ended before that wrote them.
        guarded: whether nodes that connect are strangers until they are admitted.
        intake: what has arrived and waits for its turn.
    """

    def __init__(self, node: "NetworkNode", identity: Identity) -> None:
        self.node = node
        self.lost = 0
        self.guarded = False
        self.intake = Intake(node)
        self._dials: dict[str, Dial] = {}
        self._dialled: dict[str, Link] = {}  # by node, of those that are up
        self._accepted: dict[str, Link] = {}  # likewise
        self._earlier: dict[str, Link] = {}  # likewise, of another life of a preferred node
        self._used: dict[str, Link] = {}  # one of these, by which messages go
        self._bulk: dict[str, Link] = {}  # likewise; dialled for bulk messages, up or not
        self._bulk_accepted: dict[str, Link] = {}
        self._bulk_failed_s: dict[str, float] = {}
        self._preferred: dict[str, int] = {}  # node ids, by name
        self._incoming: dict[Link, None] = {}  # that the other side dialled and has introduced
        self._introducing: dict[Link, None] = {}  # and has not
        self._incoming_max, self._introducing_max = room_for_links()
        self._to_look_at: list[Link] = []
        self._look_at_s = 0.0
        self.to_write: dict[Link, None] = {}
        self._watchers: dict[NodeAddress, None] = {}
        self._drained: dict[str, dict[NodeAddress, None]] = {}  # who waits for that, by node
        self.introduce(identity)

    # For actors.

    def dial(self, endpoint: str, *, spare: bool = False) -> None:
        """Connect and stay connected, trying again with back-off, until hung up.

        Raises:
            EndpointError: it is no ``host:port``.
        """
        if endpoint in self._dials:
            self._dials[endpoint].change(spare=spare)
        else:
            self._dials[endpoint] = Dial(self, endpoint, spare=spare)

    def hang_up(self, endpoint: str) -> None:
        """Drop the link that was dialled with this endpoint, if any, and stop trying."""
        dial = self._dials.pop(endpoint, None)
        if dial is not None:
            dial.hang_up("hung up")

    def watch(self, watcher: NodeAddress) -> None:
        """From now on tell this local actor of every link."""
        assert watcher.node == self.node.name, "a watcher is a local actor"
        self._watchers[watcher] = None

    def introduce(self, identity: Identity) -> None:
        """Introduce this node by ``identity`` in every connection made from now on."""
        assert identity.name == self.node.name, "a node keeps its name"
        self._hello = hello_of(identity, self.node.incarnation)
        hello_bytes = len(encode_control(self._hello))
        assert hello_bytes <= FIRST_FRAME_BYTES_MAX, "others can take this Hello"

    def guard(self) -> None:
        """From now on nodes that connect are strangers until they are admitted."""
        self.guarded = True

    def admit(self, node: str) -> None:
        """A stranger is none any more."""
        link = self._accepted.get(node)
        if link is not None:
            link.admit()

    def prefer(self, node: str, node_id: int) -> None:
        """The node of this name and id is one of ours."""
        self._preferred[node] = node_id
        for link in (self._dialled.get(node), self._accepted.get(node)):
            if link is not None:
                self._judge(link)

    def _judge(self, link: Link) -> bool:
        """Whether a link leads to one of ours; then it is admitted, and preferred."""
        hello = link.hello
        assert hello is not None, "a link is judged when both have said Hello"
        if not hello.node_id or self._preferred.get(hello.name) != hello.node_id:
            return False
        link.admit()
        link.is_preferred = not hello.bulk
        return True

    def refuse(self, node: str, reason: str) -> None:
        """Close the links to ``node`` and tell it why."""
        for link in self._all_to(node):
            # Who asked for it says so.
            self.node.log.debug("node refused %s reason=%s", link, reason)
            link.refuse(reason)

    def _all_to(self, node: str) -> list[Link]:
        """All links to the nodes of a name, bulk ones apart."""
        tables = (self._dialled, self._accepted, self._earlier)
        return [table[node] for table in tables if node in table]

    def flush(self, node: str) -> None:
        """Write what has been sent to ``node``."""
        link = self._used.get(node)
        if link in self.to_write:
            del self.to_write[link]
            link.flush()

    def unsent_bytes(self, node: str, *, bulk: bool = False) -> int:
        """How many bytes for ``node`` wait in this node."""
        link = (self._bulk.get(node) if bulk else None) or self._used.get(node)
        return 0 if link is None else link.unsent_bytes

    def traffic(self, node: str) -> Traffic:
        """What has gone over the link that leads to ``node``."""
        link = self._used.get(node)
        if link is None:
            return Traffic(0, 0, 0)
        unsent_bytes = link.unsent_bytes
        return Traffic(link.received_bytes, link.written_bytes - unsent_bytes, unsent_bytes)

    def ask_drained(self, node: str, asker: NodeAddress) -> None:
        """Tell this local actor when the link to ``node`` has taken what was sent."""
        assert asker.node == self.node.name, "who asks is a local actor"
        waiting = self._drained.setdefault(node, {})
        if not waiting:
            self.node.call_after_turn(lambda: self._tell_drained(node))
        waiting[asker] = None

    def _tell_drained(self, node: str) -> None:
        if self.unsent_bytes(node) <= DRAINED_BYTES_MAX:
            for asker in self._drained.pop(node, ()):
                self.node.tell(asker, LinkDrained(node))

    # For the node.

    def transmit(self, target: NodeAddress, message: Any, sender: NodeAddress) -> None:
        """Send a message by the link to its node, or lose it; it is written at the end of the turn.

        Raises:
            CodecError: the message cannot travel.
        """
        link = self._used.get(target.node)
        if link is None:
            self.lost += 1
        else:
            life = target.incarnation
            if life and link.hello is not None and link.hello.incarnation != life:
                link = self._to_life(link, target)
            if type(message) in BULK_MESSAGES:
                link = self._bulk_link(target.node, link)
            link.send(target, message, sender)

    def _to_life(self, used: Link, target: NodeAddress) -> Link:
        """The link that leads to this life of a node, if there is one; else the one in use."""
        for link in self._all_to(target.node):
            if link.hello is not None and link.hello.incarnation == target.incarnation:
                return link
        return used

    def _bulk_link(self, node: str, used: Link) -> Link:
        """The link for bulk messages to a node that this one has dialled, made if need be; the one
        in use for others."""
        link, main = self._bulk.get(node), self._dialled.get(node)
        if main is None or main.hello is None or used.hello is None:
            return used
        if main.hello.incarnation != used.hello.incarnation:
            return used  # that one leads to another life of the node
        if link is None:
            failed_s = self._bulk_failed_s.get(node, float("-inf"))
            if self.node.loop.time() - failed_s < BULK_RETRY_S:
                return used
            link = self._bulk[node] = Link(self, main.endpoint, bulk=node)
            link.task = self.node.loop.create_task(connect(link, self))
        return link or used

    def flush_all(self) -> None:
        """Write what was sent since the last call, one write a link, to preferred nodes first; what
        would take too long is left for the next turn."""
        links, self.to_write = list(self.to_write), {}
        if len(links) <= 1:
            for link in links:
                link.flush()
            return
        links.sort(key=lambda link: not link.is_preferred)
        budget = Budget(self.node.environment.clock)
        for at, link in enumerate(links):
            if at and at % FLUSHES_AT_ONCE == 0 and budget.spent:
                self.to_write = {**dict.fromkeys(links[at:]), **self.to_write}
                break
            link.flush()

    def close(self) -> None:
        """End all links; nobody is told."""
        self._watchers.clear()
        dials, self._dials = self._dials, {}
        for dial in dials.values():
            dial.hang_up("the node stops")
        for link in [*self._bulk.values(), *self._introducing, *self._incoming]:
            link.end("the node stops")

    # For its links.

    def hello(self, *, is_bulk: bool = False) -> Hello:
        """What this node says of itself."""
        return replace(self._hello, bulk=True) if is_bulk else self._hello

    def admits(self, link: Link) -> bool:
        """Whether a new link may be introduced. The oldest that has not been makes room for it."""
        if self.node.stopped:
            return False
        if not link.endpoint:
            if len(self._introducing) >= self._introducing_max:
                next(iter(self._introducing)).end("others came before it had said who it is")
            self._introducing[link] = None
        return True

    def written_at_end_of_turn(self, link: Link) -> None:
        """This link has something in its outbox."""
        self.to_write[link] = None

    def drained(self, link: Link) -> None:
        """Few bytes wait on a link again."""
        if link.hello is not None and link.hello.name in self._drained:
            self._tell_drained(link.hello.name)

    def receive(self, link: Link, other: Hello, envelopes: list[tuple[int, int, int, Any]]) -> None:
        """Deliver what another node sent."""
        node = self.node
        dead_letters = node.dead_letters
        target, sender = link.target, link.sender
        for incarnation, serial, sender_serial, message in envelopes:
            # Most of what comes is for the same actor as what came before, and from the same.
            if serial != target.serial or incarnation != target.incarnation:
                target = link.target = NodeAddress(node.name, incarnation, serial)
            if sender is None or sender_serial != sender.serial:
                sender = link.sender = NodeAddress(other.name, other.incarnation, sender_serial)
            if type(message) is Unreadable:
                self._refused(link, message.reason, REFUSED_MAX if link.is_stranger else 1)
            else:
                node.deliver(target, message, sender)
        if link.is_stranger and node.dead_letters > dead_letters:
            link.dead_letters += node.dead_letters - dead_letters
            if link.dead_letters >= DEAD_LETTERS_MAX:
                self._refused(link, "for actors that are not there", REFUSED_MAX)

    def refused(self, node: str, reason: str) -> None:
        """A message of a node was refused by the actor that it was for."""
        link = self._accepted.get(node)
        if link is not None:
            self._refused(link, reason, 1)

    def _refused(self, link: Link, reason: str, count: int) -> None:
        """Count messages that nobody takes. A node that is guarded against may not send many."""
        link.refused += count
        is_first = link.refused == count
        if self.guarded and not link.endpoint and not self._is_ours(link):
            if link.refused >= REFUSED_MAX:
                self.node.log.warning("messages refused %s reason=%s", link, reason)
                link.end(f"messages that nobody takes: {reason}")
        elif is_first:
            self.node.log.warning("message refused %s reason=%s", link, reason)

    def _is_ours(self, link: Link) -> bool:
        hello = link.hello
        return hello is not None and self._preferred.get(hello.name, 0) == hello.node_id != 0

    def up(self, link: Link) -> None:
        """Both sides have agreed to use this link. Of two from one node the newer is used, and the
        other one ends unless it leads to another life of a preferred node."""
        hello = link.hello
        assert hello is not None, "a link is up when both have said Hello"
        is_ours = self._judge(link)
        if not link.endpoint:
            del self._introducing[link]
            self._incoming[link] = None
            if len(self._incoming) > self._incoming_max and not is_ours:
                self.node.log.warning("too many connections %s max=%d", link, self._incoming_max)
                link.hello = None
                link.refuse(TOO_MANY)
                return
        if not self._to_look_at:
            self._to_look_at = [link]
            self._plan_look(LOOK_EVERY_S)
        if hello.bulk or link.bulk:
            self._bulk_up(link, hello, is_ours=is_ours)
            return
        if link.dial is not None:
            link.dial.came_up(link)
        same_side = self._dialled if link.endpoint else self._accepted
        older = same_side.get(hello.name)
        if older is not None:
            assert older.hello is not None, "a link is up when both have said Hello"
            if link.endpoint and older.hello.incarnation == hello.incarnation:
                # Else two endpoints of one node would take the link from each other for ever.
                link.hello = None
                link.end(f"{hello.name} is already connected as {older.endpoint}", refused=True)
                return
            self._make_way(link, older)
        same_side[hello.name] = link
        used = self._used.setdefault(hello.name, link)
        if used.hello is not None and used.hello.incarnation != hello.incarnation:
            # The other one leads to an earlier life, or to a namesake.
            self._used[hello.name] = link
        self._tell(
            NodeConnected(
                hello.name,
                hello.incarnation,
                link.endpoint,
                hello.cluster_id,
                hello.node_id,
                hello.offers,
            )
        )

    def _make_way(self, newer: Link, older: Link) -> None:
        """End what a newer link of the same name replaces. What stays is the earlier one then."""
        assert newer.hello is not None, "a link is up when both have said Hello"
        name = newer.hello.name
        for link in (older,) if newer.endpoint else (self._earlier.get(name), older):
            if link is not None and not self._stays(link, newer):
                # Said to it as well: if it is another node of this name, it must not come back at
                # once and take the link in its turn.
                link.refuse(REPLACED)
        if not newer.endpoint and name in self._accepted:
            self._earlier[name] = self._accepted[name]

    def _stays(self, link: Link, newer: Link) -> bool:
        """Whether an accepted link stays beside a newer one: when they lead to two lives of a
        preferred node, of which the oldest and the newest are linked."""
        assert link.hello is not None, "a link is up when both have said Hello"
        assert newer.hello is not None, "a link is up when both have said Hello"
        is_other = link.hello.incarnation != newer.hello.incarnation
        is_oldest = self._earlier.get(newer.hello.name, link) is link
        return is_other and is_oldest and self._is_ours(link) and self._is_ours(newer)

    def down(self, link: Link, reason: str, *, refused: bool) -> None:
        """A link has ended, whether it had been up or not."""
        self._incoming.pop(link, None)
        self._introducing.pop(link, None)
        self.intake.hold(link, 0)
        link.lose_outbox()
        hello = link.hello
        if link.bulk:
            self._bulk_down(link, reason)
            return
        if link.dial is not None and link.dial.has_refused_again(link):
            reason, refused = link.dial.refusal, True
        if hello is not None:
            self._remove(link, hello.name)
            if self._used.get(hello.name) is link:
                self._use_another(hello.name)
            bulk = (self._bulk if link.endpoint else self._bulk_accepted).get(hello.name)
            if bulk is not None and (
                bulk.hello is None or bulk.hello.incarnation == hello.incarnation
            ):
                bulk.end("the node is not connected any more")
            self._tell(NodeDisconnected(hello.name, hello.incarnation, link.endpoint, reason))
        if link.dial is None or link.hung_up:
            return
        if hello is None or refused:
            self._tell(NodeUnreachable(link.endpoint, reason, refused))
        link.dial.ended(link, reason, was_up=hello is not None and not refused)

    def _remove(self, link: Link, name: str) -> None:
        """Take a link that was up from the books."""
        if self._earlier.get(name) is link:
            del self._earlier[name]
            return
        same_side = self._dialled if link.endpoint else self._accepted
        assert same_side[name] is link, "a link that is up is in the books"
        del same_side[name]
        if not link.endpoint and name in self._earlier:
            self._accepted[name] = self._earlier.pop(name)

    def _bulk_up(self, link: Link, hello: Hello, *, is_ours: bool) -> None:
        """A link for bulk messages can be used. It belongs to the one by which the nodes know each
        other, and nobody is told of it."""
        name = hello.name
        if link.endpoint:
            if name != link.bulk:
                link.end(f"{name} was found in the place of {link.bulk}", refused=True)
            elif link.flush_is_due:
                self.written_at_end_of_turn(link)
            return
        main = self._accepted.get(name)
        link.bulk = name
        if not is_ours and (
            main is None or main.hello is None or main.hello.incarnation != hello.incarnation
        ):
            link.refuse("a link for bulk messages comes after another one")
            return
        older = self._bulk_accepted.pop(name, None)
        self._bulk_accepted[name] = link
        if older is not None:
            older.end("replaced by a newer connection for bulk messages")

    def _bulk_down(self, link: Link, reason: str) -> None:
        name = link.bulk
        if self._bulk_accepted.get(name) is link:
            del self._bulk_accepted[name]
        if self._bulk.get(name) is link:
            del self._bulk[name]
            if name in self._used:
                self._bulk_failed_s[name] = self.node.loop.time()
                self.node.log.warning("no link for bulk messages %s reason=%s", link, reason)

    # The looks at links.

    def _plan_look(self, delay_s: float) -> None:
        self._look_at_s = self.node.loop.time() + delay_s
        self.node.call_later(delay_s, self._look)

    def _look(self) -> None:
        """Look at some links: at each once in ``LOOK_EVERY_S``, and never at many at once."""
        # A node that stood still has not heard anybody, whoever spoke.
        may_judge = self.node.loop.time() - self._look_at_s < LOOK_EVERY_S
        part, self._to_look_at = (
            self._to_look_at[:LOOKS_AT_ONCE],
            self._to_look_at[LOOKS_AT_ONCE:],
        )
        for link in part:
            twin = self._twin(link)
            name = "" if link.hello is None else link.hello.name
            is_spare = twin is not None and self._used.get(name) is twin
            link.look(twin, is_spare=is_spare, may_judge=may_judge)
        if not self._to_look_at:
            self._to_look_at = self._links_up()
        if self._to_look_at:
            count = max(len(self._to_look_at), len(self._dialled) + len(self._incoming))
            self._plan_look(LOOK_EVERY_S / (1 + (count - 1) // LOOKS_AT_ONCE))

    def _twin(self, link: Link) -> Link | None:
        """The other link to this life of a node, if each has dialled the other."""
        hello = link.hello
        if hello is None or link.bulk:
            return None
        twin = (self._accepted if link.endpoint else self._dialled).get(hello.name)
        if twin is None or twin is link or twin.hello is None:
            return None
        return twin if twin.hello.incarnation == hello.incarnation else None

    def _links_up(self) -> list[Link]:
        own = [*self._dialled.values(), *self._bulk.values()]
        return [link for link in (*own, *self._incoming) if link.hello is not None]

    def _use_another(self, node: str) -> None:
        other = self._dialled.get(node) or self._accepted.get(node)
        if other is None:
            del self._used[node]
        else:
            self._used[node] = other
        if node in self._drained:
            self._tell_drained(node)

    def _tell(self, notice: NodeConnected | NodeDisconnected | NodeUnreachable) -> None:
        node = self.node
        for watcher in list(self._watchers):
            if node.has(watcher):
                node.tell(watcher, notice)
            else:
                del self._watchers[watcher]
