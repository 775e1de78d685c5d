"""Bugs that break no rule but those of time: all comes right, and comes late."""

from contextlib import AbstractContextManager, ExitStack
from math import inf
from typing import Any
from unittest.mock import patch

from copycat.actors.budget import Budget
from copycat.protocol.client import KeepAlive
from copycat.server import replicator
from copycat.server.connection import Connection
from copycat.server.delivery import Delivery
from copycat.server.log_time import LogClock
from copycat.server.progress import Attachment
from copycat.server.replicator import Replicator
from copycat.server.roles.leader import Leader
from copycat.server.session import ToSend
from copycat.server.steps import Replicate, Tick

REIGN_S = 4.0


def never_has_enough() -> AbstractContextManager[Any]:
    """Loops ask their budget, and it never ends."""
    plants = ExitStack()
    plants.enter_context(patch.object(Budget, "spent", property(lambda _: False)))
    plants.enter_context(patch.dict(Budget.__init__.__kwdefaults__, time_s=inf))
    return plants


def gives_up_after_a_while() -> AbstractContextManager[Any]:
    """A leader thinks that it has slept, though a majority hears it."""
    tick = Leader.tick
    began: dict[Leader, float] = {}

    def tick_and_give_up(role: Leader, message: Tick, sender: Any) -> float:
        if message.now_s - began.setdefault(role, message.now_s) > REIGN_S:
            role.server.become_follower()
            return message.now_s
        return tick(role, message, sender)

    return patch.object(Leader, "tick", tick_and_give_up)


def lets_log_time_crawl() -> AbstractContextManager[Any]:
    """A leader's log time runs at a tenth of the pace."""
    now_us = LogClock.now_us

    def crawl(clock: LogClock) -> int:
        base_us = clock._base_us
        return base_us + (now_us(clock) - base_us) // 10

    return patch.object(LogClock, "now_us", crawl)


def hears_no_keep_alives() -> AbstractContextManager[Any]:
    """A connection takes them, and hands none on."""

    def keep_alive(connection: Connection, message: KeepAlive, sender: Any) -> None:
        pass

    return patch.object(Connection, "keep_alive", keep_alive)


def feeds_without_an_end() -> AbstractContextManager[Any]:
    """A leader has any number of requests on their way to a follower."""
    replicate = Replicator.replicate

    def feed(one: Replicator, message: Replicate, sender: Any) -> None:
        with patch.multiple(replicator, REQUESTS_IN_FLIGHT_MAX=1_000, BYTES_IN_FLIGHT_MAX=1 << 30):
            replicate(one, message, sender)

    return patch.object(Replicator, "replicate", feed)


def sends_no_events() -> AbstractContextManager[Any]:
    """Events are queued, and stay there, whoever asks for them."""

    def keep(delivery: Delivery, session: int, at: Attachment, found: ToSend) -> None:
        pass

    return patch.object(Delivery, "send", keep)
