"""`/quarantine`: rows that were set aside, each with why, and with a second try or its end."""

from __future__ import annotations

from itertools import groupby
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from starlette.responses import Response

from integrations_pipeline.client.redaction import Redactor, redactor
from integrations_pipeline.gateway.pages.asked import Asked, button, moment, notice, number_in, page, see_other
from integrations_pipeline.gateway.pages.elements import Html, el, link, table
from integrations_pipeline.gateway.pages.story import path_of
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.limits import PAGE_ROWS
from integrations_pipeline.spec.loading import load_named
from integrations_pipeline.spec.personal import shown
from integrations_pipeline.store.quarantined import QuarantinedRow, places_of, quarantined_rows
from integrations_pipeline.sync.retrying import discard_rows
from integrations_pipeline.sync.retrying import retry as retry_rows
from integrations_pipeline.sync.samples import sample

PATH = "/quarantine"


def show(asked: Asked, session: Any) -> Response:
    connection, stream = asked.given("connection") or None, asked.given("stream") or None
    rows = quarantined_rows(session, connection, stream, PAGE_ROWS + 1)
    places = groupby(rows[:PAGE_ROWS], key=lambda row: (row.connection, row.stream))
    more = el("p", f"Only the first {PAGE_ROWS:,} are shown.", class_="faint") if len(rows) > PAGE_ROWS else None
    return page(
        asked,
        "Quarantine",
        said(asked),
        None if rows else el("p", "Nothing is in quarantine."),
        [of_stream(asked, *place, list(found)) for place, found in places],
        more,
    )


def said(asked: Asked) -> Html | None:
    """What the last form did."""
    if asked.given("discarded"):
        return notice("good", "Discarded: the row stays out, and the decision is kept.")
    if not asked.given("healed"):
        return None
    healed, still = number_in(asked.given("healed")), number_in(asked.given("open"))
    return notice("warn" if still else "good", f"Tried again: {healed:,} came in, {still:,} still in quarantine.")


def of_stream(asked: Asked, connection: str, stream: str, rows: list[QuarantinedRow]) -> Html:
    place = f"{connection}/{stream}"
    hidden = [field("connection", connection), field("stream", stream)]
    every = asked.form_to(f"{PATH}/retry", hidden, button(f"Retry all of {place}"), class_="inline")
    knows = redactor(connection, asked.doors.home)
    columns = ("record", "what is wrong", "seen", "decide")
    cells = ([record(row, knows), reasons(row, knows), seen(row), actions(asked, row)] for row in rows)
    return el("section", el("h2", place), every, table(f"Quarantine of {place}", columns, cells), aria_label=place)


def field(name: str, value: object) -> Html:
    return el("input", type="hidden", name=name, value=value)


def record(row: QuarantinedRow, knows: Redactor) -> list[Any]:
    known = row.external_id
    named = "without a key" if known is None else link(path_of(row.connection, row.stream, known), known)
    text = el("pre", sample(row.payload, knows))
    return [named, el("details", el("summary", "the record, personal values masked"), text)]


def reasons(row: QuarantinedRow, knows: Redactor) -> Html:
    return el("ul", (el("li", reason(one, knows)) for one in row.reasons), class_="notes")


def reason(one: dict[str, Any], knows: Redactor) -> list[Any]:
    such = one.get("sample")
    example = [", such as ", el("code", shown(one["field"] or "", knows.text(such)))] if such else None
    return [el("strong", one["field"] or "the row"), ": ", knows.text(one["message"]), example]


def seen(row: QuarantinedRow) -> list[Any]:
    return [
        moment(row.last_seen),
        el("br"),
        el("span", "once" if row.attempts == 1 else f"{row.attempts:,} times", class_="faint"),
    ]


def actions(asked: Asked, row: QuarantinedRow) -> list[Html]:
    named = row.external_id if row.external_id is not None else f"row {row.id}"
    again = button("Retry", aria_label=f"Retry {named}")
    why = el("input", name="reason", required=True, maxlength=200, placeholder="why it may be left out",
             aria_label=f"Why {named} may be left out")  # fmt: skip
    away = button("Discard", "quiet", aria_label=f"Discard {named}")
    return [
        asked.form_to(f"{PATH}/retry", field("id", row.id), again, class_="inline"),
        asked.form_to(f"{PATH}/discard", field("id", row.id), why, away, class_="inline"),
    ]


def meant(asked: Asked) -> tuple[str, str, list[int] | None]:
    """The stream and the row that a form is about; all rows of the stream where it names none. Raises ConfigError."""
    if "id" not in asked.form:
        return asked.form.get("connection", ""), asked.form.get("stream", ""), None
    number = number_in(asked.form["id"])
    with asked.store.borrow() as session:
        for (connection, stream), ids in places_of(session, [number]).items():
            return connection, stream, ids
    raise ConfigError(f"row {number} isn't in quarantine any more", next="reload the list")


def retry(asked: Asked) -> Response:
    """Raises ConfigError where the stream is gone from the file, LeaseHeld while a run holds it."""
    name, stream, ids = meant(asked)
    connection, kinds = load_named(name, asked.doors.home)
    if stream not in connection.streams:
        raise ConfigError(f"connection {name} has no stream {stream} any more", next="discard its rows")
    done = retry_rows(connection, stream, asked.store, kinds, uuid4(), ids)
    return see_other(f"{PATH}?{urlencode({'healed': done.healed, 'open': done.still_open})}")


def discard(asked: Asked) -> Response:
    """Raises ConfigError without a reason, LeaseHeld while a run holds the stream."""
    name, stream, ids = meant(asked)
    why = asked.form.get("reason", "").strip()
    if not why or ids is None:
        raise ConfigError("a reason was expected", next="say why the row may be left out")
    discard_rows(name, stream, asked.store, uuid4(), why, ids)
    return see_other(f"{PATH}?discarded={len(ids)}")
