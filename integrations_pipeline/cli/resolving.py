"""`integrations conflicts list`, `show` and `resolve`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from difflib import unified_diff
from getpass import getuser
from typing import Any

from integrations_pipeline.cli import output
from integrations_pipeline.cli.naming import numbers_in, place_of
from integrations_pipeline.client.redaction import Redactor, redactor, redactors
from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.spec.decoding import encode
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_all
from integrations_pipeline.spec.personal import shown
from integrations_pipeline.store.conflicts import OpenConflict, Side, one_conflict, open_conflicts, resolve
from integrations_pipeline.store.store import open_store
from integrations_pipeline.sync.result import iso

SIDES = {"base": "agreed last", "ours": "ours", "theirs": "theirs"}
LONG_CHARACTERS = 60
"""A longer text is told by what differs in it."""


def run_list(what: str | None, *, json: bool) -> int:
    connection, stream = place_of(what)
    home = Home.from_environment()
    with open_store(home=home) as store, store.borrow() as session:
        found = open_conflicts(session, connection, stream)
    knows = redactors((one.connection for one in found), home)
    found = [without_secrets(one, knows[one.connection]) for one in found]
    if json:
        output.print_json({"conflicts": [document(one, masked=True) for one in found]})
        return 0
    if not found:
        output.console.print("no conflict is open")
        return 0
    table = output.table("id", "stream", "record", "field", *SIDES.values(), right=("id",))
    for one in found:
        values = [shown(one.field, text_of(getattr(one, side))) for side in SIDES]
        table.add_row(
            str(one.id), f"{one.connection}/{one.stream}", one.external_id, one.field or "the whole record", *values
        )
    output.console.print(table)
    output.console.print("decide: `integrations conflicts resolve ID --ours`, `--theirs` or `--value VALUE`")
    return 0


def text_of(value: Any) -> str:
    """A value as people read it: texts as they are, the rest as JSON; nothing is a dash."""
    return "–" if value is None else value if isinstance(value, str) else encode(value).decode()


def document(one: OpenConflict, *, masked: bool = False) -> dict[str, Any]:
    times = {"opened_at": iso(one.opened_at), "closed_at": iso(one.closed_at)}
    values = {side: shown(one.field, text_of(getattr(one, side))) for side in SIDES} if masked else {}
    return {**vars(one), **times, "canonical_id": str(one.canonical_id), **values}


def run_show(number: int, *, json: bool) -> int:
    home = Home.from_environment()
    with open_store(home=home) as store, store.borrow() as session:
        found = known(one_conflict(session, number), number)
    found = without_secrets(found, redactor(found.connection, home))
    if json:
        output.print_json({"conflict": document(found)})
        return 0
    what = found.field or "the whole record"
    decided = f" ({found.resolution} by {found.resolved_by or 'a person'})" if found.resolution else ""
    place = f"{found.connection}/{found.stream} {found.external_id}, {found.kind} {found.canonical_id}"
    output.console.print(f"{place}: {what}, {found.status}{decided}", markup=False)
    output.console.print(f"{found.reason}, {output.local(found.opened_at)}", markup=False)
    table = output.table("field", *SIDES.values())
    for name, values in fields_of(found).items():
        table.add_row(name, *(marked(values, side) for side in SIDES))
    output.console.print(table)
    for name, values in fields_of(found).items():
        for line in differences(name, values):
            output.console.print(line, markup=False)
    return 0


def without_secrets(one: OpenConflict, knows: Redactor) -> OpenConflict:
    """Also where the field's name says that it holds one."""
    values = {side: knows.document({one.field: getattr(one, side)})[one.field] for side in SIDES}
    return replace(one, **values, reason=knows.text(one.reason))


def fields_of(one: OpenConflict) -> dict[str, dict[str, Any]]:
    """By field the value of each side; of a whole record all of its fields."""
    sides = {side: getattr(one, side) for side in SIDES}
    if one.field:
        return {one.field: sides}
    names = dict.fromkeys(name for value in sides.values() for name in value or {})
    return {name: {side: (value or {}).get(name) for side, value in sides.items()} for name in names}


def marked(values: Mapping[str, Any], side: str) -> str:
    """A star where a side is no longer as agreed."""
    text = text_of(values[side])
    short = text if len(text) <= LONG_CHARACTERS else f"{text[:LONG_CHARACTERS]}…"
    return f"{short} *" if values[side] != values["base"] else short


def differences(name: str, values: Mapping[str, Any]) -> Iterator[str]:
    """Of a long text, line by line what each side changed."""
    texts = {side: text_of(value) for side, value in values.items()}
    if max(map(len, texts.values())) <= LONG_CHARACTERS and not any("\n" in one for one in texts.values()):
        return
    for side in ("ours", "theirs"):
        if texts[side] != texts["base"]:
            lines = texts["base"].splitlines(), texts[side].splitlines()
            yield from unified_diff(*lines, f"{name}, {SIDES['base']}", f"{name}, {SIDES[side]}", lineterm="", n=1)


def run_resolve(what: list[str], *, ours: bool, theirs: bool, value: str | None, json: bool) -> int:
    said: dict[Side, bool] = {"ours": ours, "theirs": theirs, "value": value is not None}
    sides = [side for side, given in said.items() if given]
    if len(sides) != 1:
        raise ConfigError(
            "one of --ours, --theirs and --value was expected", who=output.TYPED, next="say which value counts"
        )
    numbers = numbers_in(what)
    if numbers is None:
        raise ConfigError("ids were expected", who=output.TYPED, next="see `integrations conflicts list`")
    home = Home.from_environment()
    loaded = load_all(home)
    with open_store(home=home) as store, store.borrow() as session, session.transaction():
        for number in numbers:
            found = known(one_conflict(session, number), number)
            lookup = looked_up(loaded.connections.get(found.connection), found)
            chosen = typed_value(loaded.kinds.get(found.kind), found, value, lookup) if value is not None else None
            resolve(session, number, sides[0], value=chosen, lookup=lookup, by=getuser())
    if json:
        output.print_json({"resolved": numbers, "resolution": sides[0]})
        return 0
    later = "" if theirs else "; what differs there goes out with the next push"
    output.console.print(f"{len(numbers):,} resolved{later}", markup=False)
    return 0


def known(found: OpenConflict | None, number: int) -> OpenConflict:
    if found is None:
        raise ConfigError(
            f"no conflict has the id {number}", who=output.TYPED, next="see `integrations conflicts list`"
        )
    return found


def looked_up(connection: Connection | None, found: OpenConflict) -> str | None:
    """The stream that a reference is looked up in."""
    stream = connection.streams.get(found.stream) if connection else None
    mapped = stream.map.fields.get(found.field) if stream and stream.map else None
    return mapped.lookup if mapped else None


def typed_value(kind: Kind | None, found: OpenConflict, text: str, lookup: str | None) -> Any:
    """What was typed, as the field's type has it. Raises ConfigError."""
    from integrations_pipeline.gateway.values import of_text

    if kind is None or lookup is not None:
        return text or None
    try:
        return of_text(kind, found.field, text)
    except ValueError as error:
        message = f"{found.field or 'a whole record'} can't be {text!r}: {error}"
        raise ConfigError(message, who=output.TYPED, next="give another value") from None
