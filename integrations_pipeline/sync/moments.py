"""What happened to a record, moment by moment, from the rows of its life."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from integrations_pipeline.store.lives import Life, Row
from integrations_pipeline.sync.result import iso

SHOWN_FIELDS = 6
SHOWN_CHARACTERS = 60
HELD_SECONDS = 0.5
"""Less is no news to people: most calls are held for a moment by the rate limit."""
ORDER = ("request", "event", "decision", "quarantine", "link", "conflict", "change")
"""Of one instant: what was asked or told comes before what was decided about it."""


@dataclass
class Moment:
    """One thing that happened. ``what``: request, event, decision, quarantine, link, conflict, or change (of the
    outbox); ``text`` for people, ``detail`` for programs."""

    at: datetime
    what: str
    text: str
    run_id: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {"at": iso(self.at), "what": self.what, "text": self.text, "run_id": self.run_id, "detail": self.detail}


def in_order(life: Life) -> list[Moment]:
    """All of them, the first one first."""
    kinds = (requests, events, decisions, quarantines, links, conflicts, changes)
    found = [one for kind in kinds for one in kind(life)]
    return sorted(found, key=lambda one: (one.at, ORDER.index(one.what)))


def requests(life: Life) -> Iterator[Moment]:
    for row in life.calls:
        said = f"{row['method']} {row['url']} → {row['status'] or 'no answer'} in {row['seconds']:.2f} s"
        rows = f", {row['rows']:,} rows" if row["rows"] is not None else ""
        named = f", request id {row['request_id']}" if row["request_id"] else ""
        waited = row["waited_seconds"]
        held = (
            f", held {waited:.1f} s before ({row['wait_reason']})"
            if row["wait_reason"] and waited >= HELD_SECONDS
            else ""
        )
        failed = f": {row['error']}" if row["error"] else ""
        yield moment(row["at"], "request", said + rows + named + held + failed, row)


def events(life: Life) -> Iterator[Moment]:
    for row in life.events:
        said = f"webhook {row['event_type'] or 'event'} came (inbox {row['id']}): {row['outcome'] or row['status']}"
        why = f", {row['reason']['message']}" if row["reason"] and "message" in row["reason"] else ""
        yield moment(row["received_at"], "event", said + why, row)


def decisions(life: Life) -> Iterator[Moment]:
    for row in life.decisions:
        reason = f": {row['reason']}" if row["reason"] else ""
        said = f"{row['decision']} ({row['stage']}){reason}{fields_of(row['detail'])}"
        yield moment(row["at"], "decision", said, row)


def quarantines(life: Life) -> Iterator[Moment]:
    """A row's beginning is a decision; here is how often it came again, and how it ended."""
    for row in life.quarantine:
        if row["attempts"] > 1:
            said = f"in quarantine (id {row['id']}) it came {row['attempts']:,} times, the last time now"
            yield moment(row["last_seen"], "quarantine", said, row)
        if row["closed_at"] is not None:
            said = f"quarantine {row['id']} ended: {row['status']}"
            yield moment(row["closed_at"], "quarantine", said, row)


def links(life: Life) -> Iterator[Moment]:
    if life.link is not None:
        said = f"linked with {life.link['kind']} {life.link['canonical_id']}"
        waits = f", waits for {', '.join(life.link['pending'])}" if life.link["pending"] else ""
        yield moment(life.link["linked_at"], "link", said + waits, life.link)


def conflicts(life: Life) -> Iterator[Moment]:
    for row in life.conflicts:
        both = f"ours {short(row['ours'])}, theirs {short(row['theirs'])}"
        about = f"of {row['field']}" if row["field"] else "of the whole record"
        yield moment(row["opened_at"], "conflict", f"conflict {about}: {row['reason']} ({both})", row)
        if row["closed_at"] is not None:
            ended = " ".join(filter(None, [row["status"], row["resolution"], row["resolved_by"]]))
            yield moment(row["closed_at"], "conflict", f"conflict {about} ended: {ended}", row)


def changes(life: Life) -> Iterator[Moment]:
    """A change made here: queued, sent, answered, ended."""
    for row in life.changes:
        before = row["before"] or {}
        fields = fields_of({name: [before.get(name), value] for name, value in row["changes"].items()})
        yield moment(row["queued_at"], "change", f"to be written ({row['operation']}, outbox {row['id']}){fields}", row)
        if row["first_sent_at"] is not None:
            yield moment(row["first_sent_at"], "change", f"outbox {row['id']} sent first", row)
        if row["answered_at"] is not None:
            yield moment(row["answered_at"], "change", f"outbox {row['id']} answered: {row['outcome']}", row)
        if row["finished_at"] is not None:
            why = f", {row['reason']['message']}" if row["reason"] and "message" in row["reason"] else ""
            yield moment(row["finished_at"], "change", f"outbox {row['id']} {row['status']}{why}", row)


def moment(at: datetime, what: str, text: str, row: Row) -> Moment:
    run_id = row.get("run_id")
    return Moment(at, what, text, str(run_id) if run_id else None, plain(row))


def fields_of(detail: Any) -> str:
    """``; name: "a" → "b"`` of the fields that are told from and to."""
    pairs = detail.items() if isinstance(detail, dict) else ()
    told = [
        part
        for name, value in pairs
        if isinstance(value, list) and len(value) == 2
        for part in differing(name, value[0], value[1])
    ]
    said = [f"{name}: {short(old)} → {short(new)}" for name, old, new in told[:SHOWN_FIELDS]]
    more = [f"and {len(told) - SHOWN_FIELDS} more"] if len(told) > SHOWN_FIELDS else []
    return "; " + ", ".join([*said, *more]) if said else ""


def differing(name: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """What differs within objects, with its path; anything else as a whole."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        yield name, old, new
        return
    for key in dict.fromkeys([*old, *new]):
        if old.get(key) != new.get(key):
            yield from differing(f"{name}.{key}", old.get(key), new.get(key))


def short(value: Any) -> str:
    """A value in few characters."""
    if value is None:
        return "–"
    text = value if isinstance(value, str) else str(plain(value))
    return repr(text) if len(text) <= SHOWN_CHARACTERS else repr(text[:SHOWN_CHARACTERS]) + "…"


def plain(value: Any) -> Any:
    """A value as JSON has it: times in UTC, ids and exact numbers as texts where they have no form of their own."""
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, UUID | date | time | bytes | memoryview | Decimal):
        return str(value)
    if isinstance(value, dict):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [plain(inner) for inner in value]
    return value
