"""kill -9 of a process that applies events: what it held is leased again, and each event is done once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any

from integrations_pipeline_tests.gateway.conftest import START_SECONDS
from integrations_pipeline_tests.gateway.shop import SECRET, Shop, at, shop

__all__ = ["shop"]
RECEIVE = [sys.executable, "-c", "from integrations_pipeline.cli import main; main()", "receive", "acme"]


def receiving(shop: Shop) -> subprocess.Popen[bytes]:
    ours = {"INTEGRATIONS_HOME": str(shop.door.home), "INTEGRATIONS_DATABASE_URL": shop.door.database_url}
    return subprocess.Popen(RECEIVE, env={**os.environ, **ours, "ACME_SIGNING": SECRET}, stdout=subprocess.DEVNULL)


def test_a_killed_process_leaves_its_events_to_the_next(shop: Shop) -> None:
    """It dies while the source answers, with another stream's events done already."""
    asked, answered = threading.Event(), threading.Event()
    plain = shop.source.answer

    def slow(seen: Any) -> Any:
        asked.set()
        answered.wait(10 * START_SECONDS)
        return plain(seen)

    shop.tables["tickets"]["t"] = {"id": "t", "updated": at(1)}
    shop.send("contact.created", minutes=1, contact={"id": "a", "updated": at(1)})
    shop.send("ticket.changed", minutes=1, id="t")
    shop.source.answer = slow
    process = receiving(shop)
    assert asked.wait(10 * START_SECONDS)
    process.kill()
    process.wait()
    answered.set()
    shop.source.answer = plain
    assert shop.outcomes() == ["applied", "leased"]
    shop.make_due()  # two minutes later nobody has said that he lives
    assert receiving(shop).wait() == 0
    assert shop.outcomes() == ["applied", "applied"]
    assert (set(shop.held("contacts")), set(shop.held("tickets"))) == ({"a"}, {"t"})
    tries = shop.door.rows("SELECT tries FROM integrations.inbox ORDER BY id")
    assert tries == [{"tries": 1}, {"tries": 2}]
