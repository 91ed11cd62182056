"""Subscriptions: our address registered at the provider, renewed before it ends, and removed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any
from urllib.parse import urlsplit

from integrations_pipeline.client import Answer, Client
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import ConfigError, ContractError, NotFound
from integrations_pipeline.spec.paths import MISSING
from integrations_pipeline.spec.placeholders import names_in
from integrations_pipeline.spec.places import ReadPlace
from integrations_pipeline.spec.webhook import PUBLIC_URL, Subscribe, Webhook
from integrations_pipeline.store.store import Store
from integrations_pipeline.store.subscriptions import Subscribed

NEAR = ("127.0.0.1", "localhost", "::1")
MILLISECONDS = 100_000_000_000
"""A number of seconds this large is the year 5138: it is milliseconds."""


def subscribe(connection: Connection, client: Client, store: Store, public_url: str | None = None) -> int:
    """Registers our address for each event that isn't yet, or that was by another address or call, or ends soon.

    What is registered and no longer declared is removed. Returns how many were registered. Raises ConfigError where
    our public address is missing, and what the provider says.
    """
    hook = connection.webhook
    declared = hook.subscribe if hook else None
    if hook is None or declared is None:
        return 0
    url = webhook_url(connection, public_url or os.environ.get(PUBLIC_URL, ""))
    digest = blake2b(repr(declared).encode(), digest_size=16).hexdigest()
    made = 0
    with store.subscriptions.alone(connection.name):
        held = {one.event: one for one in store.subscriptions.of(connection.name)}
        ending = connection.name in store.subscriptions.due(datetime.now(UTC))
        for event in events_of(hook, declared):
            before = held.pop(event, None)
            if before is not None and (before.url, before.declared) == (url, digest) and not ending:
                continue
            store.subscriptions.write(subscribed(connection.name, declared, client, event, url, digest))
            made += 1
            if before is not None:
                end(before, hook, client)
        for one in held.values():
            end(one, hook, client)
            store.subscriptions.remove(one)
    return made


def subscribed(name: str, declared: Subscribe, client: Client, event: str, url: str, digest: str) -> Subscribed:
    """One call to the provider, and what it said. Raises ContractError where its answer lacks what `keep` names."""
    answer = client.send(declared, {"webhook_url": url, "event": event}, private=True)
    kept = {}
    for key, path in declared.keep.items():
        kept[key] = path.get(answer.document)
        if kept[key] is MISSING or kept[key] is None:
            raise ContractError(f"the answer has nothing at {path}", where=f"{name} webhook.subscribe.keep.{key}")
    ends = moment(name, answer, declared.expires) if declared.expires else None
    return Subscribed(name, event, kept, url, digest, ends)


def unsubscribe(connection: Connection, client: Client, store: Store) -> None:
    """Removes all subscriptions at the provider. One that it no longer knows is gone. Raises what the provider says."""
    with store.subscriptions.alone(connection.name):
        for one in store.subscriptions.of(connection.name):
            if connection.webhook is not None:
                end(one, connection.webhook, client)
            store.subscriptions.remove(one)


def end(one: Subscribed, hook: Webhook, client: Client) -> None:
    """Without a declared `unsubscribe` it ends by itself, or its owner ends it."""
    if hook.unsubscribe is None:
        return
    values: Mapping[str, Any] = {"webhook_url": one.url, "event": one.event, "subscription": one.kept}
    try:
        client.send(hook.unsubscribe, values, private=True)
    except NotFound:
        return


def events_of(hook: Webhook, declared: Subscribe) -> list[str]:
    """One call for all, or one per key of `events` where the call names the event."""
    given = (declared.request, declared.query, declared.headers, declared.body)
    return list(hook.events) if "event" in names_in(given) else [""]


def webhook_url(connection: Connection, public_url: str) -> str:
    """The address a provider is to call. Raises ConfigError where there is none that it could reach."""
    public = public_url.strip().rstrip("/")
    near = urlsplit(public).hostname in NEAR
    if public.startswith(("http://", "https://")) and (not near or urlsplit(connection.api.url).hostname in NEAR):
        return f"{public}/webhooks/{connection.name}"
    why = f"is {public}, which only this machine can reach" if near else "is no address" if public else "is not set"
    raise ConfigError(
        f"the webhook can't be subscribed: {PUBLIC_URL} {why}; polls bring the changes until then",
        where=connection.name,
        who="whoever runs the gateway",
        next=f"set {PUBLIC_URL} to the gateway's address as {urlsplit(connection.api.url).hostname} sees it, then run"
        f" `integrations connect {connection.name}`; or write `webhook: null` into the connection's file to go on by"
        " polls alone",
    )


def moment(name: str, answer: Answer, place: ReadPlace) -> datetime:
    """When it ends: an ISO time, or seconds or milliseconds since 1970. Raises ContractError."""
    found = answer.read(place)
    try:
        if isinstance(found, int) or (isinstance(found, str) and found.isdecimal()):
            number = int(found)
            return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
                seconds=number / 1000 if number > MILLISECONDS else number
            )
        ends = datetime.fromisoformat(str(found))
        return ends if ends.tzinfo else ends.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise ContractError(
            "no time was found where the subscription's end should be", where=f"{name} webhook"
        ) from None
