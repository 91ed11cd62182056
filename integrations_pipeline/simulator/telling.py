"""Whom a simulated source tells of its changes: those who subscribed, and an address it was given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from integrations_pipeline.client.delivery import Delivery
from integrations_pipeline.simulator.answer import Answer
from integrations_pipeline.simulator.asked import Asked
from integrations_pipeline.simulator.dataset import Dataset
from integrations_pipeline.simulator.faults.registry import WEBHOOKS
from integrations_pipeline.simulator.faults.webhooks import Way
from integrations_pipeline.simulator.sender import Parcel, Sender
from integrations_pipeline.simulator.views import Request, View
from integrations_pipeline.simulator.webhooks import (
    Occurrence,
    Subscription,
    Verb,
    answer_to,
    delivery,
    kept_values,
    message,
    rule_for,
    secret_names,
    signed,
)
from integrations_pipeline.spec.decoding import encode
from integrations_pipeline.spec.errors import ConfigError, DataError, NotFound
from integrations_pipeline.spec.placeholders import as_text
from integrations_pipeline.spec.secrets import Secret

if TYPE_CHECKING:
    from integrations_pipeline.simulator.simulation import Simulation

SUBSCRIBED_FOR = timedelta(days=7)
"""As long as a watch of Google Calendar lasts, where `subscribe` declares that it ends."""


class Telling:
    """The subscriptions of one simulation, and what is sent to them."""

    def __init__(self, simulation: Simulation):
        self.simulation = simulation
        self.subscriptions: dict[str, Subscription] = {}
        self.sender = Sender(self.note_delivery)
        self.told_of = self.subscribed = 0  # how many events and subscriptions there were

    def tell_at(self, url: str | None) -> None:
        """Tells this address of all changes from now on, beside those who subscribed; None: no longer.

        Raises DataError where the connection has no webhook, ConfigError where its signing secret is missing.
        """
        with self.simulation.lock:
            self.subscriptions.pop("", None)
            if url is not None:
                if self.simulation.connection.webhook is None:
                    raise DataError(f"{self.simulation.name} has no webhook: nothing can be told at {url}")
                subscription = Subscription("", url)
                self.signing(subscription)
                self.subscriptions[""] = subscription

    def subscribe(self, view: View, request: Request) -> Answer:
        """The answer to the declared `subscribe`."""
        hook, values = self.simulation.connection.webhook, view.values(request)
        if hook is None or hook.subscribe is None or not values.get("webhook_url"):
            raise DataError("a webhook's address was expected")
        self.subscribed += 1
        kept = kept_values(hook.subscribe, hook, self.subscribed)
        made = Subscription(str(self.subscribed), values["webhook_url"], values.get("event"), kept)
        try:
            self.signing(made)
        except ConfigError as error:
            raise DataError(error.what) from None
        self.subscriptions[made.id] = made
        ends = (self.simulation.clock.now() + SUBSCRIBED_FOR).isoformat(timespec="seconds")
        return Answer(201, encode(answer_to(hook.subscribe, kept, ends)))

    def unsubscribe(self, values: Mapping[str, Any]) -> Answer:
        """The answer to the declared `unsubscribe`. Raises NotFound where nobody has subscribed so."""
        told = {name.removeprefix("subscription."): value for name, value in values.items()}
        for number, one in list(self.subscriptions.items()):
            known = {**one.kept, "webhook_url": one.url, "event": one.event}
            if number and told and all(as_text(known.get(name)) == as_text(value) for name, value in told.items()):
                del self.subscriptions[number]
                return Answer(200, encode({}))
        raise NotFound("no such subscription")

    def signing(self, subscription: Subscription) -> list[Secret]:
        """The secrets that a subscriber's deliveries are signed with. Raises ConfigError where one is missing."""
        found = []
        for name in secret_names(self.simulation.connection.webhook) if self.simulation.connection.webhook else ():
            if name.startswith("<subscription."):
                kept = subscription.kept.get(name.removeprefix("<subscription.").removesuffix(">"))
                if kept is None:
                    raise ConfigError(
                        f"{name} is made by subscribing: no address can be told without", where=self.simulation.name
                    )
                found.append(Secret(as_text(kept)))
            else:
                found.append(Secret(self.simulation.access.revealed(name)))
        return found

    def tell(self, dataset: Dataset, ordinal: int, verb: Verb) -> None:
        """Sends an event of a change to each who subscribed to it."""
        hook, plan = self.simulation.connection.webhook, dataset.plan
        flagged = bool(plan.gone) and not any(path.parts[0] in plan.included for path, _ in plan.gone)
        found = rule_for(hook, plan.name, verb, flagged=flagged) if hook else None
        if hook is None or found is None:
            return
        row = self.simulation.landed(dataset, ordinal)
        keys = [path.get(row) for path in plan.stream.primary_key]
        order = plan.form.write(dataset.stamp(ordinal)) if plan.cursor else self.simulation.clock.now().isoformat()
        record = self.simulation.reading.alone(dataset, ordinal)
        told = Occurrence(plan.name, verb, record, keys[0] if len(keys) == 1 else keys, order)
        self.told_of += 1
        made = message(hook, found, told, f"evt_{self.simulation.seed:x}_{self.told_of:08x}")
        for one in self.subscriptions.values():
            if one.event in (None, found[0]):
                sign = partial(signed, hook, self.signing(one), delivery(hook, made, one.url))
                self.dispatch(Parcel(plan.name, found[0], sign))

    def dispatch(self, parcel: Parcel) -> None:
        """Sends it with the faults whose turn it is; the same changes and seed give the same ones."""
        way, struck = Way(), list(self.simulation.faults.turns("webhook", parcel.stream))
        for switched in struck:
            WEBHOOKS[switched.fault.name](way, switched)
        parcel = replace(parcel, faults=tuple(one.fault.text for one in struck), tampered=way.tampered)
        if not way.times:
            self.note_delivery(parcel, parcel.sign(self.simulation.clock.now()), 0)
        for _ in range(way.times):
            self.sender.put(parcel, delay_seconds=way.delay_seconds, overtaken=way.overtaken)

    def note_delivery(self, parcel: Parcel, request: Delivery, status: int) -> None:
        """A line of the request log for each try."""
        split, body = urlsplit(request.url), request.body.decode("utf-8", "replace")
        now, faults = self.simulation.clock.now(), parcel.faults
        asked = Asked(
            now, request.method, split.path, parse_qs(split.query), body, parcel.stream, "webhook", status,
            parcel.attempt, split.netloc, faults,
        )  # fmt: skip
        with self.simulation.lock:
            self.simulation.log.append(asked)
