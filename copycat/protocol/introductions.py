"""Introductions between servers: which life of a server the others know (architecture: Lives).

They go to the well-known actor of one life of a node, over a link on which both have said Hello, and
come before everything else that servers say.
"""

from copycat.actors.message import message


@message(60)
class Introduce:
    """A server says which lives it has had, and which one of the other it has met."""

    lives: bytes  # eight bytes each, little endian; the last one is the present one
    met: int  # the life of the other server that was introduced last; 0 when none was


@message(61)
class Welcome:
    """The life that was introduced is known, durably: from now on its messages are taken."""

    life: int


@message(62)
class Unwelcome:
    """The life that was introduced is refused, for good."""

    life: int
    reason: str  # one line, for people


@message(63)
class AskAlive:
    """Another process has come by the name of the server that is asked: is it still there?"""

    life: int  # of the server that is asked


@message(64)
class StillAlive:
    """It is."""

    life: int
