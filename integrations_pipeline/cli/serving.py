"""`integrations serve`: the gateway, until Ctrl-C."""

from __future__ import annotations

import socket
from functools import partial

from integrations_pipeline.cli import output
from integrations_pipeline.cli.stopping import Stopped, stopped_by_signals
from integrations_pipeline.gateway.application import whole
from integrations_pipeline.gateway.serving import run
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.lines import log_lines
from integrations_pipeline.store.store import open_store


def run_serve(*, host: str, port: int) -> int:
    """Serves the home's webhooks, data and pages. Raises ConfigError for an address that can't be used, and what the
    database raises.

    A taken port is refused and not replaced: senders and proxies know this one.
    """
    home = Home.from_environment()
    log_lines("info")
    with stopped_by_signals():
        try:
            with listening(host, port) as listener, open_store(home=home) as store:
                run(whole(home, store), listener, partial(say, host))
        except Stopped:
            pass
    return 0


def listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1_024)
    except OSError as error:
        raise ConfigError(
            f"port {port} of {host} can't be used: {error.strerror or error}",
            who=output.TYPED,
            next="choose another with --port, or 0 for a free one",
        ) from None


def say(host: str, port: int) -> None:
    shown = f"[{host}]" if ":" in host else host
    places = (("webhooks", "webhooks/CONNECTION"), ("data", "data/KIND"), ("pages", ""), ("metrics", "metrics"))
    for what, path in places:
        output.console.print(f"{what}: http://{shown}:{port}/{path}", markup=False)
    output.console.print("Ctrl-C stops", markup=False)
