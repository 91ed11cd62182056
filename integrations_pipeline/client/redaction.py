"""Takes secrets out of texts that people will read."""

from __future__ import annotations

import base64
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_named
from integrations_pipeline.spec.secrets import Secret

HIDDEN = "***"
LEARNT = 100  # tokens of one process: of earlier ones no answer speaks any more
SHORTEST = 6
WINDOW = 8  # times what is shown is looked at, since hiding makes a text shorter
AUTHORIZATION = re.compile(r"\b(Bearer|Basic|Token|Digest)\s+[A-Za-z0-9+/=_.~-]{6,}", re.IGNORECASE)
SECRET_NAMES = (
    r"[\w.-]*(?:token|secret|password|passwd|api[_-]?key|access[_-]?key|signature|credential|authorization)[\w.-]*"
)
SECRET_NAME = re.compile(SECRET_NAMES, re.IGNORECASE)
QUERY_VALUE = re.compile(rf"([?&;\s]|^)({SECRET_NAMES})=[^&\s\"'<>]+", re.IGNORECASE)
JSON_VALUE = re.compile(rf"(\"{SECRET_NAMES}\"\s*:\s*)\"(?:[^\"\\]|\\.)*(?:\"|\\?\Z)", re.IGNORECASE)


def forms_of(value: str) -> Iterator[str]:
    """A secret as it may stand in a URL, a JSON text or an Authorization header."""
    yield from (value, quote(value, safe=""), quote_plus(value), json.dumps(value)[1:-1])
    yield value.removeprefix("Basic ")
    yield base64.b64encode(value.encode()).decode()


def pattern_of(forms: set[str]) -> re.Pattern[str] | None:
    longest_first = sorted(forms, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if forms else None


class Redactor:
    """Knows a connection's secrets. ``text`` promises that none of them, in any usual form, is left."""

    def __init__(self, secrets: Iterable[Secret]):
        self._given = {form for secret in secrets for form in forms_of(secret.reveal()) if form}
        self._learnt: deque[str] = deque(maxlen=LEARNT)
        self._hide(self._given)

    def learn(self, secrets: Iterable[Secret]) -> None:
        """More of them, obtained at run time; the latest are remembered. Short ones would hide ordinary words."""
        for secret in secrets:
            value = secret.reveal()
            if len(value) >= SHORTEST and value not in self._learnt:
                self._learnt.append(value)
        self._hide({*self._given, *(form for value in [*self._learnt] for form in forms_of(value))})

    def _hide(self, forms: set[str]) -> None:
        self._longest = max(map(len, forms), default=0)
        self._known = pattern_of(forms)

    def text(self, text: str) -> str:
        """The text without secrets, credentials in headers, and values whose name says secret."""
        if self._known:
            text = self._known.sub(HIDDEN, text)
        text = AUTHORIZATION.sub(rf"\1 {HIDDEN}", text)
        text = QUERY_VALUE.sub(rf"\1\2={HIDDEN}", text)
        return JSON_VALUE.sub(rf'\1"{HIDDEN}"', text)

    def document(self, value: Any) -> Any:
        """A JSON document without secrets; also without the texts of fields whose name says secret."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.document(one) for one in value]
        if not isinstance(value, dict):
            return value
        return {
            self.text(name): HIDDEN if isinstance(one, str) and SECRET_NAME.fullmatch(name) else self.document(one)
            for name, one in value.items()
        }

    def excerpt(self, text: str, characters: int) -> str:
        """The first characters of a text without secrets; also without the part of one that a cut leaves at its end."""
        window = text[: characters * WINDOW]
        shown = self.text(window)
        if len(window) < len(text):
            shown = shown[: max(len(shown) - self._longest, 0)]
        return shown[:characters] + ("…" if len(shown) > characters or len(window) < len(text) else "")


def redactor(connection: str, home: Home) -> Redactor:
    """Knows what secrets of the connection there are here; where its file is broken or gone, their names alone, which
    is enough for most."""
    secrets: list[Secret] = []
    try:
        sources = load_named(connection, home)[0].secrets
    except ConfigError:
        return Redactor(secrets)
    for name, source in sources.items():
        try:
            secrets.append(source.resolve(name))
        except ConfigError:
            continue
    return Redactor(secrets)
