"""What `format: email`, `url` and `uuid` mean, wherever a value is held against them."""

from __future__ import annotations

import re

EMAIL_CHARACTERS = 254
"""RFC 5321: no longer address can be sent to."""

EMAIL = re.compile(r"[^\s@,;:<>()\[\]\"\\]{1,64}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+[^\W\d_][\w-]*[^\W_]")
URL = re.compile(r"https?://[^\s/?#\\@]+(?:@[^\s/?#\\@]+)?(?:[/?#]\S*)?", re.IGNORECASE)
UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)


def is_email(text: str) -> bool:
    """One address, without a display name or ``mailto:``."""
    return len(text) <= EMAIL_CHARACTERS and EMAIL.fullmatch(text) is not None


def is_url(text: str) -> bool:
    """An absolute http or https URL."""
    return URL.fullmatch(text) is not None


def is_uuid(text: str) -> bool:
    """The form with hyphens, in either case."""
    return UUID.fullmatch(text) is not None
