"""What of a record may be shown to many: its form, its harmless values, and never a secret."""

from __future__ import annotations

import json
import re
from typing import Any

from integrations_pipeline.client.redaction import Redactor
from integrations_pipeline.spec.personal import PERSONAL_NAMES, shown

TIME = re.compile(r"\d{4}-\d\d-\d\d([T ][\d:.]+(Z|[+-][\d:]+)?)?")
CHARACTERS = 4_000
"""Of one sample; the rest is in the table."""


def masked(value: Any, path: str = "") -> Any:
    """The value with each text or number that looks personal replaced by its form."""
    if isinstance(value, dict):
        return {key: masked(inner, f"{path}.{key}") for key, inner in value.items()}
    if isinstance(value, list):
        return [masked(inner, path) for inner in value]
    if value is None or isinstance(value, bool):
        return value
    text = str(value)
    if TIME.fullmatch(text) and not PERSONAL_NAMES.search(path.rsplit(".", 1)[-1]):
        return value
    said = shown(path, text)
    return value if said == text else said


def sample(text: str, redactor: Redactor) -> str:
    """A record's JSON text for reading, indented, masked and without secrets."""
    try:
        said = json.dumps(masked(redactor.document(json.loads(text))), indent=2, ensure_ascii=False)
    except ValueError:
        return "it is no JSON that could be shown"
    return said if len(said) <= CHARACTERS else said[:CHARACTERS] + " …"


def plain(value: Any) -> str:
    """One value of a field: texts as they are, else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
