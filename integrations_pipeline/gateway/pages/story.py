"""`/why/<connection>/<stream>/<id>`: one record's whole life, or why it isn't here."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from starlette.responses import Response

from integrations_pipeline.gateway.pages.asked import Asked, moment, page, see_other
from integrations_pipeline.gateway.pages.elements import Html, el, link, pill, table
from integrations_pipeline.gateway.reloading import dagster_url
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.loading import load_named
from integrations_pipeline.sync.moments import Moment, short
from integrations_pipeline.sync.why import Story, why

FIND = "/why"
PATH = "/why/{connection}/{stream}/{id:path}"
TONES = {"stored": "good", "quarantined": "bad", "deleted": "idle", "skipped": "idle", "discarded": "idle"}


def path_of(connection: str, stream: str, external_id: str) -> str:
    """The page of a record."""
    return f"{FIND}/{connection}/{stream}/{quote(external_id, safe='')}"


def find(asked: Asked) -> Response:
    """From the form of the status page to the record's own address. Raises ConfigError."""
    connection, _, stream = asked.given("stream").partition("/")
    if not (connection and stream and asked.given("id")):
        raise ConfigError("a stream and an id were expected", next="give both on the status page")
    return see_other(path_of(connection, stream, asked.given("id")))


def show(asked: Asked) -> Response:
    """Raises ConfigError for a connection or a stream that isn't there."""
    named = asked.http.path_params
    connection, kinds = load_named(named["connection"], asked.doors.home)
    story = why(connection, named["stream"], named["id"], asked.store, kinds)
    return page(
        asked,
        f"{story.connection}/{story.stream} {story.external_id}",
        el("p", pill(TONES.get(story.state, "warn"), story.state), " ", story.answer),
        timeline(story),
        fields(story),
        record(story),
    )


def timeline(story: Story) -> list[Html]:
    if not story.moments:
        return []
    rows = ([moment(one.at), one.what, event(one)] for one in story.moments)
    return [el("h2", "What happened"), table("What happened, in order", ("when", "what", "how"), rows)]


def event(one: Moment) -> list[Any]:
    url = dagster_url()
    run = link(f"{url}/runs/{one.run_id}", "run", class_="aside") if url and one.run_id else None
    return [one.text, run]


def fields(story: Story) -> list[Html]:
    """Each field from the raw value to the canonical one."""
    if not story.mapping:
        return []
    columns = ("field", "the source says", "steps", "becomes")
    rows = ([one["field"], sources(one), steps(one), becomes(one)] for one in story.mapping)
    kind = f", as {story.canonical['kind']} {story.canonical['canonical_id']}" if story.canonical else ""
    heading = el("h2", f"Each field{kind}")
    return [heading, table("Each field from the source to the model, as the map makes it today", columns, rows)]


def sources(one: dict[str, Any]) -> list[Any]:
    if not one["sources"]:
        return [el("span", "a constant", class_="faint")]
    return [el("div", el("code", each["path"]), " ", short(each["value"])) for each in one["sources"]]


def steps(one: dict[str, Any]) -> list[Any]:
    return [el("div", el("strong", step["rule"]), " → ", short(step["after"])) for step in one["steps"]]


def becomes(one: dict[str, Any]) -> Any:
    if one["problem"]:
        return [pill("bad", "refused"), " ", one["problem"]["message"]]
    return f"the record with the id {short(one['reference'])}" if one["reference"] else short(one["value"])


def record(story: Story) -> list[Html]:
    if story.raw is None:
        return []
    text = json.dumps(story.raw["payload"], indent=2, ensure_ascii=False, default=str)
    return [el("h2", "The record as the source gave it"), el("pre", text)]
