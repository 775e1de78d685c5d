"""The shape of the repository: what is shipped, how long things are, what is documented."""

import ast
import tomllib
from collections.abc import Iterator

import pytest

from sources import ALL, ROOT, SHIPPED, sources

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
USED_BY_HAND = ("resources/", "copycat/client/", "copycat/local_cluster.py")  # document methods too


def packages() -> set[str]:
    """The packages that pyproject.toml puts into the wheel."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return set(project["tool"]["setuptools"]["packages"])


def too_long(path: str, text: str) -> Iterator[str]:
    """Files and functions over their limits; docstrings and comments count."""
    lines = len(text.splitlines())
    if lines > FILE_LINES_MAX:
        yield f"{path}: {lines} lines, {FILE_LINES_MAX} at most"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"{path}:{node.lineno}: {node.name} has {lines} lines, {FUNCTION_LINES_MAX} at most"


def undocumented(path: str, text: str) -> Iterator[str]:
    """The module and its public classes and functions without a docstring.

    Methods are asked for where users read them, in handles and clients. Those of a machine
    are operations of its handle, and documented there.
    """
    module = ast.parse(text)
    if not ast.get_docstring(module):
        yield f"{path}: the module has no docstring"
    for node in module.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("_"):
            continue
        if not ast.get_docstring(node):
            yield f"{path}:{node.lineno}: {node.name} has no docstring"
        if (
            isinstance(node, ast.ClassDef)
            and path.startswith(USED_BY_HAND)
            and not node.name.endswith("Machine")
        ):
            for method in node.body:
                if (
                    isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
                    and not method.name.startswith("_")
                    and not method.decorator_list  # setters, overloads, overrides
                    and not ast.get_docstring(method)
                ):
                    yield f"{path}:{method.lineno}: {node.name}.{method.name} has no docstring"


def test_every_folder_with_sources_is_shipped() -> None:
    """A package that pyproject.toml forgets would be missing from the wheel only."""
    found = set()
    for path, _ in sources(*SHIPPED):
        folder = path.rpartition("/")[0].replace("/", ".")
        found.add(folder if folder.split(".")[0] == "copycat" else f"copycat.{folder}")
    assert found == packages()


def test_every_package_has_an_init() -> None:
    """A folder without one would be a namespace that other distributions can add to."""
    missing = [
        name
        for name in sorted(packages())
        if not ROOT.joinpath(*name.split("."), "__init__.py").is_file()
    ]
    assert not missing


@pytest.mark.parametrize("name", ["actors", "resources"])
def test_links_show_the_folders_inside_the_package(name: str) -> None:
    """Type checkers, editors and a bare checkout see what the wheel has."""
    link = ROOT / "copycat" / name
    assert link.is_symlink()
    assert link.readlink().as_posix() == f"../{name}"
    assert link.resolve() == ROOT / name


def test_types_are_shipped() -> None:
    """Without this marker no type checker believes our annotations."""
    assert (ROOT / "copycat" / "py.typed").is_file()


def test_no_file_and_no_function_is_too_long() -> None:
    """What does not fit a reader's head is split."""
    assert not [line for path, text in sources(*ALL) for line in too_long(path, text)]


def test_everything_public_is_documented() -> None:
    """Modules, classes and functions that others may use say what they are for."""
    folders = [folder for folder in ALL if folder != "tests"]
    assert not [line for path, text in sources(*folders) for line in undocumented(path, text)]


def test_every_test_says_what_it_shows() -> None:
    """The first thing to read when a test fails is its sentence."""
    silent = [
        f"{path}:{node.lineno}: {node.name}"
        for path, text in sources("tests")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert not silent


def test_the_limits_are_measured() -> None:
    """The checks above report planted offences, and nothing at the limit itself."""
    body = "    pass\n" * FUNCTION_LINES_MAX
    assert len(list(too_long("a.py", f"def f():\n{body}"))) == 1
    assert not list(too_long("a.py", f"def f():\n{body[9:]}"))
    assert len(list(too_long("a.py", "\n" * (FILE_LINES_MAX + 1)))) == 1
    assert not list(too_long("a.py", "\n" * FILE_LINES_MAX))


def test_missing_docstrings_are_found() -> None:
    """The check above reports a module, a class, a function and a handle's method."""
    text = (
        "class DistributedBag:\n    def add(self): ...\n    def _drop(self): ...\ndef open(): ...\n"
    )
    assert len(list(undocumented("resources/bag.py", text))) == 4
    assert len(list(undocumented("copycat/server/bag.py", text))) == 3
