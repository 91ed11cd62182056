"""Saved files go live in Dagster too: where its UI is known, it is asked to read them anew, whoever saved them."""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.request

import structlog

from integrations_pipeline.sync.alerting import UI_URL

SECONDS = 120.0
TRIES = 6
WAIT_SECONDS = 10.0
"""Between two of the tries: its web server may just be starting."""
RELOAD = "mutation {reloadWorkspace {__typename ... on PythonError {message}}}"

log = structlog.get_logger()


def dagster_url() -> str | None:
    """Where Dagster's UI is, if that is known."""
    return os.environ.get(UI_URL, "").strip().rstrip("/") or None


class Reloading:
    """Asks in the background; whoever saved needn't wait for it. Files that are saved while Dagster reads them are read
    by one more reload, however many they are."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted = self._asking = False

    def want(self) -> None:
        with self._lock:
            self._wanted = True
            if not self._asking:
                self._asking = True
                threading.Thread(target=self._ask, name="reload", daemon=True).start()

    def _ask(self) -> None:
        while self._take():
            if url := dagster_url():
                reload_at(url)

    def _take(self) -> bool:
        with self._lock:
            self._asking, self._wanted = self._wanted, False
            return self._asking


def reload_at(url: str) -> None:
    """Tries until it is taken, a minute long."""
    for attempt in range(TRIES):
        why = refusal(url)
        if why is None:
            log.info("Dagster read the files anew")
            return
        if attempt < TRIES - 1:
            time.sleep(WAIT_SECONDS)
    log.warning("Dagster could not be asked to read the files anew: reload it in its UI", error=why)


def refusal(url: str) -> str | None:
    """Why it didn't reload; None where it did."""
    body = json.dumps({"query": RELOAD}).encode()
    asked = urllib.request.Request(f"{url}/graphql", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(asked, timeout=SECONDS) as answer:
            said = json.load(answer)["data"]["reloadWorkspace"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return str(error) or type(error).__name__
    return None if said["__typename"] == "Workspace" else str(said.get("message") or said["__typename"])
