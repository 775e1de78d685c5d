"""What work costs in a simulated world: a table from functions to deterministic times.

While a world runs, each function of the table *charges* its cost to the processor of the node that
calls it, see ``actors.simulated_processor``; outside of worlds nothing is wrapped. Costs are those
of the functions alone, without those that they call and that stand in the table, too.

The figures are measured by ``make bench-costs``, which also prints how far they are off. They are
those of one machine at scale 1; worlds scale them by 0.3 to 30, so a few tens of percent matter little
and a factor does.
"""

import inspect
import random
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any
from unittest.mock import patch

from copycat.actors import actor, simulated_links
from copycat.actors.cell import Cell
from copycat.actors.simulated_links import End
from copycat.actors.simulated_network import SimulatedNetwork
from copycat.actors.simulated_processor import Processor
from copycat.protocol.client import EVENT_BYTES, EVENTS_WINDOW_BYTES
from copycat.resources.lock import LockMachine
from copycat.resources.map import MapMachine
from copycat.server import operations
from copycat.server.applier import Applier
from copycat.server.connection import Connection
from copycat.server.due import DueQueue
from copycat.server.operations import Router
from copycat.server.progress import Attachments
from copycat.server.replicator import Replicator
from copycat.server.resource import Resource
from copycat.server.server import Server
from copycat.server.session import Session
from copycat.server.steps import EventsAfter
from copycat.storage import log
from copycat.storage.batch import Batch
from copycat.storage.log import Log
from copycat.storage.segment import Segment

SCALE_MIN = 0.3
SCALE_MAX = 30.0
SPREAD = 3.0
"""How much faster or slower than the others of its world one node may be."""

Units = Callable[..., float]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a function costs, or a part of that.

    Attributes:
        owner, attribute: the function: of a class, or of a module.
        each_us: microseconds a unit.
        units: how many, of the result and the arguments; None: one a call.
        before: charged before the call, and so of the arguments only, with None for the result.
        of_users: this is the work of users' code, which cannot be divided.
    """

    owner: Any
    attribute: str
    each_us: float
    units: Units | None = None
    before: bool = False
    of_users: bool = False

    def count(self, result: Any, *arguments: Any) -> float:
        """How many units a call was."""
        return 1.0 if self.units is None else self.units(result, *arguments)


_written: dict[End, int] = {}  # by end of a link, in which turn a frame was sent last


def _is_first_of_turn(_: None, __: SimulatedNetwork, end: End, *___: object) -> float:
    """What a turn sends to one node leaves in one write."""
    turns = end.node.turns
    if _written.get(end) == turns:
        return 0.0
    _written[end] = turns
    return 1.0


def _is_read_alone(*_: object) -> float:
    """What has come while a node was busy is read at once."""
    processor = Processor.at_work
    return 0.0 if processor is None or processor.is_busy else 1.0


def _events_looked_at(_: object, session: Session, message: EventsAfter, __: object) -> float:
    """The last one is known; else those of a window are gone through."""
    queue = session._events
    if not queue or queue[-1][0] == message.event_sequence + 1:
        return 0.0
    return float(min(len(queue), EVENTS_WINDOW_BYTES // EVENT_BYTES))


def _events_forgotten(_: None, session: Session, event_sequence: int) -> float:
    queue = session._events
    last = min(event_sequence, session._event_sequence)
    return float(max(0, last + 1 - queue[0][0])) if queue else 0.0


COSTS: Mapping[str, Cost] = {
    # Messages.
    "message handled": Cost(Cell, "handle", 20.0),
    "frame written": Cost(SimulatedNetwork, "send", 12.0, _is_first_of_turn, before=True),
    "frame read": Cost(simulated_links, "decode_payload", 12.0, _is_read_alone, before=True),
    "message decoded": Cost(simulated_links, "decode_payload", 11.0),
    "bytes decoded": Cost(
        simulated_links, "decode_payload", 0.0009, lambda _, payload: len(payload)
    ),
    "message encoded": Cost(simulated_links, "encode_envelopes", 7.0),
    "bytes encoded": Cost(
        simulated_links, "encode_envelopes", 0.0006, lambda made, _: len(made[0])
    ),
    # The log.
    "batch recovered": Cost(log, "recover", 4.5, lambda found, _: len(found.index)),
    "batch appended": Cost(Log, "append", 8.0),
    "bytes appended": Cost(Log, "append", 0.0002, lambda _, __, batch: len(batch.record)),
    "batch decoded": Cost(Batch, "decode", 4.0),
    "file read": Cost(Segment, "_read", 1.0),
    "records asked for": Cost(Segment, "records", 10.0),
    "record read": Cost(Segment, "records", 1.2, lambda records, *_: len(records)),
    "bytes read": Cost(Segment, "_read", 0.0001, lambda content, *_: len(content)),
    "request made": Cost(Replicator, "_send", 12.5),
    # State.
    "batch begun": Cost(Applier, "_apply_batch", 2.8),
    "commands applied": Cost(Applier, "_apply_commands", 10.0),
    "command routed": Cost(Router, "apply", 1.9, lambda _, __, commands, *___: commands.count),
    "command carried out": Cost(
        Resource,
        "apply_operations",
        1.5,
        lambda _, __, message, ___: len(message.operations),
        of_users=True,
    ),
    "query routed": Cost(Router, "answer", 0.5, lambda _, __, ___, count: count),
    "query carried out": Cost(
        Resource,
        "answer_queries",
        0.25,
        lambda _, __, message, ___: len(message.operations),
        of_users=True,
    ),
    "answer encoded": Cost(operations, "encode", 4.5),
    "bytes answered": Cost(operations, "encode", 0.005, lambda encoded, _: len(encoded)),
    "answers encoded": Cost(operations, "encode_trusted", 4.5),
    "bytes answered together": Cost(
        operations, "encode_trusted", 0.005, lambda encoded, _: len(encoded)
    ),
    "key looked up": Cost(MapMachine, "get_many", 0.7, lambda found, *_: len(found), of_users=True),
    "key listed": Cost(MapMachine, "page", 0.5, lambda page, *_: len(page[2]), of_users=True),
    "lock waiter left": Cost(LockMachine, "_leave", 1.8, of_users=True),
    "resource made": Cost(Applier, "_make_resource", 100.0),
    # Sessions and their events.
    "session opened": Cost(Applier, "_apply_open_session", 30.0),
    "session ended": Cost(Applier, "_forget_session", 10.0),
    "session touched": Cost(DueQueue, "renew", 0.5),
    "timetable read": Cost(DueQueue, "settle", 3.0),
    "commands accepted": Cost(Connection, "submit_commands", 27.0),
    "connection gone": Cost(Server, "node_disconnected", 4.0),
    "attachment dropped": Cost(
        Attachments,
        "drop",
        0.25,
        lambda _, attachments, connection: 10 + len(attachments._connections[connection].sessions),
        before=True,
    ),
    "event queued": Cost(Session, "events_published", 1.8),
    "events asked for": Cost(Session, "events_after", 2.0),
    "event looked at": Cost(Session, "events_after", 0.06, _events_looked_at),
    "event forgotten": Cost(Session, "_forget_events", 0.2, _events_forgotten, before=True),
}
"""Every cost, by name."""


def draw_processors(chance: random.Random, nodes: Sequence[str]) -> dict[str, float]:
    """Draw how slow the nodes of a world are: all of them alike, and each a little different."""
    typical = SCALE_MIN * (SCALE_MAX / SCALE_MIN) ** chance.random()
    drawn = {}
    for name in nodes:
        scale = typical * SPREAD ** chance.uniform(-1.0, 1.0)
        drawn[name] = round(min(max(scale, SCALE_MIN), SCALE_MAX), 2)
    return drawn


@contextmanager
def charging(costs: Mapping[str, Cost] = COSTS) -> Iterator[None]:
    """Let functions charge what they cost while this lasts."""
    functions: dict[tuple[Any, str], list[Cost]] = {}
    for cost in costs.values():
        functions.setdefault((cost.owner, cost.attribute), []).append(cost)
    with ExitStack() as patches:
        made = {}
        for (owner, attribute), parts in functions.items():
            function = getattr(owner, attribute)
            charged = made[inspect.unwrap(function)] = _charged(function, parts)
            is_bound = isinstance(vars(owner).get(attribute), classmethod | staticmethod)
            new = staticmethod(charged) if is_bound else charged
            patches.enter_context(patch.object(owner, attribute, new))
        exchange_handlers(made)
        patches.callback(exchange_handlers, {function: function for function in made})
        patches.callback(_written.clear)
        yield


def exchange_handlers(functions: Mapping[Any, Any]) -> None:
    """Handlers of actors are looked up once a class: exchange them there, too.

    Args:
        functions: by what they wrap, however often: others may wrap the same function, and what is
            left of them in a table would make the next world of this process another.
    """
    for table in actor._tables.values():
        for kind, handler in table.items():
            wrapped = inspect.unwrap(handler)
            if wrapped in functions:
                table[kind] = functions[wrapped]


def _charged(function: Callable[..., Any], parts: Sequence[Cost]) -> Callable[..., Any]:
    before = [(part.units, part.each_us / 1e6) for part in parts if part.before]
    after = [(part.units, part.each_us / 1e6) for part in parts if not part.before]
    of_users = any(part.of_users for part in parts)
    fixed_s = sum(each_s for units, each_s in after if units is None)
    counted = [(units, each_s) for units, each_s in after if units is not None]
    is_charged_before = not after

    def charge(processor: Processor, result: Any, arguments: tuple[Any, ...]) -> None:
        cost_s = fixed_s
        for units, each_s in counted:
            cost_s += each_s * units(result, *arguments)
        processor.charge(cost_s, of_users=of_users)

    @wraps(function)
    def charged(*arguments: Any, **options: Any) -> Any:
        processor = Processor.at_work
        if processor is None:
            return function(*arguments, **options)
        for units, each_s in before:
            processor.charge(each_s if units is None else each_s * units(None, *arguments))
        result = function(*arguments, **options)
        if not is_charged_before:
            charge(processor, result, arguments)
        return result

    @wraps(function)
    def charged_as_always(*arguments: Any, **options: Any) -> Any:  # as most are
        result = function(*arguments, **options)
        processor = Processor.at_work
        if processor is not None:
            processor.charge(fixed_s)
        return result

    @wraps(function)
    def charged_by_units(*arguments: Any, **options: Any) -> Any:  # as most others are
        result = function(*arguments, **options)
        processor = Processor.at_work
        if processor is not None:
            processor.charge(fixed_s + each_s * units(result, *arguments))
        return result

    @wraps(function)
    def charged_at_its_end(*arguments: Any) -> Generator[Any, Any, Any]:
        result = yield from function(*arguments)
        processor = Processor.at_work
        if processor is not None:
            charge(processor, result, arguments)
        return result

    if inspect.isgeneratorfunction(function):  # it goes on in several turns
        assert not before, "what is worked on in turns is charged when it is done"
        return charged_at_its_end
    if before or of_users or len(counted) > 1:
        return charged
    if counted:
        ((units, each_s),) = counted
        return charged_by_units
    return charged_as_always
