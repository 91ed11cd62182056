"""The hardened client of one connection."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from threading import Event
from typing import Any
from weakref import WeakSet

from integrations_pipeline.client.answer import Answer
from integrations_pipeline.client.auth import Fixed
from integrations_pipeline.client.cursor import formatted, start_of, zone_of
from integrations_pipeline.client.exchange import Asked, Exchange, Unbroken
from integrations_pipeline.client.listing import Begin, Fetched, ListPlan, ListReader, plan_feed, plan_list
from integrations_pipeline.client.meter import Meter
from integrations_pipeline.client.noting import Notes, Unlogged
from integrations_pipeline.client.page import Page
from integrations_pipeline.client.probe import number_of
from integrations_pipeline.client.proving import Means, proof_of
from integrations_pipeline.client.records import items_of
from integrations_pipeline.client.redaction import redactor_of
from integrations_pipeline.client.renewal import Renewable
from integrations_pipeline.client.request import Request, RequestBuilder
from integrations_pipeline.client.session import HttpSession
from integrations_pipeline.client.writing import Answered, Change, Hands, Outcome, Writer
from integrations_pipeline.spec.clock import Clock, SystemClock
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import ConfigError, ContractError, IntegrationError, NotFound
from integrations_pipeline.spec.forms import Call
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.hooks import load_hooks
from integrations_pipeline.spec.limits import READ_AHEAD_PAGES
from integrations_pipeline.spec.paths import Path
from integrations_pipeline.spec.ports import Breaker, CallLog, Limiter, Priority, TokenStore
from integrations_pipeline.spec.secrets import Secret
from integrations_pipeline.spec.streams import Count, Stream
from integrations_pipeline.spec.write import Operation


class Client:
    """Speaks to the source: one layer of retries, one shared rate limit, credentials only to the own origins.

    Every call raises the errors of ``spec.errors`` with their place. Safe to use from several threads. ``meter``
    counts requests and waits since the client was made. Close it when done.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        limiter: Limiter,
        breaker: Breaker | None = None,
        tokens: TokenStore | None = None,
        clock: Clock | None = None,
        priority: Priority = Priority.POLL,
        secrets: Mapping[str, Secret] | None = None,
        log: CallLog | None = None,
    ):
        """Resolves the secrets unless they are given, and loads the hooks. Raises ConfigError where one is missing."""
        api = connection.api
        if secrets is None:
            secrets = {name: source.resolve(name) for name, source in connection.secrets.items()}
        self.meter = Meter()
        self._connection, self._api, self._clock = connection, api, clock or SystemClock()
        self._hooks = load_hooks(connection, Home.from_environment()) if connection.hooks.model_fields_set else {}
        self._builder = RequestBuilder(api, secrets, self._hooks.get("request"))
        self._session = HttpSession(max_bytes=api.max_response, connections=max(api.concurrency, READ_AHEAD_PAGES) + 1)
        redactor = self._redactor = redactor_of(connection, secrets)
        self._log = log or Unlogged()
        every_body = connection.log_bodies == "all"
        make = partial(
            Exchange,
            session=self._session,
            redactor=redactor,
            limiter=limiter,
            breaker=breaker or Unbroken(),
            clock=self._clock,
            priority=priority,
            meter=self.meter,
            notes=Notes(connection.name, self._log, redactor, self._clock, every_body=every_body),
        )
        bare = partial(make, proof=Fixed())
        means = Means(connection.name, api, secrets, self._builder, bare, tokens, self._clock, self.meter, redactor)
        self._proof = proof_of(means)
        self._exchange = make(api, builder=self._builder, proof=self._proof)
        self._plans: dict[tuple[str, bool], ListPlan] = {}
        self._closed = Event()
        self._stops: WeakSet[Event] = WeakSet()

    def pages(
        self,
        stream_name: str,
        *,
        full: bool = False,
        position: dict[str, Any] | None = None,
        since: Any = None,
        until: Any = None,
        parent: dict[str, Any] | None = None,
        probe: dict[str, str] | None = None,
    ) -> Iterator[Page]:
        """The pages of a list in order, read ahead; from ``position`` (a Page's ``next``) or from the start.

        ``since`` and ``until`` are cursor values as ``format_cursor`` gives them; without ``since`` the declared
        `start` is sent. ``parent`` is the parent's record, ``probe`` a Page's ``validator``. ``full`` reads as the
        stream's `full` says. Closing the iterator ends its threads.
        """
        plan = self._plan(stream_name, full=full)
        workers = self._api.concurrency if may_be_counted(plan) else 1
        return self._read(plan, self._begin(plan, position, since, until, parent, probe), workers)

    def prepare(self, stream_name: str) -> None:
        """Makes ready what the stream's lists need. Raises ConfigError, so that it is found before a request."""
        stream = self._stream(stream_name)
        if stream.request is not None:
            self._plan(stream_name, full=False)
            self._plan(stream_name, full=True)
        if stream.deletes and stream.deletes.feed:
            plan_feed(stream_name, stream, stream.deletes.feed, self._api, self._builder)

    def get(self, stream_name: str, external_id: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """One record by its id, or by the fields of its ``key``; None where the source doesn't know it."""
        stream = self._stream(stream_name)
        if stream.get is None:
            raise ConfigError(f"{stream_name} has no `get`", next="declare how one record is read")
        asked = Asked(self._where(stream_name), (*stream.errors, *self._api.errors), repeatable=True)
        named = {f"key.{name}": part for name, part in key.items()}
        try:
            answer, meaning = self._call(stream.get, {"external_id": external_id, **named}, asked)
        except NotFound:
            return None
        if meaning is not None:
            return None
        record = (stream.get.record or Path(())).get(answer.document)
        if not isinstance(record, dict):
            where = f"{asked.where} {answer.request}"
            raise ContractError("the answer holds no object, where the record should be", where=where)
        found: dict[str, Any] = self.as_read(stream_name, record)
        return found

    def as_read(self, stream_name: str, record: Any) -> Any:
        """A record that came by other ways than a list: without credentials that the source repeats, and as the hook
        `record` makes it. Raises what the hook does."""
        record = self._redactor.data(record)
        return self._hooked(record, stream_name, self._stream(stream_name)) if "record" in self._hooks else record

    def _shaped(self, pages: Iterator[Page], plan: ListPlan) -> Iterator[Page]:
        """The pages, their rows as the hook `record` makes them."""
        if "record" not in self._hooks or plan.feed:
            yield from pages
            return
        stream = self._stream(plan.name)
        for page in pages:
            yield replace(page, rows=[self._hooked(row, plan.name, stream) for row in page.rows])

    def _hooked(self, row: Any, stream_name: str, stream: Stream) -> Any:
        """The row as the hook `record` makes it."""
        key = ", ".join(str(path.get(row)) for path in stream.primary_key) if isinstance(row, dict) else ""
        try:
            return self._hooks["record"].record(row, stream=stream_name, key=key)
        except IntegrationError as error:
            raise self._told(error) from None

    def _told(self, error: IntegrationError) -> IntegrationError:
        """A hook's error: its text, and that of its cause, may quote what the hook was given."""
        error.what, error.__cause__ = self._redactor.text(error.what), None
        return error

    def count(self, stream_name: str, since: Any) -> int:
        """How many records the stream's `probe` counts from ``since`` on, a value as ``format_cursor`` gives it."""
        probe = self._stream(stream_name).probe
        if not isinstance(probe, Count):
            raise ConfigError(f"{stream_name} has no call under `probe`")
        rules = (*self._stream(stream_name).errors, *self._api.errors)
        asked = Asked(self._where(stream_name), rules, repeatable=True)
        try:
            return number_of(probe, self._call(probe, {"cursor": since}, asked)[0])
        except ContractError as error:
            raise error.at(f"{asked.where} {probe.request}") from None

    def write(self, stream_name: str, change: Change) -> Answered:
        """Does one change at the source. Raises AnswerLost where it isn't known whether it was done; all other errors
        mean that it surely wasn't. A delete of what isn't there is done."""
        return self._writer(stream_name).one(change)

    def write_many(self, stream_name: str, operation: Operation, changes: Sequence[Change]) -> list[Outcome]:
        """Does changes of one kind by `write.batch`: what became of each, in their order; one's failure is its own."""
        return self._writer(stream_name).many(operation, changes)

    def find(self, stream_name: str, change: Change) -> dict[str, Any] | None:
        """The record that a change whose answer was lost has made, by `write.find`; None where there surely is none."""
        return self._writer(stream_name).find(change)

    @contextmanager
    def beside_reads(self) -> Iterator[None]:
        """Until the block ends its requests share the rate limit with polls, instead of going before them."""
        before, self._exchange.priority = self._exchange.priority, Priority.POLL
        try:
            yield
        finally:
            self._exchange.priority = before

    def send(self, call: Call, values: Mapping[str, Any], *, private: bool = False) -> Answer:
        """Any declared call. ``values``: placeholder → value. A POST or PATCH whose answer got lost isn't repeated.

        ``private``: its bodies may hold a secret, and are not logged.
        """
        return self._call(call, values, Asked(self._where(), self._api.errors, private=private))[0]

    def check(self) -> None:
        """Proves the credentials: by `api.check`, else by the first page of the first stream.

        A person asks for it, so credentials that the source refused earlier are tried once more.
        """
        if isinstance(self._proof, Renewable):
            self._proof.try_again = True
        if self._api.check is not None:
            self.send(self._api.check, {})
            return
        name = next(name for name, stream in self._connection.streams.items() if stream.parent_stream is None)
        plan = self._plan(name, full=False)
        pages = self._read(plan, self._begin(plan, None, None, None, None, None), 0)
        try:
            next(pages, None)
        finally:
            pages.close()

    def deleted_keys(
        self, stream_name: str, *, position: dict[str, Any] | None = None, since: Any = None, until: Any = None
    ) -> Iterator[Page]:
        """The pages of `deletes.feed`; `key` finds the deleted record's key in each row. Else as ``pages``."""
        stream = self._stream(stream_name)
        feed = stream.deletes.feed if stream.deletes else None
        if feed is None:
            raise ConfigError(f"{stream_name} has no `deletes.feed`")
        plan = plan_feed(stream_name, stream, feed, self._api, self._builder)
        return self._read(plan, self._begin(plan, position, since, until, None, None), 1)

    def close(self) -> None:
        """Ends every wait, read and thread of this client, and writes its calls to the log."""
        self._closed.set()
        for stop in list(self._stops):
            stop.set()
        self._session.close()
        self._log.flush()

    def flush_log(self) -> str | None:
        """Writes what was noted of calls so far. Returns what can't be, in words for people; never raises."""
        return self._log.flush()

    def _writer(self, stream_name: str) -> Writer:
        hands = Hands(
            self._api,
            self._builder,
            lambda request, asked: self._exchange.answer(request, asked, self._closed),
            partial(self.get, stream_name),
            partial(self.as_read, stream_name),
            self._exchange.failed,
        )
        return Writer(self._where(stream_name), self._stream(stream_name), hands)

    def _call(self, call: Call, values: Mapping[str, Any], asked: Asked) -> Fetched:
        try:
            return self._exchange.answer(self._builder.build(call, values), asked, self._closed)
        except IntegrationError as error:
            raise error.at(f"{asked.where} {call.request}") from None

    def _begin(
        self,
        plan: ListPlan,
        position: dict[str, Any] | None,
        since: Any,
        until: Any,
        parent: dict[str, Any] | None,
        probe: dict[str, str] | None,
    ) -> Begin:
        """What isn't given is as in the position, which remembers it; else the declared `start`, and the present."""
        at = position or {}
        since = first_of(since, at.get("since"), start_of(plan.cursor))
        until = first_of(until, at.get("until"))
        if until is None and plan.ended and plan.cursor is not None:
            zone = None if plan.feed else zone_of(self._stream(plan.name))
            until = formatted(self._clock.now().replace(microsecond=0), plan.cursor, zone)
        return Begin(position, since, until, parent, probe)

    def _plan(self, stream_name: str, *, full: bool) -> ListPlan:
        plan = self._plans.get((stream_name, full))
        if plan is None:
            stream = self._stream(stream_name)
            plan = plan_list(stream_name, stream, full=full, api=self._api, builder=self._builder)
            self._plans[stream_name, full] = plan
        return plan

    def _read(self, plan: ListPlan, begin: Begin, workers: int) -> Generator[Page, None, None]:
        reader = ListReader(plan, begin, self._builder, self._fetch, self._redactor.data, workers=workers)
        stop = Event()
        self._stops.add(stop)
        if self._closed.is_set():
            stop.set()
        try:
            yield from self._shaped(reader.pages(stop), plan)
        except IntegrationError as error:
            raise error.at(f"{self._where(plan.name)} {plan.call.request}") from None

    def _fetch(self, request: Request, plan: ListPlan, conditional: bool, stop: Event) -> Fetched:
        page = self._hooks.get("page")
        asked = Asked(
            self._where(plan.name),
            plan.rules,
            is_list=True,
            repeatable=True,
            conditional=conditional,
            count=partial(row_count, plan) if page is None else None,
        )
        answer, meaning = self._exchange.answer(request, asked, stop)
        if page is None or plan.feed or meaning is not None or answer.status == 304:
            return answer, meaning
        try:
            return replace(answer, document=page(answer.document, stream=plan.name)), meaning
        except IntegrationError as error:
            raise self._told(error).at(f"{asked.where} {request}") from None

    def _stream(self, name: str) -> Stream:
        stream = self._connection.streams.get(name)
        if stream is None:
            known = ", ".join(self._connection.streams)
            raise ConfigError(f"{self._connection.name} has no stream {name}", next=f"name one of {known}")
        return stream

    def _where(self, stream_name: str = "") -> str:
        return f"{self._connection.name}/{stream_name}" if stream_name else self._connection.name


def row_count(plan: ListPlan, document: Any) -> int | None:
    """The items of a page, as the source counts them; None where there are none to be found."""
    try:
        return len(items_of(plan.records, document, single=plan.single))
    except ContractError:
        return None


def first_of(*values: Any) -> Any:
    """The first that is not None."""
    return next((value for value in values if value is not None), None)


def may_be_counted(plan: ListPlan) -> bool:
    """Whether the pages of a list can be known before they are read."""
    form = plan.form
    return form.type in ("page_number", "offset") and (form.total is not None or form.pages is not None)
