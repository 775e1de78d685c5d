"""docs/testing.md names the section of the dissertation for every test of a rule, and no others."""

import ast
import re

from sources import ROOT, sources

PAGE = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
SECTION = re.compile(r"§(\d+(?:\.\d+)*): \S")
THIS_FILE = "tests/paper/test_paper_table.py"


def rules_tested() -> list[tuple[str, str]]:
    """Section and name of each test of a rule, by section and then as they stand in their files."""
    found = []
    for path, text in sources("tests/paper"):
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.FunctionDef)
                and node.name.startswith("test_")
                and path != THIS_FILE
            ):
                section = SECTION.match(ast.get_docstring(node) or "")
                assert section, f"{path}:{node.lineno}: {node.name} begins with no section"
                found.append((section[1], node.name))
    return sorted(found, key=lambda one: [int(part) for part in one[0].split(".")])


def test_the_table_is_that_of_the_tests() -> None:
    """A rule that is renamed, moved or dropped does not stay behind on the page; when this fails,
    the rows that it shows belong there."""
    rows = re.findall(r"^\| §\S+ \| `test_\w+` \|$", PAGE, re.MULTILINE)
    expected = [f"| §{section} | `{name}` |" for section, name in rules_tested()]
    assert rows == expected, "\n".join(expected)


def test_there_are_about_as_many_as_rules_are_claimed() -> None:
    """Every chapter that the code follows has its tests."""
    sections = {section for section, _ in rules_tested()}
    assert len(rules_tested()) >= 40
    assert sections >= {
        "3.3", "3.4", "3.5", "3.6.1", "3.6.2", "3.6.3", "3.8", "3.9", "4.2.3",
        "6.2", "6.3", "6.4", "9.6", "10.2.1",
    }  # fmt: skip
