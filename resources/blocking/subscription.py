"""Subscriptions for programs without an event loop."""

from collections.abc import Iterator
from typing import Generic, TypeVar

from copycat.resources.blocking.handle import Runner
from copycat.resources.subscription import AsyncSubscription

T = TypeVar("T")


class Subscription(Iterator[T], Generic[T]):
    """Events of one resource: ``with`` opens it, ``for`` reads it, leaving closes it.

    Everything else is as with ``AsyncSubscription``. Reading blocks without limit; another
    thread may leave the ``with`` block, which ends it.
    """

    def __init__(self, subscription: AsyncSubscription[T], runner: Runner) -> None:
        self._subscription = subscription
        self._runner = runner

    def __enter__(self) -> "Subscription[T]":
        self._runner.run(self._subscription.__aenter__())
        return self

    def __exit__(self, *error: object) -> None:
        self._runner.run(self._subscription.__aexit__(*error))

    def __next__(self) -> T:
        for item in self._runner.run(self._next()):
            return item
        raise StopIteration

    async def _next(self) -> list[T]:
        # A list, since StopAsyncIteration means nothing to whoever runs coroutines.
        async for item in self._subscription:
            return [item]
        return []
