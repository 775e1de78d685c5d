"""Counterexamples: they hold, nothing can be left out of them, and one can read them."""

import random
from dataclasses import replace
from math import inf

import pytest
from hypothesis import given, settings

from copycat.testing.counterexample import Counterexample, reduce
from copycat.testing.history import Operation, Outcome
from copycat.testing.linearizability import check
from copycat.testing.models import Model, RegisterModel
from copycat.testing.search import Verdict
from hand_made import is_linearizable, maybe, ok, refused
from known_histories import BAD, COUNTER, LOCK, MAP, REGISTER
from simulated_object import any_counter_call, simulated
from small_histories import calls_on_a_lock, calls_on_a_map, calls_on_a_register, small_histories

HISTORIES_A_SEED = 25

# What a counterexample promises.


def with_the_rest_in_doubt(known: list[Operation], history: list[Operation]) -> list[Operation]:
    """These, and all others as if nobody knew whether and when they took effect."""
    return known + [
        replace(each, outcome=Outcome.UNKNOWN, result=None, returned_s=inf)
        for each in history
        if each not in known and each.outcome is not Outcome.NOT_APPLIED
    ]


def keeps_its_promise(found: Counterexample, history: list[Operation], model: Model) -> None:
    """By the definition; so the history is a small one."""
    needed = list(found.operations)
    assert found.blocked in needed
    assert not is_linearizable(needed, model)
    in_doubt = with_the_rest_in_doubt(needed, history)
    assert not is_linearizable(in_doubt, model)
    for each in needed:
        fewer = [other for other in needed if other is not each]
        assert is_linearizable(with_the_rest_in_doubt(fewer, history), model), each
    for each in history:
        if each.outcome is Outcome.NOT_APPLIED:
            happened = replace(each, outcome=Outcome.UNKNOWN, returned_s=inf)
            assert is_linearizable([*in_doubt, happened], model) is (each in found.suspects), each


def every_counterexample_keeps_it(history: list[Operation], model: Model) -> None:
    report = check(history, model)
    if report.counterexample is not None:
        keeps_its_promise(report.counterexample, history, model)


@pytest.mark.parametrize(
    ("model", "history"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD]
)
def test_counterexamples_of_known_histories_hold(model: Model, history: list[Operation]) -> None:
    """Whatever is wrong with them."""
    every_counterexample_keeps_it(history, model)


@settings(max_examples=150)
@given(small_histories(calls_on_a_register()))
def test_counterexamples_of_registers_hold(history: list[Operation]) -> None:
    """Whatever the others did; and each operation of them is needed."""
    every_counterexample_keeps_it(history, RegisterModel(0))


@settings(max_examples=150)
@given(small_histories(calls_on_a_map()))
def test_counterexamples_of_maps_hold(history: list[Operation]) -> None:
    """Those of one key and those of all."""
    every_counterexample_keeps_it(history, MAP)


@settings(max_examples=150)
@given(small_histories(calls_on_a_lock()))
def test_counterexamples_of_locks_hold(history: list[Operation]) -> None:
    """With grants that nobody has seen."""
    every_counterexample_keeps_it(history, LOCK)


def test_a_wrong_result_is_noticed(seed: int) -> None:
    """One increment of many returns what another one has returned: there is no excuse.

    There are too few before it, or the other one is as wrong.
    """
    chance = random.Random(seed)
    for _ in range(HISTORIES_A_SEED):
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
        needed = list(report.counterexample.operations)
        assert len(needed) <= 2, report
        again = check(with_the_rest_in_doubt(needed, history), COUNTER)
        assert again.verdict is Verdict.NOT_LINEARIZABLE, report


@pytest.mark.parametrize("steps_max", [0, 100, 1_000, 10_000, 100_000, 1_000_000])
def test_what_there_is_no_time_for_stays_in(steps_max: int) -> None:
    """A stale read after eighty writes that may all have come again in between."""
    writes = [ok(place, place + 0.5, "a.write", place) for place in range(80)]
    read = ok(100, 101, "b.read", returns=40)
    history = [*writes, read]
    found = reduce(history, read, [], REGISTER, steps_max=steps_max)
    assert found.blocked is read
    assert found.operations[-1] is read
    needed = list(found.operations)
    again = check(with_the_rest_in_doubt(needed, history), REGISTER)
    assert again.verdict is Verdict.NOT_LINEARIZABLE
    if steps_max == 0:
        assert needed == history
    if steps_max == 1_000_000:
        assert needed == [writes[40], writes[79], read]


@pytest.mark.parametrize("steps_max", [0, 100, 400, 1_000, 10_000])
def test_what_nobody_knows_is_not_left_out(steps_max: int) -> None:
    """A value that needs the other one to be wrong, which takes fifty steps to find out."""
    unknown = [maybe(place, "a.increment") for place in range(50)]
    values = [ok(100, 101, "b.value", returns=50), ok(102, 103, "b.value", returns=49)]
    found = reduce([*unknown, *values], values[1], [], COUNTER, steps_max=steps_max)
    assert list(found.operations) == values


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
