"""The verb `deliver`: queued changes of canonical records to the team's own addresses, signed by Standard Webhooks.

At least once, in order per record, each with an id that is the same at every try. One process at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import getrandbits
from threading import Event
from time import monotonic
from urllib.parse import urlsplit

from integrations_pipeline.client.delivery import Delivery
from integrations_pipeline.client.request import Request
from integrations_pipeline.client.session import HttpSession, Unanswered
from integrations_pipeline.client.signatures import sign
from integrations_pipeline.spec.connection import Kind, OnChange
from integrations_pipeline.spec.decoding import encode
from integrations_pipeline.spec.errors import ConfigError, IntegrationError
from integrations_pipeline.spec.limits import DELIVERY_SECONDS, DELIVERY_TRIES
from integrations_pipeline.spec.ports import CallLog, HttpCall
from integrations_pipeline.spec.secrets import Secret
from integrations_pipeline.spec.webhook import EventRule, Verify, Webhook
from integrations_pipeline.store.deliveries import Change, Draining
from integrations_pipeline.store.store import Store

WAITS = [timedelta(seconds=one) for one in (5, 30, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000)]
"""After each failed try, about as Standard Webhooks advises: three days in all.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md, read 2025-10.
"""

AT_ONCE = 8
BATCH = 200
FAILURES = 3
"""After so many failures of one address in a row the rest of its changes wait for the next time."""

ANSWER_BYTES = 1_000_000
SCHEME = Webhook(verify=Verify(type="standard_webhooks", secret="$secret"), events={"**": EventRule(sync="changes")})


@dataclass(frozen=True, slots=True)
class Address:
    """An entry of `on_change`, resolved; ``trouble`` says why it can't be used."""

    url: str = ""
    secret: Secret | None = None
    trouble: IntegrationError | None = None


def deliver(store: Store, kinds: Mapping[str, Kind], stop: Event | None = None) -> Counter[str]:
    """Sends what is due until nothing more is, or ``stop``. Returns how many were ``delivered``, put off to ``later``,
    or are ``dead``; all zero while another process does it. Raises DestinationError where the database is lost."""
    counts: Counter[str] = Counter()
    stop = stop or Event()
    addresses = resolved(kinds)
    session = HttpSession(max_bytes=ANSWER_BYTES, connections=AT_ONCE)
    sender = Sender(session, store.calls, stop)
    try:
        with store.deliveries.draining() as draining, ThreadPoolExecutor(AT_ONCE) as pool:
            failures: Counter[str] = Counter()
            while draining is not None and not stop.is_set():
                resting = [target for target, count in failures.items() if count >= FAILURES]
                heads = draining.heads(BATCH, without=resting)
                if not heads:
                    break
                for part in parts(heads):
                    tried = [one for one in part if failures[one.target] < FAILURES]
                    whys = pool.map(lambda one: sender.send(one, addresses.get((one.kind, one.target))), tried)
                    for change, why in zip(tried, whys, strict=True):
                        failures[change.target] = failures[change.target] + 1 if why else 0
                        counts[note(draining, change, why)] += 1
    finally:
        session.close()
        store.calls.flush()
    return counts


def parts(heads: Sequence[Change]) -> list[Sequence[Change]]:
    return [heads[at : at + AT_ONCE] for at in range(0, len(heads), AT_ONCE)]


def resolved(kinds: Mapping[str, Kind]) -> dict[tuple[str, str], Address]:
    return {(name, one.target): address(name, one) for name, kind in kinds.items() for one in kind.on_change}


def address(kind: str, one: OnChange) -> Address:
    try:
        url, secret = one.url.resolve("url").reveal(), one.secret.resolve("secret")
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ConfigError("the address of on_change is no http(s) URL", next=f"correct it where {one.target} says")
    except ConfigError as error:
        return Address(trouble=error.at(f"models/{kind}.yaml on_change"))
    return Address(url, secret)


@dataclass(frozen=True, slots=True)
class Sender:
    """One way out for all changes."""

    session: HttpSession
    log: CallLog
    stop: Event

    def send(self, change: Change, to: Address | None) -> IntegrationError | None:
        """Sends it once. Returns why it wasn't taken; None where it was."""
        if to is None or to.secret is None:
            gone = ConfigError(f"models/{change.kind}.yaml has no on_change with url {change.target}")
            return gone if to is None else to.trouble
        call = noted(change)
        began = monotonic()
        why = self.post(change, to.url, to.secret, call)
        call.seconds = monotonic() - began
        if why is not None:
            call.outcome, call.error = why.error_class, why.what
        self.log.note(call)
        return why

    def post(self, change: Change, url: str, secret: Secret, call: HttpCall) -> IntegrationError | None:
        try:
            signed = sign(SCHEME, [secret], message(change, url), datetime.now(UTC))
            request = Request("POST", signed.url, dict(signed.headers), signed.body, urlsplit(signed.url).path)
            call.sent_bytes = len(signed.body)
            answer = self.session.exchange(request, seconds=DELIVERY_SECONDS, stop=self.stop)
        except Unanswered as error:
            return error.error
        except IntegrationError as error:
            return error
        call.status, call.received_bytes = answer.status, len(answer.body)
        if 200 <= answer.status < 300:
            return None
        return ConfigError(f"{change.target} answered {answer.status}", who="whoever runs the receiver")


def noted(change: Change) -> HttpCall:
    """For the call log: the address is a secret, so it is named by where it stands; bodies are in the queue."""
    at = datetime.now(UTC)
    return HttpCall(getrandbits(63), at, "", None, None, "POST", change.target, attempt=change.tries + 1)


def message(change: Change, url: str) -> Delivery:
    """``{"type": "customer.updated", "timestamp", "data": {"kind", "id", "change", "before", "after"}}``.

    Before and after stand in it byte by byte as the database wrote them: no number is read and written anew.
    """
    head = encode({"type": f"{change.kind}.{change.change}", "timestamp": change.changed_at.isoformat()})[:-1]
    data = encode({"kind": change.kind, "id": str(change.record_id), "change": change.change})[:-1]
    states = f',"before":{change.before or "null"},"after":{change.after}'.encode()
    body = head + b',"data":' + data + states + b"}}"
    headers = [("content-type", "application/json"), ("webhook-id", f"msg_{change.message_id.hex}")]
    return Delivery("POST", url, headers, body)


def note(draining: Draining, change: Change, why: IntegrationError | None) -> str:
    """Keeps what became of a try; returns it in a word."""
    if why is None:
        draining.delivered(change)
        return "delivered"
    if change.tries + 1 < DELIVERY_TRIES:
        draining.later(change, why.what, WAITS[min(change.tries, len(WAITS) - 1)])
        return "later"
    letter = {"class": why.error_class, "message": why.what, "where": why.where, "who": why.who, "next": why.next}
    draining.dead(change, why.what, letter)
    return "dead"
