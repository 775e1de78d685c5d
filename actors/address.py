"""Addresses of actors: final at creation, hashable, and small on the wire.

An address names a node, one life of that node (its incarnation) and one actor in
it (its serial). Serials are never reused within an incarnation and an incarnation
is new at every start, so a late message never reaches a different actor.
"""

from typing import Any

from thespian.actors import ActorAddress

WELL_KNOWN_SERIALS = 16  # serials below this are fixed by convention, not drawn
ANY_INCARNATION = 0  # in a well-known address: whichever life of the node runs now


class NodeAddress(ActorAddress):  # type: ignore[misc]  # Thespian carries no types
    """Where one actor lives.

    Attributes:
        node: the node's name, as it said it in its HELLO.
        incarnation: which life of the node; ``ANY_INCARNATION`` in a well-known address.
        serial: which actor in that life.
    """

    __slots__ = ("_hash", "incarnation", "node", "serial")

    def __init__(self, node: str, incarnation: int, serial: int) -> None:
        self.node = node
        self.incarnation = incarnation
        self.serial = serial
        self._hash = hash((node, incarnation, serial))

    @classmethod
    def well_known(cls, node: str, serial: int) -> "NodeAddress":
        """The address of a fixed actor of ``node``, valid across its restarts."""
        assert 0 < serial < WELL_KNOWN_SERIALS, "a well-known serial is fixed by convention"
        return cls(node, ANY_INCARNATION, serial)

    @property
    def addressDetails(self) -> tuple[str, int, int]:
        """The three parts, as Thespian's tools print them."""
        return (self.node, self.incarnation, self.serial)

    def __eq__(self, other: object) -> bool:
        return (
            type(other) is NodeAddress
            and self.serial == other.serial
            and self.incarnation == other.incarnation
            and self.node == other.node
        )

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return self._hash

    def __deepcopy__(self, memo: dict[int, Any]) -> "NodeAddress":
        return self

    def __copy__(self) -> "NodeAddress":
        return self

    def __reduce__(self) -> tuple[type["NodeAddress"], tuple[str, int, int]]:
        return (NodeAddress, (self.node, self.incarnation, self.serial))

    def __str__(self) -> str:
        return f"{self.node}/{self.incarnation:x}/{self.serial}"

    def __repr__(self) -> str:
        return f"NodeAddress({self})"
