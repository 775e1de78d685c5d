"""Where each batch of the log stands: three arrays of numbers, 24 bytes a batch.

Knows base indexes, terms and positions; what a position means is the log's affair. An *ordinal*
counts the batches of the log from 0.

Invariants: base indexes rise; terms do not fall; a batch ends where the next one begins.
"""

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from operator import le, lt


class BatchIndex:
    """A sorted table from log index to batch; every look-up takes O(log n).

    Attributes:
        last_index: the end of the last batch; 0 when there is none.
        last_term: the term of the last batch; 0 when there is none.
    """

    __slots__ = ("_bases", "_positions", "_terms", "last_index", "last_term")

    def __init__(self) -> None:
        self._bases = array("Q")
        self._terms = array("Q")
        self._positions = array("Q")
        self.last_index = 0
        self.last_term = 0

    def __len__(self) -> int:
        return len(self._bases)

    def append(self, last_index: int, term: int, position: int) -> None:
        """Add a batch that begins right after the last one and ends with ``last_index``."""
        assert last_index > self.last_index, "a batch takes at least one index"
        assert term >= self.last_term, "terms do not fall"
        self._bases.append(self.last_index + 1)
        self._terms.append(term)
        self._positions.append(position)
        self.last_index = last_index
        self.last_term = term

    def truncate(self, last_index: int) -> None:
        """Forget the batches after ``last_index``, which is 0 or the end of a batch."""
        assert last_index == self.end_at_or_before(last_index), "truncation keeps whole batches"
        kept = bisect_right(self._bases, last_index)
        del self._bases[kept:]
        del self._terms[kept:]
        del self._positions[kept:]
        self.last_index = last_index
        self.last_term = self._terms[-1] if kept else 0

    def ordinal_of(self, index: int) -> int:
        """Which batch contains ``index``."""
        assert 1 <= index <= self.last_index, "the index is in the log"
        return bisect_right(self._bases, index) - 1

    def base(self, ordinal: int) -> int:
        """The first index of a batch."""
        return self._bases[ordinal]

    def end(self, ordinal: int) -> int:
        """The last index of a batch."""
        after = ordinal + 1
        return self._bases[after] - 1 if after < len(self._bases) else self.last_index

    def position(self, ordinal: int) -> int:
        """The position a batch was added with."""
        return self._positions[ordinal]

    def bases(self, ordinal: int, count_max: int) -> Sequence[int]:
        """The first indexes of so many batches, or of those there are, from this one on."""
        return self._bases[ordinal : ordinal + count_max]

    def positions(self, ordinal: int, count_max: int) -> Sequence[int]:
        """Their positions."""
        return self._positions[ordinal : ordinal + count_max]

    def term_at(self, index: int) -> int:
        """The term at an index; 0 for index 0."""
        return self._terms[self.ordinal_of(index)] if index else 0

    def end_of_term(self, term: int) -> int:
        """The end of the last batch whose term is not above this one; 0 when there is none."""
        count = bisect_right(self._terms, term)
        return self.end(count - 1) if count else 0

    def base_of(self, index: int) -> int:
        """The first index of the batch that contains ``index``."""
        return self._bases[self.ordinal_of(index)]

    def end_of(self, index: int) -> int:
        """The last index of the batch that contains ``index``."""
        return self.end(self.ordinal_of(index))

    def end_at_or_before(self, index: int) -> int:
        """The largest end of a batch that is not above ``index``; 0 when there is none."""
        assert index >= 0, "indexes count from 1, and 0 stands before the first"
        if index >= self.last_index:
            return self.last_index
        return self._bases[bisect_right(self._bases, index + 1) - 1] - 1

    def check(self) -> None:
        """Assert every invariant; takes time linear in the number of batches."""
        assert len(self._bases) == len(self._terms) == len(self._positions), "one row a batch"
        assert all(map(lt, self._bases, self._bases[1:])), "base indexes rise"
        assert all(map(le, self._terms, self._terms[1:])), "terms do not fall"
        later = all(map(lt, self._positions, self._positions[1:]))
        assert later, "later batches stand at later positions"
        if self._bases:
            assert self._bases[0] == 1, "the log begins with index 1"
            assert self._bases[-1] <= self.last_index, "the last batch takes at least one index"
