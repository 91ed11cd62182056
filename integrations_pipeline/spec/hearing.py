"""Whom a broken file tells: its `alerts`, as far as they can still be read."""

from __future__ import annotations

import re

from pydantic import ValidationError

from integrations_pipeline.spec.connection import Alert
from integrations_pipeline.spec.yaml_text import parse_document

BLOCK = re.compile(r"^alerts:[^\n]*\n?(?:[ \t#\-\]}][^\n]*\n?|\n)*", re.MULTILINE)


def still_told(text: str) -> list[Alert]:
    """The entries of `alerts` that are right, though the file isn't, or isn't even YAML elsewhere. Never raises."""
    data = parse_document(text, "").data
    if not isinstance(data, dict) and (block := BLOCK.search(text)):
        data = parse_document(block[0], "").data
    entries = data.get("alerts") if isinstance(data, dict) else None
    return [found for one in entries if (found := alert_of(one))] if isinstance(entries, list) else []


def alert_of(entry: object) -> Alert | None:
    try:
        return Alert.model_validate(entry)
    except ValidationError:
        return None
