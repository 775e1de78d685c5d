"""Dialling in the real world: the standing wish of a node to be connected to one endpoint.

An attempt that nobody answers is not waited for: the next one begins beside it. So a node is back
soon after a cut has healed, however long the system would wait before it asks again. All this is
not for a spare connection, which nobody waits for: thousands of nodes may each have one to a server
that is down.
"""

import asyncio
import os
from typing import TYPE_CHECKING

from copycat.actors.endpoint import parse_endpoint
from copycat.actors.hello import TOO_MANY
from copycat.actors.network_link import Link

if TYPE_CHECKING:
    from copycat.actors.network_links import NetworkLinks

CONNECT_TIMEOUT_S = 2.0  # of one attempt
OVERLAP_S = 0.5  # after an attempt has begun and is not answered, the next one begins
ATTEMPTS_MAX = 4  # at once: more are only wanted by a process that stands still, and help nobody
RETRY_FIRST_S = 0.05
RETRY_LAST_S = 0.4
SPARE_RETRY_LAST_S = 3.2
NO_ROOM_RETRY_FIRST_S = (
    0.3  # where there was no room: those who have some need the other node's time
)
NO_ROOM_RETRY_LAST_S = 4.8


class Dial:
    """The standing wish to be connected to one endpoint.

    Attributes:
        link: the link that is up, if one is.
        refusal: why the other node had no room at the last attempts; "" if it did not say so.
    """

    def __init__(self, links: "NetworkLinks", endpoint: str, *, spare: bool) -> None:
        parse_endpoint(endpoint)
        self.link: Link | None = None
        self.refusal = ""
        self._links = links
        self._endpoint = endpoint
        self._is_spare = spare
        self._attempts: dict[Link, asyncio.Task[None]] = {}
        self._delay_s = RETRY_FIRST_S
        self._timer: asyncio.TimerHandle | None = None
        self._begin()

    def change(self, *, spare: bool) -> None:
        """From now on this is a spare connection, or none any more."""
        if self._is_spare and not spare and self._attempts:
            self._plan(OVERLAP_S)
        self._is_spare = spare

    def _begin(self) -> None:
        if len(self._attempts) >= ATTEMPTS_MAX:
            self._plan(OVERLAP_S)
            return
        link = Link(self._links, self._endpoint)
        link.dial = self
        self._attempts[link] = self._links.node.loop.create_task(connect(link, self._links))
        if not self._is_spare:
            self._plan(OVERLAP_S)

    def _plan(self, delay_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        jitter = self._links.node.environment.random.uniform(0.75, 1.25)
        self._timer = self._links.node.call_later(delay_s * jitter, self._begin)

    def came_up(self, link: Link) -> None:
        """An attempt has succeeded; the others are given up."""
        self._attempts.pop(link, None)
        self._give_up("another attempt was faster")
        self.link = link

    def has_refused_again(self, link: Link) -> bool:
        """Whether a link that has ended had no room, though that was not heard: where there was none
        the last time, a connection may be cut before the refusal has been read."""
        return bool(self.refusal) and link.receipts < 2  # no more than its Hello

    def ended(self, link: Link, reason: str, *, was_up: bool) -> None:
        """A link has ended: make the next one after a while, unless a later one is on its way."""
        no_room = reason if reason.endswith(TOO_MANY) else ""
        is_latest = link is self.link or (bool(self._attempts) and link is [*self._attempts][-1])
        self._attempts.pop(link, None)
        if link is self.link:
            self.link = None
        if was_up or (self.refusal and not no_room):
            self._delay_s = RETRY_FIRST_S
        elif no_room:
            self._delay_s = max(self._delay_s, NO_ROOM_RETRY_FIRST_S)
        self.refusal = no_room
        if is_latest:
            last_s = SPARE_RETRY_LAST_S if self._is_spare else RETRY_LAST_S
            if no_room:
                last_s = NO_ROOM_RETRY_LAST_S
            self._plan(min(self._delay_s, last_s))
            self._delay_s = min(self._delay_s * 2, last_s)

    def hang_up(self, reason: str) -> None:
        """Stop trying, and end the link if there is one."""
        self._give_up(reason)
        if self.link is not None:
            self.link.hung_up = True
            self.link.end(reason)

    def _give_up(self, reason: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        attempts, self._attempts = self._attempts, {}
        for link, task in attempts.items():
            link.hung_up = True
            link.end(reason)
            task.cancel()


async def connect(link: Link, links: "NetworkLinks") -> None:
    """Connect a link to its endpoint, or end it with the reason."""
    host, port = parse_endpoint(link.endpoint)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await links.node.loop.create_connection(lambda: link, host, port)
    except TimeoutError:
        link.end(f"no answer within {CONNECT_TIMEOUT_S:g} s")
    except (OSError, UnicodeError) as error:
        link.end(reason_of(error))


def reason_of(error: OSError | UnicodeError) -> str:
    """An error of connecting or listening in a few words; UnicodeError: the host is no name."""
    if isinstance(error, UnicodeError):
        return "the host is not a valid name"
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    return str(error.strerror or error).lower()
