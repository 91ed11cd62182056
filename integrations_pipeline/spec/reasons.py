"""Why a row is set aside, or given up: the forms in which that is kept, always storable as jsonb."""

from __future__ import annotations

from typing import Any

from integrations_pipeline.spec.decoding import encode_ascii
from integrations_pipeline.spec.limits import SAMPLE_CHARACTERS

Reason = dict[str, str]
"""``{"rule", "field", "message", "sample"}``, each text that any PostgreSQL column can hold."""


def printable(text: str) -> str:
    """Text without what PostgreSQL refuses in a text or jsonb value: NUL and lone surrogates stand as escapes."""
    return text.replace("\0", "\\u0000").encode("utf-8", "backslashreplace").decode("utf-8")


def sample(value: Any) -> str:
    """The beginning of a value, for people."""
    text = value[:SAMPLE_CHARACTERS] if isinstance(value, str) else encode_ascii(value)
    return printable(text)[:SAMPLE_CHARACTERS]


def reason(rule: str, path: str, message: str, value: Any = None) -> Reason:
    """Why a row is set aside, and what was found there."""
    return {
        "rule": rule,
        "field": printable(path)[:SAMPLE_CHARACTERS],
        "message": printable(message),
        "sample": "" if value is None else sample(value),
    }


def given_up(why: str) -> dict[str, str]:
    """Why a person gave an event or a change up, in the form of an error that nobody must act on."""
    return {"class": "discarded", "message": printable(why), "who": "nobody", "next": "nothing"}
