"""The verb `drift accept`: what differs is right from now on."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from integrations_pipeline.store.lease import take_lease
from integrations_pipeline.store.profiles import accept
from integrations_pipeline.store.store import Store


def accept_findings(connection: str, stream: str, store: Store, run_id: UUID, ids: Sequence[int] | None = None) -> int:
    """Takes a stream's open findings over into its profile, those with the ids or all. Returns how many.

    Raises LeaseHeld while another run syncs the stream, which would write the profile as it knew it.
    """
    with take_lease(store.connect, connection, stream, run_id) as lease:
        return accept(lease, ids)
