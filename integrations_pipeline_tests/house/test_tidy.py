"""Small and flat: rules about the code's form that the linter doesn't know."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from pydantic import BaseModel

from integrations_pipeline_tests.house.test_floors import room_of
from integrations_pipeline_tests.house.tree import PACKAGE, ROOT, TESTS, kept_files, modules, shown

FUNCTION_LINES = 70
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers", "base", "core"}
BENCHMARKS = ROOT / "benchmarks"
LEFT_UNDONE = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|HA" r"CK)\b")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.Module) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def test_no_function_is_longer_than_a_screen() -> None:
    wrong = [
        f"{shown(path, node.lineno)}: {node.name} has {lines} lines"
        for path, tree in modules(PACKAGE, TESTS, BENCHMARKS)
        for node in functions(tree)
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES
    ]
    assert not wrong, "\n".join(wrong)


def test_modules_are_named_for_what_they_do() -> None:
    named = [part for path, _ in modules(PACKAGE, TESTS, BENCHMARKS) for part in path.relative_to(ROOT).parts]
    assert not {name for name in named if name.removesuffix(".py") in BANNED_NAMES}


def test_an_exception_is_caught_by_name() -> None:
    wrong = [
        shown(path, node.lineno)
        for path, tree in modules(PACKAGE, TESTS, BENCHMARKS)
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    assert not wrong


def test_nothing_is_left_undone() -> None:
    wrong = [
        shown(path, number)
        for path in kept_files()
        if path.suffix in (".py", ".md", ".sql", ".yaml", ".toml")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if LEFT_UNDONE.search(line)
    ]
    assert not wrong, f"do it, or write an issue: {wrong}"


def prints(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "breakpoint"):
            yield node.lineno


def test_only_the_terminal_prints() -> None:
    wrong = [
        shown(path, line) for path, tree in modules(PACKAGE) if path != PACKAGE / "cli.py" for line in prints(tree)
    ]
    assert not wrong, "stdout belongs to the terminal: `--json` promises one document there and nothing else"


def shared_names() -> set[str]:
    """Every name that one room imports from another, as ``module.name``."""
    return {
        f"{node.module}.{alias.name}"
        for path, tree in modules(PACKAGE)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
        if node.module.split(".")[1:2] != [room_of(path)]
    }


def is_block(module: str, name: str) -> bool:
    """A block of the grammar: docs/grammar.md has each of its keys, and another test says so."""
    if ".spec." not in module:
        return False
    found = getattr(import_module(module), name)
    return isinstance(found, type) and issubclass(found, BaseModel)


def undocumented(path: Path, tree: ast.Module, shared: set[str]) -> Iterator[str]:
    """Modules, and the classes and functions that other rooms use, without a docstring."""
    if tree.body and not ast.get_docstring(tree):
        yield f"{shown(path)}: the module"
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for node in tree.body:
        if not isinstance(node, Function | ast.ClassDef) or f"{module}.{node.name}" not in shared:
            continue
        if not ast.get_docstring(node) and not is_block(module, node.name):
            yield f"{shown(path, node.lineno)}: {node.name}"


def test_what_other_rooms_use_says_what_it_promises() -> None:
    shared = shared_names()
    wrong = [found for path, tree in modules(PACKAGE) for found in undocumented(path, tree, shared)]
    assert not wrong, "\n".join(wrong)


def test_each_migration_has_a_number_of_its_own() -> None:
    """Two heads would leave no database able to start."""
    files = sorted((PACKAGE / "store" / "migrations" / "versions").glob("[0-9]*.py"))
    assert [file.name[:4] for file in files] == [f"{number:04}" for number in range(1, len(files) + 1)]
