"""What every blocking handle is: an asyncio handle, and a thread to run it on."""

from collections.abc import Coroutine
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from copycat.resources.handle import AsyncHandle

T = TypeVar("T")
H_co = TypeVar("H_co", bound=AsyncHandle, covariant=True)


class Runner(Protocol):
    """Where the asyncio handles run, seen from any other thread."""

    def run(self, coroutine: Coroutine[Any, Any, T], /) -> T:
        """Run a coroutine on the client's loop, and block until it is done."""
        ...


class BlockingHandle(Generic[H_co]):
    """A resource as one blocking client sees it. ``client.open(type, name)`` makes handles.

    Its methods are those of the asyncio handle, with the same rules, and block the calling
    thread. A handle may be used from several threads.
    """

    asynchronous: ClassVar[type[AsyncHandle]]
    """The asyncio handle that this one blocks on."""

    def __init__(self, handle: H_co, runner: Runner) -> None:
        self._handle = handle
        self._runner = runner

    @property
    def name(self) -> str:
        """The name under which the resource was opened."""
        return self._handle.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._handle.name!r}>"
