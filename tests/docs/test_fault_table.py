"""The page on faults names tests that exist, and every test of a fault has its line there."""

import ast
import re

from sources import ROOT, sources

PAGE = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ")]
COLUMNS = 5


def names_in(path: str, text: str) -> set[str]:
    """The tests of a file."""
    return {
        node.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


def named(text: str) -> set[str]:
    """The tests that a text names."""
    return set(re.findall(r"`(test_\w+)`", text))


def test_the_tests_that_it_names_exist() -> None:
    """A test that is renamed or removed does not leave a promise behind."""
    existing = set().union(*(names_in(path, text) for path, text in sources("tests")))
    assert named(PAGE)
    assert not named(PAGE) - existing


def test_every_fault_has_a_test() -> None:
    """A line without one would be a promise that nobody checks."""
    heads = ("| fault |", "| where |")
    lines = [row for row in ROWS if not row.startswith(heads)]
    assert [row for row in lines if not named(row.split("|")[COLUMNS])] == []
    assert all(row.count(" | ") == COLUMNS - 1 for row in ROWS)


def test_nobody_is_told_to_do_what_cannot_be_done() -> None:
    """No command replaces a server yet, and an older directory must not be brought back: neither an
    error nor a page may advise it without a word on that."""
    texts = dict(sources("copycat", "actors"))
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        texts[page.name] = page.read_text(encoding="utf-8")
    advice = r"replaced? (?:it |the server |this server )?by\s+a\s+new (?:server|one)|restore the directory"
    assert [path for path, text in texts.items() if re.search(advice, text)] == []


def test_every_test_of_a_fault_is_there() -> None:
    """Who looks for a fault finds it."""
    faults = {
        name
        for path, text in sources("tests/processes")
        if "/test_faults_" in path
        for name in names_in(path, text)
    }
    assert faults
    assert not faults - named(PAGE)
