"""Edits of what a stream is read by. Another key names other records, another cursor field has another watermark,
another version another order, and another list may show records below the watermark: each is noticed by what the
stream's state remembers (``declared``), and read anew.

declared ──edited──▶ places (and versions) forgotten ──full read to its end──▶ declared
                                                        key edited: rows under the old keys get tombstones here
"""

from __future__ import annotations

from hashlib import blake2b

from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.store.renewing import renew
from integrations_pipeline.store.state import StateChange, StreamState
from integrations_pipeline.sync.pull import Pull

SAID = {
    "key": "the primary key was edited: all is read again, and rows under the old keys are replaced",
    "cursor": "the cursor's field was edited: all is read again, since the watermark was another field's",
    "version": "the version was edited: all is read again, since the rows held were in another order",
    "list": "what is asked for was edited: all is read again, since the list may show what it didn't before",
}

LIST = {"request", "query", "body", "graphql", "parent", "records", "record", "skip", "full"}
"""What decides, beside the connection's own `query` and the cursor's `start`, which records a list shows."""


def declaration(pull: Pull) -> dict[str, str]:
    """Digests of all that is noticed: that of the rows, and of what decides which records are shown."""
    cursor = pull.stream.cursor
    shown = (pull.connection.api.query, cursor.start if cursor else None, as_written(pull.stream))
    return {**of_rows(pull.stream), "list": digest(shown)}


def of_rows(stream: Stream) -> dict[str, str]:
    """Digests of what decides which record a row is, from where a list goes on, and which of two rows is newer."""
    cursor = stream.cursor
    by = (cursor.field, cursor.read) if cursor else None
    order = stream.version or (cursor.field if cursor else None)
    parts = {"key": stream.primary_key, "cursor": by, "version": order}
    return {name: digest(part) for name, part in parts.items()}


def digest(part: object) -> str:
    return blake2b(repr(part).encode(), digest_size=8).hexdigest()


def rows_edited(stream: Stream, state: StreamState) -> bool:
    """Whether the rows held are known or ordered otherwise than the file now says, until the next sync."""
    known = state.declared
    return known is not None and any(known.get(name) != now for name, now in of_rows(stream).items())


def as_written(stream: Stream) -> dict[str, object]:
    """Only what the file says, so that a key added to the grammar edits nobody's list."""
    return stream.model_dump(include=LIST, exclude_defaults=True)


def notice_edits(pull: Pull, state: StreamState) -> StreamState:
    """The state to read on from; where something was edited, a new beginning, which the run's note says.

    An edited key stays noted until a full read under the new one has ended (``pull.rekeyed``).
    """
    now, known = declaration(pull), state.declared
    if known is None:
        pull.lease.apply_state(StateChange(declared=now))
        return state
    edited = [name for name in now if known.get(name, now[name]) != now[name]]
    pull.edited, pull.rekeyed = bool(edited), "key" in edited
    if not edited:
        return state
    for name in edited:
        pull.result.remark(SAID[name])
    noted = {**now, "key": known["key"], "new_key": now["key"]} if pull.rekeyed else now
    if noted == known:  # begun before, and goes on
        return state
    renew(pull.lease, StateChange(declared=noted), versions="version" in edited or pull.rekeyed)
    return pull.lease.state()
