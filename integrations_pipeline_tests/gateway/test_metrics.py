"""`/metrics` as Prometheus reads it: over real HTTP, of a database with something in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from integrations_pipeline.gateway.access import Access
from integrations_pipeline.gateway.application import Gateway
from integrations_pipeline.gateway.doors import Doors
from integrations_pipeline.gateway.metrics import Metrics
from integrations_pipeline.spec.home import Home
from integrations_pipeline.store.store import Store
from integrations_pipeline_tests.gateway.conftest import Door, connection, serving

HOOK = {"verify": {"type": "shared_secret", "signature": "header X-Key", "secret": "$key"}, "event_type": "type"}
FACTS = """
INSERT INTO integrations.stream_state (connection, stream, last_success)
    VALUES ('shop', 'orders', now() - interval '2 hours');
INSERT INTO integrations.run_log (run_id, connection, stream, mode, status, started_at, finished_at, fetched, created,
    quarantined, requests, waited_seconds)
    VALUES (gen_random_uuid(), 'shop', 'orders', 'incremental', 'succeeded', now() - interval '3 hours',
        now() - interval '2 hours', 10, 8, 2, 4, 1.5);
INSERT INTO integrations.breaker (connection, failures, reason, opened_at, retry_at)
    VALUES ('shop', 12, 'the source answered 503', now() - interval '1 hour', now());
INSERT INTO integrations.inbox (connection, event_id, hash, payload, headers)
    VALUES ('shop', 'e1', 'x', '{}', '{}'), ('shop', 'e2', 'x', '{}', '{}');
INSERT INTO integrations.dead_letter (origin, origin_id, connection, reason, tries)
    VALUES ('inbox', 1, 'shop', '{"message": "no such order"}', 5), ('delivery', 1, '', '{"message": "gone"}', 5);
INSERT INTO integrations.alert (connection, stream, condition, severity, what, who, next, since)
    VALUES ('shop', '', 'downtime', 'error', 'the source is down', 'nobody', 'wait', now()),
        ('', '', 'dead_letter', 'error', 'one change reached nobody', 'you', 'look', now());
"""


@pytest.fixture
def door(tmp_path: Path, database_url: str) -> Iterator[Door]:
    (tmp_path / "connections").mkdir()
    found = Door(tmp_path, database_url)
    found.write("shop", connection("shop", HOOK, key="SHOP_KEY"))
    with psycopg.connect(database_url, autocommit=True) as session:
        session.execute(FACTS)
    yield found


def samples(text: str) -> dict[str, float]:
    """By name and labels, as Prometheus shows them."""
    return {
        f"{one.name}{json.dumps(one.labels, sort_keys=True)}": one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def asked(port: int, token: str = "") -> str:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with urlopen(Request(f"http://127.0.0.1:{port}/metrics", headers=headers), timeout=60) as reply:
        assert reply.headers["content-type"].startswith("text/plain")
        return str(reply.read().decode())


def test_how_all_stands(door: Door) -> None:
    with Store(door.database_url) as store:
        doors = Doors(Home(door.home))
        with serving(door, Gateway(doors, store.connect, metrics=Metrics(doors, store, Access(None, "")))):
            found = samples(asked(door.port))
    of_stream, shop = '"connection": "shop", {}"stream": "orders"', '{"connection": "shop"}'
    stream = "{" + of_stream.format("") + "}"
    assert 7200 <= found[f"integrations_stream_lag_seconds{stream}"] < 7500
    created = "{" + of_stream.format('"result": "created", ') + "}"
    assert found[f"integrations_records_last_day{created}"] == 8
    assert found[f"integrations_requests_last_day{stream}"] == 4
    assert found[f"integrations_waited_seconds_last_day{stream}"] == 1.5
    invalid = (
        '{"connection": "shop", "expectation": "invalid_record_percent", "number": "invalid %", "stream": "orders"}'
    )
    assert found[f"integrations_expectation_number{invalid}"] == 20
    assert found[f"integrations_breaker_open{shop}"] == 1
    assert 3600 <= found[f"integrations_downtime_seconds{shop}"] < 3900
    assert (found[f"integrations_inbox_waiting{shop}"], found[f"integrations_dead_letters_open{shop}"]) == (2, 1)
    alert = '{"condition": "downtime", "connection": "shop", "severity": "error", "stream": ""}'
    assert found[f"integrations_alert_open{alert}"] == 1
    of_home = '{"condition": "dead_letter", "connection": "", "severity": "error", "stream": ""}'
    assert found[f"integrations_alert_open{of_home}"] == 1
    assert found['integrations_dead_letters_open{"connection": ""}'] == 1
    assert 'integrations_breaker_open{"connection": ""}' not in found


def test_who_has_the_token_may_read_them(door: Door) -> None:
    with Store(door.database_url) as store:
        doors = Doors(Home(door.home))
        with serving(
            door, Gateway(doors, store.connect, metrics=Metrics(doors, store, Access(None, "t0ken-of-a-test-0123")))
        ):
            assert "integrations_stream_lag_seconds" in asked(door.port, "t0ken-of-a-test-0123")
            for wrong in ("", "another"):
                with pytest.raises(HTTPError, match="401"):
                    asked(door.port, wrong)
