"""The ledger: every batch that any server has ever had, and which of them are committed.

What Raft promises of logs is checked against it as they change, so a check costs as much as the
change and no more (dissertation §3.2, figure 3.2).
"""

from typing import NamedTuple

from copycat.storage.batch import Batch
from copycat.testing.violation import Story
from copycat.types import Index, Term


class Place(NamedTuple):
    """Where a batch stands in a log; with the term this names one batch for ever."""

    base_index: Index
    last_index: Index
    term: Term


class Committed(NamedTuple):
    """A committed batch, and who was first seen to have it committed in which term."""

    place: Place
    by: str
    in_term: Term


class Ledger:
    """All batches of one world.

    Attributes:
        committed: in log order, from index 1 without a hole.
    """

    def __init__(self, story: Story) -> None:
        self.committed: list[Committed] = []
        self._story = story
        self._seen: dict[tuple[Index, Term], tuple[bytes, Place | None]] = {}

    def enter(self, who: str, batch: Batch, before: Place | None) -> Place:
        """Take note of a batch in a server's log and of the one before it.

        That two logs agree at one place, and at the place before each, is Log Matching.
        """
        key = (batch.base_index, batch.term)
        known = self._seen.setdefault(key, (batch.record, before))
        if known[0] != batch.record or known[1] != before:
            raise self._story.violated(
                "Log Matching: logs that have a batch of one index and term are the same up to"
                " there (§3.5)",
                f"{who} has {batch!r} after {_told(before)}, and another server had another batch"
                f" there after {_told(known[1])}",
            )
        return Place(batch.base_index, batch.last_index, batch.term)

    def record(self, place: Place) -> bytes:
        """The bytes of a batch that was entered."""
        return self._seen[place.base_index, place.term][0]

    def commit(self, who: str, ordinal: int, place: Place, term: Term) -> None:
        """A server says that this batch, the one after ``ordinal`` others, is committed."""
        if ordinal == len(self.committed):
            self.committed.append(Committed(place, who, term))
            return
        known = self.committed[ordinal]
        if known.place != place:
            raise self._story.violated(
                "State Machine Safety: no two servers commit different batches at one index"
                " (§3.6.3)",
                f"{who} commits {_told(place)} in term {term}, and {known.by} committed"
                f" {_told(known.place)} in term {known.in_term}",
            )

    def check_leader(self, who: str, term: Term, log: list[Place]) -> None:
        """Leader Completeness, for a log whose every batch was entered."""
        for ordinal in range(len(self.committed) - 1, -1, -1):
            known = self.committed[ordinal]
            if known.in_term < term:
                if ordinal >= len(log) or log[ordinal] != known.place:
                    raise self._story.violated(
                        "Leader Completeness: what was committed in an earlier term is in the log"
                        " of every leader (§3.6.3)",
                        f"{who} leads in term {term} without {_told(known.place)}, which"
                        f" {known.by} committed in term {known.in_term}",
                    )
                return


def _told(place: Place | None) -> str:
    if place is None:
        return "the beginning"
    return f"{place.base_index}..{place.last_index} of term {place.term}"
