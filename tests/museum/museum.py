"""The museum of bugs: each piece must die, or our simulated worlds would miss what others suffered.

``make museum`` shows every piece that the worlds of successive seeds have caught, after how many
seeds, and by which rule. ``make museum ONLY=text`` shows those with a word in name or origin.
"""

import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pieces_of_raft
import pieces_of_sessions
from piece import ROOT, Look, Piece, Spoiled, look

SEEDS_MAX = 400
GLANCE_SEEDS = 20
"""So many are run of every piece before more of any, so that a failure is told early."""
PROCESSES = 2
RULE_CHARACTERS = 52

ROOMS: dict[str, list[Piece]] = {
    "elections": pieces_of_raft.ELECTIONS,
    "replication": pieces_of_raft.REPLICATION,
    "commitment": pieces_of_raft.COMMITMENT,
    "disks": pieces_of_raft.DISKS,
    "damage": pieces_of_raft.DAMAGE,
    "reads": pieces_of_sessions.READS,
    "sessions": pieces_of_sessions.SESSIONS,
    "events": pieces_of_sessions.EVENTS,
    "locks": pieces_of_sessions.LOCKS,
    "time": pieces_of_sessions.TIME,
    "determinism": pieces_of_sessions.DETERMINISM,
}
PIECES = [piece for room in ROOMS.values() for piece in room]


def drawn_by_commit(count: int) -> list[Piece]:
    """Some pieces that are not rare, chosen by the hash of the commit; the same where there is none."""
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    common = [piece for piece in PIECES if not piece.rare]
    return random.Random(head.stdout.strip()).sample(common, count)


def show(
    pieces: Sequence[Piece], tell: Callable[[str], None], seeds_max: int = SEEDS_MAX
) -> list[str]:
    """Run worlds with each piece until it is caught; tell a line of each.

    Returns:
        What is wrong with the museum: pieces that survive, and pieces that show nothing.
    """
    faults: list[str] = []

    def glance(piece: Piece, end_seed: int, first_seed: int = 0) -> Look | None:
        try:
            return look(piece, first_seed, end_seed)
        except Spoiled as spoiled:
            faults.append(str(spoiled))
            tell(f"spoiled   {piece.name}")
            return None

    survivors = []
    with ThreadPoolExecutor(PROCESSES) as pool:
        short = min(GLANCE_SEEDS, seeds_max)
        for piece, found in zip(pieces, pool.map(lambda p: glance(p, short), pieces), strict=True):
            if found and found.rule:
                tell(_row(piece, found))
            elif found:
                survivors.append(piece)
        longer = pool.map(lambda p: glance(p, seeds_max, short), survivors)
        for piece, found in zip(survivors, longer, strict=True):
            if found:
                tell(_row(piece, found))
                if not found.rule:
                    faults.append(f"{piece.name!r}: no rule is broken under {seeds_max} seeds")
    return faults


def _row(piece: Piece, found: Look) -> str:
    rule = found.rule or "SURVIVES"
    return f"{found.seeds:5}  {rule[:RULE_CHARACTERS]:{RULE_CHARACTERS}}  {piece.name} -- {piece.origin}"


def main() -> None:
    """Show all pieces, or those with the word that the command line gives."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    pieces = [piece for piece in PIECES if word in f"{piece.name} {piece.origin}"]
    print(f"seeds  {'caught by':{RULE_CHARACTERS}}  what it does -- who had it")
    faults = show(pieces, lambda line: print(line, flush=True))
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"{len(pieces) - len(faults)} of {len(pieces)} pieces are caught")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
