"""A plan tells what the next sync does, and leaves nothing: every table is as it was, and the sync does just that."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from integrations_pipeline.client import Client
from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.store.lease import take_lease
from integrations_pipeline.store.store import Store
from integrations_pipeline.sync.merge import merge
from integrations_pipeline.sync.plan import COUNTS, Plan, plan
from integrations_pipeline.sync.previewing import MappingPreview, preview
from integrations_pipeline.sync.push import push
from integrations_pipeline.sync.run import sync
from integrations_pipeline_tests.client.conftest import LocalLimiter
from integrations_pipeline_tests.client.source import Reply, Seen
from integrations_pipeline_tests.sync.conftest import Bench, bench

__all__ = ["bench"]
KIND = Kind.model_validate(
    {"kind": "person", "fields": {"name": {"type": "string"}, "mail": {"type": "string", "format": "email"},
                                  "stage": {"type": "string"}}}
)  # fmt: skip
PEOPLE = {
    "request": "GET /people",
    "records": "items",
    "primary_key": "id",
    "deletes": {"snapshot": "1d", "at_most": "100%"},
    "fields": {"id": {"type": "string", "required": True}, "age": {"type": "integer"}},
    "map": {"to": "person", "fields": {"name": "name", "mail": "mail", "stage": "stage"}},
    "write": {
        "fields": ["name", "stage"],
        "create": "POST /people",
        "update": "PATCH /people/<external_id>",
        "delete": "DELETE /people/<external_id>",
        "conflict": {"default": "review"},
    },
}
NOTES = {
    "request": "GET /people/<people.id>/notes",
    "records": {"path": "items", "include": {"person": "parent id"}},
    "primary_key": "id",
}
TABLES = """
SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname IN ('integrations', 'raw', 'canonical', 'public') ORDER BY 1
"""
SUM = "SELECT count(*), md5(string_agg(t::text, '' ORDER BY t::text)) FROM {} t"


class World:
    """People and their notes at a scripted source, and what is known of them here."""

    def __init__(self, bench: Bench):
        self.bench = bench
        self.people: dict[str, dict[str, Any]] = {}
        self.notes: dict[str, list[dict[str, Any]]] = {}
        self.total = False
        self.written: list[str] | None = None
        self.streams: dict[str, Any] = {"people": PEOPLE}
        self.api: dict[str, Any] = {}
        bench.source.answer = self.answer

    def answer(self, seen: Seen) -> Any:
        parts = seen.path.split("/")
        if seen.method != "GET":
            assert self.written is not None, "a plan sends nothing but reads"
            self.written.append(seen.method)
            return {"id": parts[2] if len(parts) > 2 else "made", **json.loads(seen.body or b"{}")}
        rows = self.notes.get(parts[2], []) if len(parts) > 2 else list(self.people.values())
        at = int(seen.one("after", "0"))
        page = {"items": rows[at : at + 5], **({"next": str(at + 5)} if at + 5 < len(rows) else {})}
        return {**page, "total": len(rows)} if self.total else page

    def connection(self) -> Connection:
        pages = {"type": "cursor", "read": "next", "send": "after", **({"total": "total"} if self.total else {})}
        api = {"url": self.bench.source.url, "pagination": pages, "retry": {"attempts": 1}, **self.api}
        return Connection.model_validate({"connection": "acme", "api": api, "streams": self.streams})

    def run(self, verb: Any, **more: Any) -> Any:
        connection = self.connection()
        with Store(self.bench.database_url) as store:
            client = Client(connection, limiter=LocalLimiter(), secrets={})
            try:
                return verb(connection, client, store, {"person": KIND}, **more)
            finally:
                client.close()

    def plan(self, **more: Any) -> Plan:
        """The plan; every table is as it was before."""
        before = self.tables()
        found: Plan = self.run(plan, **more)
        assert self.tables() == before
        json.dumps(found.as_dict(), default=str)
        return found

    def tables(self) -> dict[str, tuple[Any, ...]]:
        """Every table, with how many rows it has and a digest of them."""
        return {name: self.bench.rows(SUM.format(name))[0] for (name,) in self.bench.rows(TABLES)}

    def sync(self, **more: Any) -> dict[str, dict[str, int]]:
        """What the sync and the merge after it did, as a plan counts it."""
        done = self.run(sync, now=True, **more)
        queued = self.run(lambda connection, _, store, kinds: merge(connection, store, kinds)).queued
        found = {}
        for one in done.streams:
            shaped, raw, out = one.shaped, one.counters, queued.get(one.stream)
            found[one.stream] = {
                "in": (shaped.created, shaped.updated, shaped.deleted, raw.quarantined + shaped.quarantined),
                "out": (out.creates, out.updates, out.deletes) if out else (0, 0, 0),
            }
        return found

    def edit(self, statement: str) -> None:
        with Store(self.bench.database_url) as store, store.borrow() as session:
            session.execute(statement)  # type: ignore[arg-type]


def counted(found: Plan) -> dict[str, dict[str, Any]]:
    """As ``World.sync`` tells it."""
    told = {}
    for one in found.streams:
        counts = one.incoming
        told[one.stream] = {
            "in": (counts["created"], counts["updated"], counts["deleted"], counts["quarantined"]),
            "out": tuple(one.outgoing.get(sort, 0) for sort in COUNTS[:3]),
        }
    return told


@pytest.fixture
def world(bench: Bench) -> World:
    made = World(bench)
    made.people = {
        str(n): {"id": str(n), "name": f"n{n}", "mail": f"m{n}@example.com", "stage": "a"} for n in range(12)
    }
    return made


def test_a_first_sync_is_told_and_nothing_is_made(world: World) -> None:
    """Not even the tables."""
    world.people["3"]["mail"] = "nobody"
    world.people["4"]["age"] = "old"
    found = world.plan()
    assert counted(found) == {"people": {"in": (10, 0, 0, 2), "out": (0, 0, 0)}}
    assert found.complete
    assert found.as_dict()["requests"] == {"made": 3, "read": 3, "write": 0}
    samples = {(one.sort, one.id): one for one in found.streams[0].samples_in}
    assert samples["created", "0"].after == {"name": "n0", "mail": "m0@example.com", "stage": "a"}
    assert "integer" in str(samples["quarantined", "4"].reason)
    assert world.sync() == counted(found)


def test_both_directions_are_told_before_they_happen(world: World) -> None:
    world.sync()
    before = world.plan()
    assert counted(before) == {"people": {"in": (0, 0, 0, 0), "out": (0, 0, 0)}}
    world.people["1"]["name"] = "there"
    world.people["2"]["stage"] = "theirs"
    world.people["20"] = {"id": "20", "name": "new", "mail": "new@example.com", "stage": "b"}
    world.people["5"]["mail"] = "broken"
    del world.people["6"]
    world.edit("UPDATE canonical.person SET stage = 'ours' WHERE name = 'n2'")
    world.edit("UPDATE canonical.person SET name = 'here' WHERE name = 'n3'")
    world.edit("DELETE FROM canonical.person WHERE name = 'n4'")
    world.edit("INSERT INTO canonical.person (name, stage) VALUES ('made here', 'c')")
    found = world.plan()
    assert counted(found) == {"people": {"in": (1, 1, 1, 1), "out": (1, 1, 1)}}
    one = found.streams[0]
    assert (one.incoming["conflicts"], one.writes) == (1, 3)
    samples = {(sample.sort, sample.id): sample for sample in [*one.samples_in, *one.samples_out]}
    assert (samples["updated", "1"].before, samples["updated", "1"].after) == ({"name": "n1"}, {"name": "there"})
    assert samples["conflicts", "2"].after == {"ours": "ours", "theirs": "theirs"}
    assert (samples["updated", "3"].before, samples["updated", "3"].after) == ({"name": "n3"}, {"name": "here"})
    assert samples["deleted", "4"].after is None
    assert ("deleted", "6") in samples
    assert world.sync() == counted(found)
    world.written = []
    pushed = world.run(push)
    assert (pushed.changes, sorted(world.written)) == ({"sent": 3}, ["DELETE", "PATCH", "POST"])
    assert pushed.requests == one.writes
    assert world.bench.rows("SELECT external_id, field FROM integrations.conflict WHERE status = 'open'") == [
        ("2", "stage")
    ]


def test_what_a_push_would_not_send_is_in_no_plan(world: World) -> None:
    """No value of theirs stands for it, or it was taken back before it left."""
    stage = {"from": "stage", "values": {"a": "first", "b": "second"}, "else": "other"}
    mapped = {"to": "person", "fields": {**PEOPLE["map"]["fields"], "stage": stage}}  # type: ignore[dict-item]
    world.streams["people"] = {**PEOPLE, "map": mapped}
    world.sync()
    world.edit("UPDATE canonical.person SET stage = 'other' WHERE name IN ('n1', 'n2')")
    world.edit("UPDATE canonical.person SET name = 'here' WHERE name = 'n2'")
    world.edit("UPDATE canonical.person SET name = 'brief' WHERE name = 'n3'")
    world.run(lambda connection, _, store, kinds: merge(connection, store, kinds))
    world.edit("UPDATE canonical.person SET name = 'n3' WHERE name = 'brief'")
    (one,) = world.plan().streams
    assert (one.outgoing.get("updated"), one.writes) == (1, 1)
    assert [(sample.id, sample.after) for sample in one.samples_out] == [("2", {"name": "here"})]
    world.written = []
    assert world.run(push).changes["sent"] == 1 and world.written == ["PATCH"]


def test_lists_below_records_that_are_not_here_yet(world: World) -> None:
    """Parents are read first, in a rehearsal of their own; a cursor's windows and their children follow."""
    world.streams["notes"] = NOTES
    world.notes = {"1": [{"id": f"a{n}"} for n in range(7)], "20": [{"id": "b"}]}
    world.sync()
    world.people["20"] = {"id": "20", "name": "new", "mail": "new@example.com", "stage": "b"}
    world.notes["1"].append({"id": "late"})
    found = world.plan(requests=100)
    notes = found.streams[1]
    assert (notes.incoming["created"], notes.read.lists, notes.reads) == (2, 13, 14)
    done = world.run(sync, now=True).streams[1]
    assert (done.counters.created, done.requests) == (2, 14)


def test_a_long_list_is_read_in_part_and_that_is_said(world: World) -> None:
    """Nothing is taken for deleted because it lies behind the part that was read."""
    world.sync()
    world.total = True
    world.people |= {f"x{n}": {"id": f"x{n}", "name": "x", "mail": "x@example.com", "stage": "a"} for n in range(38)}
    found = world.plan(requests=4)
    one = found.streams[0]
    assert not found.complete
    assert (one.incoming["created"], one.incoming["deleted"], one.read.rows) == (8, 0, 20)
    assert (one.share, one.reads) == (0.4, 10)
    assert found.as_dict()["streams"][0]["error"] is None
    world.total = False
    assert world.plan(requests=4).streams[0].share is None


def test_the_time_is_that_of_the_rate_limit(world: World) -> None:
    """12 people in 3 pages, 7 changes to write: a bucket of 2 at once, then one every ten seconds."""
    world.sync()
    world.api = {"limits": [{"rate": "6 per 1m", "burst": 2}]}
    world.edit("UPDATE canonical.person SET name = name || '!' WHERE name < 'n4'")
    found = world.plan()
    assert (found.streams[0].reads, found.streams[0].writes) == (3, found.streams[0].outgoing["updated"])
    assert 20 <= found.read_seconds <= 31
    assert found.write_seconds > found.read_seconds


def test_a_source_that_fails_is_told_of(world: World) -> None:
    world.sync()
    world.bench.source.answer = lambda seen: Reply(status=503)
    found = world.plan()
    told = found.as_dict()["streams"][0]
    assert told["error"]["class"] == "transient"
    assert counted(found)["people"]["in"] == (0, 0, 0, 0)


def test_whoever_holds_a_row_is_not_waited_for(world: World) -> None:
    world.sync()
    with Store(world.bench.database_url) as store, take_lease(store.connect, "acme", "people", uuid4()):
        found = world.run(plan)
    assert found.as_dict()["streams"][0]["error"]["class"] == "lease_held"


def previewed(world: World, **map_: Any) -> MappingPreview:
    """The stream `people` with another `map`, against what is held; every table stays as it was."""
    before, asked = world.tables(), len(world.bench.source.seen)
    fields = {**PEOPLE["map"]["fields"], **map_}
    world.streams = {"people": {**PEOPLE, "map": {"to": "person", "fields": fields}}}
    found = world.run(lambda connection, _, store, kinds: preview(connection, store, kinds))[0]
    assert (world.tables(), len(world.bench.source.seen)) == (before, asked)
    return found


def test_an_edited_mapping_is_told_from_what_is_held(world: World) -> None:
    """12 rows of which one failed; the edit heals that one, changes eight, makes three fail. The sync says so."""
    world.people["0"]["mail"] = "nobody"
    world.people["1"]["stage"] = world.people["2"]["stage"] = "b"
    for key in ("3", "4", "5"):
        world.people[key]["stage"] = "c"
    world.sync()
    same = previewed(world)
    assert (same.edited, same.rows, same.changed, same.fails, same.heals) == (False, 12, 0, 0, 0)
    found = previewed(world, mail={"value": None}, stage={"from": "stage", "values": {"a": "a", "b": "B"}})
    assert (found.edited, found.rows, found.changed, found.fails, found.heals) == (True, 12, 8, 3, 1)
    assert (found.fields["stage"], found.fields["mail"], found.reasons.total()) == (2, 8, 3)
    sample = next(one for one in found.samples if one.sort == "changed" and one.id == "1")
    assert (sample.before, sample.after) == ({"stage": "b", "mail": "m1@example.com"}, {"stage": "B", "mail": None})
    shaped = world.run(sync, now=True).streams[0].shaped
    assert (shaped.created, shaped.updated, shaped.quarantined) == (1, 8, 3)
