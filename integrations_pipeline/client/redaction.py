"""Takes secrets out of texts that people will read, and out of what sources repeat of them.

In texts every secret of the connection is hidden. Data are changed only for credentials: a source that writes our user
name into a record says something, one that repeats our token gives it away (docs/decisions/0022).
"""

from __future__ import annotations

import base64
import json
import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from html import escape
from typing import Any
from urllib.parse import quote, quote_plus

from integrations_pipeline.client.auth import Credentials
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.credentials import credential_names, credential_places, names_a_credential
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.limits import SECRET_CHARACTERS
from integrations_pipeline.spec.loading import load_named
from integrations_pipeline.spec.secrets import Secret

HIDDEN = "***"
LEARNT = 100  # tokens of one process: of earlier ones no answer speaks any more
SHOWN = 20  # of them: each is looked for in every page
COOKIE_CHARACTERS = 16  # of a session's id at least
WINDOW = 8  # times what is shown is looked at, since hiding makes a text shorter
NEEDLE = re.compile(r"[A-Za-z0-9]+")
AUTHORIZATION = re.compile(r"\b(Bearer|Basic|Token|Digest)\s+[A-Za-z0-9+/=_.~-]{6,}", re.IGNORECASE)
SECRET_NAMES = (
    r"[\w.-]*(?:token|secret|password|passwd|api[_-]?key|access[_-]?key|signature|credential|authorization)[\w.-]*"
)


def forms_of(value: str) -> Iterator[str]:
    """A secret as it may stand in a URL, in JSON, in HTML, and in what was encoded as Base64."""
    quoted, plus = quote(value, safe=""), quote_plus(value)
    yield from (value, quoted, plus, lowered(quoted), lowered(plus))
    text = json.dumps(value)[1:-1]
    yield from (text, text.replace("/", "\\/"), json.dumps(value, ensure_ascii=False)[1:-1], escape(value))
    for encoded in encodings(value):
        yield from (encoded, encoded.replace("+", "-").replace("/", "_"))


def lowered(quoted: str) -> str:
    return re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), quoted)


def encodings(value: str) -> Iterator[str]:
    """Its Base64 wherever it begins among what was encoded: without the characters that its neighbours share."""
    raw = value.encode()
    for before in range(3):
        first, last = -(-before * 8 // 6), (before + len(raw)) * 8 // 6
        yield base64.b64encode(b"\0" * before + raw).decode()[first:last]


def needle_of(form: str) -> str:
    """The part that every way of escaping leaves as it is."""
    return max(NEEDLE.findall(form), key=len, default="")


def is_unmistakable(value: str) -> bool:
    """Whether no ordinary value of a record is the same: neither a word nor a number, or a long one."""
    mixed = any(map(str.isdigit, value)) and any(map(str.isalpha, value))
    return len(value) >= (SECRET_CHARACTERS if mixed else 3 * SECRET_CHARACTERS)


class Sought:
    """Values that are looked for. Most texts hold none of them, which is seen by a few plain searches."""

    def __init__(self, values: Iterable[str]):
        self._values = dict.fromkeys(values)
        self.needles = {needle_of(form) for value in self._values for form in (value, *encodings(value))}
        self.bytes_needles = [needle.encode() for needle in self.needles]
        self.longest = max((len(form) for value in self._values for form in forms_of(value)), default=0)
        self._pattern: re.Pattern[str] | None = None

    def may_be_in(self, text: str) -> bool:
        return any(needle in text for needle in self.needles)

    def may_be_in_bytes(self, body: bytes) -> bool:
        return any(needle in body for needle in self.bytes_needles)

    def hidden_in(self, text: str) -> str:
        """The text without them."""
        if not self.may_be_in(text):
            return text
        if self._pattern is None:
            forms = {form for value in self._values for form in forms_of(value)}
            self._pattern = re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True))))
        return self._pattern.sub(HIDDEN, text)


class Redactor:
    """Knows a connection's secrets. ``text`` promises that none of them, in any usual form, is left.

    Those of fewer than ``limits.SECRET_CHARACTERS`` aren't looked for: they would hide ordinary words. ``credentials``
    are the secrets that prove who somebody is, ``places`` the headers and parameters that hold them, as (kind, name).
    """

    def __init__(
        self,
        secrets: Iterable[Secret] = (),
        *,
        credentials: Iterable[Secret] = (),
        places: Collection[tuple[str, str]] = (),
    ):
        self._given = [value for value in revealed(secrets) if len(value) >= SECRET_CHARACTERS]
        self._proofs = [value for value in revealed(credentials) if is_unmistakable(value)]
        self._learnt: deque[str] = deque(maxlen=LEARNT)
        self._shown: deque[str] = deque(maxlen=SHOWN)
        self._in_texts, self._in_data = Sought(self._given), Sought(self._proofs)
        fields, parameters = names_in(places, "header"), names_in(places, "query")
        self._secret_name = re.compile(fields, re.IGNORECASE)
        self._query_value = re.compile(rf"([?&;\s]|^)({parameters})=[^&\s\"'<>\\]+", re.IGNORECASE)
        self._json_value = re.compile(rf"(\"(?:{fields})\"\s*:\s*)\"(?:[^\"\\]|\\.)*(?:\"|\\?\Z)", re.IGNORECASE)

    def learn(self, secrets: Iterable[Secret]) -> None:
        """More of them, obtained at run time; the latest are remembered."""
        new = [one for one in revealed(secrets) if len(one) >= SECRET_CHARACTERS and one not in self._learnt]
        if new:
            self._learnt.extend(new)
            self._in_texts = Sought([*self._given, *self._learnt])

    def showing(self, credentials: Credentials) -> None:
        """What a request shows of its sender: a source that repeats it says nothing by it."""
        proofs = [secret.reveal() for place, secret in credentials if names_a_credential(place.name)]
        parts = [part for proof in proofs for part in parts_of(proof)]
        self.learn(map(Secret, parts))
        new = [part for part in parts if is_unmistakable(part) and part not in self._shown]
        if new:
            self._shown.extend(new)
            self._in_data = Sought([*self._proofs, *self._shown])

    def text(self, text: str) -> str:
        """The text without secrets, credentials in headers, and values whose name says secret."""
        text = self._in_texts.hidden_in(text)
        text = AUTHORIZATION.sub(rf"\1 {HIDDEN}", text)
        text = self._query_value.sub(rf"\1\2={HIDDEN}", text)
        return self._json_value.sub(rf'\1"{HIDDEN}"', text)

    def document(self, value: Any) -> Any:
        """A JSON document without secrets; also without the texts of fields whose name says secret."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list | tuple):
            return [self.document(one) for one in value]
        if not isinstance(value, dict):
            return value
        return {
            self.text(name): HIDDEN if self._is_secret(name, one) else self.document(one) for name, one in value.items()
        }

    def _is_secret(self, name: str, value: Any) -> bool:
        return isinstance(value, str) and self._secret_name.fullmatch(name) is not None

    def excerpt(self, text: str, characters: int) -> str:
        """The first characters of a text without secrets; also without the part of one that a cut leaves at its end."""
        window = text[: characters * WINDOW]
        shown = self.text(window)
        if len(window) < len(text):
            shown = shown[: max(len(shown) - self._in_texts.longest, 0)]
        return shown[:characters] + ("…" if len(shown) > characters or len(window) < len(text) else "")

    def repeated_in(self, body: bytes) -> bool:
        """Whether what a source sent may repeat credentials."""
        return self._in_data.may_be_in_bytes(body)

    def data(self, value: Any) -> Any:
        """What a source said, as it is but for the credentials that it repeats."""
        if isinstance(value, str):
            return self._in_data.hidden_in(value)
        if isinstance(value, list):
            return [self.data(one) for one in value]
        if isinstance(value, dict):
            return {self._in_data.hidden_in(name): self.data(one) for name, one in value.items()}
        return value


def names_in(places: Iterable[tuple[str, str]], kind: str) -> str:
    """The pattern of names whose values are secret."""
    return "|".join([SECRET_NAMES, *(re.escape(name) for named, name in sorted(places) if named == kind)])


def revealed(secrets: Iterable[Secret]) -> Iterator[str]:
    return (secret.reveal() for secret in secrets)


def parts_of(credential: str) -> Iterator[str]:
    """The secret in what is shown: of ``Bearer X`` the last word; of cookies the long values, since short ones are
    settings."""
    *cookies, last = credential.split("; ")
    yield last.rpartition(" ")[2]
    values = (cookie.partition("=")[2] for cookie in (*cookies, last))
    yield from (value for value in values if len(value) >= COOKIE_CHARACTERS)


def redactor_of(connection: Connection, secrets: Mapping[str, Secret], further: Iterable[Secret] = ()) -> Redactor:
    """Knows these secrets of the connection, and ``further`` credentials; where some are missing, the others and all
    names are enough for most."""
    proofs = [*further, *(secrets[name] for name in credential_names(connection) if name in secrets)]
    return Redactor([*secrets.values(), *proofs], credentials=proofs, places=credential_places(connection))


def resolved(connection: Connection) -> dict[str, Secret]:
    """The secrets of a connection that there are here."""
    found: dict[str, Secret] = {}
    for name, source in connection.secrets.items():
        try:
            found[name] = source.resolve(name)
        except ConfigError:
            continue
    return found


def redactor(connection: str, home: Home) -> Redactor:
    """Knows what secrets of the connection there are here; where its file is broken or gone, their names alone, which
    is enough for most."""
    try:
        found, _ = load_named(connection, home)
    except ConfigError:
        return Redactor()
    return redactor_of(found, resolved(found))


def redactors(connections: Iterable[str], home: Home) -> dict[str, Redactor]:
    """By connection."""
    return {name: redactor(name, home) for name in set(connections)}
