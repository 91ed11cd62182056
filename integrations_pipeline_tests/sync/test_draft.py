"""What a person would guess from one page of a source."""

from __future__ import annotations

from typing import Any

import pytest

from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.sync.draft import Sample, draft_stream

ROWS: list[dict[str, Any]] = [
    {"id": f"c{n}", "email": f"a{n}@example.org", "age": n, "paid": 1.5, "live": True, "stage": "lead",
     "updated_at": "2024-01-02T03:04:05Z", "address": {"city": "Bonn"}, "mixed": [n, "x"][n % 2]}
    for n in range(5)
]  # fmt: skip


@pytest.mark.parametrize(
    ("around", "headers", "pagination"),
    [
        ({"paging": {"next": {"after": "t"}}}, {}, {"type": "cursor", "read": "paging.next.after", "send": "after"}),
        ({"paging": {"next": "t"}}, {}, {"type": "cursor", "read": "paging.next", "send": "cursor"}),
        ({"nextPageToken": "t"}, {}, {"type": "cursor", "read": "nextPageToken", "send": "pageToken"}),
        ({"next": "https://api.example.com/x?page=2"}, {}, {"type": "link_body", "read": "next"}),
        ({"@odata.nextLink": "https://x.example/y"}, {}, {"type": "link_body", "read": ["@odata.nextLink"]}),
        ({"_links": {"next": {"href": "/x?p=2"}}}, {}, {"type": "link_body", "read": "_links.next.href"}),
        ({"has_more": True}, {}, {"type": "keyset", "send": "starting_after", "more": "has_more"}),
        ({"total_pages": 4}, {}, {"type": "page_number", "send": "page", "pages": "total_pages"}),
        ({}, {"Link": '<https://x.example/?page=2>; rel="next"'}, {"type": "link_header"}),
        ({}, {}, {"type": "single_page"}),
    ],
)
def test_pagination_is_recognised(around: dict[str, Any], headers: dict[str, str], pagination: dict[str, Any]) -> None:
    draft = draft_stream(Sample({"data": ROWS, **around}, headers), "GET /x")
    assert draft.pagination == pagination
    assert draft.stream["records"] == "data"


def test_types_and_key_come_from_all_rows() -> None:
    fields = draft_stream(Sample(ROWS), "GET /x").stream["fields"]
    assert fields["id"] == {"type": "string", "required": True}
    assert fields["email"] == {"type": "string", "format": "email"}
    types = {name: field["type"] for name, field in fields.items()}
    assert types["age"] == "integer"
    assert types["paid"] == "decimal"
    assert types["live"] == "boolean"
    assert types["updated_at"] == "timestamp"
    assert types["address.city"] == "string"
    assert types["mixed"] == "json"


def test_a_field_without_a_value_may_become_anything() -> None:
    fields = draft_stream(Sample([{"id": 1, "discount": None, "note": ""}]), "GET /x").stream["fields"]
    assert fields["discount"] == {"type": "json"}
    assert fields["note"] == {"type": "string"}


def test_a_field_of_few_values_is_left_to_a_person() -> None:
    kind = Kind.model_validate(
        {"kind": "customer", "fields": {"email": {"type": "string"}, "stage": {"type": "string", "values": ["active"]}}}
    )
    draft = draft_stream(Sample(ROWS), "GET /x", kind)
    assert draft.stream["map"] == {"to": "customer", "fields": {"email": "email"}}
    assert any("stage" in remark for remark in draft.remarks)


@pytest.mark.parametrize("body", [None, [], {}, "text", {"data": []}, [1, 2], {"a": {"b": {"c": {"d": []}}}}])
def test_an_answer_without_records_is_drafted_with_remarks(body: Any) -> None:
    assert draft_stream(Sample(body), "GET /x").remarks
