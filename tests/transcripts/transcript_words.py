"""The words of transcripts: how a line of a script becomes the call of a function.

A phrase is a pattern with words in capitals where names and numbers go: a *step* does something,
and returns the lines that it shows if it shows any; a *fact* returns whether it is one. The steps
are in ``transcript_steps``, the facts in ``transcript_facts``.
"""

import difflib
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from copycat.actors.message import is_message
from copycat.protocol import client as client_messages
from copycat.protocol import raft as raft_messages
from copycat.server.server import Server
from transcript_file import ScriptError
from transcript_stage import HANDLES, Stage

MESSAGES = {
    name
    for module in (client_messages, raft_messages)
    for name, value in vars(module).items()
    if is_message(value)
} | {"Entries", "Heartbeat"}
"""What rules about messages may name. The last two are kinds of ``AppendEntries``."""

Call = tuple[str, str, str, list[Any]]
"""Type of a resource, its name, a method of it, and the arguments."""


class Phrase:
    """A pattern, and the function behind it.

    Attributes:
        pattern: what a script writes.
        function: what is called, with the stage and what stands for the words in capitals.
        kinds: these words, in order.
        expression: what fits the pattern.
        literal_characters: of several patterns that fit, the one with most of them is meant.
        meaning: one line for docs/testing.md.
    """

    def __init__(self, pattern: str, function: Callable[..., Any]) -> None:
        self.pattern = pattern
        self.function = function
        self.kinds = re.findall(r"[A-Z]{4,}", pattern)
        expression = re.escape(pattern).replace(r"\ ", " ")
        for kind in self.kinds:
            group = {"SECONDS": r"(\S+) s", "CALL": r"(.+)", "FACT": r"(.+)"}.get(kind, r"(\S+)")
            if kind in ("SERVERS", "NODES", "OPTIONS"):
                group = r"(\S+(?: \S+)*?)"
            expression = expression.replace(kind, group, 1)
        self.expression = re.compile(expression)
        self.meaning = (function.__doc__ or "").rstrip(".")
        self.literal_characters = len(pattern) - sum(map(len, self.kinds))

    def arguments(self, stage: Stage, text: str) -> list[Any]:
        """What the words in capitals stand for in a text that fits."""
        match = self.expression.fullmatch(text)
        assert match is not None, "the text fits"
        return [
            _CONVERTED[kind](stage, word)
            for kind, word in zip(self.kinds, match.groups(), strict=True)
        ]


STEPS: list[Phrase] = []
FACTS: list[Phrase] = []

F = TypeVar("F", bound=Callable[..., Any])


def step(pattern: str) -> Callable[[F], F]:
    """Declare a step."""
    return _declare(STEPS, pattern)


def fact(pattern: str) -> Callable[[F], F]:
    """Declare a fact."""
    return _declare(FACTS, pattern)


def _declare(phrases: list[Phrase], pattern: str) -> Callable[[F], F]:
    def declare(function: F) -> F:
        phrases.append(Phrase(pattern, function))
        return function

    return declare


def perform(stage: Stage, text: str) -> list[str]:
    """Do a step; returns what it shows.

    Raises:
        ScriptError: it cannot be done, or what it expects is not so.
    """
    phrase, arguments = _understood(STEPS, stage, text, "step")
    return phrase.function(stage, *arguments) or []


def fact_of(stage: Stage, text: str) -> Callable[[], bool]:
    """A fact, to be asked for."""
    phrase, arguments = _understood(FACTS, stage, text, "fact")
    return lambda: bool(phrase.function(stage, *arguments))


def _understood(
    phrases: list[Phrase], stage: Stage, text: str, what: str
) -> tuple[Phrase, list[Any]]:
    fitting = [phrase for phrase in phrases if phrase.expression.fullmatch(text)]
    if fitting:
        phrase = max(fitting, key=lambda each: each.literal_characters)
        return phrase, phrase.arguments(stage, text)
    near = difflib.get_close_matches(text, [phrase.pattern for phrase in phrases], 3, 0.3)
    meant = "".join(f"\n  did you mean: {pattern}" for pattern in near)
    raise ScriptError(f"no {what} is called {text!r}{meant}")


# What the words in capitals stand for.


def one_of(known: Sequence[str], word: str, what: str) -> str:
    """A word, if it is one of those that are known; else the error says which may be meant."""
    if word not in known:
        near = difflib.get_close_matches(word, known, 1)
        meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise ScriptError(f"no {what} is called {word!r}: {meant}")
    return word


def _server(stage: Stage, word: str) -> str:
    return one_of(stage.cluster.names, word, "server")


def _servers(stage: Stage, words: str) -> list[str]:
    return [_server(stage, word) for word in words.split()]


def _node(stage: Stage, word: str) -> str:
    return one_of([*stage.cluster.names, *stage.programs], word, "server or client")


def _nodes(stage: Stage, words: str) -> list[str]:
    return [_node(stage, word) for word in words.split()]


def _end(stage: Stage, word: str) -> str:
    """A server, or a client that may come later: a rule that is never used is an error anyway."""
    return word if word.isalpha() else _server(stage, word)


def _client(stage: Stage, word: str) -> str:
    return one_of(list(stage.programs), word, "client")


def _number(_: Stage, word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ScriptError(f"{word!r} is no number") from None


def _message(_: Stage, word: str) -> str:
    return one_of(sorted(MESSAGES), word, "message")


def _options(stage: Stage, words: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for word in words.split():
        name, _, value = word.partition("=")
        one_of(("at", "timeout_s", "session_timeout_s"), name, "option")
        options[name] = _server(stage, value) if name == "at" else _number(stage, value)
    return options


def _call(_: Stage, words: str) -> Call:
    kind, *rest = words.split()
    one_of(list(HANDLES), kind, "type of resource")
    if len(rest) < 2:
        raise ScriptError(f"a call is TYPE NAME METHOD and its arguments, not {words!r}")
    return kind, rest[0], rest[1], [_argument(word) for word in rest[2:]]


def _argument(word: str) -> int | str:
    if word.removesuffix("kB").isdecimal() and word.endswith("kB"):
        return "x" * (1024 * int(word.removesuffix("kB")))
    return int(word) if word.removeprefix("-").isdecimal() else word


_CONVERTED: dict[str, Callable[[Stage, str], Any]] = {
    "SERVER": _server,
    "SERVERS": _servers,
    "NODE": _node,
    "NODES": _nodes,
    "SOURCE": _end,
    "TARGET": _end,
    "CLIENT": _client,
    "NUMBER": _number,
    "SECONDS": _number,
    "MESSAGE": _message,
    "OPTIONS": _options,
    "CALL": _call,
    "NAME": lambda _, word: word,
    "RESULT": lambda _, word: word,
    "FACT": lambda _, words: words,
}


# What runs.


def must_run(stage: Stage, name: str) -> None:
    """Refuse a step about a node that does not run."""
    node = stage.simulation.nodes.get(name)
    if node is None or node.stopped:
        raise ScriptError(f"{name} does not run")


def must_not_run(stage: Stage, name: str) -> None:
    """Refuse a step about a server that runs."""
    if stage.cluster.is_running(name):
        raise ScriptError(f"{name} runs")


def running(stage: Stage, name: str) -> Server:
    """A server that runs."""
    must_run(stage, name)
    return stage.cluster.server(name)
