"""`integrations why`: one record's whole life, or why it isn't here."""

from __future__ import annotations

from typing import Any

from integrations_pipeline.cli import output
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection_and_kinds
from integrations_pipeline.store.store import open_store
from integrations_pipeline.sync.moments import short
from integrations_pipeline.sync.why import LATELY, Story, lately, why


def run_why(connection: str, stream: str, external_id: str | None, *, json: bool) -> int:
    """One record's life; without an id, which records were left out lately."""
    home = Home.from_environment()
    loaded, kinds = load_connection_and_kinds(connection, home)
    with open_store(home=home) as store:
        if external_id is None:
            return run_lately(loaded, stream, lately(loaded, stream, store), json=json)
        story = why(loaded, stream, external_id, store, kinds)
    if json:
        output.print_json(story.as_dict())
    else:
        show(story)
    return 0


def run_lately(connection: Connection, stream: str, found: list[dict[str, Any]], *, json: bool) -> int:
    if json:
        output.print_json({"connection": connection.name, "stream": stream, "left_out": found})
        return 0
    place = f"{connection.name} {stream}"
    if not found:
        said = f"no record of {place} was skipped, set aside, discarded or deleted lately"
    else:
        table = output.table("id", "was", "why", "when")
        for one in found:
            table.add_row(one["external_id"], one["decision"], one["reason"] or "–", one["at"])
        output.console.print(table)
        said = f"of each the last time, at most {LATELY} records"
    output.console.print(f"{said}; one record's whole life: integrations why {place} ID", markup=False, soft_wrap=True)
    return 0


def show(story: Story) -> None:
    """The answer first, then what happened in order, then each field on its way from the source to the model."""
    say = output.console.print
    say(f"{story.connection}/{story.stream} {story.external_id}: {story.answer}", markup=False, soft_wrap=True)
    for moment in story.moments:
        run = f"  [run {moment.run_id[:8]}]" if moment.run_id else ""
        said = f"{output.local(moment.at)}  {moment.what:<10} {moment.text}{run}"
        say(said, markup=False, highlight=False, soft_wrap=True)
    for found in story.drift:
        say(f"drift: {found['kind']} at {found['path']} since {found['first_seen']}", markup=False, soft_wrap=True)
    if story.mapping:
        kind = f" of {story.canonical['kind']} {story.canonical['canonical_id']}" if story.canonical else ""
        say(f"\nEach field{kind}, as the map makes it today:", markup=False)
    for one in story.mapping:
        say(f"  {field_line(one)}", markup=False, highlight=False, soft_wrap=True)
    if story.raw is not None:
        say("\nThe record as the source gave it:")
        say(output.json_text(story.raw["payload"]), markup=False, soft_wrap=True)


def field_line(one: dict[str, Any]) -> str:
    """``email: properties.email " A@b " ─ trim → "A@b" ─ lower → "a@b"``."""
    begins = ", ".join(f"{source['path']} {short(source['value'])}" for source in one["sources"])
    steps = "".join(f" ─ {step['rule']} → {short(step['after'])}" for step in one["steps"])
    ends = f"  refused: {one['problem']['message']}" if one["problem"] else ""
    looked = f"  (a record with the id {short(one['reference'])})" if one["reference"] else ""
    return f"{one['field']}: {begins or 'a constant'}{steps}{looked}{ends}"
