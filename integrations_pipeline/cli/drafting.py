"""`integrations new connection`: the few questions, a sample of the source, and a drafted file to look over."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from integrations_pipeline.cli import output
from integrations_pipeline.client import Client
from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.spec.errors import ConfigError, IntegrationError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection_and_kinds, load_kinds
from integrations_pipeline.spec.secrets import SecretSource
from integrations_pipeline.spec.yaml_text import to_yaml
from integrations_pipeline.sync.draft import Draft, Sample, draft_stream

AUTH_KINDS = ("none", "bearer", "basic", "api_key")


class Unlimited:
    """A sample is one request: it needs no shared limit, and no database."""

    def reserve(self, limits: object, priority: object, hold: object = None) -> float:
        return 0.0

    def still_granted(self) -> bool:
        return True

    def told_to_wait(self, until: object) -> None:
        return

    def refused(self, limits: object, until: object) -> None:
        return

    def remaining(self, limits: object, requests: int, until: object) -> None:
        return


def run_new_connection() -> int:
    """Asks, fetches one page, writes ``connections/NAME.yaml``, and says what to look over."""
    home = Home.from_environment()
    name = ask_name(home)
    url = typer.prompt("The API's address (without the list's path)")
    auth, secrets = ask_auth(name)
    path = typer.prompt("The list to read", default="/")
    stream = typer.prompt("A name for that list", default=stream_name(path))
    request = f"GET {path if path.startswith('/') else '/' + path}"
    kinds = load_kinds(home)
    kind = ask_kind(kinds)
    sample = fetch_sample(name, url, auth, secrets, request)
    draft = draft_stream(sample, request, kind)
    file = home.connections / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(as_yaml(name, url, auth, secrets, stream, draft), encoding="utf-8")
    return show_draft(file, draft, home)


def ask_name(home: Home) -> str:
    """A name that is valid and free."""
    while True:
        name: str = typer.prompt("A name for the connection (a-z, 0-9, _)")
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name) or "__" in name or name == "canonical":
            output.errors.print("small letters, digits and single _ were expected, starting with a letter, at most 40")
        elif (home.connections / f"{name}.yaml").exists():
            output.errors.print(f"connections/{name}.yaml is there already")
        else:
            return name


def ask_auth(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """How the connection proves who it is; only the names of environment variables are written down."""
    kind = choose("How does it authenticate", AUTH_KINDS, "bearer")
    if kind == "none":
        return {"type": "none"}, {}
    variable = typer.prompt("The environment variable that holds the secret", default=f"{name.upper()}_TOKEN")
    secrets = {"token": {"env": variable}}
    if kind == "bearer":
        return {"type": "bearer", "token": "$token"}, secrets
    if kind == "basic":
        return {"type": "basic", "username": typer.prompt("User name"), "password": "$token"}, secrets
    send = typer.prompt("Where the key is sent (header NAME, or a query parameter)", default="header X-Api-Key")
    return {"type": "api_key", "send": send, "key": "$token"}, secrets


def ask_kind(kinds: dict[str, Kind]) -> Kind | None:
    """The kind the records become, of those in ``models/``."""
    if not kinds:
        return None
    names = ["none", *sorted(kinds)]
    return kinds.get(choose("The kind its records become", names, "none"))


def choose(question: str, names: Sequence[str], default: str) -> str:
    """One of the names, asked for until it is one."""
    while True:
        answer: str = typer.prompt(f"{question} ({', '.join(names)})", default=default)
        if answer in names:
            return answer
        output.errors.print(f"one of {', '.join(names)} was expected", markup=False)


def stream_name(path: str) -> str:
    last = path.partition("?")[0].rstrip("/").rsplit("/", 1)[-1]
    words = re.findall(r"[a-z0-9]+", re.sub(r"\.(json|xml|php)$", "", last.lower()))
    return "_".join(words) if words and words[0][0].isalpha() else "records"


def fetch_sample(name: str, url: str, auth: dict[str, Any], secrets: dict[str, Any], request: str) -> Sample:
    """One page of the list. Raises what the source said, or ConfigError for an address that can't be one."""
    stream = {"request": request, "records": ".", "primary_key": "id"}
    text = {"connection": name, "secrets": secrets, "streams": {"sample": stream},
            "api": {"url": url, "auth": auth, "pagination": {"type": "single_page"}}}  # fmt: skip
    try:
        connection = Connection.model_validate(text)
    except ValueError as error:
        raise ConfigError(first_line(error), next="run `integrations new connection` again") from None
    resolved = {key: SecretSource.model_validate(source).resolve(key) for key, source in secrets.items()}
    client = Client(connection, limiter=Unlimited(), secrets=resolved)
    try:
        with output.errors.status("asking the source for a sample"):
            answer = client.send(connection.streams["sample"].call, {})
    finally:
        client.close()
    return Sample(answer.document, dict(answer.headers))


def first_line(error: ValueError) -> str:
    found = re.search(r"Value error, (.*?)(?: \[type=|$)", str(error), re.S)
    return found[1] if found else "that can't be a connection"


def as_yaml(name: str, url: str, auth: dict[str, Any], secrets: dict[str, Any], stream: str, draft: Draft) -> str:
    """The file's text: short maps in one line each, as people write them, the remarks on top."""
    api: dict[str, Any] = {"url": url, "auth": auth, "pagination": draft.pagination}
    document = {"connection": name, "secrets": secrets, "every": "1h", "api": api, "streams": {stream: draft.stream}}
    body = to_yaml({key: value for key, value in document.items() if value})
    remarks = "".join(f"# look over: {remark}\n" for remark in draft.remarks)
    return f"# Drafted from one page of the source; `integrations check {name}` reads it.\n{remarks}{body}"


def show_draft(file: Path, draft: Draft, home: Home) -> int:
    """Says where the draft is, what to look over, and whether it loads as it stands."""
    output.console.print(f"drafted {file}", markup=False)
    for remark in draft.remarks:
        output.console.print(f"  look over: {remark}", markup=False)
    try:
        load_connection_and_kinds(str(file), home)
    except IntegrationError as error:
        output.show_error(error)
        return error.exit_code
    output.console.print(f"  next: integrations check --live {file.stem}, then integrations sync {file.stem}")
    return 0
