"""A piece of the museum: a bug that a real system had, planted into a copy of our source.

A piece replaces one expression, and others where the system that had the bug lacked more than one of
the defences that we have. What it replaces must stand in the source exactly once, so that a piece
cannot silently miss when the source changes.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("actors", "copycat", "resources")
VICTIM = Path(__file__).with_name("victim.py")
WORLD_S_MAX = 30
"""How long the processor may work for one world, where a second or two are enough."""


class Spoiled(Exception):
    """A piece that shows nothing: it does not fit the source, or is no program any more."""


@dataclass(frozen=True)
class Piece:
    """One bug.

    Attributes:
        name: a sentence that says what the bug does.
        origin: who had it, and where that is told.
        file: what it changes, from the root of the repository.
        before, after: the expression, and what stands in its place.
        differs: it breaks no rule of a cluster, but the same seed gives another world in a process
            with other hash values.
        faults: the only kinds of faults that its worlds have; without any they have all kinds, some
            by the seed. So what takes a rare fault needs fewer worlds.
        rare: it takes dozens of worlds to catch it, for which not every run of the tests has time.
        also: further changes, each with its file, what stands there and what shall: defences that
            would bear the bug by themselves.
    """

    name: str
    origin: str
    file: str
    before: str
    after: str
    differs: bool = False
    faults: tuple[str, ...] = ()
    rare: bool = False
    also: tuple[tuple[str, str, str], ...] = ()

    def planted_in(self, root: Path) -> dict[str, str]:
        """The files that it changes, by name, as they are with the bug.

        Raises:
            Spoiled: it is not clear where the bug belongs, or what comes out is no Python.
        """
        planted: dict[str, str] = {}
        for file, before, after in ((self.file, self.before, self.after), *self.also):
            source = planted.get(file) or (root / file).read_text(encoding="utf-8")
            count = source.count(before)
            if count != 1:
                raise Spoiled(f"{self.name!r}: what it replaces stands {count} times in {file}")
            planted[file] = source.replace(before, after)
            try:
                compile(planted[file], file, "exec")
            except SyntaxError as error:
                raise Spoiled(f"{self.name!r}: with it {file} is no Python: {error}") from error
        return planted

    def check(self) -> None:
        """Look whether it fits the source, without running anything.

        Raises:
            Spoiled: it does not.
        """
        self.planted_in(ROOT)

    @contextmanager
    def copy(self) -> Iterator[Path]:
        """A folder to import ``copycat`` from, with the bug in it, while this lasts."""
        with TemporaryDirectory(prefix="copycat-museum-") as name:
            folder = Path(name)
            for part in SHIPPED:  # two of them are reached by relative links from the third
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / part, folder / part, symlinks=True, ignore=ignored)
            for file, planted in self.planted_in(folder).items():
                (folder / file).write_text(planted, encoding="utf-8")
            yield folder


@dataclass(frozen=True)
class Look:
    """What came of running worlds with a piece.

    Attributes:
        seeds: how many were run, with those of earlier looks.
        rule: what noticed the bug, in short; empty when nothing did.
        told: all that was said about it.
    """

    seeds: int
    rule: str
    told: str


def look(piece: Piece, first_seed: int, end_seed: int) -> Look:
    """Run worlds with a piece until one fails.

    Raises:
        Spoiled: the piece does not fit, or what failed is not due to what the bug does.
    """
    with piece.copy() as folder:
        found = _look(folder, piece, first_seed, end_seed)
    if found.rule and not piece.differs:
        without = _without(found.seeds - 1, piece.faults)
        if without.rule:
            raise Spoiled(f"seed {found.seeds - 1} fails without any piece, too: {without.told}")
    return found


@cache
def _without(seed: int, faults: tuple[str, ...]) -> Look:
    """What one world comes to in the source as it is."""
    source = Piece("the source", "ourselves", "", "", "", faults=faults)
    return _look(ROOT, source, seed, seed + 1)


def _look(folder: Path, piece: Piece, first_seed: int, end_seed: int) -> Look:
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONHASHSEED": "1"}
    numbers = (first_seed, end_seed, WORLD_S_MAX, int(piece.differs))
    files = os.pathsep.join([piece.file, *(file for file, _, _ in piece.also)])
    order = [*map(str, numbers), files, *piece.faults]
    ran = subprocess.run(
        [sys.executable, str(VICTIM), *order],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode != 0:
        raise Spoiled(f"{piece.name!r}: {ran.stderr.strip() or 'its process was killed'}")
    found = json.loads(ran.stdout)
    return Look(found["seeds"], found["rule"], found["told"])
