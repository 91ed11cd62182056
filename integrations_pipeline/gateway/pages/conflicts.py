"""`/conflicts`: what both sides changed, side by side, and a person's choice."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from integrations_pipeline.client.redaction import Redactor, redactor
from integrations_pipeline.gateway.pages.asked import Asked, button, moment, notice, number_in, page, see_other
from integrations_pipeline.gateway.pages.elements import Html, el, table
from integrations_pipeline.gateway.values import of_text
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.limits import PAGE_ROWS
from integrations_pipeline.store.conflicts import OpenConflict, one_conflict, open_conflicts, resolve
from integrations_pipeline.sync.samples import plain

PATH = "/conflicts"
CHOICES = {"ours": "Ours was kept", "theirs": "Theirs was taken over", "value": "Your value was set"}


def show(asked: Asked, session: Any) -> Response:
    found = open_conflicts(session, asked.given("connection") or None, limit=PAGE_ROWS + 1)
    done = CHOICES.get(asked.given("decided"))
    more = el("p", f"Only the first {PAGE_ROWS:,} are shown.", class_="faint") if len(found) > PAGE_ROWS else None
    return page(
        asked,
        "Conflicts",
        notice("good", f"{done}; the other side gets it with the next push or sync.") if done else None,
        None if found else el("p", "No conflict is open."),
        [conflict(asked, one) for one in found[:PAGE_ROWS]],
        more,
    )


def conflict(asked: Asked, one: OpenConflict) -> Html:
    """Values are shown whole, less secrets: nobody could choose between masks."""
    knows = redactor(one.connection, asked.doors.home)
    what = one.field or "the whole record"
    title = f"{one.connection}/{one.stream} {one.external_id}: {what}"
    rows = [[side(one.base, one, knows), side(one.ours, one, knows), side(one.theirs, one, knows)]]
    columns = ("as last agreed", "ours", "theirs")
    return el(
        "section",
        el("h2", title, id=f"conflict-{one.id}"),
        el("p", knows.text(one.reason), ", ", moment(one.opened_at), class_="faint"),
        table(title, columns, rows, class_="sides"),
        choices(asked, one, what),
        aria_labelledby=f"conflict-{one.id}",
    )


def side(value: Any, one: OpenConflict, knows: Redactor) -> Html:
    if value is None:
        return el("span", "deleted, or never there" if not one.field else "empty", class_="faint")
    return el("span", knows.text(plain(value)), class_="value")


def choices(asked: Asked, one: OpenConflict, what: str) -> Html:
    def choose(name: str, words: str, *more: Any) -> Html:
        hidden = [el("input", type="hidden", name="id", value=one.id),
                  el("input", type="hidden", name="side", value=name)]  # fmt: skip
        return asked.form_to(f"{PATH}/decide", hidden, *more, button(words), class_="inline")

    field = el("input", name="value", aria_label=f"Another value for {what} of {one.external_id}", placeholder="value")
    own = choose("value", "Use this value", field) if one.field else None
    return el("p", choose("ours", "Keep ours"), choose("theirs", "Take theirs"), own)


def decide(asked: Asked) -> Response:
    """Raises ConfigError where it was decided meanwhile, or for a value that the field can't hold."""
    number, chosen = number_in(asked.form.get("id", "")), asked.form.get("side", "")
    if chosen not in CHOICES:
        raise ConfigError("ours, theirs or value was expected", next="choose with one of the buttons")
    with asked.store.borrow() as session:
        found = one_conflict(session, number)
        if found is None:
            raise ConfigError(f"there is no conflict {number}", next="reload the list")
        value = own_value(asked, found) if chosen == "value" else None
        resolve(session, number, chosen, value=value, lookup=lookup(asked, found), by="the gateway's page")  # type: ignore[arg-type]
    asked.send(*(name for name, _ in asked.doors.written(found.kind)))
    return see_other(f"{PATH}?decided={chosen}")


def lookup(asked: Asked, found: OpenConflict) -> str | None:
    """The stream that a reference is looked up in."""
    connection = asked.doors.connections.get(found.connection)
    stream = connection.streams.get(found.stream) if connection else None
    mapped = stream.map.fields.get(found.field) if stream and stream.map else None
    return mapped.lookup if mapped else None


def own_value(asked: Asked, found: OpenConflict) -> Any:
    """What was typed, as the field's type has it: empty is no value. Raises ConfigError."""
    text, kind = asked.form.get("value", ""), asked.doors.kinds.get(found.kind)
    if kind is None or found.field not in kind.fields or lookup(asked, found) is not None:
        return text or None
    try:
        return of_text(kind, found.field, text)
    except ValueError as error:
        raise ConfigError(f"{found.field} can't be {text!r}: {error}", next="give another value") from None
