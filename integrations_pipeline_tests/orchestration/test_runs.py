"""Runs on a real database, from a simulated source: what lands, and what the UI is told."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from dagster import AssetKey, DagsterEventType, ExecuteInProcessResult

from integrations_pipeline.orchestration.streams import DEFERRED_TAG
from integrations_pipeline_tests.orchestration.conftest import CRM, House
from integrations_pipeline_tests.simulator.test_webhooks import receiving

CONTACTS = AssetKey(["crm", "contacts"])


def materialized(result: ExecuteInProcessResult) -> set[str]:
    return {event.asset_key.to_user_string() for event in result.get_asset_materialization_events()}


def numbers(result: ExecuteInProcessResult, key: str) -> dict[str, Any]:
    (event,) = (e for e in result.get_asset_materialization_events() if e.asset_key.to_user_string() == key)
    return {name: value.value for name, value in event.materialization.metadata.items()}


def messages(result: ExecuteInProcessResult) -> str:
    """All that Dagster keeps of a run, as text."""
    return json.dumps([str(event) for event in result.all_events])


def test_a_run_lands_shapes_and_tells_numbers(crm: House) -> None:
    result = crm.run()
    assert result.success
    assert materialized(result) == {"crm/contacts", "crm/deals", "canonical/customer"}
    told = numbers(result, "crm/contacts")
    assert (told["fetched"], told["created"], told["canonical created"], told["requests"]) == (30, 30, 30, 1)
    assert crm.ask("SELECT count(*) FROM raw.crm__contacts") == [(30,)]
    assert numbers(result, "canonical/customer")["dagster/row_count"] == 30
    assert {check.passed for check in result.get_asset_check_evaluations()} == {True}
    runs = crm.ask("SELECT DISTINCT run_id::text, status FROM integrations.run_log")
    assert runs == [(result.run_id, "succeeded")]


def test_an_asset_shows_a_few_records_without_what_looks_personal(crm: House) -> None:
    crm.simulations["crm"].insert("contacts", [{"id": "0", "email": "jane.doe@example.com", "name": "Jane Doe"}])
    result = crm.run()
    told = [e.materialization.metadata for e in result.get_asset_materialization_events() if e.asset_key == CONTACTS]
    records = [record.data for record in told[0]["sample"].records]  # type: ignore[attr-defined]
    assert len(records) == 3 and set(records[0]) == {"id", "email", "name", "updated"}
    assert (records[0]["email"], records[0]["name"]) == ("xxxx.xxx@xxxxxxx.xxx", "xxxx xxx")
    assert "jane" not in messages(result).lower()


def test_the_same_run_again_changes_nothing(crm: House) -> None:
    crm.run()
    before = crm.ask("SELECT * FROM canonical.customer ORDER BY id")
    result = crm.run()
    assert numbers(result, "crm/deals")["unchanged"] == 30
    assert numbers(result, "crm/contacts")["created"] == 0
    assert crm.ask("SELECT * FROM canonical.customer ORDER BY id") == before


def test_rejected_rows_are_a_warning_with_masked_samples(crm: House) -> None:
    key = crm.simulations["crm"].insert("contacts", [{"id": "bad", "email": "jane.doe at 12.example"}])[0]
    result = crm.run("crm/contacts")
    assert result.success
    (check,) = (c for c in result.get_asset_check_evaluations() if c.check_name == "rows_rejected")
    told = {name: value.value for name, value in check.metadata.items()}
    assert (check.passed, check.severity.value, told["email: format"]) == (False, "WARN", 1)
    assert "`xxxx.xxx xx 99.xxxxxxx`" in told["what was rejected"]
    assert "jane" not in messages(result)
    assert numbers(result, "crm/contacts")["quarantined"] == 1
    assert crm.ask("SELECT external_id FROM integrations.quarantine") == [(key,)]


def test_a_failed_stream_says_who_must_act_and_leaves_the_others(crm: House) -> None:
    crm.write(CRM.replace("URL", crm.simulations["crm"].url(crm.running[0].port)).replace("GET /deals", "GET /deal"))
    result = crm.run()
    assert not result.success
    assert materialized(result) == {"crm/contacts", "canonical/customer"}
    (failed,) = result.get_step_failure_events()
    data = failed.step_failure_data.user_failure_data
    assert data is not None and {"error", "what", "who", "next", "where"} <= set(data.metadata)
    assert data.metadata["where"].value.startswith("crm/deals")


def test_a_missing_secret_fails_with_what_to_do(crm: House) -> None:
    secret = "api:\n  auth: {type: bearer, token: $token}"
    crm.write(
        CRM.replace("URL", "https://x.example").replace("api:", f"secrets: {{token: {{env: NO_SUCH}}}}\n{secret}")
    )
    result = crm.run("crm/deals")
    data = result.get_step_failure_events()[0].step_failure_data.user_failure_data
    assert data is not None and "NO_SUCH" in str(data.description)


def test_a_deferred_stream_is_neither_success_nor_failure(crm: House) -> None:
    crm.running[0].stop()
    result = crm.run("crm/contacts", "canonical/customer")
    assert result.success
    assert materialized(result) == set()
    (observed,) = (e for e in result.all_events if e.event_type == DagsterEventType.ASSET_OBSERVATION)
    assert "deferred until" in str(observed.asset_observation_data.asset_observation.description)
    run = crm.instance.get_run_by_id(result.run_id)
    assert run is not None and run.tags[DEFERRED_TAG].startswith("crm/contacts until ")
    ((status, resume_at),) = crm.ask("SELECT status, resume_at FROM integrations.run_log")
    assert status == "deferred" and resume_at > datetime.now(UTC)


def test_a_run_says_that_calls_are_paused_and_makes_none(crm: House) -> None:
    crm.run("crm/contacts")
    crm.ask(
        "INSERT INTO integrations.breaker (connection, failures, reason, opened_at, retry_at) VALUES "
        "('crm', 10, 'it is down', now(), now() + interval '1 minute') RETURNING 1"
    )
    asked = len(crm.simulations["crm"].requests())
    result = crm.run("crm/contacts", "canonical/customer")
    assert result.success and materialized(result) == set()
    assert len(crm.simulations["crm"].requests()) == asked
    (observed,) = (e for e in result.all_events if e.event_type == DagsterEventType.ASSET_OBSERVATION)
    observation = observed.asset_observation_data.asset_observation
    told = {name: value.value for name, value in observation.metadata.items()}
    assert "calls to the source are paused" in str(observation.description)
    assert (told["error"], told["breaker"], told["last failure"]) == ("breaker_open", "open", "it is down")
    assert told["next try"] == told["resumes at"]


def test_an_edited_mapping_is_shaped_by_the_kinds_own_run(crm: House) -> None:
    crm.run()
    asked = len(crm.simulations["crm"].requests())
    text = (crm.home.connections / "crm.yaml").read_text()
    crm.write(text.replace("name: name}", "name: {from: name, apply: [upper]}}"))
    result = crm.run("canonical/customer")
    assert numbers(result, "canonical/customer")["shaped here"] > 0
    assert crm.ask("SELECT count(*) FROM canonical.customer WHERE name <> upper(name)") == [(0,)]
    assert len(crm.simulations["crm"].requests()) == asked


def test_a_full_refresh_waits_for_its_hours_unless_told_now(crm: House) -> None:
    crm.run("crm/contacts")
    hour = datetime.now(UTC).hour
    closed = f"off_peak: {(hour + 6) % 24:02}:00-{(hour + 8) % 24:02}:00 UTC"
    text = (crm.home.connections / "crm.yaml").read_text()
    crm.write(text.replace("off_peak: 22:00-06:00 Europe/Berlin", closed))
    assert materialized(crm.run("crm/contacts", job="full_refresh")) == set()
    result = crm.run("crm/contacts", job="full_refresh", tags={"integrations/now": "true"})
    assert materialized(result) == {"crm/contacts"}
    assert crm.ask("SELECT mode FROM integrations.run_log ORDER BY started_at DESC LIMIT 1") == [("full",)]


def test_connect_and_disconnect_are_jobs(crm: House) -> None:
    def job(name: str, op: str, **config: Any) -> ExecuteInProcessResult:
        run_config = {"ops": {op: {"config": {"connection": "crm", **config}}}}
        found = crm.definitions().resolve_job_def(name)
        return found.execute_in_process(run_config, instance=crm.instance, raise_on_error=False)

    assert job("connect", "prove_and_prepare").success
    crm.run("crm/deals")
    assert job("disconnect", "stop", keep_data=False).success
    assert crm.ask("SELECT to_regclass('raw.crm__deals')") == [(None,)]
    assert not crm.run("crm/deals").success
    assert not job("connect", "prove_and_prepare", connection="cmr").success


def test_a_backfill_reads_its_month_and_moves_nothing(crm: House) -> None:
    crm.run("crm/contacts")
    ((state,),) = crm.ask(
        "SELECT to_jsonb(s) - 'lease_epoch' - 'updated_at' - 'shaped_below' FROM integrations.stream_state s"
    )
    crm.ask("DELETE FROM raw.crm__contacts RETURNING 1")
    found = crm.definitions().resolve_job_def("backfill")
    month = datetime.now(UTC).strftime("%Y-%m-01")
    result = found.execute_in_process(
        instance=crm.instance, partition_key=f"{month}|crm/contacts", tags={"integrations/now": "true"}
    )
    assert result.success
    ((mode, fetched),) = crm.ask("SELECT mode, fetched FROM integrations.run_log ORDER BY started_at DESC LIMIT 1")
    assert mode == "backfill" and crm.ask("SELECT count(*) FROM raw.crm__contacts") == [(fetched,)]
    after = crm.ask(
        "SELECT to_jsonb(s) - 'lease_epoch' - 'updated_at' - 'shaped_below' FROM integrations.stream_state s"
    )
    assert after == [(state,)]


@pytest.mark.parametrize("text", ["a@b.de", "Müller 12", "", "2024-13-45"])
def test_masking_keeps_the_form_only(text: str) -> None:
    from integrations_pipeline.spec.personal import masked

    assert len(masked(text)) == len(text)
    assert not any(c.isalpha() and c != "x" for c in masked(text))


def test_drift_is_told_by_a_check_that_blocks_nothing(crm: House) -> None:
    crm.run()
    crm.simulations["crm"].update("contacts", 30, {"colour": "red", "name": None})
    result = crm.run("crm/contacts")
    assert result.success
    (check,) = (c for c in result.get_asset_check_evaluations() if c.check_name == "drift")
    told = {name: value.value for name, value in check.metadata.items()}
    assert (check.passed, check.severity.value, check.blocking) == (False, "ERROR", False)
    assert (told["findings"], told["errors"]) == (2, 1)
    assert "| colour | new field | warning |" in told["what differs"]
    assert "| name | vanished field | error |" in told["what differs"]


def test_fields_that_a_person_is_to_decide_are_counted_by_a_check(crm: House) -> None:
    """Of the stream that is written back, and only there."""
    crm.run()
    write = "    write: {fields: [name], update: PATCH /contacts/<external_id>, conflict: {name: review}}\n  deals:"
    crm.write((crm.home.connections / "crm.yaml").read_text().replace("  deals:", write))
    mine = "UPDATE canonical.customer SET name = 'ours' WHERE id = (SELECT canonical_id FROM integrations.link LIMIT 1)"
    ((key,),) = crm.ask(
        f"WITH mine AS ({mine} RETURNING id) SELECT external_id FROM integrations.link JOIN mine ON canonical_id = id"
    )
    crm.simulations["crm"].update("contacts", [key], {"name": "theirs"})
    result = crm.run()
    (check,) = (c for c in result.get_asset_check_evaluations() if c.check_name == "conflicts_open")
    assert (check.asset_key, check.passed, check.severity.value, check.blocking) == (CONTACTS, False, "WARN", False)
    assert check.metadata["open conflicts"].value == 1


def test_changes_of_a_kind_with_on_change_are_sent_by_a_job(crm: House, monkeypatch: pytest.MonkeyPatch) -> None:
    file = crm.home.models / "customer.yaml"
    told = "on_change: [{url: {env: TEAM_URL}, secret: {env: TEAM_SECRET}}]\n"
    file.write_text(f"{file.read_text().rstrip()}\n{told}")
    monkeypatch.setenv("TEAM_SECRET", "whsec_dGhlIHNlY3JldCBvZiB0aGUgdGVzdA==")
    with receiving() as receiver:
        monkeypatch.setenv("TEAM_URL", receiver.url)
        crm.run("crm/contacts")
        ((held,),) = crm.ask("SELECT count(*) FROM canonical.customer")
        definitions = crm.definitions()
        assert definitions.resolve_job_def("deliver").execute_in_process(instance=crm.instance).success
        assert {one["type"] for one in receiver.documents()} == {"customer.created"}
        assert len(receiver.documents()) == held > 0
    assert crm.ask("SELECT DISTINCT status FROM integrations.delivery") == [("delivered",)]
