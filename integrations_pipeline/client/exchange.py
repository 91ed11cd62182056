"""One request answered: its turn under the limits, sent, understood, and tried again where that helps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from threading import Event
from typing import Any

from integrations_pipeline.client.answer import Answer
from integrations_pipeline.client.auth import Proof, Shown
from integrations_pipeline.client.body import date_of, document_of
from integrations_pipeline.client.classify import class_of, failure
from integrations_pipeline.client.meter import Meter
from integrations_pipeline.client.noting import Note, Notes, request_id_text
from integrations_pipeline.client.redaction import Redactor
from integrations_pipeline.client.request import Request, RequestBuilder
from integrations_pipeline.client.retry import Tries, TryAgain, Waiting, repeat
from integrations_pipeline.client.session import HttpSession, Received, Unanswered
from integrations_pipeline.client.waits import scarcest, told_seconds
from integrations_pipeline.spec.api import Api, ErrorClass, ErrorRule, Limit
from integrations_pipeline.spec.clock import Clock
from integrations_pipeline.spec.decoding import ENDS_EARLY
from integrations_pipeline.spec.errors import (
    AnswerLost,
    BreakerOpen,
    ContractError,
    CredentialsError,
    Deferred,
    DestinationError,
    IntegrationError,
    Transient,
)  # fmt: skip
from integrations_pipeline.spec.ports import Breaker, Limiter, Priority

REDIRECTS = 5  # more is a loop
MOVED = (301, 302, 303, 307, 308)
REPEATABLE = ("GET", "HEAD", "PUT", "DELETE")
REQUEST_IDS = ("X-Request-Id", "Request-Id", "X-Correlation-Id", "X-Trace-Id", "X-Amzn-RequestId", "CF-Ray")


@dataclass(frozen=True, slots=True)
class Asked:
    """How the answer of a request is to be understood. ``repeatable``: a POST that only reads. ``write``: one that
    changes a record, and is tried again only where it surely wasn't done."""

    where: str
    rules: Sequence[ErrorRule]
    is_list: bool = False
    repeatable: bool = False
    conditional: bool = False
    write: bool = False
    private: bool = False  # its bodies may hold credentials: the call log keeps none of them
    count: Callable[[Any], int | None] | None = None  # the rows of a good answer's document, for the call log

    @property
    def stream(self) -> str | None:
        return self.where.partition("/")[2] or None


class Unreadable(ContractError):
    """A good answer whose body is of no use: what was asked for is done."""


class Unbroken:
    """The ``ports.Breaker`` of a client that is used once: it pauses nothing and counts nothing."""

    def before_call(self) -> None:
        return

    def succeeded(self) -> None:
        return

    def failed(self, what: str) -> None:
        return

    def undecided(self) -> None:
        return

    def may_retry(self) -> bool:
        return True


class Exchange:
    """The connection's one way out. Safe to use from several threads. ``priority`` may be changed at any time."""

    def __init__(
        self,
        api: Api,
        builder: RequestBuilder,
        *,
        session: HttpSession,
        redactor: Redactor,
        limiter: Limiter,
        breaker: Breaker,
        clock: Clock,
        priority: Priority,
        meter: Meter,
        proof: Proof,
        notes: Notes,
    ):
        self._api, self._session, self._builder, self._redactor = api, session, builder, redactor
        self._limiter, self._breaker, self._clock = limiter, breaker, clock
        self.priority, self._meter, self._proof, self._notes = priority, meter, proof, notes

    def answer(self, request: Request, asked: Asked, stop: Event) -> tuple[Answer, ErrorClass | None]:
        """The answer, with `end_of_list` or `ignore` where it was declared to mean that.

        Raises the error of its class, with its place; after all tries RateLimited or Transient with ``resume_at``; of a
        write AnswerLost where it may have been done, Unreadable where it was.
        """
        waiting = Waiting(self._clock, self._meter, stop)
        tries = Tries(self._api.retry, waiting, self._limiter, self._breaker, self._limits_of(request))
        try:
            return repeat(lambda: self._try(request, asked, waiting, stop), tries, self._api.retry.attempts)
        except IntegrationError as error:
            raise error.at(f"{asked.where} {request}") from None

    def failed(self, found: ErrorClass, answer: Answer) -> IntegrationError:
        """The error of a class for an answer that is part of another one, such as an item of a batch."""
        return failure(found, answer, b"", self._redactor)

    def _try(self, request: Request, asked: Asked, waiting: Waiting, stop: Event) -> tuple[Answer, ErrorClass | None]:
        waiting.attempt += 1
        try:
            found = self._ask(request, asked, waiting, stop)
        except TryAgain as failed:
            self._tell_breaker(failed.error, stop)
            raise
        except IntegrationError as error:
            self._tell_breaker_of(asked, error, stop)
            raise
        self._tell_breaker_of(asked, None, stop)
        return found

    def _tell_breaker_of(self, asked: Asked, error: IntegrationError | None, stop: Event) -> None:
        """What became of a write isn't hidden by a breaker that opens now, or by a database that is away."""
        try:
            self._tell_breaker(error, stop)
        except (BreakerOpen, DestinationError):
            if not asked.write:
                raise

    def _tell_breaker(self, error: IntegrationError | None, stop: Event) -> None:
        """A refusal proves that the source is alive; being told to wait, or nobody waiting, proves neither."""
        if stop.is_set() or isinstance(error, DestinationError):
            self._breaker.undecided()
        elif isinstance(error, Transient | AnswerLost):
            self._breaker.failed(error.what)
        elif isinstance(error, Deferred):
            self._breaker.undecided()
        else:
            self._breaker.succeeded()

    def _ask(self, request: Request, asked: Asked, waiting: Waiting, stop: Event) -> tuple[Answer, ErrorClass | None]:
        """Once; with other credentials again where these were refused, so that a list keeps its place."""
        self._take_turn(request, waiting)
        shown = self._proof.shown(stop)
        try:
            found = self._show(request, shown, asked, waiting, stop)
        except CredentialsError:
            renewed = self._proof.instead_of(shown, stop)
            if renewed is None:
                raise
            shown = renewed
            self._take_turn(request, waiting)
            found = self._show(request, shown, asked, waiting, stop)
        with answered(asked):
            self._proof.accepted(shown)
        return found

    def _show(
        self, request: Request, shown: Shown, asked: Asked, waiting: Waiting, stop: Event
    ) -> tuple[Answer, ErrorClass | None]:
        deadline = self._clock.monotonic_seconds() + self._api.timeout.total_seconds()
        for moves in range(REDIRECTS + 1):
            if moves:
                self._take_turn(request, waiting)
            credentials = shown.at(request.url)
            self._redactor.showing(credentials)
            proved = self._builder.proved(request, credentials)
            with self._noted(request, asked, waiting) as note:
                received = self._send(proved, asked, deadline, stop, note)
                if received.status not in MOVED:
                    with answered(asked):
                        answer, meaning = self._understand(received, request, asked, note.call.at)
                    self._tell(note, answer, meaning, asked)
                    return replace(answer, call=note.call.id), meaning
                request = self._moved(request, received)
        raise ContractError(f"the source redirected {REDIRECTS} times in a row")

    def _take_turn(self, request: Request, waiting: Waiting) -> None:
        """Waits for the rate limit that all processes share."""
        self._breaker.before_call()
        waiting.check()
        limits = self._limits_of(request)
        hold = partial(waiting.hold, reason="the rate limit")
        while wait := self._limiter.reserve(limits, self.priority, hold):
            hold(wait)
            self._breaker.before_call()  # it may have opened meanwhile, or the time for a probe have passed
            if self._limiter.still_granted():
                return

    def _limits_of(self, request: Request) -> list[Limit]:
        return [one for one in self._api.limits if one.applies_to(request.method, request.path)]

    def _noted(self, request: Request, asked: Asked, waiting: Waiting) -> AbstractContextManager[Note]:
        url = self._builder.without_credentials(request.url)
        reads = asked.repeatable and not asked.private
        return self._notes.call(request, url, waiting, stream=asked.stream, private=asked.private, reads=reads)

    def _tell(self, note: Note, answer: Answer, meaning: ErrorClass | None, asked: Asked) -> None:
        """What a good answer means, for the call log."""
        note.call.outcome = meaning or "ok"
        if meaning is None and asked.count is not None and answer.status < 300:
            note.call.rows = asked.count(answer.document)

    def _send(self, request: Request, asked: Asked, deadline: float, stop: Event, note: Note) -> Received:
        self._meter.count_request()
        began = self._clock.monotonic_seconds()
        try:
            received = self._session.exchange(request, seconds=max(deadline - began, 0.001), stop=stop)
            note.answered(received, self._clock.monotonic_seconds() - began)
            note.call.request_id = request_id_text(self._redactor, request_id_of(received))
            return received
        except Unanswered as lost:
            raise self._lost(lost, request, asked) from None
        except ContractError as error:  # too large, or packed as wasn't asked for
            raise Unreadable(error.what, next=error.next) from None

    def _lost(self, lost: Unanswered, request: Request, asked: Asked) -> TryAgain | Deferred:
        """What to raise for an answer that didn't come: a write may have been done, so it isn't repeated blindly."""
        if asked.write and lost.sent:
            return AnswerLost(lost.error.what)
        repeatable = asked.repeatable or request.method in REPEATABLE or not lost.sent
        return TryAgain(lost.error) if repeatable else lost.error

    def _moved(self, request: Request, received: Received) -> Request:
        """The same request at the place it moved to. Only reads are moved, and only within the origin."""
        location = received.headers.get("Location")
        if not location or request.method not in ("GET", "HEAD"):
            raise ContractError(f"the source redirects {request} ({received.status}); use the URL it moved to")
        return self._builder.moved(request, location)

    def _understand(
        self, received: Received, request: Request, asked: Asked, asked_at: datetime
    ) -> tuple[Answer, ErrorClass | None]:
        answer = self._decoded(received, request, asked, asked_at)
        found = class_of(answer, asked.rules, self._api, is_list=asked.is_list)
        if answer.status == 304 and not asked.conditional:
            found = found or "contract"
        told = told_seconds(answer, self._api)
        self._note_remaining(answer, request)
        if found in (None, "end_of_list", "ignore"):
            if told is not None:
                self._limiter.told_to_wait(self._clock.now() + timedelta(seconds=told))
            return answer, found
        error = failure(found, answer, received.body, self._redactor)
        if answer.request_id:
            error.where = f"{asked.where} {request}, request id {self._redactor.text(answer.request_id)[:80]}"
        if isinstance(error, Transient) and asked.write and perhaps_done(answer):
            raise self._unsure(error, told)
        if isinstance(error, Deferred) and (
            asked.repeatable or asked.write or request.method in REPEATABLE or found == "rate_limited"
        ):
            raise TryAgain(error, told)
        raise error

    def _unsure(self, error: Transient, told: float | None) -> AnswerLost:
        until = None if told is None else self._clock.now() + timedelta(seconds=told)
        if until is not None:
            self._limiter.told_to_wait(until)
        return AnswerLost(error.what, where=error.where, resume_at=until)

    def _note_remaining(self, answer: Answer, request: Request) -> None:
        """What the source will still answer in its tightest window, where it says so; nothing left is a wait told."""
        if tightest := scarcest(answer, self._api):
            until = self._clock.now() + timedelta(seconds=tightest.seconds)
            self._limiter.remaining(self._limits_of(request), int(tightest.left), until)

    def _decoded(self, received: Received, request: Request, asked: Asked, asked_at: datetime) -> Answer:
        """The answer with its document. What failed by its status may be anything; a good one is JSON or empty."""
        good = received.status < 300
        try:
            document = document_of(received)
        except ContractError as error:
            if good and not received.framed and ENDS_EARLY in error.what:
                raise self._lost(Unanswered(Transient("the answer was cut off")), request, asked) from None
            if good:
                raise Unreadable(error.what) from None
            document = None
        if good and asked.is_list and not received.body and not received.framed and received.status != 204:
            raise self._lost(Unanswered(Transient("the answer was cut off")), request, asked)
        told_at = date_of(received.headers) or self._clock.now()
        return Answer(
            received.status,
            received.headers,
            document,
            asked_at if told_at >= asked_at.replace(microsecond=0) else told_at,  # a Date is in whole seconds
            told_at,
            str(request),
            request_id_of(received),
            request.url,
            received.cookies,
            repeats=self._redactor.repeated_in(received.body),
        )


@contextmanager
def answered(asked: Asked) -> Iterator[None]:
    """A write that the source has answered isn't taken for undone because our own database went away since."""
    try:
        yield
    except DestinationError as error:
        if asked.write:
            raise AnswerLost(f"the source answered, but {error.what}") from None
        raise


def perhaps_done(answer: Answer) -> bool:
    """Whether a write that got this answer may have been done all the same: a 4xx is a refusal, but for the 408 of a
    gateway that no longer waits."""
    return answer.status == 408 or not 400 <= answer.status < 500


def request_id_of(received: Received) -> str | None:
    """How the source names this exchange, where it does."""
    return next((received.headers[name] for name in REQUEST_IDS if name in received.headers), None)
