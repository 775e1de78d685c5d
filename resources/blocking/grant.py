"""The grant of a lock for programs without an event loop."""

from types import TracebackType

from copycat.resources.blocking.handle import Runner
from copycat.resources.lock import AsyncLockGrant, AsyncLost


class Lost:
    """The signal that a grant is held no longer, or that this cannot be known any more."""

    def __init__(self, lost: AsyncLost, runner: Runner) -> None:
        self._lost = lost
        self._runner = runner

    def is_set(self) -> bool:
        """Whether the grant is lost. It never becomes False again."""
        return self._lost.is_set()

    def wait(self) -> None:
        """Block until the grant is lost: for ever, if it is released before."""
        self._runner.run(self._lost.wait())


class LockGrant:
    """A lock that is held: use it in a ``with`` block, or ``release()`` it.

    Leaving the block releases the lock; if it was lost meanwhile, leaving raises ``LockLost``,
    unless another exception is on its way. A lost grant is never taken again by itself.

    Attributes:
        token: larger than the token of every earlier grant of this lock.
        lost: set when the session ended, or was out of contact for so long that it may have.
    """

    def __init__(self, grant: AsyncLockGrant, runner: Runner) -> None:
        self.token = grant.token
        self.lost = Lost(grant.lost, runner)
        self._grant = grant
        self._runner = runner

    def check(self) -> None:
        """Do nothing while the lock is held, as far as this client knows.

        Raises:
            LockLost: it was lost, or has been released.
        """
        self._grant.check()

    def release(self) -> bool:
        """Give the lock back. Returns whether it was held until now; False if called again.

        Blocks until the lock is known to be free or lost, at most for the session's timeout.
        """
        return self._runner.run(self._grant.release())

    def __enter__(self) -> "LockGrant":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._runner.run(self._grant.__aexit__(kind, error, traceback))

    def __repr__(self) -> str:
        return repr(self._grant).replace("<Async", "<", 1)
