"""The verbs `connect` and `disconnect`: the first and the last thing done with a connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from integrations_pipeline.client import Client
from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.spec.errors import ConfigError, IntegrationError
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.subscribing import subscribe, unsubscribe

Reach = Callable[[], AbstractContextManager[tuple[Connection, Client]]]
"""The connection's file and a client for it, where they are needed."""


def connect(
    connection: Connection,
    client: Client,
    store: Store,
    kinds: Mapping[str, Kind],
    *,
    public_url: str | None = None,
) -> int:
    """Proves the credentials, prepares the tables, lets the streams run, and subscribes to webhooks where the file
    says how. Idempotent: a subscription that is right stays; one that ends soon is renewed.

    ``public_url``: INTEGRATIONS_PUBLIC_URL unless given. Returns how many subscriptions were made. Raises what the
    source said; a subscription that fails is the last thing, and the streams run without it.
    """
    client.check()
    store.prepare(connection, kinds)
    store.activate(connection)
    return subscribe(connection, client, store, public_url)


def disconnect(connection: str, store: Store, *, keep_data: bool, reach: Reach) -> None:
    """Stops the connection of that name, with or without a file: its streams are refused until `connect`. Then its
    webhook is unsubscribed; where that fails all else is done, and doing it again tries that again.

    Without ``keep_data`` its raw tables, state, quarantine and links go; canonical rows that no other connection
    holds become deleted. Idempotent.
    """
    store.drop(connection, keep_data=keep_data)
    if not store.subscriptions.known(connection):
        return
    try:
        with reach() as (declared, client):
            unsubscribe(declared, client, store)
    except IntegrationError as error:
        raise ConfigError(
            f"it is stopped, but its webhook is still subscribed at the provider: {error.what}",
            where=connection,
            who=error.who,
            next=f"{error.next}; then run `integrations disconnect {connection} --keep-data` again,"
            " or remove the webhook on the provider's page",
        ) from error
