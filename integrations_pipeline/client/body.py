"""From an answer's bytes to its document: content type, charset, JSON; and the time it was given."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Any

from integrations_pipeline.client.session import Received
from integrations_pipeline.spec.decoding import decode
from integrations_pipeline.spec.errors import ContractError

UTF8 = ("utf-8", "utf8", "us-ascii", "ascii")


def document_of(received: Received) -> Any:
    """The document of a JSON answer, None of an empty one.

    Raises ContractError for a body that is no JSON, and for one in another charset than UTF-8 where that matters. A
    wrong content type alone is no error, since many sources send JSON as text/html; but only an object or a list may
    come under one, so that a page or a file is never taken for a value.
    """
    if not received.body:
        return None
    kind, charset = content_type(received.headers)
    if charset not in UTF8 and not received.body.isascii():
        raise ContractError(f"the answer is in charset {charset[:20]}, not UTF-8")
    try:
        document = decode(received.body)
    except ContractError as error:
        named = f" (content type {kind[:60]})" if kind and "json" not in kind else ""
        raise ContractError(f"the source answered {received.status} with {error.what}{named}") from None
    if kind and not (kind.endswith(("json", "text/plain", "octet-stream"))) and not isinstance(document, dict | list):
        raise ContractError(f"the source answered {received.status} with {kind[:60]}, not JSON")
    return document


def content_type(headers: Mapping[str, str]) -> tuple[str, str]:
    """The type, and the charset (UTF-8 unless named)."""
    text = headers.get("Content-Type")
    if not text:
        return "", "utf-8"
    message = Message()
    message["Content-Type"] = text
    return message.get_content_type(), str(message.get_param("charset") or "utf-8").strip("\"' ").lower()


def date_of(headers: Mapping[str, str]) -> datetime | None:
    """The answer's Date, in UTC."""
    try:
        moment = parsedate_to_datetime(headers.get("Date", ""))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
