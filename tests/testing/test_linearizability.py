"""The checker: known verdicts, agreement with the definition, and counterexamples one can read."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copycat.errors import InvalidArgument
from copycat.resources.map import Versioned
from copycat.testing.history import Operation, Outcome
from copycat.testing.linearizability import check, partition
from copycat.testing.models import Model, RegisterModel
from copycat.testing.search import Verdict
from hand_made import is_linearizable, maybe, ok, refused
from known_histories import BAD, COUNTER, GOOD, LOCK, MAP, REGISTER
from simulated_object import MODELS, Invocation, any_counter_call, simulated


def ids(cases: list[tuple[str, Model, list[Operation]]]) -> list[str]:
    return [name for name, _, _ in cases]


@pytest.mark.parametrize(("name", "model", "history"), GOOD, ids=ids(GOOD))
def test_a_good_history_is_accepted(name: str, model: Model, history: list[Operation]) -> None:
    """By the checker, and by the definition."""
    report = check(history, model)
    assert report.verdict is Verdict.LINEARIZABLE, report
    assert report.counterexample is None
    assert is_linearizable(history, model)


@pytest.mark.parametrize(("name", "model", "history"), BAD, ids=ids(BAD))
def test_a_bad_history_is_refused(name: str, model: Model, history: list[Operation]) -> None:
    """With a counterexample that is itself not explained by what it leaves out."""
    report = check(history, model)
    assert report.verdict is Verdict.NOT_LINEARIZABLE, report
    assert report.counterexample is not None
    assert report.counterexample.blocked in report.counterexample.operations
    assert not is_linearizable(report.counterexample.operations, model)


# Against the definition.


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
    """Up to six operations that overlap somehow and have returned anything."""
    made = draw(st.lists(calls, min_size=1, max_size=6))
    operations = []
    for place, (method, arguments, result) in enumerate(made):
        begin, length = draw(st.integers(0, 8)), draw(st.integers(0, 4))
        client = f"c{place}.{method}"
        if draw(st.sampled_from(["ok", "ok", "ok", "maybe"])) == "ok":
            operations.append(ok(begin, begin + length, client, *arguments, returns=result))
        else:
            operations.append(maybe(begin, client, *arguments))
    return operations


def agrees_with_the_definition(history: list[Operation], model: Model) -> None:
    expected = Verdict.LINEARIZABLE if is_linearizable(history, model) else Verdict.NOT_LINEARIZABLE
    assert check(history, model).verdict is expected


@settings(max_examples=150)
@given(small_histories(calls_on_a_register()))
def test_registers_agree_with_the_definition(history: list[Operation]) -> None:
    """All orders of all choices say the same as the search."""
    agrees_with_the_definition(history, RegisterModel(0))


@settings(max_examples=150)
@given(small_histories(calls_on_a_map()))
def test_maps_agree_with_the_definition(history: list[Operation]) -> None:
    """Key by key, or as a whole, and with versions that nobody has seen."""
    agrees_with_the_definition(history, MAP)


@settings(max_examples=150)
@given(small_histories(calls_on_a_lock()))
def test_locks_agree_with_the_definition(history: list[Operation]) -> None:
    """Grants, releases and losses, with tokens that nobody has seen."""
    agrees_with_the_definition(history, LOCK)


# Against an object that is linearizable.


@pytest.mark.parametrize(("model", "call"), MODELS, ids=["registers", "counter"])
def test_what_a_linearizable_object_does_is_accepted(
    model: Model, call: Callable[[random.Random], Invocation], seed: int
) -> None:
    """Whatever overlaps, and whenever what nobody knows of took effect, if at all."""
    chance = random.Random(seed)
    history = simulated(chance, model, call, operations=300, clients=6)
    report = check(history, model)
    assert report.verdict is Verdict.LINEARIZABLE, report


def test_a_wrong_result_is_noticed(seed: int) -> None:
    """One increment of many returns what another one has returned: there is no excuse."""
    chance = random.Random(seed)
    history = simulated(chance, COUNTER, any_counter_call, operations=300, clients=6)
    increments = [
        each
        for each in history
        if each.method == "increment" and each.outcome is Outcome.OK and each.result > 20
    ]
    one, other = chance.sample(increments, 2)
    one.result = other.result
    report = check(history, COUNTER)
    assert report.verdict is Verdict.NOT_LINEARIZABLE
    assert report.counterexample is not None
    assert len(report.counterexample.operations) <= 2


# What a reader gets.

UNEXPLAINED = "  <- nothing explains this"
SUSPECT = "  <- yet it seems to have happened"


def test_a_counterexample_is_small() -> None:
    """Of a long history on many keys there remains what shows the stale read."""
    history = []
    for place in range(200):
        key, begin = f"k{place % 10}", place * 10.0
        previous = place - 10 if place >= 10 else None
        history.append(ok(begin, begin + 4, "a.put", key, place, returns=previous))
        history.append(ok(begin + 5, begin + 9, "b.get", key, returns=place))
    history.append(refused(1994, 1996, "d.put", "k3", 5_000))
    history.append(ok(2000, 2001, "c.get", "k3", returns=183))
    history.append(ok(2002, 2003, "a.put", "k3", 3, returns=193))
    history += [ok(0, 1, "a.put", "larger", 1)] * 50  # unexplained, too
    report = check(history, MAP)
    assert report.counterexample is not None
    assert str(report).splitlines()[1:] == [
        "no order explains these, whatever 39 other operations did before, between and after:",
        "  a  |---|          put('k3', 193) -> 183  (1930.000000 to 1934.000000 s)",
        "  c          |---|  get('k3') -> 183  (2000.000000 to 2001.000000 s)" + UNEXPLAINED,
    ]


def test_a_counterexample_names_who_could_have_done_it() -> None:
    """A write that was refused, and that somebody has read."""
    history = [
        ok(0, 1, "a.put", "k", 1),
        refused(2, 3, "b.put", "k", 2),
        refused(2, 3, "b.put", "k", 3),
        ok(4, 5, "c.get", "k", returns=2),
    ]
    report = check(history, MAP)
    assert report.counterexample is not None
    assert report.counterexample.suspects == (history[1],)
    assert report.counterexample.timeline() == [
        "  b  |---|          put('k', 2): not applied  (2.000000 to 3.000000 s)" + SUSPECT,
        "  c          |---|  get('k') -> 2  (4.000000 to 5.000000 s)" + UNEXPLAINED,
    ]


def test_a_search_that_takes_too_long_is_given_up() -> None:
    """The verdict says so; and what is wrong elsewhere is still found."""
    hot = [ok(0, 100, f"c{place}.write", place) for place in range(40)]
    hot.append(ok(101, 102, "c.read", returns=-1))
    report = check(hot, REGISTER, steps_max=5_000)
    assert (report.verdict, report.undecided) == (Verdict.UNKNOWN, 1)
    assert report.steps < 10_000
    on_a_map = [ok(0, 100, f"c{place}.put_many", [["hot", place]]) for place in range(40)]
    on_a_map += [ok(101, 102, "c.get", "hot", returns=-1), ok(0, 1, "c.get", "cold", returns=1)]
    assert check(on_a_map, MAP, steps_max=5_000).verdict is Verdict.NOT_LINEARIZABLE
    assert check(on_a_map[:-1], MAP, steps_max=5_000).verdict is Verdict.UNKNOWN


def test_all_parts_together_have_so_many_steps() -> None:
    """Ten hot parts are given up; it takes no longer than one of them may."""
    hot = [
        operation
        for key in range(10)
        for operation in (
            *[ok(0, 100, f"c{place}.put_many", [[key, place]]) for place in range(40)],
            ok(101, 102, "c.get", key, returns=-1),
        )
    ]
    report = check(hot, MAP, steps_max=20_000)
    assert (report.verdict, report.undecided) == (Verdict.UNKNOWN, 10)
    assert 10_000 < report.steps < 30_000


def test_unknown_writes_do_not_explode() -> None:
    """Sixty of them, all different, and a read that none explains: that is found at once."""
    history = [maybe(place, f"c{place}.write", place) for place in range(60)]
    history += [
        ok(100 + place, 100.5 + place, "r.read", returns=place) for place in range(0, 60, 2)
    ]
    report = check(history, REGISTER)
    assert report.verdict is Verdict.LINEARIZABLE
    assert report.steps < 10_000
    history.append(ok(500, 501, "r.read", returns=0))
    assert check(history, REGISTER).verdict is Verdict.NOT_LINEARIZABLE


def test_parts_are_as_small_as_the_operations_allow() -> None:
    """Keys that one operation names together are one part; one that names none is alone."""
    operations = [
        ok(0, 1, "a.get", "x"),
        ok(0, 1, "a.get", "y"),
        ok(0, 1, "a.get", "z"),
        ok(2, 3, "a.get_many", ["y", "x"]),
        ok(2, 3, "a.get_many", []),
        ok(4, 5, "a.put", "y", 1),
    ]
    x, y, z, both, none, put = operations
    assert partition(operations, MAP) == [[x, y, both, put], [z], [none]]
    assert partition([*operations, clear := ok(6, 7, "a.clear")], MAP) == [[*operations, clear]]


def test_unknown_methods_are_not_passed_over() -> None:
    """A model that does not know an operation says so; one without rules says what is missing."""
    for model in (REGISTER, COUNTER, LOCK, MAP):
        with pytest.raises(InvalidArgument, match="fly"):
            check([ok(0, 1, "a.fly", 1)], model)
    with pytest.raises(NotImplementedError, match="Model says in apply"):
        check([ok(0, 1, "a.fly")], Model())


def test_a_model_of_ones_own() -> None:
    """A stack in a few lines."""

    class Stack(Model):
        initial = ()

        def apply(self, state: tuple[Any, ...], method: str, *arguments: Any) -> tuple[Any, Any]:
            if method == "push":
                return (*state, *arguments), None
            return state[:-1], state[-1] if state else None

    pushes: Sequence[Operation] = [ok(0, 5, "a.push", 1), ok(0, 5, "b.push", 2)]
    assert check([*pushes, ok(6, 7, "a.pop", returns=1)], Stack()).verdict is Verdict.LINEARIZABLE
    bad = check([*pushes, ok(6, 7, "a.pop", returns=3)], Stack())
    assert bad.verdict is Verdict.NOT_LINEARIZABLE
