"""The topic: messages for everybody who has subscribed before they were published."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from copycat.machine import Commit, command
from copycat.protocol.client import Consistency
from copycat.resources.handle import AsyncHandle
from copycat.resources.subscription import (
    EVENTS_BUFFERED_MAX,
    AsyncSubscription,
    PublishingMachine,
)
from copycat.resources.values import check_encoded, decode_value, value_to_send

M = TypeVar("M")


class TopicMachine(PublishingMachine):
    """The replicated side of a topic: it keeps who listens, and no message."""

    @command
    def publish(self, commit: Commit, message: bytes) -> int:
        check_encoded(message)
        self._tell(commit, "message", message)
        return commit.index


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages may be missing before this one; after log index ``version`` none is."""

    version: int


class AsyncDistributedTopic(AsyncHandle, Generic[M]):
    """Messages to all subscribers, for asyncio.

    All subscribers get the same messages in the same order. Nothing is kept: a message is
    for those whose subscription was open when it was published. Messages are what the codec
    carries, at most ``VALUE_BYTES_MAX`` encoded bytes.
    """

    resource_type = "topic"
    resource_version = TopicMachine.version

    async def publish(self, message: M, *, timeout_s: float | None = None) -> int:
        """Send a message to all subscribers. Returns its log index, which only grows.

        When this returns the message is in the log and cannot be lost; it need not have
        arrived anywhere.
        """
        sent = value_to_send(message)
        return cast("int", await self._command("publish", sent, timeout_s=timeout_s))

    def subscribe(self, *, buffered_max: int = EVENTS_BUFFERED_MAX) -> AsyncSubscription[M | Gap]:
        """Be told messages: ``async with topic.subscribe() as messages``, then ``async for``.

        Every message published after the subscription was opened comes once and in order, this
        client's own included. A ``Gap`` comes where some may be missing.

        Args:
            buffered_max: how many messages may wait to be read before a gap is made of them.
        """
        return AsyncSubscription(self._client, self._resource, _message, Gap, buffered_max)

    async def subscriptions(
        self,
        *,
        consistency: Consistency = Consistency.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> int:
        """How many subscriptions are open in all clients."""
        count = await self._query("subscriptions", consistency=consistency, timeout_s=timeout_s)
        return cast("int", count)


def _message(_name: str, values: list[Any]) -> Any:
    return decode_value(values[1])
