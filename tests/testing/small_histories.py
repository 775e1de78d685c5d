"""Histories so small that every order of them can be tried, of clients that were told anything."""

from typing import Any

from hypothesis import strategies as st

from copycat.resources.map import Versioned
from copycat.testing.history import Operation
from hand_made import maybe, ok, refused


def calls_on_a_register() -> st.SearchStrategy[tuple[str, tuple[Any, ...], Any]]:
    value = st.integers(0, 2)
    return st.one_of(
        st.tuples(st.just("read"), st.just(()), value),
        st.tuples(st.just("write"), st.tuples(value), st.none()),
        st.tuples(st.just("compare_and_set"), st.tuples(value, value), st.booleans()),
    )


def calls_on_a_map() -> st.SearchStrategy[tuple[str, tuple[Any, ...], Any]]:
    key, value, version = st.sampled_from("xy"), st.integers(1, 2), st.integers(1, 4)
    found = st.none() | value
    entry = st.none() | st.builds(Versioned, value, version)
    return st.one_of(
        st.tuples(st.just("put"), st.tuples(key, value), found),
        st.tuples(st.just("get"), st.tuples(key), found),
        st.tuples(st.just("get_entry"), st.tuples(key), entry),
        st.tuples(st.just("remove"), st.tuples(key), found),
        st.tuples(st.just("put_if_absent"), st.tuples(key, value), found),
        st.tuples(st.just("replace"), st.tuples(key, value, version), st.none() | version),
        st.tuples(st.just("length"), st.just(()), st.integers(0, 2)),
    )


def calls_on_a_lock() -> st.SearchStrategy[tuple[str, tuple[Any, ...], Any]]:
    owner, token = st.sampled_from("ab"), st.none() | st.integers(1, 3)
    return st.one_of(
        st.tuples(st.just("acquire"), st.tuples(owner), token),
        st.tuples(st.just("release"), st.tuples(owner), st.booleans()),
        st.tuples(st.just("expire"), st.tuples(owner), st.none()),
        st.tuples(st.just("holder"), st.just(()), token),
    )


@st.composite
def small_histories(
    draw: st.DrawFn, calls: st.SearchStrategy[tuple[str, tuple[Any, ...], Any]]
) -> list[Operation]:
    """Up to six operations that overlap somehow and have returned anything, or nothing."""
    made = draw(st.lists(calls, min_size=1, max_size=6))
    operations = []
    for place, (method, arguments, result) in enumerate(made):
        begin, length = draw(st.integers(0, 8)), draw(st.integers(0, 4))
        client = f"c{place}.{method}"
        match draw(st.sampled_from(["ok", "ok", "ok", "ok", "maybe", "refused"])):
            case "ok":
                operations.append(ok(begin, begin + length, client, *arguments, returns=result))
            case "maybe":
                operations.append(maybe(begin, client, *arguments))
            case "refused":
                operations.append(refused(begin, begin + length, client, *arguments))
    return operations
