"""Writes the blocking handles from the asyncio ones: same verbs, same arguments, same words.

    python tools/blocking_handles.py            write what has changed
    python tools/blocking_handles.py --check    write nothing, fail if something would change

Each method becomes its signature, its docstring and one call that blocks. What cannot be derived
stands beside the written files: iterators, subscriptions, grants, and the methods of a dict.
"""

import ast
import builtins
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

RESOURCES = Path(__file__).resolve().parent.parent / "resources"
MODULES = ("counter", "lock", "map", "topic")

# Written by hand, by the names that the asyncio side has with Async before them.
ADAPTERS = {"LockGrant": "grant", "Pages": "pages", "Subscription": "subscription"}

# Classes with methods written by hand, in place of BlockingHandle.
BASES = {"map": ("dictionary", "Dictionary")}

MORE_TO_SAY = {
    "map": """

    It is a ``MutableMapping``, and each of its methods is one operation: ``m[key] += 1`` is two,
    a read and a write. Two handles are equal only if they are the same object; compare contents
    with ``to_dict()``. Iteration reads pages of keys, as ``AsyncPages`` tells.""",
}

WORDS = (
    (", for asyncio", ""),
    ("async with", "with"),
    ("async for", "for"),
)


def main(arguments: list[str]) -> int:
    """Write or check all files. Returns the exit code."""
    stale = [path for path, text in written() if not path.is_file() or path.read_text() != text]
    if "--check" in arguments:
        for path in stale:
            print(f"{path.name} is not what tools/blocking_handles.py writes")
        return 1 if stale else 0
    for path, text in written():
        if path in stale:
            path.write_text(text)
    return 0


def written() -> Iterator[tuple[Path, str]]:
    """Path and text of each file."""
    for module in MODULES:
        path = RESOURCES / "blocking" / f"{module}.py"
        yield path, formatted(blocking_module(module), path)


def formatted(text: str, path: Path) -> str:
    """The text with sorted imports, as the formatter leaves it."""
    for command in (["check", "--select=I", "--fix", "--quiet"], ["format", "--quiet"]):
        text = subprocess.run(
            [sys.executable, "-m", "ruff", *command, f"--stdin-filename={path}", "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return text


def blocking_module(module: str) -> str:
    """The text of the blocking twin of one module."""
    source = ast.parse((RESOURCES / f"{module}.py").read_text())
    (handle,) = (
        node
        for node in source.body
        if isinstance(node, ast.ClassDef) and node.name.startswith("AsyncDistributed")
    )
    by_hand = ast.Module([], [])
    if module in BASES:
        by_hand = ast.parse((RESOURCES / "blocking" / f"{BASES[module][0]}.py").read_text())
    body = blocking_class(module, handle, methods_of(by_hand))
    return (
        f'"""The blocking {module}. tools/blocking_handles.py writes it from resources/{module}.py:'
        f' edit that."""\n\n{imports(module, source, body)}\n\n{body}'
    )


def methods_of(module: ast.Module) -> set[str]:
    """The names of all methods in a module."""
    return {node.name for node in ast.walk(module) if isinstance(node, ast.FunctionDef)}


def blocking_class(module: str, handle: ast.ClassDef, by_hand: set[str]) -> str:
    """The text of the class."""
    generic = "".join(
        f"[{ast.unparse(base.slice).strip('()')}]"
        for base in handle.bases
        if isinstance(base, ast.Subscript) and ast.unparse(base.value) == "Generic"
    )
    base = f"BlockingHandle[{handle.name}{generic}]"
    if module in BASES:
        base = BASES[module][1] + generic
    bases = base if module in BASES or not generic else f"{base}, Generic{generic}"
    lines = [
        f"class {handle.name.removeprefix('Async')}({bases}):",
        docstring(handle, MORE_TO_SAY.get(module, "")),
        f"    asynchronous = {handle.name}",
    ]
    for node in handle.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if not node.name.startswith("_") and node.name not in by_hand:
            lines += ["", *blocking_method(node)]
    return "\n".join(lines) + "\n"


def blocking_method(method: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """The lines of one method."""
    assert method.returns is not None, "handles are annotated"
    result = ast.unparse(method.returns)
    adapter = next((name for name in ADAPTERS if f"Async{name}" in result), None)
    yield f"    def {method.name}({ast.unparse(method.args)}) -> {result.replace('Async', '')}:"
    yield docstring(method)
    positional = [argument.arg for argument in method.args.args[1:]]
    named = [f"{argument.arg}={argument.arg}" for argument in method.args.kwonlyargs]
    call = f"self._handle.{method.name}({', '.join([*positional, *named])})"
    if isinstance(method, ast.AsyncFunctionDef):
        call = f"self._runner.run({call})"
    if adapter is None:
        yield f"        return {call}"
    elif "None" in result:
        yield f"        found = {call}"
        yield f"        return None if found is None else {adapter}(found, self._runner)"
    else:
        yield f"        return {adapter}({call}, self._runner)"


def docstring(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, more: str = "") -> str:
    """The docstring as it stands in the source, in the words of blocking programs."""
    text = (ast.get_docstring(node, clean=False) or "").rstrip()
    assert text, "everything public has a docstring"
    for asynchronous, blocking in WORDS:
        text = text.replace(asynchronous, blocking)
    indent = "    " if isinstance(node, ast.ClassDef) else "        "
    end = f"\n{indent}" if "\n" in text + more else ""
    return f'{indent}"""{text}{more}{end}"""'


def imports(module: str, source: ast.Module, body: str) -> str:
    """The imports of the names that the body uses, one a line; the linter sorts them."""
    homes = {adapter: f"copycat.resources.blocking.{file}" for adapter, file in ADAPTERS.items()}
    homes["BlockingHandle"] = "copycat.resources.blocking.handle"
    if module in BASES:
        homes[BASES[module][1]] = f"copycat.resources.blocking.{BASES[module][0]}"
    for node in source.body:
        if isinstance(node, ast.ImportFrom):
            homes.update({alias.name: f"{node.module}" for alias in node.names})
        elif isinstance(node, ast.ClassDef):
            homes[node.name] = f"copycat.resources.{module}"
        elif isinstance(node, ast.Assign):
            homes.update(
                {
                    target.id: f"copycat.resources.{module}"
                    for target in node.targets
                    if isinstance(target, ast.Name)
                }
            )
    names = [node for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)]
    used = {node.id for node in names if isinstance(node.ctx, ast.Load)}
    bound = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    bound |= {node.arg for node in ast.walk(ast.parse(body)) if isinstance(node, ast.arg)}
    wanted = sorted(used - bound - set(dir(builtins)))
    return "\n".join(f"from {homes[name]} import {name}" for name in wanted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
