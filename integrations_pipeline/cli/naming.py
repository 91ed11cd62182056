"""What is meant by an argument that names rows, a connection, or one of its streams."""

from __future__ import annotations

from collections.abc import Sequence

from integrations_pipeline.cli.output import TYPED
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection


def numbers_in(what: Sequence[str]) -> list[int] | None:
    """The ids, where that is what all of them are; None where they name connections. Raises ConfigError for both."""
    numbers = [one for one in what if one.isdecimal()]
    if numbers and len(numbers) < len(what):
        raise ConfigError("ids, or connections, were expected, not both", who=TYPED, next="say one after the other")
    return [int(one) for one in numbers] if numbers else None


def place_of(what: str | None) -> tuple[str | None, str | None]:
    """Connection and stream in ``acme_eu`` or ``acme_eu/contacts``; None where nothing is named."""
    if what is None:
        return None, None
    connection, _, stream = what.partition("/")
    return connection, stream or None


def connection_of(what: str, home: Home) -> tuple[str, str | None]:
    """Connection and stream where the connection's file is there. Raises ConfigError."""
    connection, stream = place_of(what)
    return load_connection(str(connection), home).name, stream
