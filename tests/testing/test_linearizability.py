"""The checker: known verdicts, agreement with the definition, and what it gives up."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings

from copycat.errors import InvalidArgument
from copycat.testing.history import Operation
from copycat.testing.linearizability import check, partition
from copycat.testing.models import Model, RegisterModel
from copycat.testing.search import Verdict
from hand_made import is_linearizable, maybe, ok
from known_histories import BAD, COUNTER, GOOD, LOCK, MAP, REGISTER
from simulated_object import MODELS, Invocation, simulated
from small_histories import calls_on_a_lock, calls_on_a_map, calls_on_a_register, small_histories


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
