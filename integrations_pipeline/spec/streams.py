"""The `streams` block: one list of a source each, read, checked, mapped and written back."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Tag, model_validator
from pydantic import Field as Key

from integrations_pipeline.spec import limits
from integrations_pipeline.spec.api import ErrorRule
from integrations_pipeline.spec.conditions import ConditionText
from integrations_pipeline.spec.fields import Contract, Field
from integrations_pipeline.spec.forms import Call, Duration, EveryText, Model, Percent, Request
from integrations_pipeline.spec.mapping import Map
from integrations_pipeline.spec.pagination import Pagination
from integrations_pipeline.spec.paths import PathsText, PathText
from integrations_pipeline.spec.placeholders import names_in
from integrations_pipeline.spec.places import ReadPlaceText, SendPlaceText
from integrations_pipeline.spec.write import Write


class Records(Model):
    """Where the rows of an answer are, and what form they have."""

    short_form = {"type": ["string", "array"]}
    path: PathText
    keyed_by: list[str] | None = Key(None, min_length=1)
    value: str | None = None
    unwrap: PathText | None = None
    include: dict[str, ReadPlaceText] = {}
    optional: bool = False

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return value if isinstance(value, dict) else {"path": value}


class StreamCursor(Model):
    """Incremental reading: where the mark is found, and how the list is asked for what came after it."""

    field: PathText | None = None
    read: ReadPlaceText | None = None
    keep: Literal["first", "last"] = "last"
    send: SendPlaceText | None = None
    start: Any = None
    lookback: Duration | None = None
    format: str | None = None
    order: Literal["none", "asc", "desc"] = "none"
    send_end: SendPlaceText | None = None
    step: Duration | None = None
    retention: Duration | None = None

    @model_validator(mode="after")
    def _one(self) -> StreamCursor:
        if (self.field is None) == (self.read is None):
            raise ValueError("exactly one of field, read was expected")
        if self.read is not None and self.lookback is not None:
            raise ValueError("an opaque cursor (`read`) has no lookback")
        return self


class Full(Model):
    """What differs in a full refresh; an explicit null removes what the stream says."""

    request: Request | None = None
    query: dict[str, Any] | None = None
    headers: dict[str, Any] | None = None
    body: Any = None
    graphql: str | None = None
    records: Records | None = None
    pagination: Pagination | None = None


class Feed(Model):
    """A list of deleted keys."""

    call: Call
    records: Records
    key: PathText
    cursor: StreamCursor | None = None


class Deletes(Model):
    when: ConditionText | None = None
    snapshot: Duration | None = None
    at_most: Percent = limits.TOMBSTONE_PERCENT
    feed: Feed | None = None

    @model_validator(mode="after")
    def _some(self) -> Deletes:
        if self.when is None and self.snapshot is None and self.feed is None:
            raise ValueError("at least one of when, snapshot, feed was expected")
        return self


class Get(Call):
    record: PathText | None = None


class Count(Call):
    """Asks how many records there are from ``<cursor>`` on; ``read`` is where the answer holds the number."""

    short_form = None
    read: ReadPlaceText


Validator = Literal["etag", "last_modified"]
Probe = Annotated[
    Annotated[Validator, Tag("Validator")] | Annotated[Count, Tag("Count")],
    Discriminator(lambda value: "Count" if isinstance(value, dict | Count) else "Validator"),
]


class Stream(Model):
    """One list of the source. ``calls`` and the other properties answer what the rooms above ask."""

    request: Request | None = None
    query: dict[str, Any] = {}
    headers: dict[str, Any] = {}
    body: Any = None
    graphql: str | None = None
    parent: str | None = None
    parents: Literal["all", "changed"] = "all"
    records: Records | None = None
    record: Records | None = None
    primary_key: PathsText
    version: PathText | None = None
    skip: ConditionText | None = None
    cursor: StreamCursor | None = None
    full: Full | None = None
    deletes: Deletes | None = None
    get: Get | None = None
    probe: Probe | None = None
    pagination: Pagination | None = None
    errors: list[ErrorRule] = []
    every: EveryText | None = None
    fields: dict[str, Field] = {}
    contract: Contract = Contract()
    map: Map | None = None
    write: Write | None = None
    description: str = ""

    @model_validator(mode="after")
    def _checked(self) -> Stream:
        if (self.request is None) == (self.parent is None):
            raise ValueError("exactly one of request, parent was expected")
        if (self.records is None) == (self.record is None):
            raise ValueError("exactly one of records, record was expected")
        return self

    @property
    def call(self) -> Call:
        """The incremental list's request. A stream read inside its parent has none: ValueError."""
        return Call.model_validate(
            {"request": self.request, "query": self.query, "headers": self.headers, "body": self.body,
             "graphql": self.graphql}
        )  # fmt: skip

    @property
    def parent_stream(self) -> str | None:
        """The stream whose records this one is read under, by ``request`` with ``<parent.FIELD>`` or by ``parent``."""
        if self.parent:
            return self.parent
        dotted = [n for n in names_in([self.request, self.query, self.headers, self.body]) if "." in n]
        own = [
            n for n in dotted if not n.startswith(("cursor.", "key.", "record.", "fields.", "kept.", "subscription."))
        ]
        return own[0].split(".", 1)[0] if own else None

    @property
    def rows(self) -> Records:
        """Where the rows of the incremental list are."""
        return self.records or self.record  # type: ignore[return-value]


LOOKBACK_DEFAULT = timedelta(seconds=1)
LOOKBACK_DEFAULT_DATES = timedelta(days=1)
