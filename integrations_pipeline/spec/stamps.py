"""Whether files of a home were changed since one looked last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import yaml_files

Stamp = tuple[str, int, int, int]


def stamps(home: Home) -> Iterator[Stamp]:
    """Of all files that connections and kinds are made of."""
    for folder in (home.connections, home.models, *home.connectors):
        yield from map(stamp, yaml_files(folder))
    yield from map(stamp, sorted((home.root / "hooks").glob("*.py")))


def stamp(path: Path) -> Stamp:
    """What changes whenever a file is written or replaced."""
    try:
        found = path.stat()
    except OSError:
        return str(path), 0, 0, 0
    return str(path), found.st_mtime_ns, found.st_size, found.st_ino
