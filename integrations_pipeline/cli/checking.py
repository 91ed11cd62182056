"""`integrations check`: the files without a request, and with ``--live`` the credentials too."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from integrations_pipeline.cli import output
from integrations_pipeline.cli.opening import opened
from integrations_pipeline.spec.cautions import cautions
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import ConfigError, IntegrationError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.hooks import load_hooks
from integrations_pipeline.spec.limits import SECRET_CHARACTERS
from integrations_pipeline.spec.loading import load_all, load_connection_and_kinds
from integrations_pipeline.spec.ports import Priority
from integrations_pipeline.spec.schema import SCHEMAS, json_schema


@dataclass(frozen=True)
class Checked:
    """What was found of one file: the connection, or what is wrong with it."""

    name: str
    connection: Connection | None = None
    error: IntegrationError | None = None
    warnings: tuple[str, ...] = ()


def run_check(names: list[str], *, live: bool, json: bool) -> int:
    found = [check_one(name) for name in names] if names else check_all()
    if live:
        found = [check_live(one) if one.error is None else one for one in found]
    if json:
        output.print_json(document(found))
    else:
        show(found)
    codes = {one.error.exit_code for one in found if one.error}
    return next((code for code in (2, 1, 3) if code in codes), 0)


def check_one(name: str) -> Checked:
    try:
        connection, _ = load_connection_and_kinds(name, Home.from_environment())
    except ConfigError as error:
        return Checked(name, error=error)
    return checked(connection, cautions({connection.name: connection}))


def check_all() -> list[Checked]:
    """Every file of the home; a broken one doesn't hide the others."""
    loaded = load_all(Home.from_environment())
    doubts = cautions(loaded.connections)
    good = [checked(connection, doubts) for connection in loaded.connections.values()]
    return good + [Checked(name, error=error) for name, error in loaded.broken.items()]


def checked(connection: Connection, doubts: Mapping[str, list[str]]) -> Checked:
    """A good file whose hooks can be loaded, what is doubtful about it and its secrets as warnings."""
    try:
        load_hooks(connection, Home.from_environment())
    except ConfigError as error:
        return Checked(connection.name, error=error)
    warnings = [*doubtful_secrets(connection), *doubts.get(connection.name, ())]
    return Checked(connection.name, connection, warnings=tuple(warnings))


def doubtful_secrets(connection: Connection) -> Iterator[str]:
    """Those that are missing, or too short to be told from ordinary text."""
    for name, source in connection.secrets.items():
        try:
            characters = len(source.resolve(name).reveal())
        except ConfigError as error:
            yield f"{error.what}; {error.next}"
            continue
        if characters < SECRET_CHARACTERS:
            yield (
                f"secret {name} is shorter than {SECRET_CHARACTERS} characters: it can't be told from ordinary words,"
                " so it is hidden only where a header, parameter or field says by its name that it holds a secret"
            )
    for variable in dict.fromkeys(one.env for one in connection.alerts):
        if not os.environ.get(variable, "").strip():
            yield f"alerts go nowhere: the environment variable {variable} is not set"


def check_live(one: Checked) -> Checked:
    file = one.connection.file if one.connection else None
    try:
        with opened(str(file or one.name), Priority.USER) as at:
            at.client.check()
    except IntegrationError as error:
        return Checked(one.name, one.connection, output.by_hand(error).at(one.name))
    return one


def document(found: list[Checked]) -> dict[str, Any]:
    """``{"connections": [{"connection", "ok", "streams", "warnings"}], "errors": […]}``."""
    return {
        "connections": [
            {
                "connection": one.name,
                "ok": one.error is None,
                "streams": list(one.connection.selected) if one.connection else [],
                "warnings": list(one.warnings),
            }
            for one in found
        ],
        "errors": [entry for one in found if one.error for entry in output.error_documents(one.error)],
    }


def show(found: list[Checked]) -> None:
    for one in found:
        if one.error is not None:
            output.show_error(one.error)
            continue
        streams = ", ".join(one.connection.selected) if one.connection else ""
        output.console.print(f"{one.name}: ok ({streams})", markup=False)
        for warning in one.warnings:
            output.console.print(f"  warning: {warning}", style="yellow", markup=False)
    if not found:
        output.console.print("no connections yet: `integrations new connection` drafts the first one")


def show_schema(which: str) -> int:
    """Prints the JSON Schema for editors."""
    if which not in SCHEMAS:
        expected = ", ".join(SCHEMAS)
        raise ConfigError(
            f"there is no schema {which}: {expected} were expected",
            who=output.TYPED,
            next="see `integrations check -h`",
        )
    output.print_json(json_schema(which))
    return 0
