"""``<name>`` in texts: replaced by the value, nothing more. ``<<`` is a plain ``<``. No expression language."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

from integrations_pipeline.spec.errors import DataError

TOKEN = re.compile(r"<<|<([^<>\s]*)>")
Resolve = Callable[[str], Any]


def names_in(value: Any) -> Iterator[str]:
    """Every placeholder's name in a text, list or map, in order."""
    if isinstance(value, str):
        yield from (found[1] for found in TOKEN.finditer(value) if found[1] is not None)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from names_in(key)
            yield from names_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from names_in(inner)


def as_text(value: Any) -> str:
    """How a value stands inside a longer text: JSON's words for true, false and null."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def render(value: Any, resolve: Resolve) -> Any:
    """Replaces placeholders in texts, lists and maps; one alone in a value keeps its type."""
    if isinstance(value, str):
        alone = TOKEN.fullmatch(value)
        if alone and alone[1] is not None:
            return resolve(alone[1])
        return TOKEN.sub(lambda found: "<" if found[1] is None else as_text(resolve(found[1])), value)
    if isinstance(value, dict):
        return {render(key, resolve): render(inner, resolve) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [render(inner, resolve) for inner in value]
    return value


def render_path(text: str, resolve: Resolve) -> str:
    """Like ``render``, each value quoted as one path segment. Raises DataError for one that would climb or vanish."""

    def segment(found: re.Match[str]) -> str:
        if found[1] is None:
            return "<"
        value = as_text(resolve(found[1]))
        if value in ("", ".", ".."):
            raise DataError(f"<{found[1]}> is {value!r}, which can't be part of a path")
        return quote(value, safe="")

    return TOKEN.sub(segment, text)
