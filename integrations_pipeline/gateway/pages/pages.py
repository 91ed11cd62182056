"""The routes of the pages: who may, what was sent, and one form for whatever goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from integrations_pipeline.gateway.access import Access
from integrations_pipeline.gateway.bodies import Bodies, Refused
from integrations_pipeline.gateway.doors import Doors
from integrations_pipeline.gateway.pages import (
    conflicts,
    connecting,
    letters,
    mapping,
    outbox,
    quarantine,
    status,
    story,
)
from integrations_pipeline.gateway.pages.asked import (
    HEADERS,
    Asked,
    button,
    document,
    notice,
    page,
    see_other,
    style,
    style_path,
)
from integrations_pipeline.gateway.pages.elements import el, link
from integrations_pipeline.gateway.pages.visitor import COOKIE, FORM_TOKEN, Visitor, Visitors, form_in, own_path
from integrations_pipeline.gateway.pushing import PushLane
from integrations_pipeline.spec.errors import ConfigError, IntegrationError
from integrations_pipeline.spec.limits import DATA_SECONDS
from integrations_pipeline.store.records import bound
from integrations_pipeline.store.store import Store

THREADS = 4
"""Pages made at once; the next ones wait."""

YEAR_SECONDS = 365 * 24 * 3600
Work = Callable[[Asked], Response]
Reading = Callable[[Asked, Any], Response]

log = structlog.get_logger()


class Pages:
    """The pages of a home. ``lane`` sends what a decision lets go; whoever made it stops it."""

    def __init__(self, doors: Doors, store: Store, access: Access | None = None, lane: PushLane | None = None):
        self.doors, self.store, self.lane = doors, store, lane
        self.access = access or Access(doors.public_url)
        self.visitors = Visitors(self.access, doors.public_url)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="pages")

    def routes(self, bodies: Bodies) -> list[Route]:
        def route(path: str, work: Work, method: str = "GET") -> Route:
            async def serve(http: Request) -> Response:
                return await self._serve(http, bodies, work)

            return Route(path, serve, methods=[method])

        async def login(http: Request) -> Response:
            return await self._login(http, bodies)

        async def logout(http: Request) -> Response:
            return await self._logout(http, bodies)

        return [
            route("/", self._reading(status.show)),
            route(quarantine.PATH, self._reading(quarantine.show)),
            route(f"{quarantine.PATH}/retry", quarantine.retry, "POST"),
            route(f"{quarantine.PATH}/discard", quarantine.discard, "POST"),
            route(conflicts.PATH, self._reading(conflicts.show)),
            route(f"{conflicts.PATH}/decide", conflicts.decide, "POST"),
            route(outbox.PATH, self._reading(outbox.show)),
            route(f"{outbox.PATH}/retry", outbox.retry, "POST"),
            route(f"{outbox.PATH}/resolve", outbox.resolve, "POST"),
            route(f"{outbox.PATH}/discard", outbox.discard, "POST"),
            route(letters.PATH, self._reading(letters.show)),
            route(f"{letters.PATH}/retry", letters.retry, "POST"),
            route(f"{letters.PATH}/discard", letters.discard, "POST"),
            route(mapping.PATH, mapping.show),
            route(mapping.PATH, mapping.submit, "POST"),
            route(connecting.PATH, connecting.show),
            route(connecting.PATH, connecting.submit, "POST"),
            route(story.FIND, story.find),
            route(story.PATH, story.show),
            Route("/login", login, methods=["GET", "POST"]),
            Route("/logout", logout, methods=["POST"]),
            Route(style_path(), serve_style),
        ]

    def close(self) -> None:
        """Waits for what is under way."""
        self._threads.shutdown(cancel_futures=True)

    def _reading(self, work: Reading) -> Work:
        """With a session of the database that keeps nobody waiting for long."""

        def read(asked: Asked) -> Response:
            with self._bounded() as session:
                return work(asked, session)

        return read

    @contextmanager
    def _bounded(self) -> Iterator[Any]:
        with self.store.borrow() as session, session.transaction():
            bound(session, DATA_SECONDS)
            yield session

    async def _serve(self, http: Request, bodies: Bodies, work: Work) -> Response:
        visitor = self.visitors.visitor(http)
        if not visitor.known:
            return self.visitors.keep(self._stranger(http, visitor), visitor.cookie)
        try:
            async with bodies.read(http) as body:
                answer = await asyncio.get_running_loop().run_in_executor(
                    self._threads, self._guarded, work, http, visitor, body
                )
        except Refused as refused:
            return document("Not taken", el("p", refused.answer.body.decode()), status=refused.answer.status)
        return self.visitors.keep(answer, visitor.cookie) if http.cookies.get(COOKIE) != visitor.cookie else answer

    def _guarded(self, work: Work, http: Request, visitor: Visitor, body: bytes) -> Response:
        """In a thread. Whatever goes wrong is a page that says what, and what next."""
        asked = Asked(http, visitor, self.doors, self.store, {}, self.lane)
        try:
            if http.method == "POST":
                asked = replace(asked, form=form_in(http, body))
                if why := self.visitors.forged(http, asked.form, visitor):
                    return failed(asked, 403, why, "go back, reload the page, and send the form again")
            return work(asked)
        except ValueError as error:
            return failed(asked, 400, str(error), "go back, and send the form as it is on the page")
        except ConfigError as error:
            return failed(asked, 409, str(error), error.next)
        except IntegrationError as error:
            log.error("a page could not be made", path=http.url.path, error=str(error))
            return failed(asked, 503, str(error), error.next)
        except Exception:
            log.exception("a page could not be made", path=http.url.path)
            return failed(asked, 500, "unexpected: the gateway's log has it", "tell whoever runs the gateway")

    def _stranger(self, http: Request, visitor: Visitor) -> Response:
        if not self.access.by_token:
            refusal = self.access.refusal(http)
            why = refusal.document["error"]["message"] if refusal else ""
            return document("Not here", el("main", el("h1", "Not here"), notice("bad", why)), status=403)
        here = http.url.path + (f"?{http.url.query}" if http.url.query else "")
        return self._login_form(visitor, here if http.method == "GET" else "/", status=401)

    def _login_form(self, visitor: Visitor, to: str, wrong: str = "", status: int = 200) -> Response:
        hidden = [
            el("input", type="hidden", name=FORM_TOKEN, value=visitor.form_token),
            el("input", type="hidden", name="to", value=to),
        ]
        named = el("label", "Token", for_="token")
        field = el("input", id="token", name="token", type="password", autocomplete="current-password", required=True,
                   autofocus=True, aria_describedby="hint")  # fmt: skip
        hint = el("p", "The text of INTEGRATIONS_TOKEN; whoever runs the gateway has it.", id="hint", class_="faint")
        form = el("form", *hidden, named, field, hint, button("Log in"), action="/login", method="post", class_="login")
        again = el("p", "Came by a link and are logged in? ", link(to, "Go on"), ".", class_="faint")
        said = notice("bad", wrong) if wrong else None
        return document("Log in", el("main", el("h1", "Log in"), said, form, again, class_="narrow"), status=status)

    async def _login(self, http: Request, bodies: Bodies) -> Response:
        visitor = self.visitors.visitor(http)
        if http.method != "POST":
            to = own_path(http.query_params.get("to", "/"))
            return self.visitors.keep(self._login_form(visitor, to), visitor.cookie)
        try:
            async with bodies.read(http) as body:
                form = form_in(http, body)
        except (Refused, ValueError):
            return document("Not taken", el("p", "a form was expected"), status=400)
        to = own_path(form.get("to", "/"))
        wrong = self.visitors.forged(http, form, visitor)
        if wrong is None and not self.access.is_token(form.get("token", "")):
            wrong = "that is not the token"
        if wrong is not None:
            return self.visitors.keep(self._login_form(visitor, to, wrong, status=403), visitor.cookie)
        return self.visitors.keep(see_other(to), self.visitors.member())

    async def _logout(self, http: Request, bodies: Bodies) -> Response:
        visitor = self.visitors.visitor(http)
        try:
            async with bodies.read(http) as body:
                forged = self.visitors.forged(http, form_in(http, body), visitor)
        except (Refused, ValueError):
            forged = "a form was expected"
        if forged is not None:
            return document("Not taken", el("p", forged), status=403)
        return self.visitors.keep(see_other("/"), self.visitors.guest(visitor))


def failed(asked: Asked, status: int, why: str, next_step: str) -> Response:
    return page(asked, "That did not work", notice("bad", why), el("p", f"Next: {next_step}."), status=status)


async def serve_style(http: Request) -> Response:
    headers = {**HEADERS, "cache-control": f"public, max-age={YEAR_SECONDS}, immutable"}
    return Response(style(), 200, headers, "text/css; charset=utf-8")
