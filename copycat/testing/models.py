"""Models: what an object does when nothing goes wrong, one operation after the other.

A model of your own says in ``apply`` what each of its methods does:

    class StackModel(Model):
        initial = ()

        def apply(self, state, method, *arguments):
            if method == "push":
                return (*state, *arguments), None
            return state[:-1], state[-1] if state else None
"""

from collections.abc import Hashable, Sequence
from typing import Any

from copycat.errors import InvalidArgument
from copycat.testing.history import Operation, Outcome

Impossible: tuple[Any, ...] = ()
"""What ``Model.step`` says of an operation that cannot have returned what it has."""


class Model:
    """What an object does. States are values that can be hashed, and never change.

    Attributes:
        initial: the state before all operations.
        queries: the methods that never change the state. To name them saves much of the search.
    """

    initial: Any = None
    queries: frozenset[str] = frozenset()

    def apply(self, state: Any, method: str, *arguments: Any) -> tuple[Any, Any]:
        """Do an operation whose effect and result depend on nothing but the state.

        It is tried in every state that there may be, so it has to return something in all.

        Returns:
            The state afterwards, and the result.
        """
        raise NotImplementedError(f"{type(self).__name__} says in apply() or step() what it does")

    def step(self, state: Any, operation: Operation) -> Sequence[Any]:
        """Do an operation whose result may depend on more than the state, such as a new version.

        It has to be overridden only for such; by default ``apply`` decides.

        Args:
            state: before it.
            operation: ``OK`` with a result, or ``UNKNOWN`` and without.

        Returns:
            All states that there may be afterwards; none when it cannot return what it has.
        """
        after, result = self.apply(state, operation.method, *operation.arguments)
        return _if_equal(operation, result, after)

    def keys(self, operation: Operation) -> tuple[Hashable, ...] | None:
        """The parts of the object that an operation looks at or changes; None: all of it.

        Parts that no operation joins are checked each by itself, beginning with ``initial``,
        which makes the check of many operations possible at all.
        """
        return None


def _if_equal(operation: Operation, result: Any, after: Any) -> Sequence[Any]:
    if operation.outcome is Outcome.UNKNOWN or operation.result == result:
        return (after,)
    return Impossible


def _no_such_method(model: Model, method: str) -> InvalidArgument:
    return InvalidArgument(f"{type(model).__name__} does not know the method {method!r}")


class RegisterModel(Model):
    """One value: ``read()``, ``write(value)`` and ``compare_and_set(expected, value) -> bool``."""

    queries = frozenset({"read"})

    def __init__(self, initial: Any = None) -> None:
        self.initial = initial

    def apply(self, state: Any, method: str, *arguments: Any) -> tuple[Any, Any]:
        """As the class says."""
        match method, arguments:
            case "read", ():
                return state, state
            case "write", (value,):
                return value, None
            case "compare_and_set", (expected, value):
                return (value, True) if state == expected else (state, False)
        raise _no_such_method(self, method)


class CounterModel(Model):
    """A ``DistributedCounter``: ``increment``, ``value``, ``set``, ``compare_and_set``."""

    initial = 0
    queries = frozenset({"value"})

    def apply(self, state: int, method: str, *arguments: Any) -> tuple[int, Any]:
        """As the methods of the handle. What raises an error has no place in a history."""
        match method, arguments:
            case "value", ():
                return state, state
            case "increment", ():
                return state + 1, state + 1
            case "increment", (n,):
                return state + n, state + n
            case "set", (value,):
                return value, state
            case "compare_and_set", (expected, value):
                return (value, True) if state == expected else (state, False)
        raise _no_such_method(self, method)


class LockModel(Model):
    """A ``DistributedLock``: one holder, and tokens each larger than all before.

    Its operations name the *owner*: a request for the lock that is like no other.

    - ``acquire(owner) -> token``; None if it was not granted because another one held the lock.
    - ``release(owner) -> bool``: whether the owner held the lock until now.
    - ``expire(owner)``: whatever else may take the lock from it, such as the end of its session.
    - ``holder() -> token``; None when the lock is free.

    A grant that may have been lost is a history with an ``expire`` of unknown outcome that begins
    with ``acquire``.
    """

    initial = (None, 0, 0)  # owner, token or 0 if nobody knows, the largest token that is known
    queries = frozenset({"holder"})

    def step(self, state: Any, operation: Operation) -> Sequence[Any]:
        """As the class says."""
        holder, _, last = state
        is_known = operation.outcome is Outcome.OK
        match operation.method, operation.arguments:
            case "acquire", (owner,) if is_known and operation.result is None:
                return Impossible if holder is None else (state,)
            case "acquire", (owner,):
                if holder is not None:
                    return Impossible
                if not is_known:
                    return ((owner, 0, last),)
                return self._grant(owner, operation.result, last)
            case ("release" | "expire") as method, (owner,):
                after = (None, 0, last) if holder == owner else state
                return (
                    (after,) if method == "expire" else _if_equal(operation, holder == owner, after)
                )
            case "holder", ():
                return self._seen(state, operation) if is_known else (state,)
        raise _no_such_method(self, operation.method)

    def _seen(self, state: Any, operation: Operation) -> Sequence[Any]:
        holder, token, last = state
        if holder is None or token or operation.result is None:
            expected = token if holder is not None else None
            return _if_equal(operation, expected, state)
        return self._grant(holder, operation.result, last)

    def _grant(self, owner: Hashable, token: int, last: int) -> Sequence[Any]:
        return ((owner, token, token),) if token > last else Impossible
