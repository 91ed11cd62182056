"""A secret that lies in a table, since somebody wrote it into a record or an older version kept it, isn't shown."""

from __future__ import annotations

import json

import pytest

from integrations_pipeline.cli import main
from integrations_pipeline_tests.gateway.crm import Crm, crm

__all__ = ["crm"]
KEY = "planted-key-" + "5d41402abc4b2a76" * 4
LONG = "some words before it, so that a cut goes through: " + KEY
PLANTED = """
UPDATE canonical.person SET email = %(long)s;
UPDATE raw.crm__people SET payload = jsonb_set(payload, '{email}', to_jsonb(%(long)s::text));
UPDATE integrations.outbox SET changes = %(fields)s, before = %(fields)s, reason = %(reason)s;
UPDATE integrations.dead_letter SET reason = %(reason)s;
INSERT INTO integrations.conflict
    (connection, stream, external_id, kind, canonical_id, field, base, ours, theirs, reason)
SELECT 'crm', 'people', external_id, 'person', canonical_id, 'email', %(value)s, %(value)s, %(value)s, %(long)s
FROM integrations.link;
INSERT INTO integrations.quarantine (connection, stream, stage, external_id, hash, payload, reasons, read_at)
VALUES ('crm', 'people', 'boundary', 'p7', '\\x01', %(fields)s, %(reasons)s, now());
INSERT INTO integrations.inbox (connection, event_id, hash, payload, headers, status, reason, stream, external_id)
VALUES ('crm', 'e1', '\\x01', %(fields)s, '{}', 'done', %(reason)s, 'people', 'p1');
INSERT INTO integrations.decision (connection, stream, external_id, stage, decision, reason, detail)
VALUES ('crm', 'people', 'p1', 'raw', 'updated', %(long)s, %(pairs)s)
"""
SHOWN = """
outbox list --json
outbox show 1
outbox show 1 --json
conflicts list --json
conflicts list
conflicts show 1
conflicts show 1 --json
inbox show 1
inbox show 1 --json
quarantine list --json
quarantine list
quarantine show 1
quarantine show 1 --json
why crm people p1
why crm people p1 --json
why crm people p7
"""
PAGES = ("/", "/outbox", "/conflicts", "/quarantine", "/dead-letters", "/why/crm/people/p1", "/mapping/crm/people")


def test_what_lies_in_a_table_is_shown_without_secrets(
    crm: Crm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CRM_KEY", KEY)
    monkeypatch.setenv("INTEGRATIONS_HOME", str(crm.home))
    monkeypatch.setenv("INTEGRATIONS_DATABASE_URL", crm.desk.database_url)
    crm.write_files(auth={"type": "bearer", "token": "$key"}, secrets={"key": {"env": "CRM_KEY"}})
    crm.dead("Cleo")
    reason = {"class": "data", "message": LONG, "who": "somebody", "next": "mend it", "where": "here"}
    reasons = [{"rule": "type", "field": "email", "message": f"text ('{LONG}')", "sample": LONG}]
    fields, pairs = {"id": "p1", "email": LONG, "name": LONG}, {"email": ["before", LONG]}
    given = {"long": LONG, **{name: json.dumps(value) for name, value in (
        ("value", LONG), ("fields", fields), ("reason", reason), ("reasons", reasons), ("pairs", pairs))}}  # fmt: skip
    for statement in PLANTED.split(";\n"):
        with crm.desk.opened() as (_, _, store, _), store.borrow() as session:
            session.execute(statement, given)
    for line in SHOWN.strip().splitlines():
        with pytest.raises(SystemExit) as ended:
            main(line.split())
        said = capsys.readouterr()
        assert ended.value.code == 0, said
        assert "***" in said.out or "list" in line, said.out
        assert "planted" not in said.out + said.err, line
    visit = crm.visit()
    for path in PAGES:
        shown = visit.get(path)
        assert shown.status == 200 and "planted" not in shown.html, path
