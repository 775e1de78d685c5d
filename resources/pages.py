"""Pages: how a handle reads what is too much for one answer."""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from copycat.resources.values import check_integer

T = TypeVar("T")

PAGE_ITEMS = 500
PAGE_ITEMS_MAX = 1_000
PAGE_BYTES_MAX = 256 * 1024
"""A page ends with the item that passes this, however few it has."""


class AsyncPages(Generic[T]):
    """An asynchronous iterator over items that come in pages, one query each.

    What is inserted after the first page was read does not come. What was there then and has
    not been removed comes exactly once, in the order of insertion, and as it is when its page
    is read. ``async for`` gives the items; ``page()`` gives whole pages, of ``PAGE_ITEMS_MAX`` items at
    most.
    """

    def __init__(
        self,
        fetch: Callable[[int, int | None, int], Awaitable[list[Any]]],
        read: Callable[[Any], T],
        page_items: int,
    ) -> None:
        check_integer(page_items, "page_items", minimum=1)
        self._fetch = fetch
        self._read = read
        self._page_items = page_items
        self._after: int | None = 0  # the place of the last item read; None: that was all
        self._until: int | None = None  # the last place there was at the first page
        self._items: deque[T] = deque()  # read, but not given out one by one yet

    def __aiter__(self) -> "AsyncPages[T]":
        return self

    async def __anext__(self) -> T:
        if not self._items:
            self._items.extend(await self.page())
        if not self._items:
            raise StopAsyncIteration
        return self._items.popleft()

    async def page(self) -> list[T]:
        """The next items, at least one; an empty list when there are no more."""
        rows: list[Any] = []
        while not rows and self._after is not None:
            self._after, self._until, rows = await self._fetch(
                self._after, self._until, self._page_items
            )
        return [self._read(row) for row in rows]
