"""The few messages of etcd's interface that are measured, in the protobuf encoding.

Written by hand, so that no compiler and no library of messages stands between a measurement
and etcd: a request is bytes before it is sent, and of an answer only what is needed is read.
"""

from collections.abc import Iterator

PUT = "/etcdserverpb.KV/Put"
RANGE = "/etcdserverpb.KV/Range"
WATCH = "/etcdserverpb.Watch/Watch"
STATUS = "/etcdserverpb.Maintenance/Status"
LEASE_GRANT = "/etcdserverpb.Lease/LeaseGrant"
LOCK = "/v3lockpb.Lock/Lock"
UNLOCK = "/v3lockpb.Lock/Unlock"

Value = int | bytes


def put(key: bytes, value: bytes) -> bytes:
    """A PutRequest."""
    return field(1, key) + field(2, value)


def get(key: bytes) -> bytes:
    """A RangeRequest for one key; linearizable, as it is by default."""
    return field(1, key)


def watch(key: bytes) -> bytes:
    """A WatchRequest that creates a watch of one key."""
    return field(1, field(1, key))


def lease_grant(seconds: int) -> bytes:
    """A LeaseGrantRequest."""
    return field(1, seconds)


def lease_of(reply: bytes) -> int:
    """The id in a LeaseGrantResponse."""
    return _integer(reply, 2)


def lock(name: bytes, lease: int) -> bytes:
    """A LockRequest."""
    return field(1, name) + field(2, lease)


def lock_key_of(reply: bytes) -> bytes:
    """The key in a LockResponse, which unlocks."""
    return _bytes(reply, 2)


def unlock(key: bytes) -> bytes:
    """An UnlockRequest."""
    return field(1, key)


def leads(reply: bytes) -> bool:
    """Whether a StatusResponse is the leader's own."""
    return _integer(reply, 4) == _integer(_bytes(reply, 1), 2)


def watch_created(reply: bytes) -> bool:
    """Whether a WatchResponse says that the watch stands."""
    return _integer(reply, 3) == 1


def watched_values(reply: bytes) -> list[bytes]:
    """What the events of a WatchResponse have put."""
    events = [value for number, value in fields(reply) if number == 11]
    return [_bytes(_bytes(event, 2), 5) for event in events if isinstance(event, bytes)]


def field(number: int, value: Value) -> bytes:
    """One field: an integer, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def fields(message: bytes) -> Iterator[tuple[int, Value]]:
    """Number and value of each field of a message."""
    offset = 0
    while offset < len(message):
        tag, offset = _read_varint(message, offset)
        value, offset = _read_varint(message, offset)
        if tag & 7 == 0:
            yield tag >> 3, value
        elif tag & 7 == 2:
            yield tag >> 3, message[offset : offset + value]
            offset += value
        else:
            raise ValueError(f"field {tag >> 3} is of a kind that etcd's messages do not have")


def _read_varint(message: bytes, offset: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, offset
        shift += 7


def _integer(message: bytes, number: int) -> int:
    found = dict(fields(message)).get(number, 0)
    assert isinstance(found, int)
    return found


def _bytes(message: bytes, number: int) -> bytes:
    found = dict(fields(message)).get(number, b"")
    assert isinstance(found, bytes)
    return found
