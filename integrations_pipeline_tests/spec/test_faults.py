"""The text of a fault: what, when, on which stream; and what is said of one that is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from integrations_pipeline.spec.faults import ARGUMENTS, VOCABULARY, When, parse_fault

PAGE = (Path(__file__).parents[2] / "docs" / "faults.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "name", "arguments", "when", "stream"),
    [
        ("429 every 7th", "STATUS [HINT VALUE]", {"status": 429}, When(every=7), None),
        (
            "429 retry-after 1.5 after 20 once",
            "STATUS [HINT VALUE]",
            {"status": 429, "hint": "retry-after", "value": "1.5"},
            When(after_count=20, for_count=1),
            None,
        ),
        ("503 for 20 requests", "STATUS [HINT VALUE]", {"status": 503}, When(for_count=20), None),
        ("reset  2.5%  on contacts", "reset", {}, When(percent=2.5), "contacts"),
        ("slow 50ms after 1m for 30s", "slow DURATION", {"duration": 0.05}, When(None, None, 0, 60, None, 30), None),
        ("down 5s", "down DURATION", {"duration": 5.0}, When(for_count=1), None),
        ("expire cursor after 5", "expire cursor [STATUS]", {}, When(after_count=5, for_count=1), None),
        ("expire cursor 400 10%", "expire cursor [STATUS]", {"status": 400}, When(percent=10), None),
        ("bad row nul in a.b 1%", "bad row [KIND] [in PATH]", {"kind": "nul", "path": "a.b"}, When(percent=1), None),
        ("bomb 5MB", "bomb [SIZE]", {"size": 5_000_000}, When(), None),
    ],
)
def test_a_fault_says_what_when_and_where(
    text: str, name: str, arguments: dict[str, Any], when: When, stream: str | None
) -> None:
    found = parse_fault(text)
    assert (found.name, found.arguments, found.when, found.stream) == (name, arguments, when, stream)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("trunkate 5%", "did you mean 'truncate'?"),
        ("truncate gzipped", "'truncate [CUT]' was expected; CUT: length, chunked, gzip, unframed or headers"),
        ("down for 30s", "'down DURATION' was expected"),
        ("429 every 7", "'STATUS [HINT VALUE]' was expected"),
        ("every 7th", "a fault like '429 every 7th' was expected"),
        ("", "a fault like '429 every 7th' was expected"),
        ("reset 5% 10%", "says the same thing twice about when"),
        ("reset 500%", "a percentage like 5% was expected"),
        ("limit 5 per fortnight", "a duration like"),
        (7, "not 7"),
    ],
)
def test_what_is_none_is_told_with_what_was_expected(text: Any, said: str) -> None:
    with pytest.raises(ValueError, match=r"expected|twice") as told:
        parse_fault(text)
    assert said in str(told.value)


def turns(when: str, count: int, seconds: float = 0.0) -> list[int]:
    fault = parse_fault(f"reset {when}")
    return [index for index in range(count) if fault.when.holds(index, seconds, lambda: 0.04)]


def test_when_combines() -> None:
    assert turns("every 3rd", 10) == [2, 5, 8]
    assert turns("after 4 for 3", 10) == [4, 5, 6]
    assert turns("every 2nd after 4 for 4", 10) == [5, 7]
    assert turns("5%", 2) == [0, 1]
    assert turns("4%", 2) == []
    assert turns("after 10s", 2, seconds=9) == []
    assert turns("after 10s for 5s", 2, seconds=12) == [0, 1]
    assert turns("after 10s for 5s", 2, seconds=15) == []


@pytest.mark.parametrize("name", VOCABULARY)
def test_each_entry_is_documented(name: str) -> None:
    form = VOCABULARY[name]
    assert f"| `{name}` | {form.meaning} | {form.by_default or 'always'} |" in PAGE


def test_each_word_of_an_argument_is_documented() -> None:
    words = [word for argument in ARGUMENTS.values() for word in argument.words]
    assert [word for word in [*ARGUMENTS, *words] if f"`{word}`" not in PAGE] == []
