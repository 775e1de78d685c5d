"""CounterMachine against an int."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copycat.errors import Rejected
from copycat.resources.counter import CounterMachine
from copycat.resources.values import INTEGER_MAX, INTEGER_MIN
from driven import Driver

integers = st.one_of(
    st.integers(-3, 3), st.sampled_from([INTEGER_MIN, INTEGER_MAX, INTEGER_MAX + 1])
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("increment"), integers),
        st.tuples(st.just("set"), integers),
        st.tuples(st.just("compare_and_set"), integers, integers),
    )
)


def model(count: int, name: str, numbers: list[int]) -> tuple[int, int]:
    """The answer, and the count afterwards."""
    match name:
        case "increment":
            return count + numbers[0], count + numbers[0]
        case "set":
            return count, numbers[0]
        case _:
            equal = count == numbers[0]
            return equal, numbers[1] if equal else count


@given(steps)
def test_it_counts_as_an_int_of_64_bits_does(steps: list[tuple[Any, ...]]) -> None:
    """Every answer is that of a plain int, and what leaves 64 bits is refused unchanged."""
    driver, count = Driver(CounterMachine), 0
    for name, *numbers in steps:
        expected, after = model(count, name, numbers)
        if all(INTEGER_MIN <= number <= INTEGER_MAX for number in [*numbers, after]):
            assert driver.command(1, name, *numbers) == expected
            count = after
        else:
            with pytest.raises((ValueError, Rejected)):
                driver.command(1, name, *numbers)
        assert driver.query("value") == count


@pytest.mark.parametrize("wrong", [True, None, 1.0, "1", b"", [], {}])
def test_only_ints_are_taken(wrong: object) -> None:
    """What a hostile client sends is an error and changes nothing."""
    driver = Driver(CounterMachine)
    for name, *arguments in (("increment", wrong), ("set", wrong), ("compare_and_set", 0, wrong)):
        with pytest.raises(TypeError):
            driver.command(1, name, *arguments)
    assert driver.query("value") == 0
