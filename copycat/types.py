"""The few types that every floor above the actors shares."""

from typing import Any, NewType

Term = int
"""Counts elections. Starts at 1; 0 means before the first."""

Index = int
"""The place of an entry in the log. Starts at 1; 0 means before the first."""

ServerId = NewType("ServerId", int)
"""64 bits that a server draws at its first start and never changes; 0 means none."""

SessionId = int
"""The log index of the entry that opened the session; 0 means none."""

ResourceId = int
"""The log index of the entry that opened the resource first; 0 means none."""

VALUE_BYTES_MAX = 1 << 20
"""The largest value a resource keeps, as encoded bytes."""

NAME_CHARACTERS_MAX = 255
"""The longest name of a resource, a server or a client."""

OPERATION_BYTES_MAX = VALUE_BYTES_MAX + 65_536
"""The largest operation, as it is encoded to travel alone: a value, its key, the method's name."""

OPERATION_VALUES_MAX = 4096
"""The most values in an operation, and in those that one client sends together: each list, dict, key
and item counts, a bytes or str once. What is atomic cannot be applied in slices, so this bounds how
long it keeps a server from all else: 1,000 pairs of key and value are well below."""

EVENT_BYTES_MAX = 4 << 20
"""The largest event, as it is encoded: with its name and resource it fits well into a frame."""


class Unencoded:
    """Stands, as an argument of an operation, for the bytes that encode a value.

    They are made when the operation is sent; so the value must be one that nobody can change.

    Attributes:
        value: a str or bytes.
        size_bytes: how long its encoding is, or a little less.
    """

    __slots__ = ("size_bytes", "value")

    def __init__(self, value: Any, size_bytes: int) -> None:
        self.value = value
        self.size_bytes = size_bytes
