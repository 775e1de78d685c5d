"""UsersCode: how one server calls the code of users, and which of its ends are results.

A state machine may end by anything. What ends it alike on every server and at every replay is the
operation's result: any exception, ``SystemExit``, ``CancelledError``, ``GeneratorExit``. What may
strike one server and spare another is never a result, and stops the server: ``MemoryError``,
``KeyboardInterrupt``, and ``RecursionError`` where nobody knows that all have the same room. A query
has no result, only an answer: it stops nothing.
"""

import sys
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

from copycat.errors import MachineError
from copycat.server.steps import AnswerQueries, ApplyOperations, EndSession, FireTimer

FRAMES_MAX = 1_000
"""How deep users' code may call, where the server decides it: like all that decides what a log
means, it is to be the same on every server."""

PYTHON = f"python/{sys.version_info.major}.{sys.version_info.minor}"
"""What a server says of itself in its HELLO; the version of a type of resource has no dot."""

_FAILED = "failed-entry/"  # the version of a type ends in no dot

_NEVER_RESULTS = (KeyboardInterrupt, MemoryError)
# What users' classes may say otherwise, or not at all, is asked of the interpreter's own.
_NAME: Any = vars(type)["__name__"]
_TRACEBACK: Any = vars(BaseException)["__traceback__"]
_EXCEPTIONS: Any = vars(BaseExceptionGroup)["exceptions"]
EXCEPTIONS_MAX = 10_000
KIND_CHARACTERS_MAX = 100
REASON_CHARACTERS_MAX = 500


class Recursion(Enum):
    """Who knows how deep users' code may call on all servers of a cluster, and so what
    ``RecursionError`` means there."""

    UNKNOWN = "unknown"
    """Nobody: other code of the process sets the limit and has frames below. It stops the server."""
    SHARED = "shared"
    """All servers live in one thread, so it strikes all of them or none. It is a result."""
    COUNTED = "counted"
    """The process is one server and nothing else: it counts ``FRAMES_MAX`` from the frame that
    calls users' code, by the interpreter's limit. It is a result."""


class QueryInterrupted(BaseException):
    """Raised by a watchdog within a query that has worked for too long, in the midst of users' code."""


class UsersCode:
    """The calls of one server into the code of users.

    Attributes:
        failed_entries: indexes of commands that are not carried out, by an operator's decision.
        minors_differ: whether another server of the cluster runs another minor version of Python,
            where the same code may need other frames: then ``RecursionError`` is no result.
        running: the resource, the message that it handles now, and what it has answered of it so far
            or the name of the method; None between two calls.
        interruption: of the row of queries that runs or has just ended: the place of the one that
            was to be interrupted, and how it is taken back; None if there was none, as always
            where nobody watches.
        unwatched: to be called when the next row of calls begins, by who has stopped to watch; None
            while somebody watches, and where nobody does.
    """

    def __init__(self, recursion: Recursion, failed_entries: frozenset[int] = frozenset()) -> None:
        self.failed_entries = failed_entries
        self.minors_differ = False
        self.running: tuple[Any, Any, Any] | None = None
        self.interruption: tuple[int, Callable[[], None]] | None = None
        self.unwatched: Callable[[], None] | None = None
        self._recursion = recursion
        self._counts = recursion is Recursion.COUNTED
        self._depth = 0  # of the frame for which the interpreter's limit was set
        self._limit = 0  # and what it was set to
        self._limits: dict[int, int] = {}  # by depth; a server calls from few different ones
        self._least = 0  # of these depths

    def enter(self, running: tuple[Any, Any, Any]) -> None:
        """Begin a row of calls: it is ``running``, and what the caller calls next has its frames. The
        caller says when it is over, by ``running = None``."""
        self.running = running
        wake = self.unwatched
        if wake is not None:
            self.unwatched = None
            wake()
        if not self._counts:
            return
        try:
            if sys._getframe(self._depth).f_back is None and (
                sys.getrecursionlimit() == self._limit  # or users' code has set it
            ):
                return  # as deep as the last time
        except ValueError:
            pass
        try:
            frame, depth = sys._getframe(self._least), self._least
        except ValueError:
            frame, depth = sys._getframe(), 0
        while frame.f_back is not None:
            frame, depth = frame.f_back, depth + 1
        self._depth = depth
        limit = self._limits.get(depth)
        if limit is None:
            self._least = min(depth, self._least or depth)
            # What the interpreter counts besides frames differs, so the room is tried out.
            sys.setrecursionlimit(depth + 2 * FRAMES_MAX)
            limit = self._limits[depth] = depth + 3 * FRAMES_MAX - _room()
        sys.setrecursionlimit(limit)
        self._limit = limit

    def place(self) -> tuple[object, int, str] | None:
        """Which call is under way, for other threads: an object that its row of calls has, its place
        in that, and a text; None when there is none."""
        running = self.running
        if running is None:
            return None
        resource, message, done = running
        if type(done) is str:
            at, method = 0, done
        else:
            at = min(len(done), len(message.operations) - 1)
            method = message.operations[at][1]
        told = f"resource={resource.resource} type={resource.kind} method={method:.60}"
        if type(message) is ApplyOperations:
            told += f" index={message.first_index + at}"
        elif type(message) in (FireTimer, EndSession):
            told += f" index={message.index}"
        return running, at, told

    def is_query(self, row: object) -> bool:
        """Whether a row of calls may be interrupted: queries of users' own machines. The built-in ones
        come to their end, and may keep in order what they have looked up."""
        running: Any = row
        return type(running[1]) is AnswerQueries and not running[0].is_built_in

    @property
    def offers(self) -> list[str]:
        """What the server says of this in its HELLO, besides the types it knows."""
        return [PYTHON, *[f"{_FAILED}{index}." for index in sorted(self.failed_entries)]]

    def agrees_with(self, offers: tuple[str, ...]) -> bool:
        """Whether a server that says this has the same decisions."""
        told = [each for each in offers if each.startswith(_FAILED) and each.endswith(".")]
        return told == self.offers[1:]

    def failed_among(self, first_index: int, count: int) -> list[int]:
        """The places of those that are not carried out among so many commands."""
        if not self.failed_entries:
            return []
        indexes = range(first_index, first_index + count)
        return [place for place, index in enumerate(indexes) if index in self.failed_entries]

    def see_offers(self, offers: Iterable[tuple[str, ...]]) -> None:
        """Note what the other servers say of themselves in their HELLOs."""
        self.minors_differ = any(PYTHON not in each for each in offers)

    def result(self, error: BaseException, what: str) -> tuple[str, str]:
        """The kind and the text of what ``what`` has ended by, if every server comes to this end at
        every replay.

        Raises:
            MachineError: it may strike one server and spare another, and so stops this one.
        """
        same = self._recursion is not Recursion.UNKNOWN and not self.minors_differ
        return self._ended(error, what, () if same else (RecursionError,))

    def answer(self, error: BaseException, what: str) -> tuple[str, str]:
        """The same of a query: nothing depends on its end but its caller, who would take it from server
        to server if it stopped them.

        Raises:
            MachineError: it ended by a ``KeyboardInterrupt``, which may be somebody's Ctrl-C where the
                process is not the server's alone.
        """
        if self._recursion is not Recursion.COUNTED and _holds(error, (KeyboardInterrupt,)):
            return self._ended(error, what, ())
        try:
            reason = reason_of(error)
        except _NEVER_RESULTS:
            reason = ""
        return kind_of(error), reason

    def _ended(
        self, error: BaseException, what: str, stops: tuple[type[BaseException], ...]
    ) -> tuple[str, str]:
        try:
            if not _holds(error, (*_NEVER_RESULTS, *stops)):
                return kind_of(error), reason_of(error)
        except _NEVER_RESULTS as worse:
            error = worse  # its text could not be had
        try:
            reason = reason_of(error)
        except _NEVER_RESULTS:
            reason = ""
        said = f"{kind_of(error)}: {reason}".removesuffix(": ") + place_of(error)
        if not _holds(error, _NEVER_RESULTS):
            why = (
                "the servers run different minor versions of Python"
                if self.minors_differ
                else "other code of this process has frames and a limit of its own"
            )
            said += f" (no result, as {why})"
        raise MachineError(
            f"{what} ended by {said}; nothing of it was applied here, and it comes again at each"
            " start: mend the cause, or have all servers pass it by --fail-entry"
        ) from error


def kind_of(error: BaseException) -> str:
    """The name of an exception's class, which is state."""
    name: str = _NAME.__get__(type(error))
    return name[:KIND_CHARACTERS_MAX]


def place_of(error: BaseException) -> str:
    """Where an exception was raised: " in f (file:line)", or "" if it was nowhere."""
    place = _TRACEBACK.__get__(error)
    if place is None:
        return ""
    while place.tb_next is not None:
        place = place.tb_next
    code = place.tb_frame.f_code
    return f" in {code.co_name} ({code.co_filename}:{place.tb_lineno})"


def reason_of(error: BaseException) -> str:
    """What an exception of users' code says, as far as that can be had and can travel.

    It is no state: between servers, versions of Python and replays it may differ.

    Raises:
        MemoryError, KeyboardInterrupt: to say it ended so.
    """
    try:
        # The text may be of a class of users' own, with methods of its own.
        text = str.__getitem__(str(error), slice(REASON_CHARACTERS_MAX))
    except _NEVER_RESULTS:
        raise
    except BaseException:  # noqa: BLE001 - users' code
        text = ""
    return text.encode("utf-8", "replace").decode("utf-8")


def is_kind(
    error: BaseException, kinds: type[BaseException] | tuple[type[BaseException], ...]
) -> bool:
    """Whether an exception of users' code is of these kinds, whatever it says of its class itself."""
    return issubclass(type(error), kinds)


def _holds(error: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    """Whether an exception, or one of its group as far as that is looked at, is of these kinds."""
    left = [error]
    for _ in range(EXCEPTIONS_MAX):  # a group may hold others again and again
        if not left:
            break
        found = left.pop()
        if is_kind(found, kinds):
            return True
        if is_kind(found, BaseExceptionGroup):
            left += _EXCEPTIONS.__get__(found)
    return False


def _room() -> int:
    """How many frames the caller's caller may still call, one in the other."""
    return _descended(1) + 2


def _descended(frames: int) -> int:
    try:
        return _descended(frames + 1)
    except RecursionError:
        return frames
