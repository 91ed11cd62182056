"""Writes to the source: one change or a batch, each told as done, refused, or unsure. Never done twice on our account.

A request is tried again only where the source surely did nothing: it told us to wait, or couldn't be reached. Where the
answer was lost, AnswerLost says so, and whoever asked must settle it: by the same key, or by ``find``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import structlog

from integrations_pipeline.client.answer import Answer
from integrations_pipeline.client.classify import class_of
from integrations_pipeline.client.exchange import Asked, Unreadable, perhaps_done
from integrations_pipeline.client.listing import Fetched
from integrations_pipeline.client.request import Request, RequestBuilder, resolver
from integrations_pipeline.spec.api import Api, ErrorClass
from integrations_pipeline.spec.decoding import encode
from integrations_pipeline.spec.errors import (
    AnswerLost,
    ConfigError,
    Conflict,
    ContractError,
    CredentialsError,
    DataError,
    Deferred,
    Exists,
    IntegrationError,
    NotFound,
    PermissionDenied,
    SourceConfigError,
    Transient,
)
from integrations_pipeline.spec.forms import Call
from integrations_pipeline.spec.paths import MISSING, WHOLE, Path, parse_path
from integrations_pipeline.spec.placeholders import as_text, names_in
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.spec.write import Batch, Operation, Write, set_leaves

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Change:
    """One change of one record, as it is sent."""

    operation: Operation
    fields: dict[str, Any]  # under the source's own paths: all for a create and a PUT, else the changed ones
    external_id: str | None  # None for a create
    key: Mapping[str, Any]  # the parts of the primary key, by path
    record: dict[str, Any] | None  # the source's own, as last known
    reference: str  # the canonical id
    idempotency_key: str  # the same at each try


@dataclass(frozen=True)
class Answered:
    """What the source said of a change that is done. ``record``: as a list would have given it; None where the reply
    holds none. ``call``: the request's entry in the call log."""

    record: dict[str, Any] | None
    external_id: str | None
    call: int | None = field(default=None, compare=False)


Outcome = Answered | IntegrationError
OF_ITS_ITEMS = (DataError, SourceConfigError, NotFound, Conflict, Exists)
"""A whole batch refused so may be refused for one item's sake: each is then sent on its own."""

OF_ALL = (Deferred, CredentialsError, PermissionDenied)
"""What would meet the next request too. A lost answer is not of that kind: the breaker counts those."""


@dataclass(frozen=True)
class Hands:
    """What a writer uses of its client. ``ask`` sends a request; ``read`` reads one record by id and key; ``as_read``
    is the hook `record`; ``failed`` is the error of a class for an answer."""

    api: Api
    builder: RequestBuilder
    ask: Callable[[Request, Asked], Fetched]
    read: Callable[[str, Mapping[str, Any]], dict[str, Any] | None]
    as_read: Callable[[Any], Any]
    failed: Callable[[ErrorClass, Answer], IntegrationError]


class Writer:
    """The writes of one stream. Raises ConfigError where it has no `write`."""

    def __init__(self, where: str, stream: Stream, hands: Hands):
        if stream.write is None or stream.map is None:
            raise ConfigError(f"{where} has no `write`", next="declare what may be written")
        self.where, self.stream, self.hands = where, stream, hands
        self.write: Write = stream.write
        self.sources = {name: stream.map.fields[name].from_ for name in self.write.fields}
        self.rules = (*stream.errors, *hands.api.errors)
        self.asked = Asked(where, self.rules, write=True)

    # one change

    def one(self, change: Change) -> Answered:
        """Sends it alone. Raises AnswerLost where it isn't known whether it was done."""
        call = self.write.call_of(change.operation)
        if call is None:
            raise undeclared(self.where, change.operation)
        values = self.values(change, call, {**self.write.set, **call.set})
        request = self.request(call, body_of(call, change), values, change.idempotency_key)
        try:
            answer, meaning = self.hands.ask(request, self.asked)
        except NotFound:
            if change.operation == "delete":
                return Answered(None, change.external_id)
            raise
        except Unreadable as error:
            return self.done_unread(change, error)
        told = self.answered(change, None if meaning else answer.document, f"{self.where} {answer.request}")
        return replace(told, call=answer.call)

    def values(self, change: Change, call: Call, added: Mapping[str, Any]) -> dict[str, Any]:
        """What the placeholders stand for; ``added``: what `set` adds to the fields."""
        fields = deepcopy(change.fields)
        named = {f"fields.{name}": self.named(change, path) for name, path in self.sources.items() if path is not None}
        key = {f"key.{name}": part for name, part in change.key.items()}
        values: dict[str, Any] = {**named, **key, "reference": change.reference, "record": change.record}
        values |= {"external_id": change.external_id, "idempotency_key": change.idempotency_key}
        if (call.encoding or self.hands.api.encoding) == "form":
            fields = emptied(fields)
        resolve = resolver({**values, "fields": fields})
        for path, value in set_leaves(added):
            if change.external_id is not None or not names_record(value):
                path.put(fields, self.hands.builder.fill(value, resolve))
        return {**values, "fields": fields}

    def named(self, change: Change, path: Path) -> Any:
        """A field's value after the change, as far as it is known."""
        found = path.get(change.fields)
        return path.get(change.record) if found is MISSING else found

    def request(self, call: Call, body: Any, values: Mapping[str, Any], key: str) -> Request:
        place = self.write.idempotency.send if self.write.idempotency else None
        sent = place is not None and (place.kind != "body" or isinstance(body, dict) or body == "<fields>")
        sends = [(place, key)] if place is not None and sent else []
        try:
            return self.hands.builder.build(call.model_copy(update={"body": body}), values, sends)
        except IntegrationError as error:
            raise error.at(f"{self.where} {call.request}") from None

    def done_unread(self, change: Change, error: Unreadable) -> Answered:
        """The source said that it is done, and the rest can't be read: enough unless it was to tell a new id."""
        if change.operation == "delete" or (self.write.answer == "reread" and change.operation == "update"):
            return self.answered(change, None, error.where)
        raise AnswerLost(error.what, where=error.where)

    def answered(self, change: Change, reply: Any, where: str) -> Answered:
        """What a reply says of a change that is done. Raises AnswerLost for a create whose id it doesn't name."""
        if change.operation == "delete":
            return Answered(None, change.external_id)
        reread = self.write.answer == "reread"
        record = None if reread else self.shaped(self.write.answer.get(reply))
        told = self.write.id.get(reply) if self.write.id else None
        key = self.key_in(reply if reread else record)
        external_id = id_text([told]) if told is not None else id_text([*key.values()])
        if change.operation == "create" and external_id is None:
            raise AnswerLost("the source took the new record, but its answer names no id", where=where)
        if reread:
            external_id = external_id or change.external_id
            record = self.reread(external_id or "", key if None not in key.values() else change.key)
        if record is not None and id_text([*self.key_in(record).values()]) != (change.external_id or external_id):
            record = None  # something else than the record: the next read of it tells
        return Answered(record, change.external_id or external_id)

    def shaped(self, record: Any) -> dict[str, Any] | None:
        """A record in a reply, as the hook `record` makes it. What fails by now can't undo the change: None."""
        try:
            found = self.hands.as_read(record) if isinstance(record, dict) else None
        except IntegrationError as error:
            self.tell_unread(error)
            return None
        return found if isinstance(found, dict) else None

    def reread(self, external_id: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
        try:
            return self.hands.read(external_id, key)
        except IntegrationError as error:
            self.tell_unread(error)
            return None

    def tell_unread(self, error: IntegrationError) -> None:
        log.warning("the change is done, but its record could not be read", where=self.where, error=error.what)

    def key_in(self, record: Any) -> dict[str, Any]:
        found = {str(path): path.get(record) for path in self.stream.primary_key}
        return {name: None if part is MISSING else part for name, part in found.items()}

    # looking for a change whose answer was lost

    def find(self, change: Change) -> dict[str, Any] | None:
        """The record that the change made, or None where the source surely has none (yet: see `lag`).

        Raises DataError where several match.
        """
        find = self.write.find
        if find is None:
            raise ConfigError(f"{self.where} has no `find`", next="declare how a record is looked for")
        request = self.request_to_find(change)
        asked = Asked(self.where, self.rules, repeatable=True)
        try:
            answer, meaning = self.hands.ask(request, asked)
        except NotFound:
            return None
        items = [] if meaning else items_in(answer, find.records, find.record, f"{self.where} {request}")
        match = find.match
        same = [one for one in items if match is None or text_at(match, one) == change.reference]
        if len(same) > 1:
            raise DataError(
                f"{len(same)} records match, where one was looked for",
                where=f"{self.where} {request}",
                next="remove the doubles at the source, or declare `match` so that one is meant",
            )
        found = self.hands.as_read(same[0]) if same else None
        return found if isinstance(found, dict) else None

    def request_to_find(self, change: Change) -> Request:
        assert self.write.find is not None
        named = {f"fields.{name}": self.named(change, path) for name, path in self.sources.items() if path is not None}
        try:
            return self.hands.builder.build(self.write.find, {**named, "reference": change.reference})
        except IntegrationError as error:
            raise error.at(f"{self.where} {self.write.find.request}") from None

    # batches

    def many(self, operation: Operation, changes: Sequence[Change]) -> list[Outcome]:
        """The outcome of each change, in their order; sent together, up to `size` at once."""
        batch = self.write.batch
        call = batch.call_of(operation) if batch else None
        if batch is None or call is None:
            raise undeclared(self.where, f"batch.{operation}")
        chunks = [changes[at : at + batch.size] for at in range(0, len(changes), batch.size)]
        outcomes: list[Outcome] = []
        for chunk in chunks:
            last = outcomes[-1] if outcomes else None
            outcomes += [last] * len(chunk) if stops(last) and last else self.chunk(batch, call, chunk)
        return outcomes

    def chunk(self, batch: Batch, call: Call, changes: Sequence[Change]) -> list[Outcome]:
        """One request for all whose items can be made, and one for each that it doesn't settle."""
        outcomes: dict[int, Outcome] = {}
        items: dict[int, dict[str, Any]] = {}
        for at, change in enumerate(changes):
            try:
                items[at] = self.values(change, call, {**self.write.set, **batch.set})["fields"]
            except IntegrationError as error:
                outcomes[at] = error.at(self.where)
        if items:
            outcomes |= self.together(batch, call, {at: changes[at] for at in items}, items)
        last: Outcome | None = None
        for at in [at for at in items if at not in outcomes]:
            last = last if last and stops(last) else self.alone(batch, call, changes[at])
            outcomes[at] = last
        return [outcomes[at] for at in range(len(changes))]

    def together(
        self, batch: Batch, call: Call, changes: Mapping[int, Change], items: Mapping[int, dict[str, Any]]
    ) -> dict[int, Outcome]:
        """The outcome of each that the one answer settles."""
        try:
            answer = self.ask_batch(batch, call, list(changes.values()), list(items.values()))
        except OF_ITS_ITEMS as error:
            return {} if len(changes) > 1 else dict.fromkeys(changes, error)
        except IntegrationError as error:
            return dict.fromkeys(changes, error)
        named = self.named_results(batch, results_in(batch, answer.document), changes, items)
        told = {at: self.outcome(batch, changes[at], result, answer) for at, result in named.items()}
        return {**self.untold(batch, call, changes, answer), **told}

    def operation(self, changes: Mapping[int, Change]) -> Operation:
        return next(iter(changes.values())).operation

    def ask_batch(self, batch: Batch, call: Call, changes: list[Change], items: list[dict[str, Any]]) -> Answer:
        """The key of a batch is made of its changes' keys: the same for the same changes."""
        key = str(uuid5(NAMESPACE_URL, " ".join(one.idempotency_key for one in changes)))
        given = call.body if call.body is not None else batch.body
        body = "<items>" if given is None else given
        request = self.request(call, body, {"items": items, "idempotency_key": key}, key)
        try:
            answer, meaning = self.hands.ask(request, self.asked)
        except Unreadable as error:
            raise AnswerLost(error.what, where=error.where) from None
        return replace(answer, document=None) if meaning else answer

    def untold(self, batch: Batch, call: Call, changes: Mapping[int, Change], answer: Answer) -> dict[int, Outcome]:
        """Of items that no result names: an update may be sent again alone, a new record may be there already."""
        create = self.operation(changes) == "create"
        if create and not (call is batch.upsert and self.write.create is None):
            what = "the source took a batch, and its answer doesn't tell of this item"
            return dict.fromkeys(changes, AnswerLost(what, where=f"{self.where} {answer.request}"))
        if not create and batch.results is None and answer.document is None:
            return {at: Answered(None, change.external_id, answer.call) for at, change in changes.items()}
        return {}

    def named_results(
        self, batch: Batch, results: list[Any], changes: Mapping[int, Change], items: Mapping[int, dict[str, Any]]
    ) -> dict[int, Any]:
        """By order where there are as many as items; else by what the item itself holds at the path, its id or its
        reference."""
        if batch.by == "order":
            pairs = zip(items, results, strict=True) if len(results) == len(items) else ()
            return {at: one for at, one in pairs if isinstance(one, dict)}
        path = parse_path(batch.by)
        known = {text_at(path, one): one for one in results if isinstance(one, dict)}
        names = {
            at: text_at(path, items[at]) or change.external_id or change.reference for at, change in changes.items()
        }
        return {at: known[name] for at, name in names.items() if name in known}

    def outcome(self, batch: Batch, change: Change, result: dict[str, Any], answer: Answer) -> Outcome:
        """One item's result, understood as if it were an answer of its own."""
        status = status_of(batch.status.get(result)) if batch.status else 200
        own, where = replace(answer, status=status, document=result), f"{self.where} {answer.request}"
        found = class_of(own, self.rules, self.hands.api, is_list=False)
        try:
            if found is None or found in ("ignore", "end_of_list"):
                told = self.answered(change, result if found is None else None, where)
                return replace(told, call=answer.call)
            error = self.hands.failed(found, own).at(where)
        except AnswerLost as lost:
            return lost
        unsure = isinstance(error, Transient) and perhaps_done(own)
        return AnswerLost(error.what, where=error.where) if unsure else error

    def alone(self, batch: Batch, call: Call, change: Change) -> Outcome:
        """By the call for one, else as a batch of one."""
        try:
            if self.write.call_of(change.operation) is not None:
                return self.one(change)
            item = self.values(change, call, {**self.write.set, **batch.set})["fields"]
            told = self.together(batch, call, {0: change}, {0: item})
        except IntegrationError as error:
            return error
        lost = AnswerLost("the source answered, but not what became of the item", where=f"{self.where} {call.request}")
        return told.get(0, lost)


def undeclared(where: str, key: str) -> ConfigError:
    return ConfigError(f"{where} has no `write.{key}`", next="declare the call, or leave such changes here")


def stops(outcome: Outcome | None) -> bool:
    """Whether what follows would only meet the same."""
    return isinstance(outcome, OF_ALL) and not isinstance(outcome, AnswerLost)


def body_of(call: Call, change: Change) -> Any:
    """`<fields>` unless the call has a body of its own; a delete has none."""
    return "<fields>" if call.body is None and call.graphql is None and change.operation != "delete" else call.body


def names_record(value: Any) -> bool:
    """Whether a value of `set` names the record that is changed, which a create doesn't have yet."""
    return any(name == "external_id" or name.startswith(("key.", "record.")) for name in names_in(value))


def emptied(value: Any) -> Any:
    """Null as empty text: a form leaves null out, and then the source keeps what it has."""
    if isinstance(value, dict):
        return {name: emptied(inner) for name, inner in value.items()}
    return "" if value is None else value


def id_text(parts: Sequence[Any]) -> str | None:
    """The key as one text, as the boundary writes it; None where a part is missing or names nothing."""
    if any(part in (None, "") or isinstance(part, bool) or not isinstance(part, str | int) for part in parts):
        return None
    return str(parts[0]) if len(parts) == 1 else encode(list(parts)).decode()


def items_in(answer: Answer, records: Path | None, record: Path | None, where: str) -> list[dict[str, Any]]:
    """The objects that a search found. Raises ContractError where there is no list."""
    found = (records or record or WHOLE).get(answer.document)
    if records is None:
        return [found] if isinstance(found, dict) and found else []
    if not isinstance(found, list):
        raise ContractError(f"the answer has no list at `{records}`, where the found records should be", where=where)
    return [one for one in found if isinstance(one, dict)]


def text_at(path: Path, document: Any) -> str:
    """What stands there, empty where nothing does."""
    found = path.get(document)
    return "" if found is MISSING else as_text(found)


def results_in(batch: Batch, document: Any) -> list[Any]:
    found = (batch.results or WHOLE).get(document)
    return found if isinstance(found, list) else []


def status_of(value: Any) -> int:
    """The HTTP status in a result: a number or its digits; `false` is a refusal, and what is none of them no news."""
    if isinstance(value, bool):
        return 200 if value else 422
    if isinstance(value, int) or (isinstance(value, str) and value.isdecimal()):
        return int(value)
    return 200
