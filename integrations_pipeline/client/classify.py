"""What an answer means: the declared rules first, then the usual table; and the error that says so to people."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from integrations_pipeline.client.answer import Answer
from integrations_pipeline.client.redaction import Redactor
from integrations_pipeline.client.waits import nothing_remaining
from integrations_pipeline.spec import errors
from integrations_pipeline.spec.api import Api, ErrorClass, ErrorRule
from integrations_pipeline.spec.decoding import encode_ascii
from integrations_pipeline.spec.limits import ERROR_BODY_CHARACTERS

ERRORS: dict[str, type[errors.IntegrationError]] = {
    "rate_limited": errors.RateLimited,
    "transient": errors.Transient,
    "credentials": errors.CredentialsError,
    "permission": errors.PermissionDenied,
    "config": errors.SourceConfigError,
    "contract": errors.ContractError,
    "data": errors.DataError,
    "not_found": errors.NotFound,
    "conflict": errors.Conflict,
    "exists": errors.Exists,
    "cursor_expired": errors.CursorExpired,
}
BY_STATUS: dict[int, ErrorClass] = {
    401: "credentials",
    403: "permission",
    404: "not_found",
    408: "transient",
    409: "conflict",
    412: "conflict",
    422: "data",
    425: "transient",
    429: "rate_limited",
}
TITLE = re.compile(r"<title[^>]*>(.{1,200}?)</title>", re.IGNORECASE | re.DOTALL)


def class_of(answer: Answer, rules: Iterable[ErrorRule], api: Api, *, is_list: bool) -> ErrorClass | None:
    """The class of an answer, None where it is none of them. The first rule that matches wins, also on 200."""
    for rule in rules:
        if (rule.status is None or answer.status in rule.status) and (
            rule.when is None or rule.when.holds(answer.document, answer.headers)
        ):
            return rule.is_
    return class_of_status(answer, api, is_list=is_list)


def class_of_status(answer: Answer, api: Api, *, is_list: bool) -> ErrorClass | None:
    status = answer.status
    if status < 300 or status == 304:
        return None
    if status < 400:
        return "contract"
    if status >= 500:
        return "transient"
    if status == 403 and ("Retry-After" in answer.headers or nothing_remaining(answer, api)):
        return "rate_limited"
    if status == 410:
        return "cursor_expired" if is_list else "not_found"
    return BY_STATUS.get(status, "config")


def failure(found: ErrorClass, answer: Answer, body: bytes, redactor: Redactor) -> errors.IntegrationError:
    """The error for people: the status, and what the source says of it, without secrets."""
    said = excerpt(answer.document, body, redactor)
    what = f"the source answered {answer.status}" + (f": {said}" if said else "")
    if found == "not_found":
        return errors.NotFound(
            what,
            who="whoever maintains the connector",
            next="compare the path and `api.url` with the provider's documentation; where 404 ends a list, declare"
            " {status: 404, is: end_of_list} under `errors`",
        )
    return ERRORS[found](what)


def excerpt(document: Any, body: bytes, redactor: Redactor) -> str:
    """The first words of a failed answer, without secrets."""
    read = ERROR_BODY_CHARACTERS * 100
    text = encode_ascii(document) if document is not None else body[:read].decode("utf-8", "replace")
    title = TITLE.search(text) if document is None else None
    text = f"an HTML page, {title[1]!r}" if title else text
    return redactor.excerpt(" ".join(text[:read].split()), ERROR_BODY_CHARACTERS)
