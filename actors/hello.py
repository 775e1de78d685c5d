"""Hello: what two nodes say first on every connection, and whether they admit each other.

The node that was dialled sends ``Hello`` as soon as it is connected, the other one when it has that
one. Both judge the other's with ``refusal``; who does not agree answers ``HelloRefused`` and closes.
Both worlds use this file.
"""

from copycat.actors.address import ANY_INCARNATION
from copycat.actors.environment import Identity
from copycat.actors.message import message

PROTOCOL_VERSION = 1
NAME_CHARACTERS_MAX = 255
TOO_MANY = "too many connections"
"""Why a node refuses one that it has no room for now: it may come again later."""

REPLACED = "replaced by a newer connection with a node of this name"


@message(5)
class Hello:
    """The first message on a connection, from both sides: ``Identity`` and what goes with it.

    Its fields are the same in every protocol version, so that nodes which cannot talk can say so.
    """

    protocol_version: int  # of frames and messages; nodes with different ones do not talk
    cluster_id: int  # 0: none (yet)
    name: str
    node_id: int  # 0: none
    incarnation: int  # this life of the node
    offers: tuple[str, ...]
    bulk: bool  # this connection is for the node's bulk messages; another one is for the rest


@message(6)
class HelloRefused:
    """The sender will not talk to the other node and closes the connection; sent at any time."""

    reason: str  # one line, for people


@message(9)
class Beat:
    """The sender lives, and has nothing else to say; sent when nothing else was for a second."""


def hello_of(identity: Identity, incarnation: int) -> Hello:
    """The Hello of a node."""
    return Hello(
        protocol_version=PROTOCOL_VERSION,
        cluster_id=identity.cluster_id,
        name=identity.name,
        node_id=identity.node_id,
        incarnation=incarnation,
        offers=identity.offers,
        bulk=False,
    )


def refusal(own: Hello, other: Hello) -> str | None:
    """Why a node that said ``own`` does not admit one that says ``other``; None if it does."""
    if other.protocol_version != own.protocol_version:
        return (
            f"protocol version {other.protocol_version} is spoken there"
            f" and {own.protocol_version} here: run the same release on both"
        )
    if not is_name(other.name) or other.incarnation == ANY_INCARNATION:
        return "its name or incarnation is not valid"
    if other.name == own.name:
        if other.incarnation == own.incarnation:
            return "it is this node itself"
        return f"two nodes are called {own.name}: give each its own name"
    if own.cluster_id and other.cluster_id and other.cluster_id != own.cluster_id:
        return f"wrong cluster: {other.cluster_id:016x} there and {own.cluster_id:016x} here"
    return None


def is_name(name: str) -> bool:
    """Whether nodes may be called this: 1 to 255 printable characters."""
    return 0 < len(name) <= NAME_CHARACTERS_MAX and name.isprintable()
