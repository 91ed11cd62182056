"""Places in a message: where a value is read in an answer or a webhook, and where one is sent in a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from integrations_pipeline.spec.paths import WHOLE, Path, parse_path


@dataclass(frozen=True, slots=True)
class ReadPlace:
    """``next`` (at hand: the item, or the body) · ``body PATH`` (the page) · ``header NAME`` · ``parent PATH`` ·
    ``query NAME`` (webhooks)."""

    kind: Literal["here", "body", "header", "parent", "query"]
    name: str = ""
    path: Path = WHOLE


@dataclass(frozen=True, slots=True)
class SendPlace:
    """``limit`` or ``query limit`` · ``header NAME`` · ``body PATH`` · ``url`` · ``spread``."""

    kind: Literal["query", "header", "body", "url", "spread"]
    name: str = ""
    path: Path = WHOLE

    def __str__(self) -> str:
        return f"{self.kind} {self.name or self.path}" if self.kind in ("query", "header", "body") else self.kind


def parse_read_place(value: Any) -> ReadPlace:
    """``next`` or ``body PATH``, ``header NAME``, ``parent PATH``, ``query NAME``."""
    if isinstance(value, ReadPlace):
        return value
    word, _, rest = value.partition(" ") if isinstance(value, str) else ("", "", "")
    rest = rest.strip()
    if rest and word == "body":
        return ReadPlace("body", path=parse_path(rest))
    if rest and word == "parent":
        return ReadPlace("parent", path=parse_path(rest))
    if rest and word == "header":
        return ReadPlace("header", name=rest)
    if rest and word == "query":
        return ReadPlace("query", name=rest)
    if rest:
        raise ValueError(
            f"a place like paging.next, 'header NAME', 'body PATH' or 'parent PATH' was expected, not {value!r}"
        )
    return ReadPlace("here", path=parse_path(value))


def parse_send_place(value: Any) -> SendPlace:
    if isinstance(value, SendPlace):
        return value
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"a place like limit, 'query NAME', 'header NAME' or 'body PATH' was expected, not {value!r}")
    word, _, rest = value.strip().partition(" ")
    rest = rest.strip()
    if rest and word == "query":
        return SendPlace("query", name=rest)
    if rest and word == "header":
        return SendPlace("header", name=rest)
    if rest and word == "body":
        return SendPlace("body", path=parse_path(rest))
    if rest:
        raise ValueError(f"a place like limit, 'query NAME', 'header NAME' or 'body PATH' was expected, not {value!r}")
    if word == "url":
        return SendPlace("url")
    if word == "spread":
        return SendPlace("spread")
    return SendPlace("query", name=word)


ReadPlaceText = Annotated[ReadPlace, BeforeValidator(parse_read_place, json_schema_input_type=str | list[str])]
SendPlaceText = Annotated[SendPlace, BeforeValidator(parse_send_place, json_schema_input_type=str)]
