"""Edits of a file leave all the rest of it as it stands, and never replace what somebody else changed."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from integrations_pipeline.spec.editing import block_text, digest, edited, laid_over, override, read, save
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.merging import merge

FILE = """# ours, since 2024
connection: acme   # the one in Europe
every: 1h

api: {url: http://127.0.0.1:9, pagination: {type: single_page}}
streams:
  contacts:          # people
    request: GET /contacts
    records: items
    primary_key: id
    map:
      to: customer
      # what they are called
      fields:
        email: email     # lower case?
        name: full_name
    # after the map
  orders: {request: GET /orders, records: items, primary_key: id, map: {to: order, fields: {total: sum}}}
# the end
"""
MAP = ("streams", "contacts", "map")


def test_a_block_is_shown_with_its_comments() -> None:
    shown = block_text(FILE, MAP)
    assert (
        shown == "to: customer\n# what they are called\nfields:\n  email: email     # lower case?\n  name: full_name\n"
    )
    assert block_text(FILE, ("streams", "orders", "map")) == "{to: order, fields: {total: sum}}\n"
    assert block_text(FILE, ("streams", "contacts", "write")) is None


def test_a_block_is_replaced_and_every_other_line_stays() -> None:
    shown = block_text(FILE, MAP) or ""
    assert edited(FILE, MAP, shown) == FILE
    found = edited(FILE, MAP, shown.replace("full_name", "{first: [nick, full_name]}  # either"))
    assert found == FILE.replace("name: full_name", "name: {first: [nick, full_name]}  # either")


def test_a_block_in_brackets_stays_in_brackets() -> None:
    found = edited(FILE, ("streams", "orders", "map"), "{to: order, fields: {total: amount}}\n")
    assert found == FILE.replace("total: sum", "total: amount")
    with pytest.raises(ConfigError):
        edited(FILE, ("streams", "orders", "map"), "to: order\nfields: {total: amount}\n")


@pytest.mark.parametrize("path", [("streams", "contacts", "x"), ("streams", "tickets", "map"), ("expect",)])
def test_a_block_that_is_missing_is_added(path: tuple[str, ...]) -> None:
    found = edited(FILE, path, "to: x\nfields: {a: b}\n")
    steps = [line for line in difflib.ndiff(FILE.splitlines(), found.splitlines()) if line[0] in "+-"]
    assert {line[0] for line in steps} == {"+"}, "nothing is taken away"
    assert [line[1:].strip() for line in steps][-2:] == ["to: x", "fields: {a: b}"]


@pytest.mark.parametrize("block", ["a: [", "a: 1\na: 2", "\tx: 1", "", "- a\n---\nb: 1"])
def test_a_text_that_is_no_yaml_is_refused(block: str) -> None:
    with pytest.raises(ConfigError):
        edited(FILE, MAP, block)


@pytest.mark.parametrize("tail", ["", "\n", "  # last"])
def test_a_block_at_the_end_of_the_file_is_replaced(tail: str) -> None:
    text = f"a: 1\nb:\n  c: 2\n  d: {{e: 3}}{tail}"
    assert edited(text, ("b",), "c: 4").splitlines()[:3] == ["a: 1", "b:", "  c: 4"]


@pytest.mark.parametrize("wanted", [{}, {"a": 1}, {"a": {"b": 2, "c": [1]}, "d": "x"}, {"a": {"c": [2]}, "e": 1}])
def test_an_override_over_its_base_is_what_is_wanted(wanted: dict[str, object]) -> None:
    base = {"a": {"b": 2, "c": [1]}, "d": "x"}
    assert merge(base, override(base, wanted)) == wanted


def test_an_override_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"`a\.else`"):
        laid_over({"a": {"else": "x"}}, {"a": {"else": None}}, ())


def test_a_null_over_what_the_base_does_not_have_is_said() -> None:
    assert laid_over({"a": {"b": 1}}, {"a": {"b": 1, "else": None}}, ()) == {"a": {"else": None}}


def test_windows_line_ends_stay() -> None:
    there = FILE.replace("\n", "\r\n")
    changed = (block_text(FILE, MAP) or "").replace("full_name", "nick")
    assert edited(there, MAP, changed) == there.replace("full_name", "nick")
    added = edited(there, ("streams", "contacts", "x"), "to: x\n")
    assert added.count("\n") == added.count("\r\n") == there.count("\n") + 2


def home_with(folder: Path, text: str) -> tuple[Home, Path]:
    (folder / "connections").mkdir()
    (folder / "models").mkdir()
    (folder / "models" / "customer.yaml").write_text(
        "kind: customer\nfields: {email: {type: string}, name: {type: string}}\n"
    )
    (folder / "models" / "order.yaml").write_text("kind: order\nfields: {total: {type: integer}}\n")
    file = folder / "connections" / "acme.yaml"
    file.write_text(text)
    return Home(folder), file


def test_a_file_is_saved_whole_and_only_over_what_was_read(tmp_path: Path) -> None:
    home, file = home_with(tmp_path, FILE)
    file.chmod(0o640)
    known = digest(read(file))
    new = FILE.replace("full_name", "name")
    save(new, file, home, known)
    assert (file.read_text(), file.stat().st_mode & 0o777) == (new, 0o640)
    with pytest.raises(ConfigError, match="changed meanwhile"):
        save(FILE, file, home, known)
    with pytest.raises(ConfigError, match="there already"):
        save(FILE, file, home, None)
    assert (file.read_text(), [one.name for one in file.parent.iterdir()]) == (new, ["acme.yaml"])


def test_a_file_that_would_be_wrong_is_not_saved(tmp_path: Path) -> None:
    home, file = home_with(tmp_path, FILE)
    with pytest.raises(ConfigError, match=r"acme\.yaml:15: .*emial"):
        save(FILE.replace("email: email ", "emial: email "), file, home, digest(FILE))
    assert file.read_text() == FILE
