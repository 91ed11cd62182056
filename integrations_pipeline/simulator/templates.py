"""Texts with placeholders read backwards: what each stood for in what was sent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from integrations_pipeline.spec.placeholders import TOKEN, as_text


@dataclass(frozen=True)
class Template:
    """A text with placeholders, matched against what was sent. ``alone``: it is one placeholder and nothing else."""

    pattern: re.Pattern[str]
    names: tuple[str, ...]
    alone: bool = False

    def read(self, text: str) -> dict[str, str] | None:
        """The values of the placeholders, or None where the text differs."""
        found = self.pattern.fullmatch(text)
        return dict(zip(self.names, found.groups(), strict=True)) if found else None

    def read_value(self, sent: Any) -> dict[str, Any]:
        """The values of the placeholders in any value; one that stands alone keeps its type."""
        if self.alone:
            return {self.names[0]: sent}
        return {} if sent is None else dict(self.read(as_text(sent)) or {})


def template(text: str, hole: str = "(.*?)") -> Template:
    parts, at = [], 0
    for found in TOKEN.finditer(text):
        parts += [re.escape(text[at : found.start()]), "<" if found[1] is None else hole]
        at = found.end()
    names = tuple(found[1] for found in TOKEN.finditer(text) if found[1] is not None)
    alone = TOKEN.fullmatch(text) is not None and len(names) == 1
    return Template(re.compile("".join(parts) + re.escape(text[at:]), re.DOTALL), names, alone)
