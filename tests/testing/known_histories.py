"""Histories with known verdicts, made by hand: what each shows is in its name."""

from copycat.resources.map import Versioned
from copycat.testing.history import Operation
from copycat.testing.map_model import MapModel
from copycat.testing.models import CounterModel, LockModel, Model, RegisterModel
from hand_made import maybe, ok, refused

REGISTER, COUNTER, LOCK, MAP = RegisterModel(), CounterModel(), LockModel(), MapModel()

GOOD: list[tuple[str, Model, list[Operation]]] = [
    ("nothing", REGISTER, []),
    ("read of a write", REGISTER, [ok(0, 1, "a.write", 1), ok(2, 3, "b.read", returns=1)]),
    ("read during a write", REGISTER, [ok(0, 9, "a.write", 1), ok(2, 3, "b.read", returns=1)]),
    ("read before it", REGISTER, [ok(0, 9, "a.write", 1), ok(2, 3, "b.read", returns=None)]),
    (
        "the later write first",
        REGISTER,
        [ok(0, 5, "a.write", 1), ok(1, 6, "b.write", 2), ok(7, 8, "c.read", returns=1)],
    ),
    (
        "unknown, late",
        REGISTER,
        [
            ok(0, 1, "a.write", 1),
            maybe(2, "b.write", 2),
            ok(3, 4, "a.read", returns=1),
            ok(50, 60, "a.read", returns=2),
        ],
    ),
    (
        "unknown, never",
        REGISTER,
        [ok(0, 1, "a.write", 1), maybe(2, "b.write", 2), ok(3, 4, "a.read", returns=1)],
    ),
    (
        "two unknowns in the other order",
        REGISTER,
        [
            maybe(0, "a.write", 1),
            maybe(1, "b.write", 2),
            ok(2, 3, "c.read", returns=2),
            ok(4, 5, "c.read", returns=1),
        ],
    ),
    (
        "unknown, kept for later",
        REGISTER,
        [
            ok(0, 5, "a.write", 2),
            ok(1, 5, "b.write", 1),
            maybe(2, "c.write", 2),
            ok(6, 7, "d.read", returns=2),
            ok(8, 9, "d.write", 3),
            ok(10, 11, "d.read", returns=2),
        ],
    ),
    (
        "unknown, and earlier than it seems",
        MAP,
        [
            maybe(0, "a.put", "y", 1),
            ok(1, 2, "b.put", "z", 1),
            ok(3, 4, "c.keys", returns=("y", "z")),
        ],
    ),
    (
        "refused",
        REGISTER,
        [refused(0, 1, "a.write", 1), ok(2, 3, "b.read", returns=None)],
    ),
    (
        "one of two wins",
        REGISTER,
        [
            ok(0, 5, "a.compare_and_set", None, 1, returns=False),
            ok(1, 4, "b.compare_and_set", None, 2, returns=True),
        ],
    ),
    (
        "counted out of order",
        COUNTER,
        [ok(0, 5, "a.increment", returns=2), ok(1, 4, "b.increment", returns=1)],
    ),
    (
        "counted and unanswered",
        COUNTER,
        [maybe(0, "a.increment"), maybe(0, "b.increment"), ok(9, 10, "c.value", returns=2)],
    ),
    (
        "set and swapped",
        COUNTER,
        [
            ok(0, 1, "a.set", 7, returns=0),
            ok(2, 3, "a.compare_and_set", 7, 9, returns=True),
            ok(4, 5, "a.increment", -3, returns=6),
            ok(4, 6, "a.compare_and_set", 7, 8, returns=False),
        ],
    ),
    (
        "handed over",
        LOCK,
        [
            ok(0, 1, "a.acquire", "a1", returns=5),
            ok(0.5, 4, "b.acquire", "b1", returns=9),
            ok(2, 3, "a.release", "a1", returns=True),
            ok(5, 6, "c.acquire", "c1", returns=None),
            ok(5, 6, "c.holder", returns=9),
        ],
    ),
    (
        "expired while it was held",
        LOCK,
        [
            ok(0, 1, "a.acquire", "a1", returns=5),
            maybe(0, "a.expire", "a1"),
            ok(2, 3, "b.acquire", "b1", returns=9),
            ok(4, 5, "a.release", "a1", returns=False),
        ],
    ),
    (
        "acquired and unanswered",
        LOCK,
        [
            maybe(0, "a.acquire", "a1"),
            ok(1, 2, "b.acquire", "b1", returns=None),
            ok(3, 4, "b.holder", returns=4),
            ok(5, 6, "a.release", "a1", returns=True),
            ok(7, 8, "b.holder", returns=None),
            ok(7, 8, "b.acquire", "b2", returns=5),
        ],
    ),
    (
        "keys apart",
        MAP,
        [
            ok(0, 1, "a.put", "x", 1),
            ok(2, 3, "a.put", "y", 1),
            ok(4, 5, "b.put", "x", 2, returns=1),
            ok(6, 7, "b.get", "y", returns=1),
            ok(8, 9, "b.remove", "x", returns=2),
            ok(8, 9, "b.contains", "y", returns=True),
        ],
    ),
    (
        "versions",
        MAP,
        [
            ok(0, 1, "a.put_if_absent", "x", 1),
            ok(2, 3, "a.get_entry", "x", returns=Versioned(1, 5)),
            ok(4, 5, "b.replace", "x", 2, 4, returns=None),
            ok(6, 7, "b.replace", "x", 2, 5, returns=9),
            ok(8, 9, "b.remove", "x", 5, returns=None),
            ok(10, 11, "b.remove", "x", 9, returns=2),
            ok(12, 13, "a.get_entry", "x", returns=None),
            ok(14, 15, "a.put", "x", 3, returns=None),
            ok(16, 17, "a.get_entry", "x", returns=Versioned(3, 12)),
        ],
    ),
    (
        "the whole map",
        MAP,
        [
            ok(0, 1, "a.put_many", [["x", 1], ["y", 2]]),
            ok(0, 2, "b.length", returns=0),
            ok(3, 4, "b.keys", returns=("x", "y")),
            ok(3, 4, "b.get_many", ["y", "z"], returns={"y": 2}),
            ok(5, 6, "a.popitem", returns=("y", 2)),
            ok(7, 8, "a.clear"),
            ok(9, 10, "b.popitem", returns=None),
        ],
    ),
]

BAD: list[tuple[str, Model, list[Operation]]] = [
    (
        "stale read",
        REGISTER,
        [
            ok(0, 1, "a.write", 1),
            ok(2, 3, "a.write", 2),
            ok(4, 5, "b.read", returns=1),
        ],
    ),
    (
        "read from the future",
        REGISTER,
        [ok(0, 1, "b.read", returns=1), ok(2, 3, "a.write", 1)],
    ),
    (
        "there and back again",
        REGISTER,
        [
            ok(0, 9, "a.write", 1),
            ok(1, 2, "b.read", returns=1),
            ok(3, 4, "c.read", returns=None),
        ],
    ),
    (
        "unknown, twice",
        REGISTER,
        [
            ok(0, 1, "a.write", 1),
            maybe(1, "b.write", 2),
            ok(2, 3, "c.read", returns=2),
            ok(4, 5, "a.write", 3),
            ok(6, 7, "c.read", returns=2),
        ],
    ),
    (
        "unknown, before it began",
        REGISTER,
        [ok(0, 1, "c.read", returns=2), maybe(2, "b.write", 2)],
    ),
    (
        "dirty read of a refused write",
        REGISTER,
        [refused(0, 1, "a.write", 1), ok(2, 3, "b.read", returns=1)],
    ),
    (
        "both win",
        REGISTER,
        [
            ok(0, 5, "a.compare_and_set", None, 1, returns=True),
            ok(1, 4, "b.compare_and_set", None, 2, returns=True),
        ],
    ),
    (
        "lost update",
        COUNTER,
        [ok(0, 5, "a.increment", returns=1), ok(1, 4, "b.increment", returns=1)],
    ),
    (
        "applied twice",
        COUNTER,
        [ok(0, 1, "a.increment", returns=1), ok(2, 3, "b.value", returns=2)],
    ),
    (
        "unanswered, and applied twice",
        COUNTER,
        [maybe(0, "a.increment"), ok(2, 3, "b.value", returns=2)],
    ),
    (
        "acknowledged, and lost",
        COUNTER,
        [ok(0, 1, "a.increment", returns=1), ok(2, 3, "b.value", returns=0)],
    ),
    (
        "counted against the clock",
        COUNTER,
        [ok(0, 1, "a.increment", returns=2), ok(2, 3, "b.increment", returns=1)],
    ),
    (
        "held twice",
        LOCK,
        [
            ok(0, 1, "a.acquire", "a1", returns=5),
            ok(2, 3, "b.acquire", "b1", returns=9),
            ok(4, 5, "a.release", "a1", returns=True),
        ],
    ),
    (
        "held twice, and kept once",
        LOCK,
        [
            ok(0, 1, "a.acquire", "a1", returns=5),
            ok(2, 3, "b.acquire", "b1", returns=9),
            ok(4, 5, "b.release", "b1", returns=True),
        ],
    ),
    (
        "token repeated",
        LOCK,
        [
            ok(0, 1, "a.acquire", "a1", returns=5),
            ok(2, 3, "a.release", "a1", returns=True),
            ok(4, 5, "b.acquire", "b1", returns=5),
        ],
    ),
    (
        "refused a free lock",
        LOCK,
        [
            ok(0, 1, "a.acquire", "a1", returns=5),
            ok(2, 3, "a.release", "a1", returns=True),
            ok(4, 5, "b.acquire", "b1", returns=None),
        ],
    ),
    (
        "released without having it",
        LOCK,
        [ok(0, 1, "a.acquire", "a1", returns=5), ok(2, 3, "b.release", "b1", returns=True)],
    ),
    (
        "a removed key",
        MAP,
        [
            ok(0, 1, "a.put", "x", 1),
            ok(2, 3, "a.remove", "x", returns=1),
            ok(4, 5, "b.contains", "x", returns=True),
        ],
    ),
    (
        "an old version",
        MAP,
        [
            ok(0, 1, "a.put", "x", 1),
            ok(2, 3, "a.get_entry", "x", returns=Versioned(1, 5)),
            ok(4, 5, "a.put", "x", 1, returns=1),
            ok(6, 7, "b.replace", "x", 3, 5, returns=9),
        ],
    ),
    (
        "a version drawn twice",
        MAP,
        [
            ok(0, 1, "a.put", "x", 1),
            ok(2, 3, "a.get_entry", "x", returns=Versioned(1, 5)),
            ok(4, 5, "a.put", "x", 2, returns=1),
            ok(6, 7, "a.get_entry", "x", returns=Versioned(2, 5)),
        ],
    ),
    (
        "two versions at once",
        MAP,
        [
            ok(0, 1, "a.put", "x", 1),
            ok(2, 5, "a.get_entry", "x", returns=Versioned(1, 5)),
            ok(2, 5, "b.get_entry", "x", returns=Versioned(1, 6)),
        ],
    ),
    (
        "a version that was there",
        MAP,
        [
            ok(0, 1, "a.put", "x", 1),
            ok(2, 3, "a.get_entry", "x", returns=Versioned(1, 5)),
            ok(4, 5, "b.replace", "x", 2, 5, returns=None),
        ],
    ),
    (
        "a version that does not grow",
        MAP,
        [
            ok(0, 1, "a.put", "x", 1),
            ok(2, 3, "a.get_entry", "x", returns=Versioned(1, 5)),
            ok(4, 5, "b.replace", "x", 2, returns=5),
        ],
    ),
    (
        "half of many",
        MAP,
        [ok(0, 5, "a.put_many", [["x", 1], ["y", 1]]), ok(1, 2, "b.length", returns=1)],
    ),
    (
        "two keys in two orders",
        MAP,
        [
            ok(0, 9, "a.put", "x", 1),
            ok(0, 9, "a.put", "y", 1),
            ok(1, 2, "b.get_many", ["x", "y"], returns={"x": 1}),
            ok(3, 4, "c.get_many", ["x", "y"], returns={"y": 1}),
        ],
    ),
    (
        "cleared, and not empty",
        MAP,
        [
            ok(0, 1, "a.put", "x", 1),
            ok(2, 3, "a.clear"),
            ok(4, 5, "b.get", "x", returns=1),
        ],
    ),
    (
        "popped in the wrong order",
        MAP,
        [
            ok(0, 1, "a.put", "x", 1),
            ok(2, 3, "a.put", "y", 1),
            ok(4, 5, "a.put", "x", 2, returns=1),
            ok(6, 7, "b.popitem", returns=("x", 2)),
        ],
    ),
]
