"""Finds code whose result depends on the order of a set, as far as the text shows it.

A set is known by its display, by a call that makes one, by its annotation or by what was
assigned: names within one function, attributes within one module. What a set's order cannot
reach passes: sorted(), any(), len(), the making of another set.
"""

import ast
from collections.abc import Iterator

MAKERS = {"set", "frozenset"}
SET_TYPES = {*MAKERS, "AbstractSet", "MutableSet", "Set", "FrozenSet"}
SET_METHODS = {"union", "intersection", "difference", "symmetric_difference"}
ORDERED_BY = {"enumerate", "iter", "list", "map", "next", "tuple", "zip", "filter", "reversed"}
IGNORE_ORDER = {*MAKERS, "all", "any", "len", "max", "min", "sorted", "sum"}
IGNORE_ORDER_METHODS = {*SET_METHODS, "update", "issubset", "issuperset", "isdisjoint"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def unordered_iterations(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of each set whose order is used."""
    attributes = _SetNames(frozenset())
    for node in ast.walk(module):
        attributes.learn(node, attributes=True)
    scopes = [node for node in ast.walk(module) if isinstance(node, Function)]
    inside = {inner for scope in scopes for inner in ast.walk(scope) if inner is not scope}
    found: dict[tuple[int, int], tuple[int, str]] = {}
    for scope in [module, *scopes]:
        # Inner functions are visited twice, alone and with the names of their outer one.
        nodes = [node for node in ast.walk(scope) if scope is not module or node not in inside]
        known = _SetNames(frozenset(attributes.names))
        for node in nodes:
            known.learn(node, attributes=False)
        for used in _uses_of_order(nodes):
            if known.holds(used):
                place = (used.lineno, used.col_offset)
                found[place] = (used.lineno, ast.unparse(used))
    yield from sorted(found.values())


class _SetNames:
    """The names and dotted attributes that hold sets."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = set(names)

    def learn(self, node: ast.AST, *, attributes: bool) -> None:
        """Take note of a name (or an attribute) that is declared or assigned as a set."""
        if isinstance(node, ast.arg) and not attributes and _is_set_type(node.annotation):
            self.names.add(node.arg)
        elif isinstance(node, ast.ClassDef) and attributes:
            for field in node.body:
                if isinstance(field, ast.AnnAssign) and _is_set_type(field.annotation):
                    self.names.add(f".{ast.unparse(field.target)}")
        elif isinstance(node, ast.AnnAssign) and _is_set_type(node.annotation):
            self._add(node.target, attributes=attributes)
        elif isinstance(node, ast.Assign) and self.holds(node.value):
            for target in node.targets:
                self._add(target, attributes=attributes)

    def _add(self, target: ast.expr, *, attributes: bool) -> None:
        if isinstance(target, ast.Attribute) and attributes:
            self.names.add(f".{target.attr}")
        elif isinstance(target, ast.Name) and not attributes:
            self.names.add(target.id)

    def holds(self, node: ast.expr) -> bool:
        """Whether the expression is a set, as far as its text and the names so far show."""
        match node:
            case ast.Set() | ast.SetComp():
                return True
            case ast.Call(func=ast.Name(id=name)):
                return name in MAKERS
            case ast.Call(func=ast.Attribute(value=value, attr=name)):
                return name in {*SET_METHODS, "copy"} and self.holds(value)
            case ast.BinOp(left=left, op=ast.BitOr() | ast.BitAnd() | ast.BitXor() | ast.Sub()):
                return self.holds(left)
            case ast.Name(id=name):
                return name in self.names
            case ast.Attribute(attr=name):
                return f".{name}" in self.names
            case ast.IfExp(body=body, orelse=orelse):
                return self.holds(body) or self.holds(orelse)
            case _:
                return False


def _is_set_type(annotation: ast.expr | None) -> bool:
    if isinstance(annotation, ast.Subscript):
        annotation = annotation.value
    return isinstance(annotation, ast.Name) and annotation.id in SET_TYPES


def _uses_of_order(nodes: list[ast.AST]) -> Iterator[ast.expr]:
    """The expressions that are iterated over where the order can show."""
    harmless: set[ast.AST] = set()
    for node in nodes:
        if isinstance(node, ast.Call) and _ignores_order(node.func):
            harmless.update(node.args)
        if isinstance(node, ast.SetComp):
            harmless.add(node)
    for node in nodes:
        match node:
            case ast.For(iter=used) | ast.AsyncFor(iter=used):
                yield used
            case ast.ListComp() | ast.GeneratorExp() | ast.DictComp() if node not in harmless:
                yield from (part.iter for part in node.generators)
            case ast.Starred(value=used):
                yield used
            case ast.Call(func=ast.Name(id=name)) if name in ORDERED_BY and node not in harmless:
                yield from node.args
            case ast.Call(func=ast.Attribute(attr="join" | "extend"), args=[used]):
                yield used
            case ast.Call(func=ast.Attribute(attr="pop", value=used), args=[]):
                yield used


def _ignores_order(function: ast.expr) -> bool:
    if isinstance(function, ast.Name):
        return function.id in IGNORE_ORDER
    return isinstance(function, ast.Attribute) and function.attr in IGNORE_ORDER_METHODS
