"""The first journey: from a YAML file to checked, canonical rows, by the command line as its users have it."""

from __future__ import annotations

import json

from integrations_pipeline_tests.journeys.conftest import House

CUSTOMER = """
kind: customer
fields:
  email: {type: string}
  name: {type: string}
  stage: {type: string}
"""
CRM = """
connection: crm
secrets: {token: {env: CRM_TOKEN}}
api:
  url: {url}
  auth: {type: bearer, token: $token}
  pagination: {type: cursor, read: paging.next, send: after, size: {send: limit, value: 50}}
streams:
  contacts:
    request: GET /contacts
    records: results
    primary_key: id
    cursor: {field: updated_at, send: since, lookback: 1s}
    deletes: {when: archived, snapshot: 7d}
    fields:
      id: {type: string, required: true}
      email: {type: string, format: email}
      first_name: {type: string}
      last_name: {type: string}
      lifecycle: {type: string}
      archived: {type: boolean}
      updated_at: {type: timestamp, required: true}
    map:
      to: customer
      fields:
        email: {from: email, apply: [trim, lower]}
        name: {join: [first_name, last_name]}
        stage: {from: lifecycle, values: {lead: prospect, customer: active}, else: unknown}
  notes:
    request: GET /contacts/<contacts.id>/notes
    records: {path: results, include: {contact: parent id}}
    primary_key: id
    fields: {id: {type: string, required: true}, body: {type: string}}
"""


def built(house: House, records: int = 230) -> None:
    house.environment["CRM_TOKEN"] = "a-token-of-the-test"
    house.write("models/customer.yaml", CUSTOMER)
    house.connect_to("crm", CRM, records=records, secrets={"token": "a-token-of-the-test"})


def test_a_source_arrives_whole_and_a_second_sync_changes_nothing(house: House) -> None:
    built(house)
    first = house.sync("crm")
    house.assert_whole("crm", "contacts")
    house.assert_whole("crm", "notes")
    assert first["contacts"]["created"] == 230
    assert first["contacts"]["shaped"]["created"] == 230
    before = house.rows("SELECT * FROM canonical.customer ORDER BY id")
    again = house.sync("crm")
    for one in again.values():
        assert (one["created"], one["updated"], one["deleted"], one["tombstoned"]) == (0, 0, 0, 0)
    assert house.rows("SELECT * FROM canonical.customer ORDER BY id") == before


def test_changes_at_the_source_arrive(house: House) -> None:
    built(house, 60)
    house.sync("crm")
    source = house.sources["crm"]
    changed = source.update("contacts", 3, {"email": "new@example.org"})
    gone = source.delete("contacts", 2)
    source.insert("contacts", 4)
    counts = house.sync("crm", "contacts")["contacts"]
    assert (counts["created"], counts["updated"], counts["deleted"]) == (4, 3 - len(set(changed) & set(gone)), 2)
    assert counts["shaped"]["deleted"] == 2
    house.assert_whole("crm", "contacts")
    assert house.value("SELECT count(*) FROM canonical.customer WHERE deleted_at IS NULL") == 62
    assert house.value("SELECT count(*) FROM canonical.customer WHERE email = 'new@example.org'") >= 1


def test_a_full_refresh_finds_what_vanished_without_a_flag(house: House) -> None:
    house.write("models/customer.yaml", CUSTOMER)
    house.environment["CRM_TOKEN"] = "a-token-of-the-test"
    text = CRM.replace("deletes: {when: archived, snapshot: 7d}", "deletes: {snapshot: 7d}")
    source = house.connect_to("crm", text, records=60, secrets={"token": "a-token-of-the-test"})
    house.sync("crm")
    gone = source.delete("contacts", 5)
    assert house.sync("crm", "contacts")["contacts"]["tombstoned"] == 0
    assert set(gone) <= set(house.raw("crm", "contacts"))
    counts = house.sync("crm", "contacts", "--full")["contacts"]
    assert counts["tombstoned"] == 5
    assert counts["shaped"]["deleted"] == 5
    house.assert_whole("crm", "contacts")


def test_an_edited_mapping_reshapes_without_a_request(house: House) -> None:
    built(house, 60)
    house.sync("crm", "contacts")
    asked = len(house.sources["crm"].requests())
    file = house.home / "connections" / "crm.yaml"
    file.write_text(file.read_text().replace("else: unknown", "else: other"))
    counts = house.sync("crm", "contacts")["contacts"]
    unknown = house.value("SELECT count(*) FROM canonical.customer WHERE stage = 'unknown'")
    assert unknown == 0
    assert counts["shaped"]["updated"] == house.value("SELECT count(*) FROM canonical.customer WHERE stage = 'other'")
    assert len(house.sources["crm"].requests()) - asked == counts["requests"]


def test_a_full_refresh_outside_off_peak_comes_back_then(house: House) -> None:
    built(house, 20)
    file = house.home / "connections" / "crm.yaml"
    hour = house.value("SELECT extract(hour FROM now() AT TIME ZONE 'UTC' + interval '3 hours')::int")
    file.write_text(file.read_text() + f"off_peak: '{hour:02d}:00-{(hour + 1) % 24:02d}:00 UTC'\n")
    deferred = house.sync("crm", "contacts", "--full", expect=3)["contacts"]
    assert deferred["status"] == "deferred"
    assert deferred["error"]["class"] == "off_peak"
    assert deferred["resume_at"][11:16] == f"{hour:02d}:00"
    assert house.sources["crm"].requests() == []
    house.sync("crm", "contacts", "--full", "--now")
    house.assert_whole("crm", "contacts")


def test_a_trace_is_shown_on_demand_only_and_never_on_stdout(house: House) -> None:
    built(house, 10)
    house.environment["CRM_TOKEN"] = "a wrong one"
    plain, debugged = (house.run("sync", "crm", "contacts", "--json", *more) for more in ((), ("--debug",)))
    assert plain.returncode == debugged.returncode == 1
    assert "Traceback" not in plain.stdout + plain.stderr
    assert "CredentialsError" in debugged.stderr
    for done in (plain, debugged):
        assert json.loads(done.stdout)["streams"][0]["error"]["class"] == "credentials"
