"""`/outbox`: changes made here that their source hasn't taken, and what a person decides about them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from starlette.responses import Response

from integrations_pipeline.client.redaction import Redactor, redactor
from integrations_pipeline.gateway.pages.asked import Asked, button, moment, notice, number_in, page, see_other
from integrations_pipeline.gateway.pages.elements import Html, el, link, pill, table
from integrations_pipeline.gateway.pages.story import path_of
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.limits import PAGE_ROWS
from integrations_pipeline.spec.ports import Priority
from integrations_pipeline.spec.reasons import given_up
from integrations_pipeline.spec.simulated import relocated
from integrations_pipeline.store import outbox
from integrations_pipeline.store.outboxed import OutboxChange, open_changes, open_counts, outbox_change
from integrations_pipeline.sync import resolving
from integrations_pipeline.sync.reaching import client_of
from integrations_pipeline.sync.samples import masked, plain

PATH = "/outbox"
STATES = {
    "queued": ("idle", "waiting"),
    "sending": ("good", "being sent"),
    "unsure": ("warn", "unsure"),
    "parked": ("bad", "parked"),
    "dead": ("bad", "dead"),
}
DONE = {
    "retried": "It is sent again, with what differs by now.",
    "resolved": "It is there: what the source holds is agreed on.",
    "parked": "It stays parked; why stands beside it.",
    "queued": "It isn't there: it is sent again.",
    "discarded": "It was given up, and the decision is kept. The record here keeps its values.",
}


def show(asked: Asked, session: Any) -> Response:
    wanted = asked.given("connection") or None
    found, counted = open_changes(session, wanted, PAGE_ROWS + 1), open_counts(session, wanted)
    by_connection = groupby(sorted(found[:PAGE_ROWS], key=lambda one: one.connection), key=lambda one: one.connection)
    done = DONE.get(asked.given("done"))
    more = el("p", f"Only the first {PAGE_ROWS:,} are shown.", class_="faint") if len(found) > PAGE_ROWS else None
    return page(
        asked,
        "Outbox",
        notice("good", done) if done else None,
        None if found else el("p", "No change is on its way out."),
        [of_connection(asked, name, counted.get(name, {}), list(changes)) for name, changes in by_connection],
        more,
    )


def of_connection(asked: Asked, name: str, counted: Mapping[str, int], changes: list[OutboxChange]) -> Html:
    knows = redactor(name, asked.doors.home)
    columns = ("record", "what is to be written", "how it stands", "why, and who must act", "decide")
    rows = ([record(one), fields(one, knows), stands(one), why(one, knows), actions(asked, one)] for one in changes)
    counts = ((pill(tone, f"{counted[state]:,} {words}"), " ") for state, (tone, words) in STATES.items()
              if state in counted)  # fmt: skip
    listed = table(f"Changes on their way to {name}", columns, rows)
    return el("section", el("h2", name), el("p", counts), listed, aria_label=name)


def record(one: OutboxChange) -> list[Any]:
    known = one.external_id
    named = "a new record" if known is None else link(path_of(one.connection, one.stream, known), known)
    return [named, el("br"), el("span", f"{one.stream}, {one.kind} {one.canonical_id}", class_="faint")]


def fields(one: OutboxChange, knows: Redactor) -> list[Any]:
    """Field by field, as it is there → as it is here. Of a parked one whole, since a person has to look for it at the
    source; else whatever looks personal is masked."""
    changes, before = (knows.document(json.loads(text or "{}")) for text in (one.changes, one.before))
    items = (
        el("li", el("strong", name), ": ", [el("del", value(one, name, before.get(name))), " → "] if before else None,
           el("ins", value(one, name, now)))
        for name, now in changes.items()
    )  # fmt: skip
    return [el("strong", one.operation), el("ul", items, class_="notes") if changes else None]


def value(one: OutboxChange, name: str, given: Any) -> str:
    if given is None:
        return "empty"
    return plain(given if one.status == "parked" else masked(given, name))


def stands(one: OutboxChange) -> list[Any]:
    tone, words = STATES[one.status]
    tried = "not tried yet" if not one.tries else "tried once" if one.tries == 1 else f"{one.tries:,} tries"
    told: list[tuple[str, Any]] = [("edited ", one.edited_at), ("first sent ", one.first_sent_at)]
    told += [("next try ", one.next_try_at)]
    times = ([el("br"), said, moment(at)] for said, at in told if at is not None)
    return [pill(tone, words), " ", el("span", tried, times, class_="faint")]


def why(one: OutboxChange, knows: Redactor) -> list[Any]:
    if one.reason is None:
        return [el("span", "it goes with the next push", class_="faint")] if one.status == "queued" else []
    who = [el("br"), el("span", knows.text(f"{one.reason['who']}: {one.reason.get('next', '')}"), class_="faint")]
    return [knows.text(str(one.reason.get("message", "unknown"))), who if one.reason.get("who") else None]


def actions(asked: Asked, one: OutboxChange) -> list[Html]:
    """What `integrations outbox` offers for a change in its state; what is being sent is left alone."""
    if one.status == "sending":
        return []
    return [*(settling(asked, one) if one.status == "parked" else retrying(asked, one)), giving_up(asked, one)]


def retrying(asked: Asked, one: OutboxChange) -> Iterator[Html]:
    words = "Try again" if one.tries else "Send now"
    yield asked.form_to(f"{PATH}/retry", hidden(one), button(words, aria_label=f"{words}: {named(one)}"),
                        class_="inline")  # fmt: skip


def settling(asked: Asked, one: OutboxChange) -> Iterator[Html]:
    """Whether what was parked was done, only a person can tell."""
    if one.operation == "create":
        field = el("input", name="external_id", required=True, maxlength=1000, placeholder="its id at the source",
                   autocomplete="off", aria_label=f"The id at the source of {named(one)}")  # fmt: skip
        there = button("It is there", aria_label=f"It is there: {named(one)}")
        yield asked.form_to(f"{PATH}/resolve", hidden(one), field, there, class_="inline")
    words = "It isn't there" if one.operation == "create" else "It wasn't done"
    missing = [hidden(one), el("input", type="hidden", name="not_there", value="1")]
    yield asked.form_to(f"{PATH}/resolve", missing, button(words, aria_label=f"{words}: {named(one)}"), class_="inline")


def giving_up(asked: Asked, one: OutboxChange) -> Html:
    field = el("input", name="reason", required=True, maxlength=200, placeholder="why it may be given up",
               aria_label=f"Why {named(one)} may be given up")  # fmt: skip
    away = button("Give up", "quiet", aria_label=f"Give up {named(one)}")
    return asked.form_to(f"{PATH}/discard", hidden(one), field, away, class_="inline")


def named(one: OutboxChange) -> str:
    return f"change {one.id}"


def hidden(one: OutboxChange) -> Html:
    return el("input", type="hidden", name="id", value=one.id)


def meant(asked: Asked) -> OutboxChange:
    """The change that a form is about. Raises ConfigError where there is none."""
    number = number_in(asked.form.get("id", ""))
    with asked.store.borrow() as session:
        found = outbox_change(session, number)
    if found is None:
        raise ConfigError(f"no change has the id {number}", next="reload the list")
    return found


def decided(asked: Asked, one: OutboxChange, done: object, became: str) -> Response:
    """Raises ConfigError where nothing was ``done``, since the change isn't as the page showed it any more."""
    if not done:
        raise ConfigError(f"{named(one)} can't be so decided about any more", next="reload the list")
    asked.send(one.connection)
    return see_other(f"{PATH}?done={became}")


def retry(asked: Asked) -> Response:
    """Raises ConfigError where it is parked, being sent, or over."""
    one = meant(asked)
    with asked.store.borrow() as session:
        return decided(asked, one, outbox.retry(session, [one.id]), "retried")


def discard(asked: Asked) -> Response:
    """Raises ConfigError without a reason, or where it is being sent or over."""
    one, reason = meant(asked), asked.form.get("reason", "").strip()
    if not reason:
        raise ConfigError("a reason was expected", next="say why it may be given up")
    with asked.store.borrow() as session:
        return decided(asked, one, outbox.discard(session, [one.id], given_up(reason)), "discarded")


def resolve(asked: Asked) -> Response:
    """Raises ConfigError where the source knows no such record, or it isn't parked any more."""
    one, external_id = meant(asked), asked.form.get("external_id", "").strip()
    if asked.form.get("not_there"):
        with asked.store.borrow() as session:
            return decided(asked, one, outbox.not_there(session, one.id), "queued")
    if not external_id:
        raise ConfigError("its id at the source was expected", next="look for it at the source first")
    connection = asked.doors.connections.get(one.connection)
    if connection is None:
        raise ConfigError(f"{one.connection} has no file any more", next="give the change up")
    where = relocated(connection)
    client = client_of(where, asked.store, Priority.USER)
    try:
        became = resolving.resolve(where, client, asked.store, asked.doors.kinds, one, external_id)
    finally:
        client.close()
    return decided(asked, one, became, became)
