"""What a server loses for good, or until it is brought back: bytes, files, its disk, its latest past.

Invariant: at most a minority of the servers loses what it had; at most one is damaged, and at most
one gets another disk. What is lost can be known by the server or by the others, and must be noticed.
"""

from collections.abc import Callable, Collection, Mapping
from itertools import combinations
from typing import TYPE_CHECKING

from copycat.actors.simulated_disk import SimulatedDisk
from copycat.storage.ballot import Ballot
from copycat.storage.errors import StorageError
from copycat.storage.floor import Floor
from copycat.storage.identity import ClusterConfiguration, ServerIdentity
from copycat.storage.lives import Lives
from copycat.testing import rules
from copycat.testing.damage import (
    SMALL_FILES,
    Damage,
    disk_with,
    find_flip,
    find_misdirected,
    is_contradicted_by_log,
    is_refused,
)
from copycat.testing.fault import Fault

if TYPE_CHECKING:
    from copycat.testing.cluster import SimulatedCluster

Undo = Callable[[], str | None]
"""Mends what was done, and says what it did; None when there was nothing left to mend."""

Done = tuple[str, Undo | None]
"""What was done, and how it is mended."""


class Losses:
    """The losses of one world."""

    def __init__(
        self, cluster: "SimulatedCluster", restart: Callable[[Collection[str]], str | None]
    ) -> None:
        """Begin without any.

        Args:
            cluster: where.
            restart: starts those of these servers that do not run, and says so.
        """
        self._cluster = cluster
        self._restart = restart
        self._damaged: str | None = None  # the one server whose files were ever damaged
        self._has_other_disk = False
        self._old_floors: set[str] = set()  # of whom; they promise less than was
        self.kinds: Mapping[str, Callable[[Fault], Done | None]] = {
            "flip": self._flip,
            "misdirected write": self._misdirect,
            "wipe": self._wipe,
            "lost files": self._lose_files,
            "old copy": self._bring_back,
            "old file": self._age,
        }

    def _may_lose(self, name: str) -> bool:
        """Whether a server may lose what it has: the others must have their founding behind them,
        and be able to go on."""
        cluster = self._cluster
        minority = len(cluster.names) - cluster.majority
        return (
            name not in cluster.lost
            and name not in self._old_floors
            and len(cluster.lost) < minority
            and all(
                ClusterConfiguration.NAME in disk.image()
                for other, disk in cluster.disks.items()
                if other not in cluster.lost
            )
        )

    # Bytes.

    def _flip(self, fault: Fault) -> Done | None:
        numbers = fault.numbers

        def find(disk: SimulatedDisk) -> Damage | None:
            return find_flip(disk, numbers["file"], numbers["byte"], int(numbers["bit"]))

        return self._damage(fault.where[0], "flips a bit", find)

    def _misdirect(self, fault: Fault) -> Done | None:
        def find(disk: SimulatedDisk) -> Damage | None:
            return find_misdirected(disk, **fault.numbers)

        return self._damage(fault.where[0], "writes a page to a wrong place", find)

    def _damage(
        self, name: str, what: str, find: Callable[[SimulatedDisk], Damage | None]
    ) -> Done | None:
        if not self._may_lose(name) or self._damaged not in (None, name):
            return None
        damage = find(self._cluster.disks[name])
        if damage is None:
            return None
        if not damage.is_noticed:
            place = f"something {what} at byte {damage.offset} of {damage.file}"
            self._must_be_noticed(name, place)
        damage.do()
        self._damaged = name
        self._cluster.lost.add(name)

        def undo() -> str | None:
            if not damage.undo():
                return None
            self._cluster.lost.discard(name)
            restarted = self._restart([name])
            return f"brings {damage.file} of {name} back" + (f", {restarted}" if restarted else "")

        return f"{what} of {name} at byte {damage.offset} of {damage.file}", undo

    def _must_be_noticed(self, name: str, what: str) -> None:
        if self._cluster.monitors is not None:
            raise self._cluster.monitors.story.violated(
                rules.DAMAGE_NOTICED, f"{name} would start when {what}", who=(name,)
            )

    # Files.

    def _lose_files(self, fault: Fault) -> Done | None:
        """Files are removed while the server does not run; they are back later, or never."""
        name = fault.where[0]
        if not self._may_lose(name) or self._damaged not in (None, name):
            return None
        disk = self._cluster.disks[name]
        image = disk.image()
        choices = _choices(image)
        if disk.read_error is not None or not choices or is_refused(image):
            return None
        removed = choices[int(fault.numbers["files"] * len(choices))]
        left = {file: content for file, content in image.items() if file not in removed}
        what = f"{', '.join(removed)} of {name}"
        if not is_refused(left):
            self._must_be_noticed(name, f"{what} is gone")
        if self._cluster.is_running(name):
            self._cluster.crash(name)
            disk.crash(kept=0.0)
        disk.restore(left)
        self._damaged = name
        self._cluster.lost.add(name)
        refused = self._restart([name])

        def undo() -> str:
            assert not self._cluster.is_running(name), "it was refused"
            disk.restore(image)
            self._cluster.lost.discard(name)
            return f"brings {what} back, {self._restart([name])}"

        return f"removes {what}, and {refused}", undo

    def _age(self, fault: Fault) -> Done | None:
        """Copies of files are made, and brought back when each of them has changed, if anything
        contradicts them then, or if it is the floor alone, which may be too low."""
        name = fault.where[0]
        disk = self._cluster.disks[name]
        aging = AGING[int(fault.numbers["file"] * len(AGING))]
        old = {file: content for file, content in disk.image().items() if _kind(file) in aging}
        life = self._life(name)
        if not life or set(map(_kind, old)) != set(aging):
            return None
        what = f"{', '.join(sorted(old))} of {name}"

        def undo() -> str | None:
            image = disk.image()
            aged = {**image, **old}
            if not self._may_lose(name) or self._damaged not in (None, name):
                return None
            changed = {_kind(file) for file in old if image.get(file) != old[file]}
            if disk.read_error is not None or changed != set(aging) or is_refused(image):
                return None
            is_gone = is_refused(aged)
            if not is_gone:
                if Floor.NAME in aging and Lives(disk_with(aged)).own[-1:] != (life,):
                    self._must_be_noticed(name, f"{what} is older than its life")
                if is_contradicted_by_log(aged):
                    self._must_be_noticed(name, f"{what} is older than its log")
                if self._is_known(name, aged) and not self._has_other_disk:
                    return f"brings {what} back as it was, and {self._replace_disk(name, aged)}"
                if aging != (Floor.NAME,):
                    return None  # nobody can know, and it may do harm
                self._old_floors.add(name)
            else:
                self._damaged = name
                self._cluster.lost.add(name)
            if self._cluster.is_running(name):
                self._cluster.crash(name)
                disk.crash(kept=0.0)
            disk.restore(aged)
            return f"brings {what} back as it was, and {self._restart([name])}"

        return f"copies {what}", undo

    def _life(self, name: str) -> int:
        """The life of a server, if it is durable by now; else 0."""
        if not self._cluster.is_running(name):
            return 0
        introductions = self._cluster.server(name).introductions
        return introductions.lives.own[-1] if introductions.has_begun else 0

    # Disks.

    def _wipe(self, fault: Fault) -> Done | None:
        name = fault.where[0]
        if not self._may_lose(name) or self._has_other_disk:
            return None
        self._has_other_disk = True
        self._take_down(name)
        self._cluster.wipe(name)
        return f"empties the disk of {name}", lambda: self._restart([name])

    def _bring_back(self, fault: Fault) -> Done | None:
        """A copy of a disk is made, and brought back when the others have met a later life."""
        name = fault.where[0]
        image = self._cluster.disks[name].image()
        if ServerIdentity.NAME not in image:
            return None

        def undo() -> str | None:
            if not self._may_lose(name) or self._has_other_disk or not self._is_known(name, image):
                return None
            return (
                f"brings the disk of {name} back as it was, and {self._replace_disk(name, image)}"
            )

        return f"copies the disk of {name}", undo

    def _replace_disk(self, name: str, image: Mapping[str, bytes]) -> str | None:
        """By an earlier one, of which all others know it."""
        self._has_other_disk = True
        self._take_down(name)
        self._must_be_refused(name)
        self._cluster.wipe(name, image)
        return self._restart([name])

    def _take_down(self, name: str) -> None:
        self._cluster.lost.add(name)
        if self._cluster.is_running(name):
            self._cluster.crash(name)

    def _must_be_refused(self, name: str) -> None:
        """From now on by all that have not lost anything: they have met a later life."""
        cluster = self._cluster
        if cluster.monitors is not None:
            incarnation = cluster.node(name).incarnation
            knowing = frozenset(cluster.names) - cluster.lost
            cluster.monitors.said.forgets(name, incarnation, knowing)

    def _is_known(self, name: str, image: Mapping[str, bytes]) -> bool:
        """Whether every other server that has not lost anything has met a life, durably, that is not
        in the copy."""
        copied = disk_with(image)
        try:
            server_id, lives = ServerIdentity(copied).server_id, Lives(copied).own
            met = [
                Lives(disk_with(self._cluster.disks[other].image())).met.get(server_id)
                for other in self._cluster.names
                if other != name and other not in self._cluster.lost
            ]
        except StorageError:
            return False  # a file of the copy or of another server is damaged, and says nothing
        return all(life is not None and life not in lives for life in met)


LOG = "log"  # all its segments
AGING = tuple(
    together
    for count in range(1, 5)
    for together in combinations((Ballot.NAME, Lives.NAME, Floor.NAME, LOG), count)
)
"""The files that change after a server has begun, and all that may be brought back together."""


def _kind(file: str) -> str:
    """A file by what it is: all segments are the log."""
    return LOG if file.startswith(f"{LOG}-") else file


def _choices(image: Mapping[str, bytes]) -> list[tuple[str, ...]]:
    """Which files may be removed together, so that what is left can be known to be not all.

    Of all that a server had but its lives everything is left, or something is: lives alone are
    those of a server that has yet to begin.
    """
    needed = [name for name in sorted(image) if name in SMALL_FILES or name == "floor"]
    logs = [name for name in sorted(image) if name.startswith("log-")]
    if len(needed) < len(SMALL_FILES) + 1 or not logs:
        return []
    subsets = [subset for count in range(1, len(needed)) for subset in combinations(needed, count)]
    return [*subsets, *[(*subset, *logs) for subset in [(), *subsets] if len(subset) < 4]]
