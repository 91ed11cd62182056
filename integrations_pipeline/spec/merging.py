"""A connector's facts under a connection's own keys, and settings in the place of their ``<name>``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from integrations_pipeline.spec.forms import METHODS
from integrations_pipeline.spec.placeholders import TOKEN, as_text
from integrations_pipeline.spec.yaml_text import KeyPath

TYPED_BLOCKS = ("auth", "pagination", "verify")
ADDRESS = re.compile(rf"(?:(?:{'|'.join(METHODS)})\s|https?://)")


def merge(base: Any, over: Any, path: KeyPath = ()) -> Any:
    """Maps merge key by key, scalars and lists replace, null removes what the base has. Changes neither.

    A block of another ``type`` (auth, pagination, verify) replaces whole, since the keys of the old one mean nothing
    in it. Inside ``full`` a null stays: there it removes what the stream itself says. New ``events`` go first, since
    the first match wins.
    """
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    if path and path[-1] in TYPED_BLOCKS and "type" in over and over["type"] != base.get("type"):
        return over
    merged = {**over, **base} if path[-1:] == ("events",) else dict(base)
    for key, value in over.items():
        if value is None and key in base and "full" not in path:
            del merged[key]
        else:
            merged[key] = merge(base[key], value, (*path, key)) if key in base else value
    return merged


class Settings:
    """Fills in ``<name>`` and remembers which names were met."""

    def __init__(self, values: Mapping[str, Any]):
        self.values = values
        self.used: set[str] = set()

    def fill(self, value: Any, key: Any = "") -> Any:
        """The value with its settings; in the path of a request and in a URL each is quoted. Other names stay."""
        if isinstance(value, str):
            return self.fill_text(value) if "<" in value else value
        if isinstance(value, dict):
            return {self.fill(k): v if is_literal(key, k) else self.fill(v, k) for k, v in value.items()}
        return [self.fill(one, key) for one in value] if isinstance(value, list) else value

    def fill_text(self, text: str) -> Any:
        alone = TOKEN.fullmatch(text)
        if alone and alone[1] in self.values:
            self.used.add(alone[1])
            return self.values[alone[1]]
        quoted = ADDRESS.match(text) is not None
        return TOKEN.sub(lambda found: self.replacement(found, quoted), text)

    def replacement(self, found: re.Match[str], quoted: bool) -> str:
        if found[1] not in self.values:
            return found[0]
        self.used.add(found[1])
        value = as_text(self.values[found[1]])
        return quote(value, safe=":") if quoted else value


def is_literal(block: Any, key: Any) -> bool:
    """GraphQL is never substituted; in a signature's recipe ``<url>`` and the like are words of their own."""
    return key == "graphql" or (block == "verify" and key in ("signed", "format"))
