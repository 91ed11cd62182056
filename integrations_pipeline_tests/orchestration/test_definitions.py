"""What Dagster is told of the files."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from dagster import AssetKey, DefaultScheduleStatus, DefaultSensorStatus

from integrations_pipeline.orchestration.building import build
from integrations_pipeline.spec.home import Home
from integrations_pipeline_tests.orchestration.conftest import CRM, ROOT, House

CONTACTS, DEALS, CUSTOMER = (
    AssetKey(["crm", "contacts"]),
    AssetKey(["crm", "deals"]),
    AssetKey(["canonical", "customer"]),
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "connections").mkdir()
    (tmp_path / "models").symlink_to(ROOT / "models")
    (tmp_path / "connections" / "crm.yaml").write_text(CRM.replace("URL", "https://api.example.com"))
    return Home(tmp_path)


def test_streams_and_kinds_become_assets(home: Home) -> None:
    graph = build(home).resolve_asset_graph()
    assert graph.get_all_asset_keys() == {CONTACTS, DEALS, CUSTOMER}
    assert graph.get(CUSTOMER).parent_keys == {CONTACTS}
    assert (graph.get(CONTACTS).group_name, graph.get(CUSTOMER).group_name) == ("crm", "canonical")
    assert {key.name for key in graph.get(CONTACTS).check_keys} == {
        "rows_rejected", "counts_balance", "drift", "record_count_deviation", "zero_records", "invalid_record_percent",
        "run_time_drift",
    }  # fmt: skip
    assert graph.get(CONTACTS).pools == {"crm__contacts"}


def test_an_asset_says_what_it_holds_and_whose_it_is(home: Home) -> None:
    contacts = build(home).resolve_asset_graph().get(CONTACTS)
    assert contacts.owners == ["team:sales"]
    assert contacts.tags["team"] == "sales"
    assert contacts.description is not None and contacts.description.startswith("People we talk to")
    columns = {column.name: column for column in contacts.metadata["dagster/column_schema"].columns}
    assert (columns["email"].type, columns["email"].constraints.other) == ("string", ["format email"])
    assert not columns["id"].constraints.nullable
    assert contacts.metadata["dagster/table_name"] == "raw.crm__contacts"
    (reference,) = contacts.metadata["dagster/code_references"].code_references
    assert reference.file_path == str(home.connections / "crm.yaml")


def test_the_mapping_is_a_table(home: Home) -> None:
    file = home.connections / "crm.yaml"
    more = """
      fields:
        email: {from: email, apply: [trim, lower, {truncate: 80}], required: true}
        name: {join: [first, last], with: "-"}
        phone: {from: phones, where: {type: home, open: {present: true}}, take: number}
        company: {first: [company.name, org]}
        stage: {from: state, values: {lead: prospect, customer: active}, else: unknown}
        country: {value: DE}
"""
    before = "      fields: {email: {from: email, apply: [trim, lower]}, name: name}\n"
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, more.lstrip("\n")))
    graph = build(home).resolve_asset_graph()
    table = graph.get(CONTACTS).metadata["mapping"]
    assert [tuple(record.data.values()) for record in table.records] == [
        ("email", "email", "trim → lower → truncate 80 → required"),
        ("first, last", "name", 'join with "-"'),
        ("phones", "phone", "where type: home, open: {present: true}, take number"),
        ("company.name, org", "company", "the first that has a value"),
        ("state", "stage", "lead = prospect, customer = active, else unknown"),
        ("–", "country", "always DE"),
    ]
    assert "mapping" not in graph.get(DEALS).metadata


def test_canonical_fields_come_from_raw_fields(home: Home) -> None:
    lineage = build(home).resolve_asset_graph().get(CUSTOMER).metadata["dagster/column_lineage"].deps_by_column
    assert {(field, dep.asset_key, dep.column_name) for field, deps in lineage.items() for dep in deps} == {
        ("email", CONTACTS, "email"),
        ("name", CONTACTS, "name"),
    }


def test_few_jobs_whatever_the_connections(home: Home) -> None:
    repository = build(home).get_repository_def()
    assert set(repository.job_names) == {
        "sync", "full_refresh", "connect", "disconnect", "backfill", "prune", "__ASSET_JOB"
    }  # fmt: skip
    poll, prune = sorted(repository.schedule_defs, key=lambda one: one.name)
    # deals: 7m divides no hour, the sensor sees to it
    assert (poll.name, poll.job_name, poll.default_status) == ("poll_crm", "sync", DefaultScheduleStatus.RUNNING)
    assert prune.name == "prune"
    assert {sensor.name for sensor in repository.sensor_defs} == {
        "poll_due", "resume_deferred", "full_refresh_due", "read_outside_runs", "alerts",
    }  # fmt: skip
    assert {sensor.default_status for sensor in repository.sensor_defs} == {DefaultSensorStatus.RUNNING}


def test_a_broken_file_is_told_beside_those_that_work(home: Home) -> None:
    (home.connections / "shop.yaml").write_text("connection: shop\nevery: soon\n")
    graph = build(home).resolve_asset_graph()
    broken = graph.get(AssetKey(["broken", "connections_shop_yaml"]))
    assert CONTACTS in graph.get_all_asset_keys()
    assert broken.description is not None and "connections/shop.yaml:2" in broken.description
    assert broken.group_name == "broken_files"


def test_only_broken_files_and_no_files_are_definitions_too(tmp_path: Path) -> None:
    (tmp_path / "connections").mkdir()
    assert build(Home(tmp_path)).get_repository_def().job_names == []
    (tmp_path / "connections" / "x.yaml").write_text("- no map")
    definitions = build(Home(tmp_path))
    assert len(definitions.resolve_asset_graph().get_all_asset_keys()) == 1
    assert [one.name for one in definitions.get_repository_def().sensor_defs] == ["alerts"], "it tells of the file"


def test_a_saved_file_is_there_after_loading_again(home: Home) -> None:
    build(home)
    (home.connections / "crm2.yaml").write_text(
        CRM.replace("URL", "https://api.example.com").replace(": crm", ": crm2")
    )
    assert AssetKey(["crm2", "contacts"]) in build(home).resolve_asset_graph().get_all_asset_keys()


def test_loading_opens_no_database(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psycopg.connect", lambda *_, **__: pytest.fail("a database at definition time"))
    build(home).get_repository_def()


def test_a_hundred_connections_load_in_under_three_seconds(home: Home) -> None:
    text = CRM.replace("URL", "https://api.example.com")
    third = text[text.index("  deals:") :].replace("deals", "tickets")
    for number in range(100):
        (home.connections / f"c{number}.yaml").write_text(text.replace(": crm", f": c{number}") + third)
    began = time.process_time()
    repository = build(home).get_repository_def()
    assert time.process_time() - began < 3
    assert len(repository.asset_graph.get_all_asset_keys()) == 100 * 3 + 2 + 1


def test_the_checkouts_own_definitions_load() -> None:
    from integrations_pipeline.definitions import defs

    assert AssetKey(["demo_rates", "rates"]) in defs.resolve_asset_graph().get_all_asset_keys()


def test_a_broken_file_fails_when_it_is_run(house: House) -> None:
    house.write("connection: shop\nevery: soon\n")
    result = house.run("broken/connections_shop_yaml", job="__ASSET_JOB")
    assert not result.success
    (check,) = result.get_asset_check_evaluations()
    assert not check.passed and check.description is not None and "every" in check.description
