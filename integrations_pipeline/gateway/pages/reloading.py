"""Saved files go live: the gateway looks at them itself; Dagster, where its UI is known, is asked to read them anew."""

from __future__ import annotations

import json
import threading
import urllib.request

import structlog

from integrations_pipeline.gateway.pages.asked import dagster_url

SECONDS = 60.0
RELOAD = "mutation {reloadWorkspace {__typename}}"

log = structlog.get_logger()


def reload_dagster() -> None:
    """Asks in the background; whoever saved needn't wait for it."""
    url = dagster_url()
    if url is not None:
        threading.Thread(target=ask, args=(url,), name="reload", daemon=True).start()


def ask(url: str) -> None:
    body = json.dumps({"query": RELOAD}).encode()
    asked = urllib.request.Request(f"{url}/graphql", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(asked, timeout=SECONDS):
            log.info("Dagster read the files anew")
    except (OSError, ValueError) as error:
        log.warning("Dagster could not be asked to read the files anew: reload it in its UI", error=str(error))
