"""From a declared call to the bytes that are sent: placeholders, secrets, places, encodings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, unquote_plus, urlsplit, urlunsplit

from integrations_pipeline.client.auth import Credentials, places_of, revealed
from integrations_pipeline.client.origins import Origins
from integrations_pipeline.client.redaction import Redactor
from integrations_pipeline.spec.api import Api
from integrations_pipeline.spec.decoding import encode
from integrations_pipeline.spec.errors import ConfigError, DataError, IntegrationError
from integrations_pipeline.spec.forms import Call
from integrations_pipeline.spec.hooks import Hook, OutgoingRequest
from integrations_pipeline.spec.paths import MISSING, parse_path
from integrations_pipeline.spec.placeholders import as_text, render, render_path
from integrations_pipeline.spec.places import SendPlace
from integrations_pipeline.spec.secrets import Secret, reference_in

Sends = list[tuple[SendPlace, Any]]
Resolve = Callable[[str], Any]
DEFAULT_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
    "User-Agent": "integrations-pipeline",
}


@dataclass(frozen=True, slots=True)
class Request:
    """Ready to be sent, but for the credentials. ``path`` is below the API's url, without a query."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    content: bytes | None = field(repr=False)
    path: str
    body: Any = field(default=None, repr=False)  # what the content was made from
    encoding: str = "json"

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def resolver(values: Mapping[str, Any]) -> Resolve:
    """Looks placeholders up: by their whole name, else by their first part, whose object holds the rest as a path."""

    def resolve(name: str) -> Any:
        if name in values:
            found = values[name]
        else:
            head, _, rest = name.partition(".")
            if not rest or head not in values:
                raise ConfigError(f"<{name}> has no value here", next="see the placeholders in docs/grammar.md")
            found = parse_path(rest).get(values[head])
        if found is MISSING or found is None:
            raise DataError(f"<{name}> has no value", next="look at the record it is taken from")
        return found

    return resolve


def query_pairs(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """A list repeats the parameter, an object nests as ``name[key]``, null leaves it out."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from query_pairs(f"{name}[{key}]", inner)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from query_pairs(f"{name}[{index}]" if isinstance(inner, dict | list) else name, inner)
    elif value is not None:
        yield name, as_text(value)


def urlencode(values: Mapping[str, Any]) -> str:
    pairs = (pair for name, value in values.items() for pair in query_pairs(name, value))
    return "&".join(f"{quote(name, safe='[]')}={quote(text, safe='')}" for name, text in pairs)


def parameter_name(part: str) -> str:
    return unquote_plus(part.partition("=")[0])


def without_parameters(url: str, drop: Callable[[str, str], bool]) -> str:
    """The URL less the query parameters that ``drop(name, value)`` names; the others stay byte for byte."""
    split = urlsplit(url)
    kept = [
        part
        for part in split.query.split("&")
        if part and not drop(parameter_name(part), unquote_plus(part.partition("=")[2]))
    ]
    return urlunsplit(split._replace(query="&".join(kept)))


@dataclass
class Draft:
    """A request being put together."""

    url: str
    query: dict[str, Any]
    headers: dict[str, Any]
    body: Any
    always: dict[str, Any]  # the API's own query, which a next URL keeps unless it names it itself

    def put(self, place: SendPlace, value: Any) -> None:
        """Sends a value at a place; what was there before is replaced."""
        if place.kind == "url":
            self.url, self.query = value, dict(self.always)
            named = {parameter_name(part) for part in urlsplit(value).query.split("&")}
            self.query = {name: one for name, one in self.always.items() if name not in named}
        elif place.kind == "spread":
            if not isinstance(value, dict):
                raise DataError("`spread` needs an object")
            self.query.update(value)
        elif place.kind == "header":
            put_header(self.headers, place.name, value)
        elif place.kind == "query":
            self.query[place.name] = value
        else:
            self.body = {} if self.body is None else self.body
            if not isinstance(self.body, dict):
                raise ConfigError(f"`body {place.path}` needs a body that is an object")
            place.path.put(self.body, value)

    def full_url(self) -> str:
        url = without_parameters(self.url, lambda name, _: name in self.query) if self.query else self.url
        encoded = urlencode(self.query)
        if not encoded:
            return url
        return f"{url}{'&' if '?' in url else '?'}{encoded}"


def put_header(headers: dict[str, Any], name: str, value: Any) -> None:
    for known in [one for one in headers if one.lower() == name.lower()]:
        del headers[known]
    if value is not None:
        headers[name] = value


def header_text(name: str, value: Any) -> str:
    text = as_text(value)
    if "\r" in text or "\n" in text or "\0" in text or not all(ord(char) < 256 for char in text):
        raise DataError(f"the value of header {name} can't stand in a header")
    return text


class RequestBuilder:
    """Builds requests of one connection. Values of data never name a secret or a placeholder: only the file's do."""

    def __init__(self, api: Api, secrets: Mapping[str, Secret], hook: Hook | None = None):
        """``hook`` may change each request before its credentials are added."""
        self._hook = hook
        self._redactor = Redactor(secrets.values())
        self._api = api
        self._base = api.url.rstrip("/")
        self._base_path = urlsplit(self._base).path
        self._secrets = secrets
        self.origins = Origins([api.url, *api.origins])
        self._own_parameters = {place.name for place in places_of(api.auth) if place.kind == "query"}
        self._own_values = {secret.reveal() for secret in secrets.values()}

    def build(self, call: Call, values: Mapping[str, Any], sends: Iterable[tuple[SendPlace, Any]] = ()) -> Request:
        """The request of a call. Raises DataError for a value that is missing or can't stand where it must,
        ContractError for a URL of another origin."""
        resolve = resolver(values)
        draft = self._draft(call, resolve)
        for place, value in sends:
            draft.put(place, value)
        encoding = call.encoding or self._api.encoding
        content = self._content(draft, encoding)
        url = self.origins.check(draft.full_url())
        headers = {name: header_text(name, value) for name, value in draft.headers.items()}
        request = Request(call.method, url, headers, content, self._path_of(url), draft.body, encoding)
        return self._hooked(self._hook, request) if self._hook else request

    def proved(self, request: Request, credentials: Credentials) -> Request:
        """The request with what proves its sender. Its url may then hold a credential: it is only for sending."""
        self._own_values.update(secret.reveal() for _, secret in credentials)
        in_body = any(place.kind == "body" for place, _ in credentials)
        draft = Draft(request.url, {}, dict(request.headers), deepcopy(request.body) if in_body else None, {})
        for place, secret in credentials:
            draft.put(place, secret.reveal())
        content = self._content(draft, request.encoding) if in_body else request.content
        url = self.origins.check(draft.full_url())
        headers = {name: header_text(name, value) for name, value in draft.headers.items()}
        return replace(request, url=url, headers=headers, content=content)

    def _hooked(self, hook: Hook, request: Request) -> Request:
        """The request as the hook leaves it, which sees no credentials: those are added after it."""
        given = OutgoingRequest(request.method, request.url, dict(request.headers), request.content)
        try:
            if hook(given, secrets=self._secrets) is not None:
                raise hook.failed("returned something: it is expected to change the request in place")
            if not isinstance(given.content, bytes | None) or not isinstance(given.url, str):
                raise hook.failed("left a request whose content is not bytes, or whose url is no text")
            if given.content != request.content and any(place.kind == "body" for place in places_of(self._api.auth)):
                raise hook.failed("changed the content, into which the credentials are written after it")
        except IntegrationError as error:
            error.what, error.__cause__ = self._redactor.text(error.what), None  # it may have had secrets at hand
            raise error.at(str(request)) from None
        url = self.origins.check(given.url)
        headers = {name: header_text(name, value) for name, value in given.headers.items()}
        return replace(request, url=url, headers=headers, content=given.content, path=self._path_of(url))

    def moved(self, request: Request, location: str) -> Request:
        """The same request at the place it moved to. Raises ContractError for another origin."""
        return replace(request, url=self.origins.join(request.url, location))

    def without_credentials(self, url: str) -> str:
        """A next URL fit to be stored: sources that take a key as a parameter like to repeat it there."""
        return without_parameters(
            url, lambda name, value: name in self._own_parameters or (value in self._own_values and value != "")
        )

    def fill(self, value: Any, resolve: Resolve) -> Any:
        """Secrets and placeholders in a value of the file, in a copy."""
        if isinstance(value, dict):
            return {render(key, resolve): self.fill(inner, resolve) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.fill(inner, resolve) for inner in value]
        if reference_in(value):
            return revealed(value, self._secrets)
        return render(value, resolve)

    def _draft(self, call: Call, resolve: Resolve) -> Draft:
        always = self.fill(self._api.query, resolve)
        query = {**always, **self.fill(call.query or {}, resolve)}
        headers = dict(DEFAULT_HEADERS)
        for name, value in [
            *self.fill(self._api.headers, resolve).items(),
            *self.fill(call.headers or {}, resolve).items(),
        ]:
            put_header(headers, name, value)
        body = self.fill(call.body, resolve)
        if call.graphql is not None:
            body = {**(body or {}), "query": call.graphql}
        path = render_path(call.path, resolve)
        return Draft(self._base + path if path.startswith("/") else path, query, headers, body, always)

    def _content(self, draft: Draft, encoding: str) -> bytes | None:
        if draft.body is None:
            return None
        names = {name.lower() for name in draft.headers}
        if encoding == "form":
            if not isinstance(draft.body, dict):
                raise ConfigError("a form's body is an object")
            if "content-type" not in names:
                draft.headers["Content-Type"] = "application/x-www-form-urlencoded"
            return urlencode(draft.body).encode()
        if "content-type" not in names:
            draft.headers["Content-Type"] = "application/json"
        return encode(draft.body)

    def _path_of(self, url: str) -> str:
        path = urlsplit(url).path
        below = path.removeprefix(self._base_path)
        return below if below.startswith("/") and path.startswith(self._base_path) else path
