"""The hook `verify`: a team's own function says whether a delivery is genuine, where no key of `verify` can."""

from __future__ import annotations

import time
from collections.abc import Mapping

import structlog

from integrations_pipeline.client.delivery import Delivery
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import ConfigError, IntegrationError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.hooks import Hook, IncomingDelivery, line_of, load_hooks
from integrations_pipeline.spec.secrets import Secret

TELL_SECONDS = 60.0
"""How often a hook that fails is told of: anybody may send what makes it fail."""

log = structlog.get_logger()


class OwnVerifier:
    """One connection's hook, with its secrets; any thread may use it."""

    def __init__(self, name: str, hook: Hook, secrets: Mapping[str, Secret]):
        self.name, self.hook, self.secrets = name, hook, secrets
        self.told_at: float | None = None

    def refusal(self, sent: Delivery) -> str | None:
        """``hook`` unless the function returns True: also where it raises, since what it can't read proves nothing."""
        headers: dict[str, str] = {}
        for name, value in sent.headers:
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        try:
            found = self.hook(IncomingDelivery(sent.method, sent.url, headers, sent.body), secrets=self.secrets)
        except IntegrationError as error:
            cause = error.__cause__
            self.tell(f"raised {type(cause).__name__}{line_of(cause)}" if isinstance(cause, Exception) else "raised")
            return "hook"
        if found is True:
            return None
        if found is not False:
            self.tell(f"returned {type(found).__name__} instead of True or False")
        return "hook"

    def tell(self, what: str) -> None:
        """Without the error's own text, which may hold what was sent."""
        if self.told_at is None or time.monotonic() - self.told_at > TELL_SECONDS:
            self.told_at = time.monotonic()
            log.warning("the hook verify failed: refused", connection=self.name, hook=self.hook.path, what=what)


def own_verifier(connection: Connection, home: Home) -> OwnVerifier | None:
    """None where no hook is declared. Raises ConfigError where it can't be loaded, or a secret is missing."""
    if connection.hooks.verify is None:
        return None
    hook = load_hooks(connection, home, only="verify")["verify"]
    try:
        secrets = {name: source.resolve(name) for name, source in connection.secrets.items()}
    except ConfigError as error:
        raise error.at(connection.name) from None
    return OwnVerifier(connection.name, hook, secrets)
