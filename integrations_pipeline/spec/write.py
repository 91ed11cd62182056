"""The `write` block: what may leave, through which calls, and who wins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator
from pydantic import Field as Key

from integrations_pipeline.spec.conditions import ConditionText
from integrations_pipeline.spec.forms import Call, Duration, Model
from integrations_pipeline.spec.paths import WHOLE, Path, PathText, parse_path
from integrations_pipeline.spec.placeholders import names_in
from integrations_pipeline.spec.places import SendPlaceText

Operation = Literal["create", "update", "delete"]
"""What one change does to one record."""

Policy = Literal["remote_wins", "local_wins", "newest_wins", "review"]


def parse_answer(value: Any) -> Path | str:
    """``reread``, or a path."""
    return "reread" if value == "reread" else parse_path(value)


Answer = Annotated[Any, BeforeValidator(parse_answer, json_schema_input_type=str | list[str])]


def set_leaves(given: Mapping[str, Any], before: tuple[str, ...] = ()) -> Iterator[tuple[Path, Any]]:
    """The values of `set` with their whole paths; an object is entered, so that what stands beside it stays."""
    for key, value in given.items():
        parts = (*before, *parse_path(key).parts)
        if isinstance(value, dict) and value:
            yield from set_leaves(value, parts)
        else:
            yield Path(parts), value


class WriteCall(Call):
    """A write request; `set` adds to `<fields>`."""

    set: dict[str, Any] = {}


class Idempotency(Model):
    send: SendPlaceText
    kept: Duration


class Find(Call):
    records: PathText | None = None
    record: PathText | None = None
    match: PathText | None = None
    lag: Duration | None = None

    @model_validator(mode="after")
    def _one(self) -> Find:
        if (self.records is None) == (self.record is None):
            raise ValueError("exactly one of records, record was expected")
        return self


class Batch(Model):
    create: Call | None = None
    update: Call | None = None
    upsert: Call | None = None
    size: int = Key(gt=0)
    body: Any = None
    set: dict[str, Any] = {}
    results: PathText | None = None
    by: str = Key("order", description="`order`, or the path of an item's id in its result")
    status: PathText | None = None

    @model_validator(mode="after")
    def _some(self) -> Batch:
        if self.create is None and self.update is None and self.upsert is None:
            raise ValueError("at least one of create, update, upsert was expected")
        return self

    def call_of(self, operation: Operation) -> Call | None:
        """The call for many changes of that kind; None where they go one by one."""
        return None if operation == "delete" else getattr(self, operation) or self.upsert


class Write(Model):
    """The `write` block: which canonical fields leave, by which calls, and who wins a conflict."""

    fields: list[str] = Key(min_length=1)
    create: WriteCall | None = None
    update: WriteCall | None = None
    upsert: WriteCall | None = None
    delete: WriteCall | None = None
    set: dict[str, Any] = {}
    answer: Answer = Key(WHOLE, description="where the reply holds the record; `reread`: it is read again instead")
    id: PathText | None = None
    idempotency: Idempotency | None = None
    find: Find | None = None
    batch: Batch | None = None
    create_when: ConditionText | None = None
    conflict: dict[str, Policy] = {}
    when_deleted: Policy | None = None

    def call_of(self, operation: Operation) -> WriteCall | None:
        """The call for one change of that kind: `upsert` where it has no call of its own."""
        return getattr(self, operation) or (None if operation == "delete" else self.upsert)

    def does(self, operation: Operation) -> bool:
        """Whether such a change is ever sent, alone or in a batch."""
        return self.call_of(operation) is not None or bool(self.batch and self.batch.call_of(operation))

    @property
    def creates(self) -> bool:
        return self.does("create")

    def replaces(self, operation: Operation) -> bool:
        """Whether `<fields>` are to be all of them: what a create or a PUT doesn't name would be empty there."""
        call = self.call_of(operation) or (self.batch.call_of(operation) if self.batch else None)
        return operation == "create" or (call is not None and call.method == "PUT")

    def is_known_by_key(self, operation: Operation) -> bool:
        """Whether the source knows a change that is sent again by its idempotency key.

        Not where changes go in batches whose items don't carry theirs: one sent again alone would be new to it.
        """
        if self.batch is None or self.batch.call_of(operation) is None:
            return self.idempotency is not None
        return self.idempotency is not None and "idempotency_key" in names_in([self.set, self.batch.set])
