"""LockMachine: exclusion, fairness, tokens that grow, and no ghosts, in every order of things."""

from math import inf, nan
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from copycat.errors import InvalidArgument, InvalidType
from copycat.resources.lock import LockMachine
from driven import Driver

sessions = st.integers(1, 4)
requests = st.integers(1, 3)
waits = st.sampled_from([None, 0, 0.5, 1, 2.5])


class LockModel(RuleBasedStateMachine):
    """A lock beside a plain list of waiters that does the same by the simplest means."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver(LockMachine)
        self.holder: tuple[int, int, int] | None = None  # session, request, token
        self.queue: list[tuple[int, int, float]] = []  # session, request, due
        self.told: dict[int, list[tuple[str, int]]] = {}
        self.last_token = 0
        self.sessions = [1, 2, 3, 4]

    def granted(self, token: int) -> None:
        assert token > self.last_token, "tokens grow"
        self.last_token = token

    def pass_on(self) -> None:
        """Whoever is first is granted the lock, and told so at once."""
        self.holder = None
        if self.queue:
            session, request, _ = self.queue.pop(0)
            ((name, (told, token)),) = self.driver.take_events(session)
            assert (name, told) == ("granted", request), "the one who waited longest is next"
            self.granted(token)
            self.holder = (session, request, token)

    @rule(place=sessions, request=requests, wait_s=waits)
    def acquire(self, place: int, request: int, wait_s: float | None) -> None:
        """A first request, or one sent again."""
        session = self.sessions[place - 1]
        answer = self.driver.command(session, "acquire", request, wait_s)
        if self.holder is not None and self.holder[:2] == (session, request):
            assert answer == self.holder[2], "a request that was granted stays granted"
        elif any(waiter[:2] == (session, request) for waiter in self.queue):
            assert answer is None, "a request waits once"
        elif self.holder is None:
            self.granted(answer)
            self.holder = (session, request, answer)
        elif wait_s == 0:
            assert answer == 0
        else:
            assert answer is None
            due = inf if wait_s is None else self.driver.log_time_s + wait_s
            self.queue.append((session, request, due))

    @rule(place=sessions, off=st.integers(-1, 1))
    def release(self, place: int, off: int) -> None:
        """By the holder, by others, with the token or another one."""
        session = self.sessions[place - 1]
        token = self.last_token + off if self.last_token else 0
        held = self.holder is not None and self.holder[::2] == (session, token)
        assert self.driver.command(session, "release", token) == held
        if held:
            self.pass_on()

    @rule(place=sessions, request=requests)
    def cancel(self, place: int, request: int) -> None:
        """A request is taken back, wherever it is."""
        session = self.sessions[place - 1]
        holds = self.holder is not None and self.holder[:2] == (session, request)
        waits = [waiter for waiter in self.queue if waiter[:2] == (session, request)]
        assert self.driver.command(session, "cancel", request) == (holds or bool(waits))
        self.queue = [waiter for waiter in self.queue if waiter not in waits]
        if holds:
            self.pass_on()

    @rule(seconds=st.sampled_from([0.25, 0.5, 1, 3]))
    def wait(self, seconds: float) -> None:
        """Log time moves, and waits that are over end in the order in which they are over."""
        self.driver.pass_time(seconds)
        now_s = self.driver.log_time_s
        for session, request, due in list(self.queue):
            if due <= now_s:
                self.queue.remove((session, request, due))
                self.told.setdefault(session, []).append(("timed_out", request))
        for session in list(self.told):
            events = [(name, values[0]) for name, values in self.driver.take_events(session)]
            assert sorted(events) == sorted(self.told.pop(session))

    @rule(places=st.lists(sessions, min_size=1, max_size=3, unique=True))
    def sessions_end(self, places: list[int]) -> None:
        """Several sessions end before the same batch; new ones take their places."""
        index = self.driver.index + 1
        for place in places:
            session = self.sessions[place - 1]
            self.driver.end_session(session, index=index)
            self.queue = [waiter for waiter in self.queue if waiter[0] != session]
            if self.holder is not None and self.holder[0] == session:
                self.pass_on()
            self.sessions[place - 1] = 4 + max(self.sessions)

    @precondition(lambda self: self.holder is not None)
    @rule()
    def holder_leaves(self) -> None:
        """The holder gives the lock back, as it should."""
        assert self.holder is not None
        assert self.driver.command(self.holder[0], "release", self.holder[2])
        self.pass_on()

    @invariant()
    def nothing_else_is_known_or_told(self) -> None:
        """Holder and queue are the model's; no event, timer or trace of the gone is left."""
        machine: Any = self.driver.machine
        assert self.driver.query("holder") == (self.holder and list(self.holder[::2]))
        assert self.driver.query("waiting") == len(self.queue)
        assert not any(self.driver.events.values()), "nobody is told anything else"
        limited = [waiter for waiter in self.queue if waiter[2] != inf]
        assert len(self.driver.replicas[0].timers) == len(limited), "no timer outlives its request"
        assert sum(map(len, machine._tickets.values())) == len(self.queue)


LockModel.TestCase.settings = settings(deadline=None, stateful_step_count=40, max_examples=80)
test_lock_against_its_model = LockModel.TestCase


def test_a_wait_that_is_over_is_never_granted() -> None:
    """Time-out and release at one moment: the one that is first in the log decides alone."""
    driver = Driver(LockMachine)
    token = driver.command(1, "acquire", 1, None)
    assert driver.command(2, "acquire", 1, 1.0) is None
    driver.pass_time(1.0)
    assert driver.command(1, "release", token)
    assert driver.take_events(2) == [("timed_out", [1])]
    assert driver.query("holder") is None

    token = driver.command(1, "acquire", 2, None)
    assert driver.command(2, "acquire", 2, 1.0) is None
    driver.pass_time(0.999999)
    assert driver.command(1, "release", token)
    driver.pass_time(1.0)
    assert driver.take_events(2) == [("granted", [2, driver.index])]


def test_two_grants_at_one_index_have_two_tokens() -> None:
    """The lock passes through a session that ends before the same batch as its holder."""
    driver = Driver(LockMachine)
    driver.command(1, "acquire", 1, None)
    driver.command(2, "acquire", 1, None)
    driver.command(3, "acquire", 1, None)
    index = driver.index + 1
    driver.end_session(1, index=index)
    assert driver.query("holder") == [2, index]
    driver.end_session(2, index=index)
    assert driver.query("holder") == [3, index + 1]
    # The command at this index is behind both grants, and its grant has a larger token still.
    assert driver.command(3, "release", index + 1)
    assert driver.command(3, "acquire", 2, None) == index + 2


def test_a_session_does_not_inherit_its_own_lock() -> None:
    """When a session ends its waiting requests go first, so the lock passes to another."""
    driver = Driver(LockMachine)
    driver.command(1, "acquire", 1, None)
    driver.command(1, "acquire", 2, 5.0)
    driver.command(2, "acquire", 1, None)
    driver.end_session(1)
    assert driver.query("holder")[0] == 2
    assert [name for name, _ in driver.take_events(2)] == ["granted"]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("acquire", [1, -1]),
        ("acquire", [1, nan]),
        ("acquire", [1, inf]),
        ("acquire", [1, 1e300]),
        ("acquire", [1, True]),
        ("acquire", [1, "1"]),
        ("acquire", ["1", None]),
        ("acquire", [-1, None]),
        ("release", [None]),
        ("release", [1.0]),
        ("cancel", [True]),
    ],
)
def test_wrong_arguments_change_nothing(name: str, arguments: list[Any]) -> None:
    """What a hostile client sends is an error and neither takes nor frees the lock."""
    driver = Driver(LockMachine)
    with pytest.raises((InvalidArgument, InvalidType)):
        driver.command(1, name, *arguments)
    assert driver.query("holder") is None
