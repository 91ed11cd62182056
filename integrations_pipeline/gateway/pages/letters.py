"""`/dead-letters`: events, changes and deliveries that were given up, each to be tried again or to be ended."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from integrations_pipeline.client.redaction import Redactor, redactors
from integrations_pipeline.gateway.pages.asked import Asked, button, moment, notice, number_in, page, see_other
from integrations_pipeline.gateway.pages.elements import Html, el, link, table
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.limits import PAGE_ROWS
from integrations_pipeline.store import letters
from integrations_pipeline.store.letters import Letter, open_letters

PATH = "/dead-letters"
ORIGINS = {"inbox": "event that came", "outbox": "change on its way out", "delivery": "change for on_change"}
DONE = {"replayed": "It is tried again.", "discarded": "It was given up, and the decision is kept."}


def show(asked: Asked, session: Any) -> Response:
    found = open_letters(session, asked.given("connection") or None, PAGE_ROWS + 1)
    more = el("p", f"Only the first {PAGE_ROWS:,} are shown.", class_="faint") if len(found) > PAGE_ROWS else None
    columns = ("letter", "what", "why it was given up", "when", "decide")
    knows = redactors((one.connection for one in found), asked.doors.home)
    rows = (letter(asked, one, knows[one.connection]) for one in found[:PAGE_ROWS])
    done = DONE.get(asked.given("done"))
    return page(
        asked,
        "Dead letters",
        notice("good", done) if done else None,
        table("Dead letters", columns, rows) if found else el("p", "No dead letter is open."),
        more,
    )


def letter(asked: Asked, one: Letter, knows: Redactor) -> list[Any]:
    who = [el("br"), el("span", f"{one.reason['who']}: {one.reason.get('next', '')}", class_="faint")]
    change = link(f"/outbox?connection={one.connection}", named(one)) if one.origin == "outbox" else named(one)
    return [
        change,
        ORIGINS[one.origin],
        [knows.text(str(one.reason.get("message", "unknown"))), who if one.reason.get("who") else None],
        [moment(one.died_at), el("br"), el("span", f"{one.tries:,} tries", class_="faint")],
        actions(asked, one),
    ]


def named(one: Letter) -> str:
    return f"{one.connection or one.origin} #{one.origin_id}"


def actions(asked: Asked, one: Letter) -> list[Html]:
    hidden, name = el("input", type="hidden", name="id", value=one.id), named(one)
    again = asked.form_to(f"{PATH}/retry", hidden, button("Try again", aria_label=f"Try {name} again"), class_="inline")
    why = el("input", name="reason", required=True, maxlength=200, placeholder="why it may be given up",
             aria_label=f"Why {name} may be given up")  # fmt: skip
    away = button("Give up", "quiet", aria_label=f"Give {name} up")
    end = asked.form_to(f"{PATH}/discard", hidden, why, away, class_="inline")
    return [again] if one.origin == "delivery" else [again, end]


def retry(asked: Asked) -> Response:
    """Raises ConfigError where it isn't open any more."""
    with asked.store.borrow() as session:
        found = letters.replay(session, number_in(asked.form.get("id", "")))
    if found.origin == "outbox":
        asked.send(found.connection)
    return see_other(f"{PATH}?done=replayed")


def discard(asked: Asked) -> Response:
    """Raises ConfigError without a reason, or where it isn't open any more."""
    why = asked.form.get("reason", "").strip()
    if not why:
        raise ConfigError("a reason was expected", next="say why it may be given up")
    with asked.store.borrow() as session:
        letters.discard(session, number_in(asked.form.get("id", "")), why)
    return see_other(f"{PATH}?done=discarded")
