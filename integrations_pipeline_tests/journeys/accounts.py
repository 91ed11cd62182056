"""One connection per kind of credentials that are obtained at run time, with secrets planted in it."""

from __future__ import annotations

from dataclasses import dataclass

from joserfc.jwk import ECKey, RSAKey

from integrations_pipeline.client import Client
from integrations_pipeline.simulator.simulation import Simulation
from integrations_pipeline.simulator.tokens import Tokens
from integrations_pipeline.spec.clock import Clock
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection
from integrations_pipeline.spec.secrets import Secret
from integrations_pipeline.store.store import Store, open_store
from integrations_pipeline.sync.result import StreamResult
from integrations_pipeline.sync.run import sync
from integrations_pipeline_tests.journeys.conftest import House

ORDERS = """
connection: shop
secrets: {SECRETS}
api:
  url: {url}
  auth: AUTH
  pagination: {type: cursor, read: next, send: after, size: {send: limit, value: 10}}
streams:
  orders:
    request: GET /orders
    records: items
    primary_key: id
    cursor: {field: updated_at, send: since}
    fields: {id: {type: string, required: true}, updated_at: {type: timestamp, required: true}}
  customers:
    request: GET /customers
    records: items
    primary_key: id
"""


@dataclass(frozen=True)
class Account:
    """A kind of auth as a file says it, and its secrets by name (each in the variable SHOP_NAME)."""

    name: str
    auth: str
    secrets: dict[str, str]

    @property
    def text(self) -> str:
        secrets = ", ".join(f"{name}: {{env: SHOP_{name.upper()}}}" for name in self.secrets)
        return ORDERS.replace("SECRETS", secrets).replace("AUTH", self.auth)

    def built(self, house: House, records: int = 60) -> Simulation:
        """The connection, its simulated source, and its secrets in the environment of what is run."""
        house.environment.update({f"SHOP_{name.upper()}": value for name, value in self.secrets.items()})
        return house.connect_to("shop", self.text, records=records, secrets=self.secrets)

    def client(self, house: House, store: Store, *, clock: Clock | None = None, **secrets: str) -> Client:
        """In this process, as a run makes it. ``secrets`` replace those of the account."""
        connection = load_connection("shop", Home(house.home))
        given = {name: Secret(value) for name, value in {**self.secrets, **secrets}.items()}
        limiter, tokens = store.limiter(connection), store.tokens(connection)
        return Client(connection, limiter=limiter, tokens=tokens, secrets=given, clock=clock)

    def sync(self, house: House, **secrets: str) -> dict[str, StreamResult]:
        """One run in this process; the results by stream."""
        connection = load_connection("shop", Home(house.home))
        with open_store(house.database_url, Home(house.home)) as store:
            client = self.client(house, store, **secrets)
            try:
                return {one.stream: one for one in sync(connection, client, store, {}).streams}
            finally:
                client.close()


CLIENT = Account(
    "oauth2_client_credentials",
    "{type: oauth2_client_credentials, token_url: '{url}/oauth/token', client_id: house, client_secret: $client,"
    " scope: read, client_auth: basic, extra: {audience: shop}}",
    {"client": "planted-client-0f3a91"},
)
REFRESH = Account(
    "oauth2_refresh",
    "{type: oauth2_refresh, token_url: '{url}/oauth/token', client_id: house, client_secret: $client,"
    " refresh_token: $refresh}",
    {"client": "planted-client-77b1c2", "refresh": "planted-refresh-c0ffee11"},
)
ASSERTION = Account(
    "jwt_assertion",
    "{type: jwt, algorithm: HS256, key: $key, token_url: '{url}/oauth/token', claims: {iss: house, sub: $user}}",
    {"key": "planted-key-6b1d0c2e8a7f4d3b9e5a", "user": "planted-user-4711"},
)
SIGNED = Account(
    "jwt",
    "{type: jwt, algorithm: HS512, key: $key, key_encoding: hex, key_id: k1, claims: {iss: house}, lifetime: 2m}",
    {"key": "a1b2c3d4e5f60718293a4b5c6d7e8f90" * 4},
)
SESSION = Account(
    "session",
    "{type: session, cookies: true, login: ["
    "{request: POST /login, body: {user: $user, password: $password}, keep: {ticket: data.ticket}},"
    " {request: POST /session, headers: {X-Ticket: <kept.ticket>}, keep: {token: token},"
    " expires: {read: expires_in, unit: s}}],"
    " send: {header Authorization: Session <kept.token>}}",
    {"user": "planted-user-ann", "password": "planted-password-Ä&9"},
)
REFRESHED = Account(
    "session_refresh",
    "{type: session, login: [{request: POST /login, body: {user: $user, password: $password}, keep: {token: token},"
    " expires: {read: expires_in, unit: s}}],"
    " refresh: {request: POST /refresh, headers: {X-Session: <kept.token>}, keep: {token: token},"
    " expires: {read: expires_in, unit: s}}, send: {header X-Session: <kept.token>}}",
    {"user": "planted-user-eve", "password": "planted-password-31"},
)


def written_key(kind: str) -> str:
    """A private key made for this run, as text between its PEM lines."""
    key = ECKey.generate_key("P-256") if kind == "ES256" else RSAKey.generate_key(2048)
    return key.as_pem(private=True).decode()


def signed_by_pem(algorithm: str, *, in_one_line: bool = False) -> Account:
    """``in_one_line``: as variables often hold it, with the two characters that mean a new line."""
    key = written_key(algorithm)
    return Account(
        f"jwt_{algorithm}",
        f"{{type: jwt, algorithm: {algorithm}, key: $key, key_encoding: pem, key_id: k2, claims: {{iss: house}}}}",
        {"key": key.replace("\n", "\\n") if in_one_line else key},
    )


ACCOUNTS = (CLIENT, REFRESH, ASSERTION, SIGNED, SESSION)
ISSUED = (CLIENT, REFRESH, ASSERTION, SESSION)


def tokens_of(source: Simulation) -> Tokens:
    assert source.tokens is not None
    return source.tokens
