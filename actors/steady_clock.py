"""A monotonic clock that keeps its word, over one of a machine that may not.

Some virtual machines set their monotonic clock back when they are moved or restored. Then time
stands still here until the next reading, and runs on from where it was: nobody who measures an
interval waits for what was gained to pass again.
"""

from collections.abc import Callable


class SteadyClock:
    """Seconds since an arbitrary moment, which never go back.

    Attributes:
        set_back_s: by how much the clock below was set back so far, all together.
    """

    __slots__ = ("_latest_s", "_read_s", "set_back_s")

    def __init__(self, read_s: Callable[[], float]) -> None:
        """``read_s``: reads the clock of the machine."""
        self._read_s = read_s
        self._latest_s = read_s()
        self.set_back_s = 0.0

    def monotonic_s(self) -> float:
        """The time now."""
        read_s = self._read_s()
        if read_s < self._latest_s:
            self.set_back_s += self._latest_s - read_s
        self._latest_s = read_s
        return read_s + self.set_back_s
