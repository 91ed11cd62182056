"""`/outbox` over real HTTP: what is on its way out, what a person decides about it, and what then happens outside."""

from __future__ import annotations

import re

from integrations_pipeline_tests.client.source import Reply
from integrations_pipeline_tests.gateway.conftest import until
from integrations_pipeline_tests.gateway.crm import Crm, crm
from integrations_pipeline_tests.gateway.test_pages import Shown

__all__ = ["crm"]


def row_of(shown: Shown, number: int) -> str:
    """The row of a change, as it is written."""
    (found,) = [row for row in re.findall(r"<tr>.*?</tr>", shown.html, re.S) if f'name="id" value="{number}"' in row]
    return found


def test_what_waits_is_parked_or_dead_is_listed_with_who_must_act(crm: Crm) -> None:
    dead, parked = crm.dead("Cleo"), crm.parked("Dora")
    crm.provider.instead = lambda seen: Reply(status=503)
    crm.desk.edit("Anna", email="new@example.com")
    crm.desk.push()
    waiting = int(crm.desk.outbox("id")[-1][0])
    visit = crm.visit()
    status = visit.get("/")
    assert '<a href="/outbox?connection=crm">2</a>' in status.html and "needs attention" in status.text
    found = visit.get("/outbox?connection=crm")
    assert "dora@example.com" in row_of(found, parked), "who has to look for it needs its values"
    assert "the person who runs this connection" in row_of(found, parked) and "It isn't there" in found.text
    assert "Cleo is on no list" in row_of(found, dead) and "tried once" in row_of(found, dead)
    for number in (dead, waiting):
        assert "@example.com" not in row_of(found, number), "masked where nobody has to look for it"
    assert "the source answered 503" in row_of(found, waiting) and "unsure" in row_of(found, waiting)
    assert found.html.index(f'value="{parked}"') < found.html.index(f'value="{waiting}"')
    assert "1 parked" in found.text and "1 dead" in found.text
    assert "No change is on its way out" in visit.get("/outbox?connection=other").text


def test_a_parked_create_is_there_under_the_id_that_a_person_names(crm: Crm) -> None:
    number = crm.parked("Cleo")
    visit = crm.visit()
    visit.get("/outbox")
    wrong = visit.post("/outbox/resolve", {"id": str(number), "external_id": "p9"})
    assert (wrong.status, "knows no record p9" in wrong.text) == (409, True)
    assert crm.status(number) == "parked"
    visit.get("/outbox")
    assert visit.post("/outbox/resolve", {"id": str(number), "external_id": " "}).status == 409
    visit.get("/outbox")
    visit.post("/outbox/resolve", {"id": str(number), "external_id": "p2"})
    assert "It is there" in visit.follow().text
    until(lambda: crm.status(number) == "done")
    assert crm.names() == ["Anna", "Cleo"]
    assert crm.desk.rows("SELECT count(*) FROM integrations.link") == [(2,)]


def test_a_parked_create_that_is_not_there_leaves_again_at_once(crm: Crm) -> None:
    number = crm.parked("Cleo")
    del crm.provider.people["p2"]
    visit = crm.visit()
    listed = visit.get("/outbox")
    visit.post("/outbox/resolve", {"id": str(number), "not_there": "1"})
    assert "It isn't there" in visit.follow().text
    until(lambda: crm.status(number) == "done")
    assert crm.names() == ["Anna", "Cleo"]
    token = listed.form_token
    again = visit.post("/outbox/resolve", {"id": str(number), "not_there": "1", "form_token": token})
    assert (again.status, "can't be so decided about any more" in again.text) == (409, True)


def test_a_dead_change_leaves_again_or_is_given_up_with_a_reason(crm: Crm) -> None:
    first, second = crm.dead("Cleo"), crm.dead("Dora")
    visit = crm.visit()
    visit.get("/outbox")
    visit.post("/outbox/retry", {"id": str(first)})
    assert "sent again" in visit.follow().text
    until(lambda: crm.status(first) == "done")
    assert visit.post("/outbox/discard", {"id": str(second), "reason": " "}).status == 409
    visit.get("/outbox")
    visit.post("/outbox/discard", {"id": str(second), "reason": "a test"})
    assert "No change is on its way out" in visit.follow().text
    assert crm.names() == ["Anna", "Cleo"]
    reasons = crm.desk.rows("SELECT reason FROM integrations.decision WHERE decision = 'discarded'")
    assert reasons == [("a test",)]
    assert crm.desk.rows("SELECT status FROM integrations.dead_letter ORDER BY id") == [("replayed",), ("discarded",)]


def test_a_dead_letter_of_the_outbox_that_is_tried_again_leaves_at_once(crm: Crm) -> None:
    number = crm.dead("Cleo")
    visit = crm.visit()
    listed = visit.get("/dead-letters")
    assert '<a href="/outbox?connection=crm">' in listed.html
    letter = re.search(r'name="id" value="(\d+)"', listed.html)
    assert letter
    visit.post("/dead-letters/retry", {"id": letter[1]})
    until(lambda: crm.status(number) == "done")
    assert crm.names() == ["Anna", "Cleo"]


def test_a_decided_conflict_is_at_the_source_at_once(crm: Crm) -> None:
    crm.desk.write = {**crm.desk.write, "conflict": {"default": "review"}}
    crm.write_files()
    crm.desk.edit("Anna", email="ours@example.com")
    crm.provider.edit("p1", email="theirs@example.com")
    crm.desk.sync()
    visit = crm.visit()
    listed = visit.get("/conflicts")
    row = re.search(r'name="id" value="(\d+)"', listed.html)
    assert row, listed.text
    visit.post("/conflicts/decide", {"id": row[1], "side": "ours"})
    until(lambda: crm.provider.people["p1"]["email"] == "ours@example.com")


def test_a_form_of_somebody_else_decides_nothing(crm: Crm) -> None:
    number = crm.dead("Cleo")
    visit = crm.visit()
    visit.get("/outbox")
    for path, fields in (("retry", {}), ("discard", {"reason": "x"}), ("resolve", {"not_there": "1"})):
        forged = visit.post(f"/outbox/{path}", {"id": str(number), **fields, "form_token": "0" * 64})
        assert forged.status == 403
    assert crm.status(number) == "dead"
