"""Which code made a result: part of the key of every cache and run, so that no result of older code is used."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
PLUMBING = ("config", "data.code", "data.store")  # say where things are kept, and change no result


@cache
def code_fingerprint(*modules: str) -> str:
    """Twelve hexadecimal digits that change with the code of some modules and of all that they import.

    modules: dotted, below storylib, such as "data.encoders". Comments, docstrings and layout do not count, other
    packages neither; their versions are in the records. Another minor version of Python gives other fingerprints.
    """
    files: set[Path] = set()
    pending = [_file(module) for module in modules]
    while pending:
        path = pending.pop()
        if path not in files:
            files.add(path)
            pending += _imports(path)
    return hashlib.sha256("\n".join(_syntax(path) for path in sorted(files)).encode()).hexdigest()[:12]


@cache
def _imports(path: Path) -> list[Path]:
    """The files of storylib that a file imports directly."""
    names = imported_modules(path.read_text(encoding="utf-8"))
    return [_file(name) for name in names if name not in PLUMBING]


def imported_modules(code: str) -> list[str]:
    """The modules of storylib, dotted below it, that some code imports directly."""
    modules = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "storylib":
            below = node.module.removeprefix("storylib").lstrip(".")
            for alias in node.names:
                submodule = f"{below}.{alias.name}".lstrip(".")
                name = submodule if _file(submodule).is_file() else below
                if name and _file(name).is_file():
                    modules.append(name)
    return modules


def _file(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _syntax(path: Path) -> str:
    """The syntax tree of a file without its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            node.body = node.body[1:]
    return ast.dump(tree)
