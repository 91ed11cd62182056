"""`/connections/new`: a new connection from the catalogue, written as a YAML file like any other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.responses import Response

from integrations_pipeline.gateway.pages.asked import Asked, button, notice, page, see_other
from integrations_pipeline.gateway.pages.elements import Html, el, link, table
from integrations_pipeline.spec.editing import save
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import has_file, yaml_files
from integrations_pipeline.spec.secrets import reference_in
from integrations_pipeline.spec.yaml_text import read_document, to_yaml

PATH = "/connections/new"
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,99}")


@dataclass(frozen=True)
class Described:
    """A connector of the catalogue. ``settings`` with their defaults, None where one must be given; ``secrets`` by
    name, and whether only its webhook needs them."""

    name: str
    description: str
    settings: Mapping[str, Any]
    secrets: Mapping[str, bool]


def catalogue(home: Home) -> dict[str, Described]:
    """By name; the team's own connectors hide those of the package."""
    found: dict[str, Described] = {}
    for file in (file for folder in home.connectors for file in yaml_files(folder)):
        data = read_document(file, file.name).data
        if isinstance(data, dict) and file.stem not in found:
            found[file.stem] = described(file, data)
    return dict(sorted(found.items()))


def described(file: Path, data: Mapping[str, Any]) -> Described:
    needed = set(references({key: value for key, value in data.items() if key != "webhook"}))
    secrets = {name: name not in needed for name in sorted(set(references(data)))}
    return Described(file.stem, str(data.get("description", "")), data.get("settings") or {}, secrets)


def references(value: Any) -> Iterator[str]:
    """The names of secrets in a connector."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from references(inner)
    elif name := reference_in(value):
        yield name


def show(asked: Asked) -> Response:
    known = catalogue(asked.doors.home)
    chosen = known.get(asked.given("uses"))
    if made := asked.given("made"):
        return page(asked, "New connection", written(made, known))
    if chosen is None:
        rows = ([link(f"{PATH}?uses={quote(one.name)}", one.name), one.description] for one in known.values())
        say = "Choose the system. One that isn't here is drafted by `integrations new connection`."
        return page(asked, "New connection", el("p", say), table("Catalogue", ("connector", "what it reads"), rows))
    return form(asked, chosen, {})


def written(name: str, known: Mapping[str, Described]) -> list[Html]:
    shown = name if NAME.fullmatch(name) else ""
    steps = f"set its variables where gateway and Dagster run, then `integrations connect {shown}`"
    return [notice("good", f"connections/{shown}.yaml is written."), el("p", f"Next: {steps}."), link("/", "Status")]


def form(asked: Asked, one: Described, given: Mapping[str, str], *said: Any, status: int = 200) -> Response:
    fields = [
        text_field("name", "Name of the connection", given, "one word for this account, such as acme_eu", needed=True),
        text_field("every", "Read every", {"every": "15m", **given}, "a duration like 15m, or a cron", needed=True),
        [setting(name, default, given) for name, default in one.settings.items()],
        [secret(name, webhook, given) for name, webhook in one.secrets.items()],
    ]
    hidden = el("input", type="hidden", name="uses", value=one.name)
    filled = asked.form_to(PATH, hidden, fields, el("p", button("Write the file")), class_="narrow")
    about = el("p", one.description)
    return page(asked, f"New connection: {one.name}", said, about, filled, status=status)


def text_field(name: str, label: str, given: Mapping[str, str], hint: str, *, needed: bool) -> list[Html]:
    field = el("input", id=name, name=name, value=given.get(name, ""), required=needed, aria_describedby=f"{name}-hint",
               autocomplete="off", spellcheck="false")  # fmt: skip
    return [el("label", label, for_=name), field, el("span", hint, id=f"{name}-hint", class_="faint")]


def setting(name: str, default: Any, given: Mapping[str, str]) -> list[Html]:
    hint = "must be given" if default is None else f"unless given: {default}"
    return text_field(f"setting.{name}", f"Setting: {name}", given, hint, needed=default is None)


def secret(name: str, webhook: bool, given: Mapping[str, str]) -> list[Html]:
    hint = "the name of an environment variable, never the secret itself"
    hint += "; only its webhook needs it: without one there is no webhook" if webhook else ""
    return text_field(f"secret.{name}", f"Variable of the secret: {name}", given, hint, needed=not webhook)


def submit(asked: Asked) -> Response:
    """Writes the file, or shows the form again with why not."""
    known = catalogue(asked.doors.home)
    one, home = known.get(asked.form.get("uses", "")), asked.doors.home
    if one is None:
        raise ConfigError("there is no such connector", next="choose one of the catalogue")
    name = asked.form.get("name", "").strip()
    try:
        if not NAME.fullmatch(name) or has_file(name, home):
            next_step = "small letters, digits and _ were expected, and none that is there already"
            raise ConfigError(f"{name!r} is no name that is free", next=next_step)
        save(as_text(name, one, asked.form), home.connections / f"{name}.yaml", home, None)
    except ConfigError as error:
        wrong = notice("bad", error.what, el("br"), f"Next: {error.next}.")
        return form(asked, one, asked.form, wrong, status=409)
    asked.doors.refresh()
    return see_other(f"{PATH}?made={name}")


def as_text(name: str, one: Described, given: Mapping[str, str]) -> str:
    """The file. Raises ConfigError for what is no variable's name: somebody may have typed the secret itself."""
    secrets = {}
    for secret_name in one.secrets:
        if variable := given.get(f"secret.{secret_name}", "").strip():
            if not VARIABLE.fullmatch(variable):
                raise ConfigError(
                    f"the variable of {secret_name} is no name of an environment variable",
                    next="type a name like ACME_TOKEN, never the secret itself",
                )
            secrets[secret_name] = {"env": variable}
    settings = {key: text for key in one.settings if (text := given.get(f"setting.{key}", "").strip())}
    document: dict[str, Any] = {"connection": name, "uses": one.name, "settings": settings, "secrets": secrets}
    document["every"] = given.get("every", "").strip()
    filled = {key: value for key, value in document.items() if value}
    without = any(webhook and key not in secrets for key, webhook in one.secrets.items())
    return to_yaml({**filled, "webhook": None} if without else filled)
