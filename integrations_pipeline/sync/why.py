"""The verb `why`: one record's whole life in order, or why it isn't here. Nothing is asked of the source.

The answer holds no secret of the connection: each text went through redaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any
from urllib.parse import quote

from integrations_pipeline.client.redaction import Redactor, redactor_of, resolved
from integrations_pipeline.mapping import Mapping as Mapped
from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.spec.decoding import decode
from integrations_pipeline.spec.limits import DECISION_DAYS
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.store.lives import Life, Row, left_out, read_life
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync import moments
from integrations_pipeline.sync.moments import Moment
from integrations_pipeline.sync.result import iso
from integrations_pipeline.sync.run import choose


@dataclass
class Story:
    """What `why` tells. ``state``: stored, deleted, quarantined, skipped, discarded or unknown; ``answer`` says it to
    people. ``mapping`` has each field's sources, steps (rule, before, after), value and problem, as the map makes it
    today; ``moments`` are in order of time.
    """

    connection: str
    stream: str
    external_id: str
    state: str
    answer: str
    raw: dict[str, Any] | None = None
    canonical: dict[str, Any] | None = None
    mapping: list[dict[str, Any]] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    drift: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The JSON document of `integrations why`."""
        return {
            "connection": self.connection,
            "stream": self.stream,
            "external_id": self.external_id,
            "state": self.state,
            "answer": self.answer,
            "raw": self.raw,
            "canonical": self.canonical,
            "mapping": self.mapping,
            "moments": [one.as_dict() for one in self.moments],
            "drift": self.drift,
        }


def why(connection: Connection, stream: str, external_id: str, store: Store, kinds: Mapping[str, Kind]) -> Story:
    """A record's life, by its external id (of a composite key the JSON array, as ``raw`` has it).

    Raises ConfigError for a stream that the connection hasn't, DestinationError where the database is away.
    """
    if stream not in connection.streams:
        choose(connection, [stream])
    with store.borrow() as session:
        life = read_life(session, connection.name, stream, external_id, "/" + quote(external_id, safe=""))
    redactor = redactor_of(connection, resolved(connection))
    mapping, life = mapping_of(connection.streams[stream], kinds, life), redacted(life, redactor)
    state = state_of(life)
    return Story(
        connection.name,
        stream,
        external_id,
        state,
        answer_of(connection.streams[stream], external_id, state, life),
        raw=raw_of(life.raw),
        canonical=canonical_of(life),
        mapping=redactor.document(moments.plain(mapping)),
        moments=moments.in_order(life),
        drift=[plain(row) for row in life.drift],
    )


LATELY = 20


def lately(connection: Connection, stream: str, store: Store) -> list[dict[str, Any]]:
    """The records of a stream that were skipped, set aside, discarded or deleted last, the latest first, at most
    ``LATELY``: ``{"at", "external_id", "decision", "reason", "run_id"}``.

    Raises ConfigError for a stream that the connection hasn't, DestinationError where the database is away.
    """
    if stream not in connection.streams:
        choose(connection, [stream])
    with store.borrow() as session:
        found = left_out(session, connection.name, stream, LATELY)
    redactor = redactor_of(connection, resolved(connection))
    return [redactor.document(plain(row)) for row in found]


def state_of(life: Life) -> str:
    """The record's state in a word."""
    if any(row["status"] == "open" for row in life.quarantine):
        return "quarantined"
    latest = next((row for row in life.decisions if row["stage"] == "raw"), None)
    if latest is not None and latest["decision"] == "skipped":
        return "skipped"
    if life.raw is not None:
        return "deleted" if life.raw["deleted_at"] else "stored"
    return "discarded" if latest is not None and latest["decision"] == "discarded" else "unknown"


def answer_of(stream: Stream, key: str, state: str, life: Life) -> str:
    """Why it is here, or why it isn't, in a sentence or two."""
    if state == "quarantined":
        row = next(row for row in life.quarantine if row["status"] == "open")
        reasons = "; ".join(f"{one['field'] or 'the row'}: {one['message']}" for one in row["reasons"])
        older = "; what is stored of it is older" if life.raw else ""
        return f"it is in quarantine ({reasons}){older}: integrations quarantine show {row['id']}"
    if state in ("skipped", "discarded"):
        row = next(row for row in life.decisions if row["stage"] == "raw")
        rule = " by the rule `skip` of its stream" if state == "skipped" else ""
        return f"it was {state} at {iso(row['at'])}{rule}: {row['reason']}"
    if state == "deleted":
        whys = [row["reason"] for row in life.decisions if row["decision"] == "deleted" and row["reason"]]
        since = iso(life.raw["deleted_at"] if life.raw else None)
        return ": ".join([f"it is deleted since {since}", *whys[:1]])
    if state == "stored":
        shaped = stream.map is None or life.link is not None
        return "it is here" if shaped else "it is here, but no canonical record was made of it yet"
    return f"nothing was ever seen of it; {standing(life)}{looks_like(key, life)}"


def standing(life: Life) -> str:
    """When the stream was read last, and what may hide a record that nobody knows of."""
    stream, latest = life.stream, life.latest
    if stream is None or latest is None:
        return "the stream was never read"
    said = [f"the stream was last read {iso(latest['started_at'])} ({latest['mode']}, {latest['status']})"]
    if stream["last_success"] is None:
        said.append("and never to its end yet")
    if stream["resume_at"] is not None:
        said.append(f"it goes on at {iso(stream['resume_at'])}")
    if stream["keyless"]:
        said.append(f"{stream['keyless']:,} rows in quarantine have no readable key: it may be among them")
    said.append(f"what was skipped more than {DECISION_DAYS} days ago is forgotten")
    return "; ".join(said)


def looks_like(key: str, life: Life) -> str:
    alike = ", ".join(life.alike)
    return f"; ids of this stream look like {alike}" if alike and key not in life.alike else ""


def raw_of(row: Row | None) -> dict[str, Any] | None:
    return None if row is None else {**plain(row), "payload": decode(row["payload"].encode())}


def canonical_of(life: Life) -> dict[str, Any] | None:
    """The canonical record it belongs to, and who else does."""
    if life.link is None:
        return None
    others = [plain(row) for row in life.others]
    return {**plain(life.link), "record": life.canonical, "others": others}


def mapping_of(stream: Stream, kinds: Mapping[str, Kind], life: Life) -> list[dict[str, Any]]:
    """Each field from the raw value to the canonical one, of what is stored, else of what is in quarantine."""
    if stream.map is None or stream.map.to not in kinds:
        return []
    payloads = [row["payload"] for row in [*([life.raw] if life.raw else []), *life.quarantine]]
    if not payloads:
        return []
    return [
        {
            "field": one.field,
            "sources": [{"path": path, "value": value} for path, value in one.sources],
            "steps": [{"rule": step.rule, "before": step.before, "after": step.after} for step in one.steps],
            "value": one.value,
            "reference": one.reference,
            "problem": one.problem,
        }
        for one in Mapped(stream, kinds[stream.map.to]).explain(decode(payloads[0].encode()))
    ]


def plain(row: Row) -> dict[str, Any]:
    """Times and ids as JSON has them."""
    return {name: moments.plain(value) for name, value in row.items()}


def redacted(life: Life, redactor: Redactor) -> Life:
    """The same life without secrets: before any of it is cut to a few characters, which would leave parts of them."""
    return replace(life, **{one.name: redactor.document(getattr(life, one.name)) for one in fields(life)})
