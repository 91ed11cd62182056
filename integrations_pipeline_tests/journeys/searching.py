"""Where a planted secret could have come to lie: each table, each file, each page; and how it may be written there."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import psycopg
from psycopg import sql

from integrations_pipeline.gateway.application import whole
from integrations_pipeline.spec.home import Home
from integrations_pipeline.store.store import Store
from integrations_pipeline_tests.gateway.conftest import Door, serving


def forms(secret: str) -> set[str]:
    """Plain, in a URL, in JSON, in HTML, as base64 wherever it begins in what was encoded, as the hex of a bytea."""
    raw = secret.encode()
    quoted = quote(secret, safe="")
    found = {secret, quoted, quoted.lower(), json.dumps(secret)[1:-1], escape(secret), raw.hex()}
    for before in range(3):
        whole_groups = base64.b64encode(b"\0" * before + raw[: len(raw) - (before + len(raw)) % 3])
        text = whole_groups.decode()[4 if before else 0 :]
        found |= {text, text.replace("+", "-").replace("/", "_")}
    return found


def everything_in(url: str) -> Iterator[tuple[str, str]]:
    """Each row of each table of the database, Dagster's too, as text."""
    with psycopg.connect(url, autocommit=True) as session:
        tables = session.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        for table in tables:
            rows = session.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(*table)))
            yield ".".join(table), "\n".join(row[0] for row in rows)


def files_below(folder: Path) -> Iterator[tuple[str, str]]:
    """All files but the key of what is encrypted."""
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "token.key":
            yield str(path), path.read_bytes().decode("utf-8", "replace")


def pages_of(url: str, home: Path, paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """What the gateway shows people, programs and Prometheus."""
    door = Door(home, url)
    with Store(url) as store, serving(door, whole(Home(home), store)):
        for path in paths:
            with urlopen(f"http://127.0.0.1:{door.port}{path}", timeout=60) as answer:
                yield f"page {path}", answer.read().decode("utf-8", "replace")


def leaks(places: Mapping[str, str], secrets: Iterable[str]) -> set[tuple[str, str]]:
    """Each place that holds a secret, and which."""
    known = {secret: forms(secret) for secret in secrets}
    return {
        (place, secret)
        for place, text in places.items()
        for secret, written in known.items()
        if any(form in text for form in written)
    }
