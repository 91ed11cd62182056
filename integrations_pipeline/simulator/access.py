"""Who may ask, and how often: the declared credentials and limits, seen from the server's side."""

from __future__ import annotations

import math
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Mapping

from integrations_pipeline.simulator.tokens import Tokens
from integrations_pipeline.simulator.views import Request
from integrations_pipeline.spec.api import Limit
from integrations_pipeline.spec.auth import ApiKey, Basic, Bearer, NoAuth
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.placeholders import as_text
from integrations_pipeline.spec.places import SendPlace
from integrations_pipeline.spec.secrets import reference_in

ROUNDING = 1e-6
"""Of a token: sums of floats must not refuse a request that comes exactly in time."""

Required = tuple[SendPlace, str]


class Access:
    """Checks what a request proves. Raises ConfigError where a secret of the connection can't be resolved."""

    def __init__(self, connection: Connection, secrets: Mapping[str, str] | None, now: Callable[[], float]):
        self.connection = connection
        self.secrets = secrets
        self.required = [*self.of_auth(), *self.of_headers()]
        fixed = isinstance(connection.api.auth, NoAuth | Bearer | Basic | ApiKey)
        self.tokens = None if fixed else Tokens(connection, self.revealed, now)

    def revealed(self, value: str) -> str:
        """A text as it stands, or the secret it names."""
        name = reference_in(value)
        if name is None:
            return value
        if self.secrets is not None and name in self.secrets:
            return self.secrets[name]
        source = self.connection.secrets.get(name)
        if source is None:
            raise ConfigError(f"${name} is not among the connection's secrets", where=self.connection.name)
        return source.resolve(name).reveal()

    def of_auth(self) -> list[Required]:
        auth = self.connection.api.auth
        authorization = SendPlace("header", "Authorization")
        if isinstance(auth, Bearer):
            return [(authorization, f"Bearer {self.revealed(auth.token)}")]
        if isinstance(auth, Basic):
            pair = f"{self.revealed(auth.username)}:{self.revealed(auth.password)}"
            return [(authorization, "Basic " + b64encode(pair.encode()).decode())]
        if isinstance(auth, ApiKey):
            return [(auth.send, auth.prefix + self.revealed(auth.key))]
        return []

    def of_headers(self) -> list[Required]:
        """Secrets among the headers and parameters that go with every request prove the sender too."""
        api = self.connection.api
        headers = [(SendPlace("header", name), value) for name, value in api.headers.items()]
        query = [(SendPlace("query", name), value) for name, value in api.query.items()]
        return [(place, self.revealed(value)) for place, value in [*headers, *query] if reference_in(value)]

    def allows(self, request: Request) -> bool:
        shown = all(as_text(request.sent(place)) == value for place, value in self.required)
        return shown and (self.tokens is None or self.tokens.allows(request))


class Meter:
    """One declared limit as the source keeps it: a sliding window, or a bucket where `burst` is given."""

    def __init__(self, limit: Limit, now: Callable[[], float]):
        self.limit = limit
        self.now = now
        self.taken: deque[float] = deque()
        self.tokens = float(limit.burst or 0)
        self.filled_at = now()

    def wait_seconds(self) -> float:
        """0 where a request is allowed now, else until one will be."""
        rate, now = self.limit.rate, self.now()
        if self.limit.burst is not None:
            refill = (now - self.filled_at) * rate.count / rate.seconds
            self.tokens, self.filled_at = min(self.tokens + refill, float(self.limit.burst)), now
            return 0.0 if self.tokens > 1 - ROUNDING else (1 - self.tokens) * rate.seconds / rate.count
        while self.taken and self.taken[0] <= now - rate.seconds:
            self.taken.popleft()
        return 0.0 if len(self.taken) < rate.count else self.taken[0] + rate.seconds - now

    def take(self) -> None:
        if self.limit.burst is None:
            self.taken.append(self.now())
        else:
            self.tokens -= 1.0

    @property
    def remaining(self) -> int:
        """Requests that would be allowed at once."""
        return int(self.tokens) if self.limit.burst is not None else self.limit.rate.count - len(self.taken)


class Limits:
    """All declared limits of a connection. A refused request takes nothing."""

    def __init__(self, connection: Connection, now: Callable[[], float]):
        self.meters = [Meter(limit, now) for limit in connection.api.limits]
        self.quota = connection.api.quota

    def refuse(self, method: str, path: str) -> int | None:
        """Takes one request from every limit that applies; or the whole seconds to wait, taking none."""
        meters = [meter for meter in self.meters if meter.limit.applies_to(method, path)]
        wait = max((meter.wait_seconds() for meter in meters), default=0.0)
        if wait > 0:
            return max(math.ceil(wait), 1)
        for meter in meters:
            meter.take()
        return None

    def headers(self, method: str, path: str) -> dict[str, str]:
        """What the declared `quota` places say after this request."""
        meters = [meter for meter in self.meters if meter.limit.applies_to(method, path)]
        if self.quota is None or not meters:
            return {}
        scarce = min(meters, key=lambda meter: meter.remaining)
        found = {}
        if self.quota.remaining.kind == "header":
            found[self.quota.remaining.name] = str(scarce.remaining)
        if self.quota.reset.kind == "header" and self.quota.unit in ("s", "ms"):
            seconds = math.ceil(scarce.limit.rate.seconds)
            found[self.quota.reset.name] = str(seconds * (1000 if self.quota.unit == "ms" else 1))
        return found
