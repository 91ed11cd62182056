"""An account of any connector of the catalogue, on the simulator: made from the connector's own file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from integrations_pipeline.simulator.simulation import Simulation
from integrations_pipeline.spec.home import PACKAGE
from integrations_pipeline.spec.placeholders import names_in
from integrations_pipeline.spec.secrets import reference_in
from integrations_pipeline.spec.yaml_text import parse_document
from integrations_pipeline_tests.journeys.conftest import ROOT, House

CATALOGUE = {path.stem: path for path in sorted((PACKAGE / "connectors").glob("*.yaml"))}
GETS_A_TOKEN_FIRST = ("oauth2_client_credentials", "oauth2_refresh", "session", "jwt")
"""Auth that asks another server first, which the simulator doesn't have: such an account is read without."""


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield value


def account_of(connector: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The connection's document, with `{url}` for the address, and its secrets.

    Settings that only the real address needs are removed, those without a default get a value.
    """
    facts: dict[str, Any] = parse_document(CATALOGUE[connector].read_text(encoding="utf-8"), connector).data
    api: dict[str, Any] = {"url": "{url}"}
    facts["api"].pop("url")
    if facts["api"].get("auth", {}).get("type") in GETS_A_TOKEN_FIRST:
        api["auth"] = {"type": "none"}
        facts["api"].pop("auth")
    settings = facts.pop("settings", {})
    used = set(names_in(facts))
    given = {
        name: None if name not in used else "sample" for name in settings if name not in used or not settings[name]
    }
    secrets = {name: f"the-{name}-of-the-test" for text in texts(facts) if (name := reference_in(text))}
    references = {name: {"env": f"TEST_{name.upper()}"} for name in secrets}
    document = {"connection": connector, "uses": connector, "settings": given, "secrets": references, "api": api}
    return document, secrets


def open_account(house: House, connector: str, records: int = 120, **options: Any) -> Simulation:
    """Serves the connector's source, and puts the connection and the kinds of this checkout into the house."""
    for path in (ROOT / "models").glob("*.yaml"):
        house.write(f"models/{path.name}", path.read_text(encoding="utf-8"))
    document, secrets = account_of(connector)
    house.environment.update({f"TEST_{name.upper()}": value for name, value in secrets.items()})
    text = re.sub("'({url})'", r"\1", yaml.safe_dump(document, sort_keys=False))
    return house.connect_to(connector, text, records=records, secrets=secrets, **options)
