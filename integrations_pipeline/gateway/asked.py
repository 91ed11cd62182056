"""What a request for data asks for, and the answers to those that ask wrong."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from integrations_pipeline.gateway.door import JSON
from integrations_pipeline.gateway.values import Refusals, filters
from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.spec.decoding import decode, encode
from integrations_pipeline.spec.errors import ContractError
from integrations_pipeline.spec.formats import is_uuid
from integrations_pipeline.spec.limits import DATA_RECORDS

PAGE_RECORDS = 100
KEY_CHARACTERS = 255
PAGING = ("_limit", "_after")
"""No field can be named so: names begin with a letter."""

VERSION = re.compile(r'\s*"(\d{1,18})"\s*')
HEADERS = {"x-content-type-options": "nosniff", "cache-control": "no-store"}


class Told(Exception):
    """An answer other than the one asked for."""

    def __init__(self, status: int, word: str, message: str, *, next: str = "", headers: Any = None, **more: Any):
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})
        self.document = {"error": {"class": word, "message": message, "next": next, **more}}


def answer(status: int, document: Any, headers: Any = None) -> Response:
    """One JSON document."""
    return Response(encode(document), status, {**HEADERS, **(headers or {})}, JSON)


def told(other: Told) -> Response:
    return answer(other.status, other.document, other.headers)


def page_of(kind: Kind, http: Request) -> tuple[int, UUID | None, dict[str, Any]]:
    """How many records, after which id, and which values their fields have. Raises Told or Refusals."""
    given: dict[str, str] = {}
    for name, text in http.query_params.multi_items():
        if name in given:
            raise Refusals([{"field": name, "message": "it is asked for twice", "expected": "one value"}])
        given[name] = text
    limit, after = given.pop("_limit", str(PAGE_RECORDS)), given.pop("_after", "")
    if not limit.isdecimal() or not 1 <= int(limit[:9]) <= DATA_RECORDS:
        expected = f"a number from 1 to {DATA_RECORDS}"
        raise Refusals([{"field": "_limit", "message": f"{expected} was expected", "expected": expected}])
    if after and not is_uuid(after):
        raise Refusals([{"field": "_after", "message": "no place in a list", "expected": "`next` of the page before"}])
    return int(limit), UUID(after) if after else None, filters(kind, given)


def id_in(http: Request) -> UUID:
    """The id in the path. Raises Told."""
    text = http.path_params["id"]
    if not is_uuid(text):
        raise Told(404, "not_found", "an id is a UUID", next="take the `id` of a record")
    return UUID(text)


def document_in(http: Request, body: bytes) -> Any:
    """The JSON that was sent. Raises Told. The media type is asked for, since a foreign page's form can't send it."""
    media_type = http.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in (JSON, "application/merge-patch+json"):
        raise Told(415, "config", f"{JSON} was expected", next=f"send JSON, with Content-Type: {JSON}")
    try:
        return decode(body)
    except ContractError as error:
        raise Told(400, "data", error.what, next="send one JSON object") from None


def key_in(http: Request) -> str | None:
    """The idempotency key, where one was sent. Raises Told."""
    key = http.headers.get("idempotency-key")
    if key is not None and not (1 <= len(key) <= KEY_CHARACTERS and key.isprintable()):
        raise Told(
            400, "data", f"an Idempotency-Key has 1 to {KEY_CHARACTERS} printable characters", next="send another"
        )
    return key


def versions_in(http: Request) -> list[int] | None:
    """The versions of which the record must have one; None for any. What is no version of ours fits none."""
    wanted = http.headers.get("if-match")
    if wanted is None or wanted.strip() == "*":
        return None
    return [int(found[1]) for one in wanted.split(",") if (found := VERSION.fullmatch(one))]
