"""Shape without pull: what raw rows of a stream are left, after an edit of its mapping or an interrupted run."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from integrations_pipeline.boundary import rules_digest
from integrations_pipeline.mapping import Mapping as Shape
from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.store.lease import take_lease
from integrations_pipeline.store.reports import unshaped, untried
from integrations_pipeline.store.shaping import ShapeCounters
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.retrying import heal_after_edit
from integrations_pipeline.sync.shape import shape


def reshape(connection: Connection, name: str, store: Store, kinds: Mapping[str, Kind], run_id: UUID) -> ShapeCounters:
    """Shapes what waits; nothing, and cheaply, where nothing does. Never asks the source.

    After an edit of `fields` the rows that the boundary had rejected are tried again first.

    Raises LeaseHeld while another run syncs the stream: that one shapes it itself.
    """
    stream = connection.streams[name]
    if stream.map is None:
        return ShapeCounters()
    kind = kinds[stream.map.to]
    with store.borrow() as session:
        asked = (session, connection.name, name)
        if not unshaped(*asked, Shape(stream, kind).digest) and not untried(*asked, rules_digest(stream)):
            return ShapeCounters()
    store.prepare(connection, kinds)
    with take_lease(store.connect, connection.name, name, run_id) as lease:
        heal_after_edit(lease, stream)
        return shape(lease, stream, kind)
