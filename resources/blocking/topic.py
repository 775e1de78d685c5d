"""The blocking topic. tools/blocking_handles.py writes it from resources/topic.py: edit that."""

from typing import Generic

from copycat.protocol.client import Consistency
from copycat.resources.blocking.handle import BlockingHandle
from copycat.resources.blocking.subscription import Subscription
from copycat.resources.subscription import EVENTS_BUFFERED_MAX
from copycat.resources.topic import AsyncDistributedTopic, Gap, M


class DistributedTopic(BlockingHandle[AsyncDistributedTopic[M]], Generic[M]):
    """Messages to all subscribers.

    All subscribers get the same messages in the same order. Nothing is kept: a message is
    for those whose subscription was open when it was published. Messages are what the codec
    carries, at most ``VALUE_BYTES_MAX`` encoded bytes.
    """

    asynchronous = AsyncDistributedTopic

    def publish(self, message: M, *, timeout_s: float | None = None) -> int:
        """Send a message to all subscribers. Returns its log index, which only grows.

        When this returns the message is in the log and cannot be lost; it need not have
        arrived anywhere.
        """
        return self._runner.run(self._handle.publish(message, timeout_s=timeout_s))

    def subscribe(self, *, buffered_max: int = EVENTS_BUFFERED_MAX) -> Subscription[M | Gap]:
        """Be told messages: ``with topic.subscribe() as messages``, then ``for``.

        Every message published after the subscription was opened comes once and in order, this
        client's own included. A ``Gap`` comes where some may be missing.

        Args:
            buffered_max: how many messages may wait to be read before a gap is made of them.
        """
        return Subscription(self._handle.subscribe(buffered_max=buffered_max), self._runner)

    def subscriptions(
        self, *, consistency: Consistency = Consistency.LINEARIZABLE, timeout_s: float | None = None
    ) -> int:
        """How many subscriptions are open in all clients."""
        return self._runner.run(
            self._handle.subscriptions(consistency=consistency, timeout_s=timeout_s)
        )
