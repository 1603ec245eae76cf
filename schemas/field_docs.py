"""What the source says of each field: the string literals below them, which no object of the running program keeps."""

from __future__ import annotations

import ast
import functools
import inspect
import sys

from schemas.glossary import MEANINGS


def of(kind: type) -> dict[str, str]:
    """Field to description, base classes first. What a field's own docstring does not say, the glossary may."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("schemas."):
            for name, said in _module(base.__module__).get(base.__name__, {}).items():
                found[name] = said or MEANINGS.get(f"{base.__name__}.{name}") or found.get(name) or MEANINGS.get(name, "")
    return found


@functools.cache
def _module(name: str) -> dict[str, dict[str, str]]:
    """Class to field to the literal below it, "" where there is none."""
    tree = ast.parse(inspect.getsource(sys.modules[name]))
    return {node.name: _fields(node) for node in tree.body if isinstance(node, ast.ClassDef)}


def _fields(node: ast.ClassDef) -> dict[str, str]:
    found: dict[str, str] = {}
    last = ""
    for statement in node.body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name)):
                found[name] = ""
                last = name
            case ast.Expr(value=ast.Constant(value=str(text))) if last:
                found[last] = " ".join(text.split())
                last = ""
            case _:
                last = ""
    return found
