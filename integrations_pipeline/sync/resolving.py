"""A person has found the record that a parked create has made: it is agreed on as if its answer had come."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from uuid import uuid4

from integrations_pipeline.client import Client
from integrations_pipeline.client.writing import Answered
from integrations_pipeline.spec.clock import SystemClock
from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.store import outbox
from integrations_pipeline.store.outboxed import OutboxChange
from integrations_pipeline.store.sessions import Sessions
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.sending import Sender
from integrations_pipeline.sync.written import WrittenStream


def resolve(
    connection: Connection,
    client: Client,
    store: Store,
    kinds: Mapping[str, Kind],
    found: OutboxChange,
    external_id: str,
) -> str:
    """What became of it, in a word. Where the stream has a `get`, the record is read first.

    Raises ConfigError where the source doesn't know it (the change stays parked), the stream isn't written any more, or
    it is no parked create by now.
    """
    stream = connection.streams.get(found.stream)
    if stream is None or stream.write is None:
        raise ConfigError(f"{connection.name} doesn't write {found.stream} any more", next="discard the change")
    to, run_id = WrittenStream(connection, found.stream, kinds), uuid4()
    with closing(Sessions(store.connect)) as sessions:
        with sessions.one() as session:
            one = outbox.claim(session, found.id, run_id)
        if one is None:
            raise ConfigError(f"change {found.id} is no parked create", next="see `integrations outbox show`")
        try:
            record = None
            if to.stream.get is not None:
                record = client.get(to.name, external_id, to.key_of(external_id, None))
                if record is None:
                    raise ConfigError(
                        f"{connection.name}/{to.name} knows no record {external_id}", next="name another id"
                    )
            sender = Sender(to, client, store, sessions, SystemClock(), run_id)
            return sender.answered(one, Answered(record, external_id), "resolved")
        except BaseException:
            with sessions.one() as session:
                outbox.mark_parked(session, one, found.reason or {})
            raise
