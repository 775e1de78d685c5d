"""The documents tell the truth: their Python runs, and their commands are commands.

Each ``python`` block of README.md and docs/ is executed, the blocks of one document in
order and in one namespace, ``await`` at the top allowed. A block after the comment
``<!-- not run: reason -->`` is only compiled. In ``console`` blocks each ``$ copycat ...``
is parsed by the command line itself (without running it), each ``$ make ...`` must name a
target.
"""

import ast
import asyncio
import inspect
import re
import shlex
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import click
import pytest

from sources import ROOT

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [document.relative_to(ROOT).as_posix() for document in DOCUMENTS]
FENCE = re.compile(r"^```(\w*)\s*$")
NOT_RUN = re.compile(r"^<!-- not run: \S.* -->$")
SHELL_OPERATORS = {"|", "||", "&", "&&", ";", ">", ">>", "<", "2>", "2>&1"}


@dataclass(frozen=True)
class Block:
    """One fenced block of a document."""

    language: str
    line: int  # of its first line of content, from 1
    text: str
    run: bool  # False behind a comment that says why not


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a document, in order."""
    before, start, language, run = "", 0, "", True
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        fence = FENCE.match(line)
        if start and line == "```":
            yield Block(language, start, "\n".join(lines[start - 1 : number - 1]) + "\n", run)
            before, start = "", 0
        elif not start and fence:
            start, language, run = number + 1, fence[1], not NOT_RUN.match(before)
        elif not start and line.strip():
            before = line.strip()
    assert not start, f"the block at line {start} is not closed"


def run_python(name: str, text: str) -> None:
    """Run the Python of a document as one module, with lines numbered as in the document."""
    module = types.ModuleType(re.sub(r"\W", "_", name))
    sys.modules[module.__name__] = module  # where classes made by the document look up names
    try:
        with asyncio.Runner() as runner:
            for block in blocks(text):
                if block.language != "python":
                    continue
                padded = "\n" * (block.line - 1) + block.text
                flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
                code = compile(padded, name, "exec", flags=flags, dont_inherit=True)
                if not block.run:
                    continue
                if code.co_flags & inspect.CO_COROUTINE:
                    runner.run(types.FunctionType(code, module.__dict__)())
                else:
                    exec(code, module.__dict__)
    finally:
        del sys.modules[module.__name__]


def commands(text: str, program: str) -> Iterator[tuple[int, list[str]]]:
    """Line and arguments of each ``$ program ...`` in the console blocks of a document."""
    for block in blocks(text):
        if block.language != "console":
            continue
        joined = re.sub(r"\\\n\s*", " ", block.text)
        for offset, line in enumerate(joined.splitlines()):
            if not line.startswith("$ "):
                continue
            words = shlex.split(line[2:], comments=True)
            ends = [i for i, word in enumerate(words) if word in SHELL_OPERATORS]
            words = words[: min(ends, default=len(words))]
            if words and words[0] == program:
                yield block.line + offset, words[1:]


def parse(
    command: click.Command, name: str, words: list[str], parent: click.Context | None
) -> None:
    """Resolve a command line to its last subcommand and option.

    Raises:
        click.UsageError: there is no such command or option, or a value is missing.
    """
    context = click.Context(command, info_name=name, parent=parent, **command.context_settings)
    values, rest, _ = command.make_parser(context).parse_args(list(words))
    if values.get("help"):
        return
    if isinstance(command, click.Group) and rest:
        found, inner, rest = command.resolve_command(context, rest)
        assert inner is not None, "click raises for an unknown command"
        parse(inner, found or "", rest, context)
    elif rest:
        raise click.UsageError(f"{context.command_path} takes no {rest[0]!r}", context)


def command_line() -> click.Command | None:
    """The command ``copycat``, or None where this checkout has no command line."""
    main = getattr(import_module("copycat.console.cli"), "main", None)
    return main if isinstance(main, click.Command) else None


def mistakes(text: str, main: click.Command) -> list[str]:
    """The ``$ copycat`` lines of a document that its command line would refuse."""
    found = []
    for line, words in commands(text, "copycat"):
        try:
            parse(main, "copycat", words, None)
        except click.UsageError as error:
            found.append(f"{line}: copycat {shlex.join(words)}: {error.format_message()}")
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_python_runs(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever copies from a document gets what it promises."""
    monkeypatch.chdir(tmp_path)
    run_python(document.name, document.read_text(encoding="utf-8"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_commands_are_commands(document: Path) -> None:
    """Every command and option that a document shows is one that exists."""
    main = command_line()
    if main is not None:
        assert not mistakes(document.read_text(encoding="utf-8"), main)


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_make_targets_exist(document: Path) -> None:
    """Every target that a document shows is in the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    shown = [words for _, words in commands(document.read_text(encoding="utf-8"), "make")]
    assert {word for words in shown for word in words if "=" not in word} <= targets


def test_the_readme_opens_with_demo_and_test() -> None:
    """The first two things to type are to see it and to trust it."""
    shown = [words for _, words in commands(DOCUMENTS[0].read_text(encoding="utf-8"), "make")]
    assert shown[:2] == [["demo"], ["test"]]


def test_a_wrong_block_fails_at_its_line() -> None:
    """Blocks share their names, run in order, may await, and fail where they stand."""
    text = (
        "# Title\n\n```python\nimport asyncio\nx = 1\n```\n\n<!-- not run: it would fail -->\n\n"
        "```python\n1 / 0\n```\n\n```python\nawait asyncio.sleep(0)\nassert x == 2\n```\n"
    )
    with pytest.raises(AssertionError) as failure:
        run_python("planted.md", text)
    assert failure.traceback[-1].lineno == 15  # pytest counts from 0; it is line 16


def test_a_reason_holds_for_one_block_only() -> None:
    """The comment lets off the block behind it, not the rest of the document."""
    text = "<!-- not run: why -->\n```python\n1\n```\n```python\n2\n```\n<!-- not run: -->\n```python\n3\n```\n"
    assert [block.run for block in blocks(text)] == [False, True, True]


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("$ copycat map get users ann --json", 0),
        ("$ copycat --help", 0),
        ("$ copycat map get --help", 0),
        ("$ copycat map get users ann | sort  # in order", 0),
        ("$ copycat map \\\n    get users ann", 0),
        ("copycat output that mentions copycat", 0),
        ("$ copycat map fetch users ann", 1),
        ("$ copycat map get users ann --yaml", 1),
        ("$ copycat map get users ann bob", 1),
        ("$ copycat lock", 1),
    ],
)
def test_wrong_commands_are_found(line: str, count: int) -> None:
    """The check above reports unknown commands, options and surplus arguments."""

    @click.group()
    def main() -> None: ...

    @main.group("map")
    def of_map() -> None: ...

    @of_map.command()
    @click.argument("name")
    @click.argument("key")
    @click.option("--json", is_flag=True)
    def get(name: str, key: str, json: bool) -> None: ...

    assert len(mistakes(f"```console\n{line}\n```\n", main)) == count
