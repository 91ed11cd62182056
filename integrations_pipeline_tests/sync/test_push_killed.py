"""kill -9 at each point between the write at the source and our own mark: one object each, one key on every try."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from itertools import cycle, islice

import pytest

from integrations_pipeline_tests.client.source import Reply, Seen, Source
from integrations_pipeline_tests.sync.killed import AT_THE_SOURCE, POINTS, start
from integrations_pipeline_tests.sync.provider import FINDABLE, KEYED, LOST, Desk, Provider

EVERYWHERE = [*list(POINTS)[:3], *AT_THE_SOURCE, *list(POINTS)[3:]]
OPEN = "SELECT count(*) FROM integrations.outbox WHERE status NOT IN ('done', 'parked')"


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    provider = Provider()
    provider.add(name="Anna")
    with Source(provider) as source:
        desk = Desk(database_url, source, provider)
        desk.sync()
        yield desk


def push_and_kill(desk: Desk, point: str) -> None:
    """A push of what waits, killed there."""
    child = start(desk, point)

    def kill(seen: Seen) -> Reply | None:
        if seen.method == "GET" or child.pid is None:
            return None
        os.kill(child.pid, signal.SIGKILL)
        return LOST

    nothing = lambda seen: None  # noqa: E731 - as the provider's own
    desk.provider.instead = kill if point == "arrived" else nothing
    desk.provider.after = kill if point == "done" else nothing
    child.join(60)
    desk.provider.instead = desk.provider.after = nothing
    assert child.exitcode == -signal.SIGKILL, f"it was to die when {point}"


def settle(desk: Desk) -> None:
    """Time passes, and others push."""
    for _ in range(10):
        desk.rows("UPDATE integrations.outbox SET leased_until = now() - interval '1 s' WHERE status = 'sending'")
        desk.due()
        desk.push()
        if desk.rows(OPEN) == [(0,)]:
            return
    raise AssertionError(desk.outbox("status, reason"))


def kill_at(desk: Desk, points: list[str]) -> None:
    """A new record for each kill; nothing is made twice, and every try had the record's one key."""
    for number, point in enumerate(points):
        name = f"{number} {point}"
        desk.insert(name)
        push_and_kill(desk, point)
        settle(desk)
        keys = {one.headers["Idempotency-Key"] for one in desk.sent("POST") if one.json["name"] == name}
        assert len(keys) == 1, point
        assert [one["name"] for one in desk.provider.people.values()].count(name) == 1, point
    made = {one["name"] for one in desk.provider.people.values()}
    assert len(desk.provider.people) == len(points) + 1 == len(made)
    assert {outcome for (outcome,) in desk.outbox("outcome")} <= {"sent", "read_back"}
    desk.sync()
    assert desk.rows("SELECT count(*) FROM canonical.person WHERE deleted_at IS NULL") == [(len(points) + 1,)]
    writes = len(desk.sent())
    assert not desk.push().changes and len(desk.sent()) == writes


def test_a_push_killed_anywhere_makes_one_object(desk: Desk) -> None:
    desk.write |= KEYED
    kill_at(desk, EVERYWHERE[::2])


def test_a_push_killed_anywhere_makes_one_object_where_keys_are_ignored(desk: Desk) -> None:
    desk.provider.keeps = False
    desk.write |= {**KEYED, **FINDABLE, "idempotency": {**KEYED["idempotency"], "kept": "1s"}}
    kill_at(desk, EVERYWHERE[1::2])


@pytest.mark.long
@pytest.mark.parametrize("keeps", [True, False], ids=["keys are kept", "keys are ignored"])
def test_pushes_killed_at_each_point_again_and_again(desk: Desk, keeps: bool) -> None:
    desk.provider.keeps = keeps
    desk.write |= KEYED
    if not keeps:
        desk.write |= {**FINDABLE, "idempotency": {**KEYED["idempotency"], "kept": "1s"}}
    kill_at(desk, list(islice(cycle(EVERYWHERE), 2 * len(EVERYWHERE))))


def test_without_any_means_to_tell_a_killed_create_is_never_made_twice(desk: Desk) -> None:
    for point in ("arrived", "done", "settled"):
        desk.insert(point)
        push_and_kill(desk, point)
        settle(desk)
        assert [one["name"] for one in desk.provider.people.values()].count(point) == (point != "arrived")
    assert {status for (status,) in desk.outbox("status")} == {"parked"}
