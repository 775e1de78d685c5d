"""What the log knows by heart: where each batch stands."""

from collections.abc import Callable

import pytest

from copycat.storage.batch_index import BatchIndex


def three_batches() -> BatchIndex:
    index = BatchIndex()
    for place in range(1, 4):
        index.append(10 * place, place, 100 * place)
    return index


def test_an_index_that_was_filled_in_order_is_sound() -> None:
    """Also an empty one."""
    BatchIndex().check()
    three_batches().check()


def test_the_end_of_a_term_is_found() -> None:
    """That of the last batch which is not of a later one."""
    assert [three_batches().end_of_term(term) for term in (0, 1, 2, 3, 4)] == [0, 10, 20, 30, 30]
    assert BatchIndex().end_of_term(1) == 0


def breaks_a_base(index: BatchIndex) -> None:
    index._bases[1] = index._bases[2]


def breaks_a_term(index: BatchIndex) -> None:
    index._terms[1] = 4


def breaks_a_position(index: BatchIndex) -> None:
    index._positions[1] = index._positions[2]


def loses_a_term(index: BatchIndex) -> None:
    index._terms.pop()


def loses_the_beginning(index: BatchIndex) -> None:
    index._bases[0] = 2


def loses_the_end(index: BatchIndex) -> None:
    index.last_index = 20


@pytest.mark.parametrize(
    "damage",
    [
        breaks_a_base,
        breaks_a_term,
        breaks_a_position,
        loses_a_term,
        loses_the_beginning,
        loses_the_end,
    ],
)
def test_every_broken_invariant_is_noticed(damage: Callable[[BatchIndex], None]) -> None:
    """Each of them by itself."""
    index = three_batches()
    damage(index)
    with pytest.raises(AssertionError):
        index.check()
