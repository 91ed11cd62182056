"""Edits here and at two sources, deletions, webhooks in any order, syncs, pushes, decisions of people, crashes and
faults: two systems on one hub hold the invariants of two-way sync, whatever the sources answer to a write.

Both sources are simulated and served over HTTP in this process, each command is the real one in a process of its own,
which a crash kills with -9 at a chosen request. When everything has healed, whatever happened before:

- the three sides say the same of each record, but for open conflicts and what a person was told of
- no source holds a record twice, and one key made one object, however often it was tried
- a field that only one side changed has that side's last value
- the next cycles change nothing anywhere, and send nothing
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from threading import Event
from time import sleep
from typing import Any

import psycopg
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from integrations_pipeline.gateway.door import Door
from integrations_pipeline.simulator.simulation import Simulation
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection
from integrations_pipeline.store.inbox import append
from integrations_pipeline_tests.journeys.conftest import House
from integrations_pipeline_tests.journeys.walking import walk
from integrations_pipeline_tests.journeys.zygote import kill_when, start

PERSON = "kind: person\nfields: {email: {type: string}, name: {type: string}, city: {type: string}}\n"
SOURCE = """
connection: NAME
secrets: {hook: {file: HOOK}}
api:
  url: {url}
  retry: {attempts: 2}
  pagination: {type: cursor, read: next, send: after, size: {send: limit, value: 5}}
streams:
  people:
    request: GET /people
    records: items
    primary_key: id
    cursor: {field: updated_at, send: since, lookback: 2h}
    deletes: {snapshot: 30d, at_most: 100%}
    get: GET /people/<external_id>
    fields:
      id: {type: string, required: true}
      email: {type: string, format: email, required: true}
      name: {type: string}
      city: {type: string}
      updated_at: {type: timestamp, required: true}
    map:
      to: person
      match: [email]
      fields: {email: {from: email, apply: [lower]}, name: name, city: city}
    write:
      fields: [email, name, city]
      create: POST /people
      create_when: {email: {present: true}}
      update: PATCH /people/<external_id>
      delete: DELETE /people/<external_id>
      answer: ANSWER
      idempotency: {send: header Idempotency-Key, kept: 1d}
      find: {request: GET /people, query: {email: <fields.email>}, records: items}
      conflict: {default: POLICY}
webhook:
  verify: {type: hmac, signature: header X-Signature, signed: <body>, secret: $hook}
  event_type: type
  event_id: id
  order_by: at
  events:
    person.deleted: {delete: people, key: data.id}
    person.*: {upsert: people, record: data}
"""
NAMES = ("crm", "pay")
FAULTS = [
    "429 every 3rd", "503 every 3rd", "reset every 4th", "lose answer reset every 3rd", "lose answer 500 every 3rd",
    "refuse write every 3rd", "normalise upper", "empty page 2", "truncate every 4th",
]  # fmt: skip
ANSWERS = ["the record", "its id, and is read", "nothing, and is read", "its id", "nothing"]
"""What a source says to a write that it took, and whether the record is read again then (`answer: reread`); a create is
always told its id."""

FIELDS = ("name", "city")
CYCLES = 6
PASS = """
WITH told AS (UPDATE integrations.rate_limit SET told_until = 0),
     sent AS (UPDATE integrations.outbox SET next_try_at = NULL, leased_until = leased_until - interval '1 hour'),
     came AS (UPDATE integrations.inbox SET next_try_at = NULL, leased_until = leased_until - interval '1 hour'),
     linked AS (UPDATE integrations.link SET linked_at = linked_at - interval '2 hours'),
     broken AS (DELETE FROM integrations.breaker)
SELECT 1
"""
CANONICAL = "SELECT id::text, email, name, city FROM canonical.person WHERE deleted_at IS NULL"
LINKED = """
SELECT canonical_id::text, external_id FROM integrations.link WHERE connection = %s AND deleted_at IS NULL
"""
GONE = """
SELECT id::text, email FROM canonical.person AS c
WHERE deleted_at IS NOT NULL AND email IS NOT NULL AND NOT EXISTS (
    SELECT FROM canonical.person AS other WHERE other.deleted_at IS NULL AND lower(other.email) = lower(c.email))
ORDER BY lower(email)
"""
UNDECIDED = "SELECT id::text FROM integrations.conflict WHERE status = 'open' ORDER BY id"
OPEN = """
SELECT canonical_id::text FROM integrations.conflict WHERE status = 'open'
UNION SELECT canonical_id::text FROM integrations.outbox WHERE status IN ('dead', 'parked')
"""
UNREAD = "SELECT 1 FROM integrations.link WHERE unread_at > now() - interval '2 seconds'"
"""A page that is read next may count as older than the write: a server's Date is in whole seconds, and may be late."""

QUIET = """
SELECT (SELECT jsonb_agg(to_jsonb(c) ORDER BY id) FROM canonical.person c)::text,
       (SELECT jsonb_agg(jsonb_build_array(external_id, hash, deleted_at IS NULL) ORDER BY external_id)
        FROM raw.crm__people)::text,
       (SELECT jsonb_agg(jsonb_build_array(external_id, hash, deleted_at IS NULL) ORDER BY external_id)
        FROM raw.pay__people)::text,
       (SELECT count(*) FROM integrations.outbox)
"""


class TwoWay(RuleBasedStateMachine):
    """``edits[email][field]``: who changed it to what, since the last time all was equal; ``touched``: also deleted."""

    make_house: Callable[[], House]
    short_answers = True

    @initialize(
        policy=st.sampled_from(["remote_wins", "local_wins", "newest_wins", "review"]),
        answers=st.fixed_dictionaries({name: st.sampled_from(ANSWERS) for name in NAMES}),
    )
    def open(self, policy: str, answers: dict[str, str]) -> None:
        self.house = type(self).make_house()
        self.house.write("models/person.yaml", PERSON)
        self.parcels: dict[str, list[Any]] = {name: [] for name in NAMES}
        self.asked = dict.fromkeys(NAMES, 0)
        self.at_request: dict[tuple[str, int], Callable[[], object]] = {}
        self.edits: dict[str, dict[str, list[tuple[str, Any]]]] = {}
        self.touched: set[str] = set()
        self.number = self.commands = 0
        secret = self.house.write("hook", "known to both")
        for name in NAMES:
            answers[name] = answers[name] if self.short_answers else "the record"
            says, _, read = answers[name].partition(", and is ")
            text = SOURCE.replace("NAME", name, 1).replace("POLICY", policy).replace("HOOK", str(secret))
            text = text.replace("ANSWER", "reread" if read else ".")
            self.watch(name, self.house.connect_to(name, text, records=6), says)
        self.blind = {name for name in NAMES if answers[name] in ("its id", "nothing")}
        for verb in ("sync", "push"):
            for name in NAMES:
                self.command(verb, name)

    def watch(self, name: str, source: Simulation, says: str) -> None:
        answer = source.answer

        def watched(request: Any) -> Any:
            self.asked[name] += 1
            answered = answer(request)
            if (act := self.at_request.pop((name, self.asked[name]), None)) is not None:
                act()
            return shortened(answered, says) if request.method in ("POST", "PATCH") else answered

        source.answer = watched  # type: ignore[method-assign]
        source.telling.sender.put = lambda parcel, **_: self.parcels[name].append(parcel)  # type: ignore[method-assign]
        source.telling.tell_at("http://127.0.0.1:9/")

    # edits, here and there

    def fresh(self) -> str:
        self.number += 1
        return f"value {self.number}"

    def note(self, email: str, field: str, who: str, value: Any) -> None:
        self.edits.setdefault(email.lower(), {}).setdefault(field, []).append((who, value))

    def there(self, name: str) -> list[dict[str, Any]]:
        return sorted(self.house.sources[name].contents("people"), key=lambda row: row["email"].lower())

    @rule(which=st.integers(0, 9), field=st.sampled_from(FIELDS))
    def edit_here(self, which: int, field: str) -> None:
        held = sorted(self.house.rows(CANONICAL), key=lambda row: row[1] or "")
        if held:
            id, email, *_ = held[which % len(held)]
            value = self.fresh()
            self.execute(f"UPDATE canonical.person SET {field} = %s WHERE id = %s", value, id)
            self.note(email, field, "here", value)

    @rule(name=st.sampled_from(NAMES), which=st.integers(0, 9), field=st.sampled_from(FIELDS))
    def edit_there(self, name: str, which: int, field: str) -> None:
        rows = self.there(name)
        if rows:
            row, value = rows[which % len(rows)], self.fresh()
            self.house.sources[name].update("people", [row["id"]], {field: value})
            self.note(row["email"], field, name, value)

    @rule()
    def insert_here(self) -> None:
        email = f"{self.fresh().replace(' ', '')}@here.example"
        self.execute("INSERT INTO canonical.person (email, name) VALUES (%s, 'new')", email)

    @rule(name=st.sampled_from(NAMES))
    def insert_there(self, name: str) -> None:
        email = f"{self.fresh().replace(' ', '')}@{name}.example"  # the same at both at once would be two, as anywhere
        self.house.sources[name].insert("people", [{"email": email}])

    @rule(which=st.integers(0, 9))
    def delete_here(self, which: int) -> None:
        held = sorted(self.house.rows(CANONICAL), key=lambda row: row[1] or "")
        if len(held) > 4:
            id, email, *_ = held[which % len(held)]
            self.execute("DELETE FROM canonical.person WHERE id = %s", id)
            self.touched.add(email.lower())

    @rule(name=st.sampled_from(NAMES), which=st.integers(0, 9))
    def delete_there(self, name: str, which: int) -> None:
        rows = self.there(name)
        if len(rows) > 4:
            row = rows[which % len(rows)]
            self.house.sources[name].delete("people", [row["id"]])
            self.touched.add(row["email"].lower())

    @rule(which=st.integers(0, 9))
    def bring_back_here(self, which: int) -> None:
        gone = self.house.rows(GONE)
        if gone:
            id, email = gone[which % len(gone)]
            self.execute("UPDATE canonical.person SET deleted_at = NULL WHERE id = %s", id)
            self.touched.add(email.lower())

    # what people decide

    @rule(which=st.integers(0, 9), counts=st.sampled_from(["--ours", "--theirs"]))
    def resolve(self, which: int, counts: str) -> None:
        waiting = self.house.rows(UNDECIDED)
        if waiting:
            self.command("conflicts", "resolve", waiting[which % len(waiting)][0], counts)

    @rule(name=st.sampled_from(NAMES))
    def retry(self, name: str) -> None:
        self.command("outbox", "retry", name)

    # what is told

    @rule(name=st.sampled_from(NAMES), which=st.integers(0, 9), how=st.sampled_from(["once", "twice", "never"]))
    def deliver(self, name: str, which: int, how: str) -> None:
        """Any of those under way, whatever came before it."""
        parcels = self.parcels[name]
        if not parcels:
            return
        parcel = parcels.pop(which % len(parcels))
        connection = load_connection(name, Home(self.house.home))
        assert connection.webhook is not None
        events = Door(connection, connection.webhook, None).events(parcel.sign(datetime.now(UTC)))
        with psycopg.connect(self.house.database_url, autocommit=True) as session:
            for _ in range({"once": 1, "twice": 2, "never": 0}[how]):
                append(session, events)
        self.command("receive", name)

    # commands

    @rule(name=st.sampled_from(NAMES), full=st.booleans())
    def sync(self, name: str, full: bool) -> None:
        self.command("sync", name, *(["--full", "--now"] if full else []))

    @rule(name=st.sampled_from(NAMES))
    def push(self, name: str) -> None:
        self.command("push", name)

    @rule(
        verb=st.sampled_from(["push", "push", "sync"]), name=st.sampled_from(NAMES), after=st.integers(1, 4),
        later_ms=st.sampled_from([0, 0, 5, 20]),
    )  # fmt: skip
    def crash(self, verb: str, name: str, after: int, later_ms: int) -> None:
        self.command(verb, name, kill_after=after, later_ms=later_ms)

    @rule(name=st.sampled_from(NAMES), fault=st.sampled_from(FAULTS))
    def fault(self, name: str, fault: str) -> None:
        self.house.sources[name].faults.switch([fault])

    @rule()
    def heal(self) -> None:
        for name in NAMES:
            self.house.sources[name].faults.switch([])

    def command(self, verb: str, *more: str, kill_after: int | None = None, later_ms: int = 0) -> Any:
        """What it says; None where it was killed."""
        self.house.rows(PASS)
        self.commands += 1
        output = self.house.home / f"{verb}-{self.commands}"
        child = start([verb, *more, "--json"], self.house.variables, self.house.home, output)
        if kill_after is not None:
            reached = Event()
            self.at_request = {(more[0], self.asked[more[0]] + kill_after): reached.set}
            kill_when(child, reached, later_ms)
        child.join(60)
        assert child.exitcode is not None, f"a {verb} that doesn't end"
        if kill_after is not None:
            return None
        text = output.read_text()
        assert text, (verb, output.with_name(output.name + ".errors").read_text()[-3000:])
        told = json.loads(text)
        assert "errors" not in told, told
        return told

    def execute(self, statement: str, *values: Any) -> None:
        with psycopg.connect(self.house.database_url, autocommit=True) as session:
            session.execute(statement, values)  # type: ignore[arg-type]

    # the end

    def teardown(self) -> None:
        if not hasattr(self, "house"):
            return
        try:
            self.heal()
            self.settle()
            self.judge()
        finally:
            self.house.close()

    def cycle(self) -> None:
        for name in NAMES:
            told = self.command("sync", name, "--full", "--now")
            assert {one["status"] for one in told["streams"]} == {"succeeded"}, told
        for name in NAMES:
            self.command("push", name)

    def settle(self) -> None:
        """Cycles until one changes nothing; the two after it change nothing either, and send nothing."""
        before = None
        for _ in range(CYCLES):
            self.cycle()
            while self.house.rows(UNREAD):
                sleep(0.1)
            now = self.house.rows(QUIET)[0]
            if now == before:
                break
            before = now
        writes = self.writes()
        for _ in range(2):
            self.cycle()
        assert moved(before, self.house.rows(QUIET)[0]) == []
        assert self.writes() == writes

    def writes(self) -> int:
        return sum(asked.method != "GET" for source in self.house.sources.values() for asked in source.requests())

    def judge(self) -> None:
        canonical = {id: (email, name, city) for id, email, name, city in self.house.rows(CANONICAL)}
        told = {row[0] for row in self.house.rows(OPEN)}
        for name in NAMES:
            rows = {row["id"]: row for row in self.there(name)}
            emails = [row["email"].lower() for row in rows.values()]
            assert len(emails) == len(set(emails)), (name, sorted(emails))
            self.house.assert_whole(name, "people")
            linked = self.house.rows(LINKED, name)
            assert {external_id for _, external_id in linked} == rows.keys()
            for id, external_id in linked:
                if id not in told and id in canonical:
                    there = {field: plain(rows[external_id].get(field)) for field in ("email", *FIELDS)}
                    here = dict(zip(there, map(plain, canonical[id]), strict=True))
                    unread = {field for field in FIELDS if self.may_be_unread(name, str(here["email"]), field)}
                    assert [f for f in there if there[f] != here[f] and f not in unread] == [], (name, there, here)
        self.judge_edits(canonical, told)
        self.judge_keys()

    def may_be_unread(self, name: str, email: str, field: str) -> bool:
        """An edit there between our write and the next read can't be told from the source's form of what was written,
        where the answer said nothing of it (docs/writing-back.md): the one thing that is allowed to differ."""
        return name in self.blind and any(who == name for who, _ in self.edits.get(email, {}).get(field, []))

    def judge_edits(self, canonical: dict[str, Any], told: set[str]) -> None:
        """What only one side changed stands."""
        for id, (email, *values) in canonical.items():
            if id in told or email is None or email.lower() in self.touched:
                continue
            for field, value in zip(FIELDS, values, strict=True):
                made = self.edits.get(email.lower(), {}).get(field, [])
                if any(self.may_be_unread(name, email.lower(), field) for name in NAMES):
                    continue
                if made and len({who for who, _ in made}) == 1:
                    assert plain(value) == plain(made[-1][1]), (email, field, made)
                elif made:
                    assert plain(value) in {plain(given) for _, given in made}, (email, field, made)

    def judge_keys(self) -> None:
        """One key made one object, however often it was tried. (That no record is there twice is looked at above.)"""
        for name in NAMES:
            made = [one for one in self.house.sources[name].requests() if one.purpose == "create" and one.wrote]
            keys = [one.key for one in made]
            assert all(keys) and len(keys) == len(set(keys)), made


def moved(before: Any, now: Any) -> list[Any]:
    """Of two looks at ``QUIET``: the rows that are only in one."""
    return [one for old, new in zip(before, now, strict=True) if old != new for one in apart(old, new)]


def apart(old: Any, new: Any) -> list[Any]:
    if not isinstance(old, str):
        return [("were", old, "are", new)]
    rows = [json.loads(text) or [] for text in (old, new)]
    return [("was", one) for one in rows[0] if one not in rows[1]] + [
        ("is", one) for one in rows[1] if one not in rows[0]
    ]


def shortened(answered: Any, says: str) -> Any:
    """The answer of a source that says no more than that."""
    document = json.loads(answered.body) if answered.status in (200, 201) and answered.body else None
    if says == "the record" or not isinstance(document, dict) or "id" not in document:
        return answered
    if says == "nothing" and answered.status == 200:
        return replace(answered, status=204, body=b"")
    return replace(answered, body=json.dumps({"id": document["id"]}).encode())


def plain(value: Any) -> Any:
    """Without what a source that normalises makes of it."""
    return value.lower() if isinstance(value, str) else value


class WholeAnswers(TwoWay):
    """Few walks say little of what a short answer leaves open; the long test draws those too."""

    short_answers = False


def test_two_way_sync_holds_its_invariants(make_house: Callable[[], House]) -> None:
    walk(WholeAnswers, make_house, examples=4, steps=15)


@pytest.mark.long
def test_two_way_sync_holds_its_invariants_in_two_hundred_walks(make_house: Callable[[], House]) -> None:
    walk(TwoWay, make_house, examples=200, steps=40)
