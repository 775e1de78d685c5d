"""Asking servers for their status: no session, no log, no leader needed.

Each server answers from what it knows itself. Every endpoint is asked by a node of its own, so
that two names of one server, or two servers of one name, cannot take the link from each other.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

from copycat.actors.actor import Actor
from copycat.actors.address import NodeAddress
from copycat.actors.environment import (
    Identity,
    NodeConnected,
    NodeDisconnected,
    NodeUnreachable,
)
from copycat.actors.network import NetworkNode
from copycat.client.endpoints import checked_endpoints
from copycat.protocol.client import SERVER
from copycat.protocol.status import AskStatus, Status

SUFFIX_BYTES = 4
ENDPOINTS_MAX = 64  # given and named by servers together


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """An endpoint whose server said nothing in time.

    Attributes:
        endpoint: as it was dialled.
        name: what the other servers call the server there; "" if none of them knows.
        reason: one line.
        refused: something is there, and did not let us in.
    """

    endpoint: str
    name: str
    reason: str
    refused: bool


Answer = Status | NoAnswer


class Inquiry:
    """Standing connections to all servers of a cluster, for asking them again and again.

    Use it as ``async with Inquiry(endpoints) as inquiry``, on one loop.
    """

    def __init__(self, endpoints: tuple[str, ...]) -> None:
        """Make it; nothing is dialled before the first question.

        Args:
            endpoints: ``host:port`` of some servers; the others are learnt from them. None:
                those in the environment variable ``COPYCAT_ENDPOINTS``.

        Raises:
            InvalidArgument: one is no ``host:port``, or there are none.
        """
        self._given = checked_endpoints(endpoints)
        self._probes: dict[str, _Probe] = {}
        self._names: dict[str, str] = {}  # by endpoint, as the servers say

    async def ask(self, timeout_s: float) -> list[Answer]:
        """Ask all servers at once.

        Args:
            timeout_s: for all of them together. It is used up only if one neither answers nor
                is known to be unreachable.

        Returns:
            One answer for each server: those that answered, then the others.
        """
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        answers: dict[str, Answer | None] = {}  # None: asked
        await self._ask((*self._given, *self._probes), deadline_s, answers)
        return self._distinct(answers)

    async def _ask(
        self, endpoints: tuple[str, ...], deadline_s: float, answers: dict[str, Answer | None]
    ) -> None:
        """Ask those that have not been asked, and whom they name."""
        new = [endpoint for endpoint in dict.fromkeys(endpoints) if endpoint not in answers]
        new = new[: ENDPOINTS_MAX - len(answers)]
        answers.update(dict.fromkeys(new))

        async def ask_one(endpoint: str) -> None:
            left_s = max(0.0, deadline_s - asyncio.get_running_loop().time())
            answer = answers[endpoint] = await self._probe(endpoint).ask(left_s)
            if isinstance(answer, Status):
                self._names.update((peer.endpoint, peer.name) for peer in answer.peers)
                named = tuple(peer.endpoint for peer in answer.peers)
                await self._ask(named, deadline_s, answers)

        await asyncio.gather(*[ask_one(endpoint) for endpoint in new])

    def close(self) -> None:
        """Hang up everywhere."""
        for probe in self._probes.values():
            probe.close()
        self._probes.clear()

    async def __aenter__(self) -> "Inquiry":
        return self

    async def __aexit__(self, *_error: object) -> None:
        self.close()
        await asyncio.sleep(0)  # closed sockets are let go of in the loop's next turn

    def _probe(self, endpoint: str) -> "_Probe":
        if endpoint not in self._probes:
            self._probes[endpoint] = _Probe(endpoint)
        return self._probes[endpoint]

    def _distinct(self, answers: dict[str, Answer | None]) -> list[Answer]:
        """Each server once: some have several endpoints, and some of those may not answer."""
        reached: dict[tuple[str, int], Status] = {}
        for answer in answers.values():
            if isinstance(answer, Status):
                reached.setdefault((answer.name, answer.server_id), answer)
        names = {name for name, _ in reached}
        silent: dict[str, NoAnswer] = {}
        for endpoint, answer in answers.items():
            name = self._names.get(endpoint, "")
            if isinstance(answer, NoAnswer) and name not in names:
                silent.setdefault(name or endpoint, replace(answer, name=name))
        return [*reached.values(), *silent.values()]


async def ask_status(endpoints: tuple[str, ...], timeout_s: float) -> list[Answer]:
    """Ask all servers of a cluster once; see ``Inquiry.ask``.

    Raises:
        InvalidArgument: an endpoint is no ``host:port``, or there are none.
    """
    async with Inquiry(endpoints) as inquiry:
        return await inquiry.ask(timeout_s)


class _Probe:
    """One endpoint, with a node and a standing connection."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._node = NetworkNode(
            Identity(f"status-{secrets.token_hex(SUFFIX_BYTES)}"), shares_loop=True
        )
        self._waiting: asyncio.Future[Answer] | None = None
        self._actor = self._node.spawn(_Asker, endpoint, self._heard)

    async def ask(self, timeout_s: float) -> Answer:
        """Ask once, and say that there was no answer if there is none in time."""
        assert self._waiting is None, "one question at a time"
        self._waiting = asyncio.get_running_loop().create_future()
        self._node.tell(self._actor, AskStatus(0))
        try:
            async with asyncio.timeout(timeout_s):
                return await self._waiting
        except TimeoutError:
            reason = f"no answer within {timeout_s:.3g} s"
            return NoAnswer(self._endpoint, "", reason, refused=False)
        finally:
            self._waiting = None

    def close(self) -> None:
        """Hang up."""
        self._node.stop()

    def _heard(self, answer: Answer) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(answer)


class _Asker(Actor):
    """Dials one endpoint and passes questions and answers on."""

    def __init__(self, endpoint: str, heard: Callable[[Answer], None]) -> None:
        self._endpoint = endpoint
        self._heard = heard
        self._node = ""  # the server's, while it is connected
        self._failure: NoAnswer | None = None
        self._request = 0
        self._answered = True
        self.environment.links.watch(self.address)
        self.environment.links.dial(endpoint)

    def ask(self, message: AskStatus, sender: NodeAddress) -> None:
        """A new question, which makes an older one void."""
        self._request += 1
        self._answered = False
        if self._node:
            self._send()
        elif self._failure is not None:
            self._answer(self._failure)

    def status(self, message: Status, sender: NodeAddress) -> None:
        """The answer, unless it is to an older question."""
        if message.request == self._request:
            self._answer(message)

    def connected(self, message: NodeConnected, sender: NodeAddress) -> None:
        """Ask what waits to be asked."""
        self._node, self._failure = message.node, None
        if not self._answered:
            self._send()

    def gone(self, message: NodeDisconnected | NodeUnreachable, sender: NodeAddress) -> None:
        """There will be no answer before the next attempt to connect, which the runtime makes."""
        refused = isinstance(message, NodeUnreachable) and message.refused
        self._node = ""
        self._failure = NoAnswer(self._endpoint, "", message.reason, refused)
        if not self._answered:
            self._answer(self._failure)

    def _send(self) -> None:
        self.send(NodeAddress.well_known(self._node, SERVER), AskStatus(self._request))

    def _answer(self, answer: Answer) -> None:
        if not self._answered:
            self._answered = True
            self._heard(answer)
