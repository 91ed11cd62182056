"""What of a value may be shown where many people look: a person's data stay in the tables."""

from __future__ import annotations

import re

PERSONAL_NAMES = re.compile(
    r"(e-?mail|phone|mobile|fax|(first|last|middle|full|sur|given|family|user|nick)_?-?name|^name$|address|street|city|zip"
    r"|post(al)?_?code|birth|dob|gender|iban|bic|account|card|tax|vat|ssn|passport|salary|lat(itude)?$|lo?ng(itude)?$"
    r"|^ip|_ip$|token|secret|password|passwd|api_?key|signature|credential)",
    re.IGNORECASE,
)
PERSONAL_VALUES = re.compile(r"\S@\S|(\d[ ./()-]?){7,}")


def masked(text: str) -> str:
    """The form of a value without its content: letters become x, digits 9. At most 60 characters."""
    return re.sub(r"[^\W\d_]", "x", re.sub(r"\d", "9", text))[:60]


def looks_personal(path: str, text: str) -> bool:
    """Whether a value seems to be about a person or a secret, by its field's name or by its own form."""
    return bool(PERSONAL_NAMES.search(path.rsplit(".", 1)[-1]) or PERSONAL_VALUES.search(text))


def shown(path: str, text: str) -> str:
    """A value for reports: as it is, or its form only where it looks personal."""
    return masked(text) if looks_personal(path, text) else text[:60]
