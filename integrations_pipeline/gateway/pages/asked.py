"""What a page is asked, and the page around its answer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from integrations_pipeline.gateway.doors import Doors
from integrations_pipeline.gateway.pages.elements import Html, el, joined, link
from integrations_pipeline.gateway.pages.visitor import FORM_TOKEN, Visitor
from integrations_pipeline.gateway.pushing import PushLane
from integrations_pipeline.gateway.reloading import dagster_url
from integrations_pipeline.store.store import Store

HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
PLACES = {
    "/": "Status",
    "/quarantine": "Quarantine",
    "/conflicts": "Conflicts",
    "/outbox": "Outbox",
    "/dead-letters": "Dead letters",
    "/connections/new": "New connection",
}


@dataclass(frozen=True)
class Asked:
    """One request for a page, of a visitor who may. ``form``: sent by POST; ``lane`` sends what it lets go."""

    http: Request
    visitor: Visitor
    doors: Doors
    store: Store
    form: Mapping[str, str]
    lane: PushLane | None = None

    def given(self, name: str) -> str:
        """A value of the address."""
        return self.http.query_params.get(name, "")

    def send(self, *connections: str) -> None:
        """A decision is committed: what these connections have to send by now leaves at once."""
        if self.lane is not None:
            self.lane.push(*connections)

    def form_to(self, action: str, *children: Any, **attributes: Any) -> Html:
        """A form that is taken from this visitor only."""
        token = el("input", type="hidden", name=FORM_TOKEN, value=self.visitor.form_token)
        return el("form", token, *children, action=action, method="post", **attributes)


def page(asked: Asked, title: str, *content: Any, status: int = 200) -> Response:
    """The page that holds the content."""
    here = asked.http.url.path
    leave = asked.form_to("/logout", button("Log out", "quiet")) if asked.visitor.signed_in else None
    return document(
        title,
        el("header", link("#content", "Skip to the content", class_="skip"), navigation(here), leave, class_="top"),
        el("main", el("h1", title), *content, id="content"),
        el("footer", "As of ", moment(datetime.now(UTC)), class_="foot"),
        status=status,
    )


def document(title: str, *body: Any, status: int = 200) -> Response:
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", f"{title} · Integrations"),
        el("link", rel="stylesheet", href=style_path()),
    )
    markup = joined(Html("<!doctype html>"), el("html", head, el("body", *body), lang="en"))
    return Response(markup.encode("utf-8", "replace"), status, HEADERS, "text/html; charset=utf-8")


def navigation(here: str) -> Html:
    items = (el("li", link(path, name, aria_current="page" if path == here else None)) for path, name in PLACES.items())
    dagster = dagster_url()
    outside = el("li", link(dagster, "Dagster")) if dagster else None
    return el("nav", el("span", "Integrations", class_="brand"), el("ul", items, outside), aria_label="Pages")


def button(words: str, kind: str = "", **attributes: Any) -> Html:
    return el("button", words, type="submit", class_=kind or None, **attributes)


def notice(tone: str, *words: Any) -> Html:
    """What just happened. Screen readers are told."""
    return el("p", *words, class_=f"notice {tone}", role="alert" if tone == "bad" else "status")


def moment(at: datetime | None) -> Html:
    """A time, in UTC."""
    if at is None:
        return el("span", "never", class_="faint")
    shown = at.astimezone(UTC)
    return el("time", f"{shown:%Y-%m-%d %H:%M} UTC", datetime=f"{shown:%Y-%m-%dT%H:%M:%SZ}")


def number_in(text: str) -> int:
    """An id that a form or an address brings. Raises ValueError."""
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise ValueError("a number was expected")
    return int(text)


def see_other(path: str) -> Response:
    """After a form was done: the page anew, so that reloading it does nothing twice."""
    return RedirectResponse(path, 303, HEADERS)


@cache
def style() -> bytes:
    return Path(__file__).with_name("style.css").read_bytes()


@cache
def style_path() -> str:
    """Another one after each change, so that browsers may keep it."""
    return f"/style-{hashlib.sha256(style()).hexdigest()[:12]}.css"
