"""The profile says what differs from what the rows used to be: each difference once, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations_pipeline.boundary import Profile
from integrations_pipeline.spec.drift import Drift, FieldProfile
from integrations_pipeline_tests.boundary.made import stream

MAPPED = {
    "to": "customer",
    "fields": {
        "email": "properties.email",
        "stage": {"from": "stage", "values": {"lead": "prospect"}, "else": "unknown"},
    },
}


def row(number: int, **more: Any) -> dict[str, Any]:
    properties = {"email": f"p{number}@example.org", "plan": "free", **more.pop("properties", {})}
    return {"id": str(number), "stage": "lead", "note": "x", "age": number, "properties": properties} | more


def rows(count: int, **more: Any) -> list[dict[str, Any]]:
    return [row(number, **more) for number in range(count)]


class Runs:
    """A profile that is stored after each run, and read before the next."""

    def __init__(self, **keys: Any) -> None:
        self.keys = {"map": MAPPED} | keys
        self.fields: dict[str, FieldProfile] = {}
        self.open: dict[tuple[str, str], Drift] = {}
        self.count = 0

    def run(self, given_rows: list[Any], refused: dict[str, list[str]] | None = None) -> dict[str, str]:
        """Open findings after the run, as ``kind path`` with their severity."""
        profile = Profile(stream(**self.keys), self.fields.values(), self.open.values(), learned=self.count > 0)
        self.count += 1
        for start in range(0, len(given_rows), 40):
            profile.learn(given_rows[start : start + 40])
            self.store(*profile.changes())
        for path, values in (refused or {}).items():
            profile.refused(path, values)
        profile.finish()
        self.store(*profile.changes())
        return {f"{one.kind} {one.path}": one.severity for one in self.open.values()}

    def store(self, fields: list[FieldProfile], findings: list[Drift]) -> None:
        self.fields |= {one.path: one for one in fields}
        self.open |= {one.key: one for one in findings}
        self.open = {key: one for key, one in self.open.items() if one.ended is None}


@pytest.fixture
def runs() -> Runs:
    found = Runs()
    assert found.run(rows(60)) == {}
    return found


def test_the_first_run_learns_and_the_same_rows_are_no_news(runs: Runs) -> None:
    assert runs.run(rows(60)) == {}
    known = runs.fields["properties.plan"]
    assert (known.rows, known.filled, known.types, known.values) == (120, 120, {"text": 120}, ["free"])
    assert runs.fields["properties.email"].values is None or not runs.fields["properties.email"].values


@pytest.mark.parametrize(
    ("more", "finding", "severity"),
    [
        ({"extra": 1}, "new_field extra", "warning"),
        ({"properties": {"extra": {"deep": 1}}}, "new_field properties.extra", "warning"),
        ({"note": 5}, "changed_type note", "warning"),
        ({"properties": {"email": ["a@example.org"]}}, "changed_type properties.email", "error"),
        ({"properties": {"plan": False}}, "changed_type properties.plan", "warning"),
        ({"stage": "churned"}, "new_value stage", "error"),
        ({"note": None}, "vanished_field note", "warning"),
        ({"properties": {"email": None}}, "vanished_field properties.email", "error"),
    ],
)
def test_each_difference_is_a_finding_and_ends_when_it_is_gone(
    runs: Runs, more: dict[str, Any], finding: str, severity: str
) -> None:
    assert runs.run(rows(30, **more)) == {finding: severity}
    assert runs.run(rows(30, **more)) == {finding: severity}
    assert runs.run(rows(100)) == {}


def test_what_a_write_sets_beside_the_fields_is_no_news() -> None:
    update = {"request": "PUT /records/<external_id>", "set": {"by": "us"}}
    write = {
        "fields": ["stage"],
        "create": "POST /records",
        "update": update,
        "set": {"metadata": {"ref": "<reference>"}},
    }
    runs = Runs(write=write)
    runs.run(rows(60))
    ours = rows(30, metadata={"ref": "r1"}, by="us")
    assert runs.run(ours) == {}
    assert runs.run([{**one, "metadata": {"ref": "r1", "theirs": 1}} for one in ours]) == {
        "new_field metadata.theirs": "warning"
    }


def test_a_vanished_object_is_one_finding(runs: Runs) -> None:
    without = [{key: value for key, value in one.items() if key != "properties"} for one in rows(30)]
    assert runs.run(without) == {"vanished_field properties": "error"}


def test_few_rows_prove_nothing() -> None:
    runs = Runs()
    runs.run(rows(5))
    assert runs.run(rows(10, extra=1)) == {}
    again = Runs()
    again.run(rows(60))
    assert again.run(rows(19, note=None)) == {}
    assert again.run(rows(1, note=None)) == {"vanished_field note": "warning"}


def test_one_new_value_among_thousands_is_met(runs: Runs) -> None:
    many = rows(4000)
    many[3217]["stage"] = "churned"
    many[3217]["rare"] = 1
    assert runs.run(many) == {"new_value stage": "error", "new_field rare": "warning"}
    assert runs.open["new_value", "stage"].rows == 1


def test_what_the_file_names_is_no_news(runs: Runs) -> None:
    assert runs.run(rows(30, stage=" Lead ")) == {}
    runs.run(rows(30, extra=1, stage="churned"))
    runs.keys["fields"] = {"extra": {"type": "integer"}, "stage": {"type": "string", "values": ["lead", "churned"]}}
    assert runs.run(rows(30, extra=1, stage="churned")) == {}
    assert runs.run([], {"stage": ["gone"]}) == {"new_value stage": "error"}


def test_samples_of_what_looks_personal_show_their_form(runs: Runs) -> None:
    runs.run(rows(30, contact="jane@example.org", colour="red"))
    assert runs.open["new_field", "contact"].samples == ["xxxx@xxxxxxx.xxx"]
    assert runs.open["new_field", "colour"].samples == ["red"]


def test_keys_that_are_data_name_no_fields(runs: Runs) -> None:
    days = [row(number, properties={f"2024-01-{number + 1:02}": 1, str(number): 1}) for number in range(30)]
    assert runs.run(days) == {}


CHANGES = st.dictionaries(
    st.sampled_from(["a", "b", "c", "o.p", "o.q", "n", "o.n"]), st.sampled_from(["gone", "other", "null"]), max_size=4
)


def changed(number: int, changes: dict[str, str]) -> dict[str, Any]:
    made: dict[str, Any] = {"id": str(number), "a": "x", "b": number, "c": True, "o": {"p": "x", "q": number}}
    for path, change in changes.items():
        *above, name = path.split(".")
        holder = made["o"] if above else made
        if change == "gone":
            holder.pop(name, None)
        else:
            holder[name] = None if change == "null" else ["another type"]
    return made


@given(CHANGES)
@settings(deadline=None)
def test_the_findings_are_the_changes(changes: dict[str, str]) -> None:
    runs = Runs(map=None)
    runs.run([changed(number, {}) for number in range(50)])
    expected = set()
    for path, change in changes.items():
        if path in ("n", "o.n"):
            expected |= {f"new_field {path}"} if change != "gone" else set()
        else:
            expected.add(f"{'changed_type' if change == 'other' else 'vanished_field'} {path}")
    assert set(runs.run([changed(number, changes) for number in range(50)])) == expected
    assert runs.run([changed(number, {}) for number in range(120)]) == {}
