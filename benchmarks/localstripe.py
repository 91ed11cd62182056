"""A payments server that nobody of this project wrote, sending to the gateway: what is made there arrives here.

localstripe is a stateful stand-in for Stripe's API (github.com/adrienverge/localstripe, GPL: a test server only, and
never a dependency). Install it into an environment of its own, start it on loopback with its data in memory, then

    python localstripe.py http://127.0.0.1:PORT [--count 1000] [--key sk_test_any]

This starts a durable PostgreSQL and a gateway of its own (`integrations serve`), names that to localstripe with a
secret, makes so many customers and pays once for each, waits until their events are applied, and compares what is held
with localstripe's own lists: keys, e-mail addresses, amounts. A poll at the end says what webhooks missed: nothing.
localstripe has no events of charges; `payment_intent.succeeded` tells that one was made, and it is read by its id.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import yaml

from integrations_pipeline.store.migration import migrate
from integrations_pipeline.store.server import EmbeddedServer

ROOT = Path(__file__).resolve().parents[1]
INTEGRATIONS = [sys.executable, "-c", "from integrations_pipeline.cli import main; main()"]
WAIT_SECONDS = 600.0
WEBHOOK = """
verify:
  type: hmac
  signature: header Stripe-Signature
  format: "t=<timestamp>,v1=<signature>"
  signed: <timestamp>.<body>
  secret: $signing
event_type: type
event_id: id
order_by: created
apply: immediately
events:
  customer.created: {upsert: customers, record: data.object}
  customer.updated: {upsert: customers, record: data.object}
  payment_intent.succeeded: {fetch: charges, key: data.object.charges.data.0.id}
"""


class Source:
    """localstripe's API."""

    def __init__(self, url: str, key: str):
        self.url = url.rstrip("/")
        self.proof = "Basic " + base64.b64encode(f"{key}:".encode()).decode()

    def ask(self, path: str, form: dict[str, Any] | None = None) -> Any:
        data = urllib.parse.urlencode(form).encode() if form is not None else None
        request = urllib.request.Request(self.url + path, data, {"Authorization": self.proof})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    def every(self, path: str) -> Iterator[dict[str, Any]]:
        after = ""
        while True:
            page = self.ask(f"{path}?limit=100{after}")
            yield from page["data"]
            if not page["has_more"]:
                return
            after = f"&starting_after={page['data'][-1]['id']}"

    def pay(self, number: int) -> None:
        """A customer with a card, and a payment by it."""
        email = f"webhook{secrets.token_hex(6)}@example.org"
        customer = self.ask("/v1/customers", {"email": email, "name": f"Customer {number}"})["id"]
        card = {"number": "4242424242424242", "exp_month": "12", "exp_year": "2035", "cvc": "123"}
        method = {"type": "card", **{f"card[{name}]": value for name, value in card.items()}}
        way = self.ask("/v1/payment_methods", method)["id"]
        self.ask(f"/v1/payment_methods/{way}/attach", {"customer": customer})
        paid = {"amount": 100 + number, "currency": "eur", "customer": customer, "payment_method": way}
        self.ask("/v1/payment_intents", {**paid, "confirm": "true"})


def write_home(home: Path, url: str) -> None:
    """The example's connection at that address, with a webhook."""
    connection = yaml.safe_load((ROOT / "examples" / "localstripe.yaml").read_text(encoding="utf-8"))
    connection["api"]["url"] = f"{url.rstrip('/')}/v1"
    connection["secrets"]["signing"] = {"env": "LOCALSTRIPE_SIGNING"}
    connection["webhook"] = yaml.safe_load(WEBHOOK)
    (home / "connections").mkdir()
    (home / "connections" / "localstripe.yaml").write_text(json.dumps(connection), encoding="utf-8")
    (home / "models").symlink_to(ROOT / "models")


@contextmanager
def gateway(environment: dict[str, str]) -> Iterator[str]:
    """`integrations serve`; the address of the connection's webhook."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen([*INTEGRATIONS, "serve", "--port", str(port)], env=environment, stdout=2)
    try:
        while process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/webhooks/localstripe"
    finally:
        process.terminate()
        process.wait()


def synced(environment: dict[str, str]) -> dict[str, Any]:
    command = [*INTEGRATIONS, "sync", "localstripe", "customers", "charges", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return {one["stream"]: one for one in json.loads(done.stdout)["streams"]}


def held(session: psycopg.Connection[Any], stream: str, field: str) -> dict[str, Any]:
    query = f"SELECT external_id, payload ->> '{field}' FROM raw.localstripe__{stream} WHERE deleted_at IS NULL"
    return dict(session.execute(query).fetchall())  # type: ignore[arg-type]


def applied(session: psycopg.Connection[Any]) -> dict[str, int]:
    """Events by what became of them, once none waits any more."""
    deadline = time.monotonic() + WAIT_SECONDS
    waiting = "SELECT count(*) FROM integrations.inbox WHERE status IN ('received', 'leased')"
    counted, since = -1, time.monotonic()
    while time.monotonic() < deadline:
        row = session.execute("SELECT count(*) FROM integrations.inbox").fetchone()
        if row and row[0] != counted:
            counted, since = row[0], time.monotonic()
        left = session.execute(waiting).fetchone()
        if left and left[0] == 0 and time.monotonic() - since > 5:  # localstripe sends a second after the change
            break
        time.sleep(0.5)
    query = "SELECT coalesce(event_type, '') || ': ' || coalesce(outcome, status), count(*) FROM integrations.inbox"
    return dict(session.execute(f"{query} GROUP BY 1 ORDER BY 1").fetchall())


def run(folder: Path, source: Source, count: int, key: str) -> dict[str, Any]:
    write_home(folder, source.url)
    server = EmbeddedServer(folder / "state")
    url = server.acquire()
    migrate(url)
    signing = f"whsec_{secrets.token_hex(16)}"
    ours = {"INTEGRATIONS_HOME": str(folder), "INTEGRATIONS_DATABASE_URL": url}
    environment = {**os.environ, **ours, "LOCALSTRIPE_KEY": key, "LOCALSTRIPE_SIGNING": signing}
    try:
        first = synced(environment)
        with gateway(environment) as address, psycopg.connect(url, autocommit=True) as session:
            config = json.dumps({"url": address, "secret": signing}).encode()
            request = urllib.request.Request(
                f"{source.url}/_config/webhooks/benchmark", config, {"Content-Type": "application/json"}
            )
            urllib.request.urlopen(request, timeout=60).close()
            began = time.monotonic()
            for number in range(count):
                source.pay(number)
            made = time.monotonic() - began
            events = applied(session)
            settled = time.monotonic() - began
            kept = {"customers": held(session, "customers", "email"), "charges": held(session, "charges", "amount")}
        truth = {
            "customers": {one["id"]: one["email"] for one in source.every("/v1/customers")},
            "charges": {one["id"]: str(one["amount"]) for one in source.every("/v1/charges")},
        }
        after = synced(environment)
        return {
            "before": {name: one["fetched"] for name, one in first.items()},
            "made": count,
            "seconds": {"to make them": round(made, 1), "until the last event was applied": round(settled, 1)},
            "events": events,
            "there": {name: len(rows) for name, rows in truth.items()},
            "here": {name: len(rows) for name, rows in kept.items()},
            "equal": kept == truth,
            "a poll found new": {name: one["created"] for name, one in after.items()},
        }
    finally:
        server.release()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--count", type=int, default=1_000)
    parser.add_argument("--key", default="sk_test_any")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="integrations-localstripe-") as folder:
        Path(folder).chmod(0o711)
        found = run(Path(folder), Source(given.url, given.key), given.count, given.key)
    print(json.dumps(found, indent=1))
    sys.exit(0 if found["equal"] else 1)


if __name__ == "__main__":
    main()
