"""A gateway over real HTTP, on a home with a connection for each scheme, and a database of its own."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from socket import create_connection, create_server
from typing import Any

import psycopg
import pytest
import uvicorn

from integrations_pipeline.client.delivery import Delivery
from integrations_pipeline.client.signatures import sign
from integrations_pipeline.gateway.application import Gateway
from integrations_pipeline.gateway.doors import Doors
from integrations_pipeline.gateway.serving import configuration
from integrations_pipeline.spec.home import Home
from integrations_pipeline.store.store import Store
from integrations_pipeline_tests.client.test_signatures import PAYLOADS, SCHEMES, secrets_of, webhook

PUBLIC = "https://hooks.example.com/in"
START_SECONDS = 30.0
ORDERS = {
    "request": "GET /orders",
    "records": "data",
    "primary_key": "id",
    "get": {"request": "GET /orders/<external_id>"},
}


def connection(name: str, hook: Mapping[str, Any], **secrets: Any) -> str:
    """A connection file, as JSON, which is YAML."""
    api = {"url": "https://api.example.com/v1", "pagination": {"type": "single_page"}}
    events = {"**": {"sync": "orders"}}
    document = {
        "connection": name,
        "secrets": {key: {"env": value} for key, value in secrets.items()},
        "api": api,
        "streams": {"orders": ORDERS},
        "webhook": {"events": events, **hook},
    }
    return json.dumps(document)


def scheme(name: str, **more: Any) -> str:
    """A connection with the scheme's name, its events named as Stripe does."""
    verify = {"type": "hmac", "secret": "$signing", **SCHEMES[name]}
    hook = {"verify": verify, "payload": PAYLOADS.get(name, "json"), "event_type": "type", "event_id": "id", **more}
    return connection(name, hook, signing=f"SIGNING_{name.upper()}")


@dataclass
class Door:
    """A running gateway. ``rows`` is what it stored."""

    home: Path
    database_url: str
    port: int = 0

    def write(self, name: str, text: str) -> None:
        """Saved as an editor does: whole at once."""
        file = self.home / "connections" / f"{name}.yaml"
        file.with_suffix(".tmp").write_text(text, encoding="utf-8")
        file.with_suffix(".tmp").replace(file)

    def send(
        self, name: str, body: bytes, headers: Any = (), method: str = "POST", query: str = ""
    ) -> tuple[int, bytes, dict[str, str]]:
        """One request as it stands; status, body and headers of the answer."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            link.putrequest(method, f"/webhooks/{name}{query}", skip_accept_encoding=True)
            for key, value in dict(headers).items() if isinstance(headers, Mapping) else headers:
                link.putheader(key, value)
            link.putheader("Content-Length", str(len(body)))
            link.endheaders(body)
            answer = link.getresponse()
            return answer.status, answer.read(), {key.lower(): value for key, value in answer.getheaders()}
        finally:
            link.close()

    def health(self) -> int:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            link.request("GET", "/healthz")
            return link.getresponse().status
        finally:
            link.close()

    def signed(self, name: str, body: bytes, at: datetime | None = None, headers: Any = ()) -> Delivery:
        """A genuine delivery of a scheme's connection."""
        hook = webhook(name)
        sent = Delivery("POST", f"{PUBLIC}/webhooks/{name}", list(headers), body, hook.payload)
        return sign(hook, secrets_of(name, "k"), sent, at or datetime.now(UTC))

    def deliver(self, name: str, body: bytes, **more: Any) -> int:
        sent = self.signed(name, body, **more)
        return self.send(name, sent.body, sent.headers)[0]

    def raw(self, data: bytes, seconds: float = 30.0) -> bytes:
        """Bytes as they stand; whatever comes back until the gateway, or we, have nothing to say."""
        with create_connection(("127.0.0.1", self.port), timeout=seconds) as link:
            try:
                link.sendall(data)
                link.shutdown(1)
                answer = b""
                while chunk := link.recv(65_536):
                    answer += chunk
            except ConnectionError:
                return b""
        return answer

    def rows(self, query: str = "SELECT * FROM integrations.inbox ORDER BY id", *values: Any) -> list[dict[str, Any]]:
        with psycopg.connect(self.database_url, row_factory=psycopg.rows.dict_row) as session:
            return session.execute(query, values or None).fetchall()  # type: ignore[arg-type]


def until(true: Any, seconds: float = START_SECONDS) -> Any:
    """What the call says once it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := true():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s")


@pytest.fixture
def door(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    """A gateway with a connection per scheme."""
    (tmp_path / "connections").mkdir()
    built = Door(tmp_path, database_url)
    for name in SCHEMES:
        monkeypatch.setenv(f"SIGNING_{name.upper()}", secrets_of(name, "k")[0].reveal())
        built.write(name, scheme(name))
    with serving(built, Gateway(Doors(Home(tmp_path), PUBLIC), Store(database_url).connect)):
        yield built


class serving:  # noqa: N801 - used as `with serving(…)`
    """Runs a gateway in a thread."""

    def __init__(self, door: Door, gateway: Gateway):
        listener = create_server(("127.0.0.1", 0))
        door.port = listener.getsockname()[1]
        self.server = uvicorn.Server(configuration(gateway))
        self.thread = threading.Thread(target=self.server.run, args=([listener],), daemon=True)

    def __enter__(self) -> None:
        self.thread.start()
        until(lambda: self.server.started or not self.thread.is_alive())
        assert self.server.started

    def __exit__(self, *error: object) -> None:
        self.server.should_exit = True
        self.thread.join(START_SECONDS)
