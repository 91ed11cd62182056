"""A value has its field's type exactly, or is refused with a reason."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations_pipeline.spec.decoding import NonFinite
from integrations_pipeline.spec.fields import Field
from integrations_pipeline.spec.values import parser, version_text

MOMENT = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("field", "given", "value"),
    [
        ({"type": "string"}, "", ""),
        ({"type": "integer"}, 2**53 + 1, 2**53 + 1),
        ({"type": "integer"}, "0012", 12),
        ({"type": "integer"}, Decimal("12.00"), 12),
        ({"type": "integer"}, 12.0, 12),
        ({"type": "integer"}, "", None),
        ({"type": "decimal"}, 0.1, Decimal("0.1")),
        ({"type": "decimal"}, "1.10", Decimal("1.10")),
        ({"type": "decimal"}, 3, Decimal(3)),
        ({"type": "boolean"}, False, False),
        ({"type": "json"}, {"a": [1]}, {"a": [1]}),
        ({"type": "timestamp"}, "2024-01-02T03:04:05Z", MOMENT),
        ({"type": "timestamp"}, "2024-01-02T05:04:05+02:00", MOMENT),
        ({"type": "timestamp"}, "2024-01-02 03:04:05+00:00", MOMENT),
        ({"type": "timestamp", "zone": "Europe/Berlin"}, "2024-01-02T04:04:05", MOMENT),
        ({"type": "timestamp", "formats": ["unix"]}, 1704164645, MOMENT),
        ({"type": "timestamp", "formats": ["unix"]}, "1704164645", MOMENT),
        ({"type": "timestamp", "formats": ["unix_ms"]}, 1704164645006, MOMENT.replace(microsecond=6000)),
        ({"type": "timestamp", "formats": ["unix"]}, Decimal("1704164645.000006"), MOMENT.replace(microsecond=6)),
        ({"type": "timestamp", "formats": ["iso", "unix"]}, 1704164645, MOMENT),
        ({"type": "timestamp", "formats": ["%d.%m.%Y %H:%M %z"]}, "02.01.2024 03:04 +0000", MOMENT.replace(second=0)),
        ({"type": "date"}, "2024-01-02", date(2024, 1, 2)),
        ({"type": "date", "formats": ["iso", "%m/%d/%Y"]}, "01/02/2024", date(2024, 1, 2)),
        ({"type": "date", "formats": ["unix"]}, 1704164645, date(2024, 1, 2)),
    ],
)
def test_accepted(field: dict[str, Any], given: Any, value: Any) -> None:
    found = parser(Field.model_validate(field))(given)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("field", "given", "reason"),
    [
        ({"type": "string"}, 12, "an integer ('12'), not text"),
        ({"type": "integer"}, 12.7, "not an integer"),
        ({"type": "integer"}, "12.7", "not an integer"),
        ({"type": "integer"}, True, "a boolean ('True'), not an integer"),
        ({"type": "integer"}, "٣", "not an integer"),
        ({"type": "decimal"}, "12,50", "not a number"),
        ({"type": "decimal"}, "NaN", "not a number"),
        ({"type": "decimal"}, NonFinite("Infinity"), "no number"),
        ({"type": "boolean"}, "false", "text ('false'), not true or false"),
        ({"type": "boolean"}, 1, "not true or false"),
        ({"type": "timestamp"}, "2024-01-02T03:04:05", "names no zone"),
        ({"type": "timestamp"}, "0000-00-00 00:00:00", "no ISO time"),
        ({"type": "timestamp"}, "12024-01-02T00:00:00Z", "no ISO time"),
        ({"type": "timestamp"}, "1612121211234", "declare formats"),
        ({"type": "timestamp"}, 1704164645, "declare formats"),
        ({"type": "timestamp", "formats": ["unix"]}, 10**15, "outside the years"),
        ({"type": "timestamp", "formats": ["unix"]}, True, "not a number"),
        ({"type": "timestamp"}, "0001-01-01T00:00:00+14:00", "outside the years"),
        ({"type": "date"}, "0000-00-00", "no ISO date"),
        ({"type": "date"}, "2024-01-02T00:00:00Z", "no ISO date"),
        ({"type": "date", "formats": ["iso", "%m/%d/%Y"]}, "31/12/2024", "no date of the form %m/%d/%Y"),
    ],
)
def test_refused_with_its_reason(field: dict[str, Any], given: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=r"(?s).") as caught:
        parser(Field.model_validate(field))(given)
    assert reason in str(caught.value)


ANYTHING = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text()
    | st.lists(st.integers(), max_size=2)
    | st.just({})
    | st.just(NonFinite("NaN"))
    | st.datetimes().map(str)
    | st.integers(0, 10**20).map(str)
)
FIELDS = st.sampled_from(
    [
        Field(type="string"),
        Field(type="integer"),
        Field(type="decimal"),
        Field(type="boolean"),
        Field(type="json"),
        Field(type="date"),
        Field(type="timestamp", zone="Europe/Berlin"),
        Field(type="timestamp", formats=["iso", "unix", "unix_ms", "%d.%m.%Y"]),
    ]
)


@given(FIELDS, ANYTHING)
def test_a_parser_is_total(field: Field, value: Any) -> None:
    try:
        found = parser(field)(value)
    except ValueError as error:
        assert 0 < len(str(error)) < 300
        return
    if isinstance(found, datetime):
        assert found.tzinfo is UTC


@given(st.lists(st.integers(0, 10**20 - 1), min_size=2, max_size=2))
def test_numbers_sort_as_versions(pair: list[int]) -> None:
    assert (version_text(pair[0]) < version_text(pair[1])) == (pair[0] < pair[1])
    assert version_text(str(pair[0])) == version_text(Decimal(pair[0])) == version_text(pair[0])


@given(st.lists(st.datetimes(timezones=st.just(UTC)), min_size=2, max_size=2))
def test_times_sort_as_versions(pair: list[datetime]) -> None:
    assert (version_text(pair[0]) < version_text(pair[1])) == (pair[0] < pair[1])
    assert version_text(pair[0].isoformat()) == version_text(pair[0])


def test_version_texts() -> None:
    assert version_text(datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC)) == "2024-01-02T03:04:05.000006Z"
    assert version_text("2024-01-02T05:04:05+02:00") == "2024-01-02T03:04:05.000000Z"
    assert version_text(date(2024, 1, 2)) == "2024-01-02"
    assert version_text(12) == "00000000000000000012"
    assert version_text(Decimal("1.50")) == version_text(1.5) == "00000000000000000001.5"
    assert version_text("v7") == "v7"
    for wrong in (-1, 10**20, True, None, datetime(2024, 1, 2), [1]):
        with pytest.raises(ValueError, match="version"):
            version_text(wrong)
