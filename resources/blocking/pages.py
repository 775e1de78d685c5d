"""Pages for programs without an event loop."""

from collections.abc import Iterator
from typing import Generic, TypeVar

from copycat.resources.blocking.handle import Runner
from copycat.resources.pages import AsyncPages

T = TypeVar("T")


class Pages(Iterator[T], Generic[T]):
    """An iterator over items that come in pages, one query each; see ``AsyncPages``."""

    def __init__(self, pages: AsyncPages[T], runner: Runner) -> None:
        self._pages = pages
        self._runner = runner
        self._items: Iterator[T] = iter(())

    def __next__(self) -> T:
        for item in self._items:
            return item
        items = self._runner.run(self._pages.page())
        if not items:
            raise StopIteration
        self._items = iter(items)
        return next(self._items)

    def page(self) -> list[T]:
        """The next items, at least one; an empty list when there are no more."""
        rest = list(self._items)
        return rest or self._runner.run(self._pages.page())
