"""House rules that ruff cannot express: what may be imported where, and what has no fixed order.

import-linter holds the floors; here is what concerns single modules, the standard library
and functions. Each rule takes a parsed module and yields the line and reason of each
offence; each is proved by planted samples.
"""

import ast
from collections.abc import Callable, Iterator

import pytest

from set_order import unordered_iterations
from sources import ALL, ROOT, SHIPPED, sources

Offence = tuple[int, str]
Rule = Callable[[ast.Module], Iterator[Offence]]

# What must be the same on every server and in every run of a seed.
DETERMINISTIC = (
    "copycat/client/attachment.py",
    "copycat/client/batches.py",
    "copycat/client/calls.py",
    "copycat/client/commands.py",
    "copycat/client/contact.py",
    "copycat/client/deadlines.py",
    "copycat/client/event_order.py",
    "copycat/client/openings.py",
    "copycat/client/options.py",
    "copycat/client/patience.py",
    "copycat/client/queries.py",
    "copycat/client/servers.py",
    "copycat/client/session.py",
    "copycat/machine",
    "copycat/protocol",
    "copycat/server",
    "copycat/storage",
    "resources",
)
# The modules of the runtime that are the world, real or simulated, or describe it.
WORLDS = ("actors/disk", "actors/environment", "actors/network", "actors/real", "actors/simulat")
# Where bytes of strangers, or of a disk, become values.
DECODING = ("actors", "copycat/protocol", "copycat/storage")

WORLD_MODULES = frozenset(
    "asyncio datetime mmap os random secrets select selectors signal socket ssl subprocess "
    "tempfile threading time uuid".split()
)
WORLDLESS = frozenset({"datetime.timedelta"})  # a length of time reads no clock
UNSAFE_MODULES = frozenset("cloudpickle dill marshal pickle shelve".split())
VAGUE_FILES = frozenset("base common context helper helpers impl manager util utils".split())


def imports(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that is imported when the program runs."""
    for_types_only = {
        inner
        for node in ast.walk(module)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        if not isinstance(node.test, ast.UnaryOp)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(module):
        if node in for_types_only:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def touches_the_world(module: ast.Module) -> Iterator[Offence]:
    """Time, randomness, threads and sockets come from the environment only."""
    for line, name in imports(module):
        if name.partition(".")[0] in WORLD_MODULES and name not in WORLDLESS:
            yield line, f"imports {name}; the environment is the only world"


def depends_on_the_process(module: ast.Module) -> Iterator[Offence]:
    """hash() and id() differ between processes, so nothing replicated may depend on them."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"hash", "id"}:
            yield node.lineno, f"calls {ast.unparse(node.func)}(), which differs between processes"


def iterates_over_a_set(module: ast.Module) -> Iterator[Offence]:
    """The order of a set differs between processes; use sorted(), a dict or a list."""
    for line, text in unordered_iterations(module):
        yield line, f"depends on the order of the set {text}"


def runs_what_it_decodes(module: ast.Module) -> Iterator[Offence]:
    """Whoever can send bytes or write a file must not be able to run code."""
    for line, name in imports(module):
        if name.partition(".")[0] in UNSAFE_MODULES:
            yield line, f"imports {name}, which executes what it decodes"
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"eval", "exec", "compile"}:
            yield node.lineno, f"calls {ast.unparse(node.func)}()"


def wakes_in_hash_order(module: ast.Module) -> Iterator[Offence]:
    """asyncio.wait and TaskGroup keep tasks in sets, so a seed would not repeat a run."""
    offenders = {"asyncio.wait", "asyncio.TaskGroup", "asyncio.as_completed"}
    for line, name in imports(module):
        if name in offenders:
            yield line, f"imports {name}, which orders by hash"
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in offenders:
            yield node.lineno, f"uses {ast.unparse(node)}, which orders by hash"


def offences(rule: Rule, *folders: str, but: tuple[str, ...] = ()) -> list[str]:
    """What the rule finds in these folders, one line each."""
    return [
        f"{path}:{line}: {reason}"
        for path, text in sources(*folders)
        if not path.startswith(but)
        for line, reason in rule(ast.parse(text))
    ]


def test_the_places_named_here_exist() -> None:
    """A file that is renamed does not slip out of its rules."""
    assert not [place for place in (*DETERMINISTIC, *DECODING) if not (ROOT / place).exists()]


def test_nothing_replicated_touches_the_world() -> None:
    """Machines, servers, sessions and resources run the same in every world."""
    assert not offences(touches_the_world, *DETERMINISTIC)


def test_actors_touch_the_world_in_the_two_worlds_only() -> None:
    """The rest of the runtime runs unchanged in the network and in the simulation."""
    assert not offences(touches_the_world, "actors", but=WORLDS)


def test_nothing_replicated_depends_on_the_process() -> None:
    """Two servers that apply one log do not differ by their hash seeds or addresses."""
    assert not offences(depends_on_the_process, *DETERMINISTIC)


def test_nothing_depends_on_the_order_of_a_set() -> None:
    """The same holds for the order of sets, in the runtime too, where seeds must repeat."""
    assert not offences(iterates_over_a_set, *DETERMINISTIC, "actors")


def test_no_bytes_are_executed() -> None:
    """Neither the wire nor the disk can make a server run code."""
    assert not offences(runs_what_it_decodes, *DECODING)


def test_no_tasks_wake_in_hash_order() -> None:
    """What asyncio orders by hash is used nowhere."""
    assert not offences(wakes_in_hash_order, *SHIPPED)


def test_files_are_called_by_what_they_hold() -> None:
    """A name that fits everything helps nobody to find anything."""
    vague = [
        path
        for path, _ in sources(*ALL)
        if VAGUE_FILES & set(path.removesuffix(".py").split("/")[1:])
    ]
    assert not vague


@pytest.mark.parametrize(
    ("rule", "planted"),
    [
        (touches_the_world, "import asyncio"),
        (touches_the_world, "import os.path"),
        (touches_the_world, "def f():\n    from time import monotonic"),
        (touches_the_world, "if not TYPE_CHECKING:\n    import random"),
        (depends_on_the_process, "bucket = hash(key) % 8"),
        (depends_on_the_process, "order = sorted(sessions, key=lambda s: id(s))"),
        (iterates_over_a_set, "for name in {'a', 'b'}: send(name)"),
        (runs_what_it_decodes, "import pickle"),
        (runs_what_it_decodes, "from dill import loads"),
        (runs_what_it_decodes, "value = eval(text)"),
        (wakes_in_hash_order, "await asyncio.wait(tasks)"),
        (wakes_in_hash_order, "async with asyncio.TaskGroup() as group: pass"),
        (wakes_in_hash_order, "from asyncio import wait"),
    ],
)
def test_planted_offences_are_found(rule: Rule, planted: str) -> None:
    """Each rule reports what it is for, exactly once."""
    assert len(list(rule(ast.parse(planted)))) == 1


@pytest.mark.parametrize(
    ("rule", "innocent"),
    [
        (touches_the_world, "if TYPE_CHECKING:\n    import random"),
        (touches_the_world, "from copycat.actors.environment import Clock"),
        (touches_the_world, "from datetime import timedelta"),
        (depends_on_the_process, "def __hash__(self): return self.id"),
        (iterates_over_a_set, "for name in sorted({'a', 'b'}): send(name)"),
        (runs_what_it_decodes, "value = re.compile(text)"),
        (wakes_in_hash_order, "await asyncio.wait_for(future, 1)"),
    ],
)
def test_innocent_code_passes(rule: Rule, innocent: str) -> None:
    """No rule reports what only looks like its offence."""
    assert not list(rule(ast.parse(innocent)))


SETS_IN_ORDER = """
class Group:
    members: set[str]

    def __init__(self) -> None:
        self.gone = set()

    def f(self, voters: frozenset[str], names: list[str]) -> None:
        seen = {name for name in names}
        {use}
"""


@pytest.mark.parametrize(
    "use",
    [
        "for name in self.members: send(name)",
        "for name in self.gone | seen: send(name)",
        "for name in voters.union(names): send(name)",
        "first = list(seen)",
        "text = ', '.join(set(names))",
        "found = [name for name in seen]",
        "one = seen.pop()",
        "one = next(iter(voters))",
        "for place, name in enumerate(voters): send(name)",
        "send(*seen)",
    ],
)
def test_uses_of_the_order_of_a_set_are_found(use: str) -> None:
    """A set is known by its display, its annotation, its assignment or its operation."""
    assert len(list(iterates_over_a_set(ast.parse(SETS_IN_ORDER.replace("{use}", use))))) == 1


@pytest.mark.parametrize(
    "use",
    [
        "for name in sorted(self.members): send(name)",
        "for name in names: send(name)",
        "ready = all(name in seen for name in voters)",
        "most = max(len(name) for name in seen)",
        "seen |= {name.lower() for name in voters}",
        "count = len(seen) + sum(1 for name in self.gone)",
        "one = names.pop()",
        "seen.update(name for name in voters)",
    ],
)
def test_uses_of_a_set_without_its_order_pass(use: str) -> None:
    """Membership, counting and building other sets do not depend on the order."""
    assert not list(iterates_over_a_set(ast.parse(SETS_IN_ORDER.replace("{use}", use))))
