"""What the structural tests read: the repository's files and the parsed modules of the package."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "integrations_pipeline"
TESTS = ROOT / "integrations_pipeline_tests"


@cache
def kept_files() -> tuple[Path, ...]:
    """Every file that is or would be committed; outside a git checkout, every file that isn't hidden or built."""
    listing = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=False,
    )
    if listing.returncode == 0:
        names = listing.stdout.decode().split("\0")
        return tuple(sorted(ROOT / name for name in names if name and (ROOT / name).is_file()))
    return tuple(sorted(path for path in ROOT.rglob("*") if path.is_file() and not hidden_or_built(path)))


def hidden_or_built(path: Path) -> bool:
    """Caches, the environment and what a build leaves."""
    parts = path.relative_to(ROOT).parts
    return any(part.startswith(".") or part == "__pycache__" or part.endswith(".egg-info") for part in parts)


def modules(*folders: Path) -> Iterator[tuple[Path, ast.Module]]:
    """The kept Python files below the folders, parsed."""
    for path in kept_files():
        if path.suffix == ".py" and path.exists() and any(folder in path.parents for folder in folders):
            yield path, parsed(path)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def shown(path: Path, line: int = 0) -> str:
    """A place as people can click it."""
    name = path.relative_to(ROOT).as_posix()
    return f"{name}:{line}" if line else name


def documents() -> list[Path]:
    """The Markdown files."""
    return [path for path in kept_files() if path.suffix == ".md"]
