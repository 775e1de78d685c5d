"""The ledger: every batch that any server has ever had, and which of them are committed.

What Raft promises of logs is checked against it as they change, so a check costs as much as the
change and no more (dissertation §3.2, figure 3.2).
"""

from typing import NamedTuple

from copycat.storage.batch import Batch
from copycat.testing import rules
from copycat.testing.violation import Story
from copycat.types import Index, Term


class Place(NamedTuple):
    """Where a batch stands in a log; with the term this names one batch for ever."""

    base_index: Index
    last_index: Index
    term: Term
    log_time_us: int


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
                rules.LOG_MATCHING,
                f"{who} has {batch!r} after {_told(before)}, and another server had another batch"
                f" there after {_told(known[1])}",
                index=batch.base_index,
            )
        if before is not None and batch.log_time_us < before.log_time_us:
            raise self._story.violated(
                rules.LOG_TIME,
                f"{who} has {batch!r} of {batch.log_time_us / 1e6:.6f} s after {_told(before)} of"
                f" {before.log_time_us / 1e6:.6f} s",
                index=batch.base_index,
            )
        return Place(batch.base_index, batch.last_index, batch.term, batch.log_time_us)

    def batch(self, place: Place) -> Batch:
        """A batch that was entered, as it was then."""
        return Batch.decode(self._seen[place.base_index, place.term][0])

    def check_record(self, who: str, batch: Batch) -> None:
        """A server reads a batch that was entered: its bytes are still the same."""
        known = self._seen.get((batch.base_index, batch.term))
        if known is not None and known[0] != batch.record:
            raise self._story.violated(
                rules.LOG_UNCHANGED,
                f"{who} has {batch!r}, and other bytes than there were",
                who=(who,),
                index=batch.base_index,
            )

    def commit(self, who: str, ordinal: int, place: Place, term: Term) -> None:
        """A server says that this batch, the one after ``ordinal`` others, is committed."""
        if ordinal == len(self.committed):
            self.committed.append(Committed(place, who, term))
            return
        known = self.committed[ordinal]
        if known.place != place:
            raise self._story.violated(
                rules.SAME_COMMITTED,
                f"{who} commits {_told(place)} in term {term}, and {known.by} committed"
                f" {_told(known.place)} in term {known.in_term}",
                index=place.base_index,
            )

    def check_leader(self, who: str, term: Term, log: list[Place]) -> None:
        """Leader Completeness, for a log whose every batch was entered."""
        for ordinal in range(len(self.committed) - 1, -1, -1):
            known = self.committed[ordinal]
            if known.in_term < term:
                if ordinal >= len(log) or log[ordinal] != known.place:
                    raise self._story.violated(
                        rules.LEADER_COMPLETENESS,
                        f"{who} leads in term {term} without {_told(known.place)}, which"
                        f" {known.by} committed in term {known.in_term}",
                        index=known.place.base_index,
                    )
                return


def _told(place: Place | None) -> str:
    if place is None:
        return "the beginning"
    return f"{place.base_index}..{place.last_index} of term {place.term}"
