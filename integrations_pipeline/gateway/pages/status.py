"""`/`: how everything stands."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from starlette.responses import Response

from integrations_pipeline.gateway.pages.asked import Asked, button, moment, page
from integrations_pipeline.gateway.pages.elements import Html, el, link, pill, table
from integrations_pipeline.gateway.pages.facts import ConnectionFacts, Facts, StreamFacts, read_facts
from integrations_pipeline.gateway.reloading import dagster_url
from integrations_pipeline.spec.clock import in_words
from integrations_pipeline.store.alerts import Alert

WIDTH, HEIGHT = 144, 28
STATES = {
    "succeeded": "good",
    "under way": "good",
    "deferred": "warn",
    "interrupted": "warn",
    "failed": "bad",
    "never synced": "idle",
    "disconnected": "idle",
}
ORDER = {"bad": 0, "warn": 1, "good": 2, "idle": 3}


def show(asked: Asked, session: Any) -> Response:
    facts = read_facts(session, asked.doors)
    if not facts.connections and not facts.broken:
        new = link("/connections/new", "the catalogue")
        return page(asked, "Status", el("p", "No connections yet: ", new, " has systems that are described already."))
    return page(
        asked,
        "Status",
        summary(facts),
        broken_files(facts),
        alerts(facts) if facts.alerts else None,
        overview(facts),
        finding(facts),
        el("h2", "Streams"),
        (detail(one, facts.asked_at) for one in facts.connections),
    )


def summary(facts: Facts) -> Html:
    counted = Counter(one.verdict() for one in facts.connections)
    verdicts = sorted(counted.items(), key=lambda one: (ORDER[one[0][0]], one[0][1]))
    return el("p", (joined_pill(tone, f"{words}: {count}") for (tone, words), count in verdicts), class_="summary")


def joined_pill(tone: str, words: str) -> list[Any]:
    return [pill(tone, words), " "]


def broken_files(facts: Facts) -> Html | None:
    if not facts.broken:
        return None
    items = (el("li", el("strong", file), ": ", why) for file, why in sorted(facts.broken.items()))
    said = "These files are wrong and were not loaded; `integrations check` says all that is wrong."
    return el("section", el("h2", "Broken files"), el("p", said), el("ul", items), class_="box bad")


def alerts(facts: Facts) -> Html:
    columns = ("where", "since", "what", "who must act, and what next")
    rows = ((where(one), moment(one.since), severe(one), f"{one.who}: {one.next}") for one in facts.alerts)
    return el("section", el("h2", "Open alerts"), table("Open alerts", columns, rows), aria_label="Open alerts")


def where(one: Alert) -> Any:
    return link(f"#{one.connection}", one.where) if one.connection else one.where


def severe(one: Alert) -> list[Any]:
    return [pill("bad" if one.severity == "error" else "warn", one.condition.replace("_", " ")), " ", one.what]


def overview(facts: Facts) -> Html:
    columns = (
        "connection",
        "health",
        "records per hour, last 24 h",
        ("waiting in", "number"),
        ("waiting out", "number"),
        ("quarantine", "number"),
        ("conflicts", "number"),
        ("dead letters", "number"),
        "calls to the source",
        "next run",
    )
    rows = (overview_row(one, facts.asked_at) for one in facts.connections)
    return table("Connections", columns, rows, class_="overview")


def overview_row(one: ConnectionFacts, now: datetime) -> list[Any]:
    health = one.health
    return [
        link(f"#{one.name}", one.name),
        pill(*one.verdict()),
        sparkline(one.name, one.hours),
        count(health.inbox),
        count(health.outbox + health.parked, f"/outbox?connection={one.name}"),
        count(one.quarantine, f"/quarantine?connection={one.name}"),
        count(health.conflicts, f"/conflicts?connection={one.name}"),
        count(health.dead_letters, f"/dead-letters?connection={one.name}"),
        breaker(one),
        due(one.due, now) or cron(one.streams),
    ]


def count(number: int, to: str | None = None) -> Any:
    if not number:
        return el("span", "0", class_="faint")
    return link(to, f"{number:,}") if to else f"{number:,}"


def breaker(one: ConnectionFacts) -> Html:
    if one.breaker.state == "closed":
        return pill("good", "allowed")
    return el("span", pill("bad", "paused"), " next try ", moment(one.breaker.next_try))


def due(at: datetime | None, now: datetime) -> Any:
    if at is None:
        return None
    return el("span", "due now" if at <= now else f"in {in_words(at - now)}", title=f"{at:%Y-%m-%d %H:%M} UTC")


def cron(streams: list[StreamFacts]) -> Any:
    by_clock = next((one.cron for one in streams if one.cron is not None), None)
    return el("code", by_clock) if by_clock else el("span", "–", class_="faint")


def sparkline(name: str, hours: list[int]) -> Html:
    """A bar per hour, and its content in words for whoever can't see it."""
    highest, total = max(hours), sum(hours)
    width = WIDTH / len(hours)
    bars = (
        el("rect", x=f"{place * width:.1f}", y=f"{HEIGHT - tall:.1f}", width=f"{width - 1:.1f}", height=f"{tall:.1f}")
        for place, records in enumerate(hours)
        for tall in [max(2.0, HEIGHT * records / highest) if records else 1.0]
    )
    said = f"{name}: {total:,} records in 24 hours, at most {highest:,} in one hour, {hours[-1]:,} in the last"
    drawn = el("svg", el("title", said), bars, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", class_="spark",
               width=WIDTH, height=HEIGHT)  # fmt: skip
    return el("span", drawn, " ", el("span", f"{total:,}", class_="total"), class_="sparked")


def finding(facts: Facts) -> Html:
    """The way to one record's life."""
    places = (f"{one.name}/{each.status.stream}" for one in facts.connections for each in one.streams)
    options = (el("option", place) for place in places)
    return el(
        "form",
        el("label", "Why is a record as it is, or not here? Stream", for_="find-stream"),
        el("select", options, name="stream", id="find-stream"),
        el("label", "its id at the source", for_="find-id"),
        el("input", name="id", id="find-id", required=True, autocomplete="off"),
        button("Show its life"),
        action="/why",
        class_="find",
        role="search",
    )


def detail(one: ConnectionFacts, now: datetime) -> Html:
    tone, words = one.verdict()
    columns = ("stream", "last run", "last success", "data", "next run", "what to know")
    rows = ([stream_name(each), *stream_row(each, now)] for each in one.streams)
    return el(
        "section",
        el("h3", one.name, " ", pill(tone, words)),
        breaker_reason(one),
        table(f"Streams of {one.name}", columns, rows),
        id=one.name,
        aria_label=one.name,
    )


def breaker_reason(one: ConnectionFacts) -> Html | None:
    if one.breaker.state == "closed":
        return None
    since = ["Calls to the source are paused since ", moment(one.breaker.since)]
    return el("p", *since, f", after {one.breaker.failures} failed tries in a row; the last one: {one.breaker.reason}")


def stream_name(one: StreamFacts) -> Any:
    place, url = f"{one.status.connection}/{one.status.stream}", dagster_url()
    asset = (
        link(f"{url}/assets/{place}", "in Dagster", aria_label=f"{place} in Dagster", class_="aside") if url else None
    )
    mapping = link(f"/mapping/{place}", "mapping", aria_label=f"the mapping of {place}", class_="aside")
    return el("span", one.status.stream, " ", mapping, " ", asset)


def stream_row(one: StreamFacts, now: datetime) -> list[Any]:
    status = one.status
    age = None if status.last_success is None else [" (", in_words(one.fed.asked_at - status.last_success), " ago)"]
    return [
        pill(STATES.get(status.state, "idle"), status.state),
        el("span", moment(status.last_success), age),
        freshness(one),
        due(one.due, now) or cron([one]),
        notes(one),
    ]


def freshness(one: StreamFacts) -> Html:
    if not one.status.active:
        return pill("idle", "no longer read")
    if one.status.last_run is None:
        return pill("idle", "none yet")
    return pill("warn", "out of date") if one.stale else pill("good", "fresh")


def counted(number: int, one: str, more: str) -> str:
    return f"{number:,} {one if number == 1 else more}"


def notes(one: StreamFacts) -> Any:
    status = one.status
    place = f"{status.connection}/{status.stream}: "
    said: list[Any] = [why.removeprefix(place) for why in one.stale]
    said += [f"{verdict.name.replace('_', ' ')}: {verdict.said}" for verdict in one.missed]
    if status.quarantine_open:
        to = f"/quarantine?connection={status.connection}&stream={status.stream}"
        said.append(link(to, counted(status.quarantine_open, "row in quarantine", "rows in quarantine")))
    if status.drift_open:
        said.append(counted(status.drift_open, "finding of drift", "findings of drift"))
    if status.under_way:
        said.append("the next sync goes on in the middle of the list")
    return el("ul", (el("li", each) for each in said), class_="notes") if said else el("span", "–", class_="faint")
