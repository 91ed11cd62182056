"""Nothing is guessed from YAML, and what is refused is named with its line."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from integrations_pipeline.spec import limits, yaml_text
from integrations_pipeline.spec.yaml_text import parse_document, read_document

LOOSE = "yes no on off Yes NO True FALSE 012 0o17 0x1f 1_000 1e3 +5 .5 1. 1:30 12:30:45 .inf .nan ~ Null"


def told(text: str) -> list[str]:
    return [str(problem) for problem in parse_document(text, "a.yaml").problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("false", False),
        ("null", None),
        ("12", 12),
        ("-7", -7),
        ("1.5", 1.5),
        ("1.10", Decimal("1.10")),
        ("0.12345678901234567890", Decimal("0.12345678901234567890")),
        ("12345678901234567890", 12345678901234567890),
        ("2024-01-02", "2024-01-02"),
        ("2024-01-02T03:04:05Z", "2024-01-02T03:04:05Z"),
        ("2022-11-28", "2022-11-28"),
        ("22:00-06:00 Europe/Berlin", "22:00-06:00 Europe/Berlin"),
        ("30 16 * * 1-5", "30 16 * * 1-5"),
        ("<timestamp>.<body>", "<timestamp>.<body>"),
        ("1.2.3", "1.2.3"),
        ("node", "node"),
        ("'no'", "no"),
        ('"012"', "012"),
        ("|\n  yes\n", "yes\n"),
    ],
)
def test_what_a_scalar_means(text: str, value: Any) -> None:
    document = parse_document(f"a: {text}", "a.yaml")
    assert document.problems == []
    assert document.data == {"a": value}
    assert type(document.data["a"]) is type(value)


@pytest.mark.parametrize("text", LOOSE.split())
def test_loose_scalars_are_refused_as_value_and_as_key(text: str) -> None:
    (value,) = told(f"a: 1\nb: {text}")
    assert value.startswith("a.yaml:2: b: ")
    assert "quote it" in value or "null" in value
    (key,) = told(f"a: 1\n{text}: 1\n")
    assert key.startswith("a.yaml:2: ")


def test_every_problem_of_a_file_is_told_at_once() -> None:
    text = "a: yes\nb:\n  c: 012\n  c: 1\nd:\ne: {f:1}\n"
    assert told(text) == [
        "a.yaml:1: a: true, false or a quoted text was expected: quote it ('yes') if it is text",
        "a.yaml:3: b.c: a plain number like 12 or 1.5 was expected, not 012: quote it ('012') if it is text",
        "a.yaml:4: b.c: a key once was expected: it stands already in line 3",
        "a.yaml:5: d: a value was expected (null is written as null, and removes a connector's key)",
        "a.yaml:6: e.f:1: a value was expected (null is written as null, and removes a connector's key)"
        " (a space after the colon?)",
    ]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\n\tb: 2", 2, "a tab can't indent YAML: use spaces"),
        ("a: 1\nb: 'x\nc: 2", 2, "the quote that opens here isn't closed"),
        ("a: b: c", 1, "a second ': ' in one line"),
        ("a: 1\nb: @x", 2, "an unquoted value can't start with @: quote it"),
        ("a: [1, 2", 1, "the bracket that opens here isn't closed"),
        ("a: 1\nb: [", 2, "a bracket is still open at the end of the file"),
        ("", 1, "the file is empty"),
        ("# nothing\n", 1, "the file is empty"),
        ("a: 1\n---\nb: 2", 2, "one document was expected"),
        ("a: 1\nb: \x07", 2, "a control character"),
        ("a: 1\n<<: {b: 2}", 2, "no merge keys"),
        ("? [a]\n: 1", 1, "a plain key was expected"),
        ("a: *b", 1, "*b has no &b"),
        ("a: &b [*b]", 1, "*b has no &b that ended before it"),
        ("a: !!python/object/apply:os.getcwd []", 1, "a value without a tag"),
        ("[" * 200_000, 1, "nested deeper than 40"),
        ("a: " + "[1, " * 39 + "1" + "]" * 39 + "\nb: " + "{x: " * 41 + "1" + "}" * 41, 2, "nested deeper than 40"),
    ],
)
def test_what_cannot_be_read(text: str, line: int, message: str) -> None:
    (problem,) = told(text)
    assert problem.startswith(f"a.yaml:{line}: ")
    assert message in problem


def test_a_bomb_of_aliases_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    (problem,) = told("\n".join(lines))
    assert "holds more than 50000 values" in problem


def test_an_alias_repeats_a_value() -> None:
    document = parse_document("a: &x {b: 1}\nc: *x", "a.yaml")
    assert document.data == {"a": {"b": 1}, "c": {"b": 1}}
    assert document.line_of(("c", "b")) == 2


def test_each_key_and_item_has_its_line() -> None:
    document = parse_document("a:\n  - b: 1\n\n  - c:\n      d: 2\n", "a.yaml")
    assert document.line_of(("a", 1, "c", "d")) == 5
    assert document.line_of(("a", 0)) == 2
    assert document.line_of(("a", 1, "nowhere")) == 4


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    latin, large = tmp_path / "latin.yaml", tmp_path / "large.yaml"
    latin.write_bytes(b"a: 1\nb: M\xfcller\n")
    large.write_bytes(b"#" * (limits.YAML_BYTES + 1))
    for path, message in (
        (latin, "latin.yaml:2: the file is not UTF-8 text"),
        (large, "large.yaml: the file is larger than 1048576 bytes"),
        (tmp_path / "none.yaml", "none.yaml: the file can't be read: No such file or directory"),
        (tmp_path, f"{tmp_path.name}: the file can't be read: Is a directory"),
    ):
        assert [str(problem) for problem in read_document(path, path.name).problems] == [message]


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    document = parse_document(text, "a.yaml")
    assert (
        document.problems or document.data is not None or text.strip("\ufeff").lstrip().startswith(("null", "-", "#"))
    )


PLAIN = st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8"), max_size=12)
DATA = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abnoy01~.", min_size=1), inner, max_size=3),
    max_leaves=10,
)


@given(DATA)
def test_quoted_yaml_is_what_was_written(data: Any) -> None:
    text = yaml.safe_dump({"a": data}, default_style='"', allow_unicode=False)
    document = parse_document(text.replace('!!null "null"', "null").replace("!!bool ", "").replace("!!int ", ""), "a")
    assert quoted(document.data["a"]) == quoted(data)


def quoted(data: Any) -> Any:
    """PyYAML quotes every scalar here, so numbers and constants come back as their text."""
    if isinstance(data, dict):
        return {key: quoted(value) for key, value in data.items()}
    if isinstance(data, list):
        return [quoted(value) for value in data]
    return str(data).lower() if isinstance(data, bool | int) else data


def test_the_slower_parser_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    examples = sorted((Path(__file__).parent / "grammar_examples" / "connections").glob("*.yaml"))
    fast = [read_document(path, path.name) for path in examples]
    monkeypatch.setattr(yaml_text, "LOADER", yaml.SafeLoader)
    assert [read_document(path, path.name) for path in examples] == fast
