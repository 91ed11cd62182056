"""The small forms of the grammar: numbers that carry their unit, times of day, calls.

Each is a frozen value with a parser that raises ValueError in the words a user should read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from integrations_pipeline.spec.limits import NAME_BYTES

DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SIZE_UNITS = {"B": 1, "kB": 1000, "KB": 1000, "MB": 1000**2, "GB": 1000**3}


class Model(BaseModel):
    """Base of every key of the grammar: frozen, closed, and never converting a scalar of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True)
    short_form: ClassVar[dict[str, Any] | None] = None
    """The JSON Schema of what may be written instead of the map, as in ``get: GET /contacts/<external_id>``."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler(core)
        return {"anyOf": [cls.short_form, schema]} if cls.short_form else schema


def parse_duration(value: Any) -> timedelta:
    """``90s`` ``15m`` ``1h`` ``7d`` ``250ms``."""
    if isinstance(value, timedelta):
        return value
    found = DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if not found:
        raise ValueError(f"a duration like 30s, 15m, 1h or 7d was expected, not {value!r}")
    try:
        return timedelta(seconds=float(found[1]) * UNITS[found[2]])
    except OverflowError:
        raise ValueError(f"{value!r} is longer than any calendar") from None


Duration = Annotated[timedelta, BeforeValidator(parse_duration, json_schema_input_type=str)]


def parse_size(value: Any) -> int:
    """``50MB`` in bytes, decimal units."""
    found = re.fullmatch(r"(\d+)\s*(B|kB|KB|MB|GB)", value.strip()) if isinstance(value, str) else None
    if not found:
        raise ValueError(f"a size like 500kB or 50MB was expected, not {value!r}")
    return int(found[1]) * SIZE_UNITS[found[2]]


Size = Annotated[int, BeforeValidator(parse_size, json_schema_input_type=str)]


def parse_percent(value: Any) -> float:
    """``20%`` as 20.0."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", value.strip()) if isinstance(value, str) else None
    if not found or float(found[1]) > 100:
        raise ValueError(f"a percentage like 20% was expected, not {value!r}")
    return float(found[1])


Percent = Annotated[float, BeforeValidator(parse_percent, json_schema_input_type=str)]


@dataclass(frozen=True, slots=True)
class Rate:
    """``100 per 10s``: at most ``count`` in each ``seconds``."""

    count: int
    seconds: float


def parse_rate(value: Any) -> Rate:
    """``100 per 10s``."""
    if isinstance(value, Rate):
        return value
    found = re.fullmatch(r"(\d+)\s+per\s+(\S+)", value.strip()) if isinstance(value, str) else None
    if not found or int(found[1]) < 1:
        raise ValueError(f"a rate like 100 per 10s was expected, not {value!r}")
    seconds = parse_duration(found[2]).total_seconds()
    if seconds <= 0:
        raise ValueError(f"a rate like 100 per 10s was expected, not {value!r}")
    return Rate(int(found[1]), seconds)


RateText = Annotated[Rate, BeforeValidator(parse_rate, json_schema_input_type=str)]


def parse_zone(name: str) -> ZoneInfo:
    """An IANA time zone such as ``Europe/Berlin``."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # no such zone, a path out of the folder, a folder
        raise ValueError(f"an IANA time zone like Europe/Berlin was expected, not {name!r}") from None


@dataclass(frozen=True, slots=True)
class Hours:
    """``22:00-06:00 Europe/Berlin``: a span of every day, over midnight where it ends before it starts."""

    start: time_of_day
    end: time_of_day
    zone: str

    def holds(self, moment: datetime) -> bool:
        """Whether the moment lies within; the end is outside."""
        local = moment.astimezone(ZoneInfo(self.zone)).time()
        if self.start <= self.end:
            return self.start <= local < self.end
        return local >= self.start or local < self.end

    def next_start(self, moment: datetime) -> datetime:
        """The first start at or after the moment, in UTC."""
        local = moment.astimezone(ZoneInfo(self.zone))
        begin = local.replace(hour=self.start.hour, minute=self.start.minute, second=0, microsecond=0)
        if begin < local:
            begin = (begin.replace(tzinfo=None) + timedelta(days=1)).replace(tzinfo=ZoneInfo(self.zone))
        return begin.astimezone(UTC)


def parse_hours(value: Any) -> Hours:
    """``22:00-06:00 ZONE``; the zone must be named, since a schedule without one shifts with the server."""
    if isinstance(value, Hours):
        return value
    pattern = r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)\s+(\S+)"
    found = re.fullmatch(pattern, value.strip()) if isinstance(value, str) else None
    if not found:
        raise ValueError(f"hours like 22:00-06:00 Europe/Berlin were expected, not {value!r}")
    begin, end = time_of_day(int(found[1]), int(found[2])), time_of_day(int(found[3]), int(found[4]))
    if begin == end:
        raise ValueError("hours that start and end at the same time are the whole day: leave the key out")
    return Hours(begin, end, parse_zone(found[5]).key)


HoursText = Annotated[Hours, BeforeValidator(parse_hours, json_schema_input_type=str)]


@dataclass(frozen=True, slots=True)
class Every:
    """When to poll: an interval, or a 5-field cron with its zone (UTC unless named)."""

    interval: timedelta | None = None
    cron: str | None = None
    zone: str = "UTC"


CRON_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
CRON_PART = re.compile(r"(\*|\d+(?:-\d+)?)(?:/(\d+))?")


def check_cron(fields: list[str]) -> None:
    """Raises ValueError unless each of five fields is ``*``, numbers, ranges, lists and steps within bounds."""
    for text, (low, high) in zip(fields, CRON_BOUNDS, strict=True):
        for part in text.split(","):
            found = CRON_PART.fullmatch(part)
            numbers = [int(n) for n in re.findall(r"\d+", found[1])] if found else []
            if not found or any(not low <= n <= high for n in numbers) or found[2] == "0" or numbers != sorted(numbers):
                raise ValueError(f"{text!r} is no cron field from {low} to {high}")


def parse_every(value: Any) -> Every:
    """``15m`` (at least 1m) or ``30 16 * * 1-5 Europe/Berlin``."""
    if isinstance(value, Every):
        return value
    if not isinstance(value, str):
        raise ValueError(
            f"a duration like 15m or a cron like '30 16 * * 1-5 Europe/Berlin' was expected, not {value!r}"
        )
    parts = value.split()
    if len(parts) in (5, 6):
        check_cron(parts[:5])
        return Every(cron=" ".join(parts[:5]), zone=parse_zone(parts[5]).key if len(parts) == 6 else "UTC")
    interval = parse_duration(value)
    if interval < timedelta(minutes=1):
        raise ValueError("at least 1m was expected: webhooks, not polls, bring changes within seconds")
    return Every(interval=interval)


EveryText = Annotated[Every, BeforeValidator(parse_every, json_schema_input_type=str)]


def parse_origin(url: Any) -> Any:
    """http or https with a host, and without user info, query or fragment."""
    text = url if isinstance(url, str) else ""
    if "@" in text.partition("://")[2].partition("/")[0]:
        raise ValueError("no user info in a URL: put it under `auth`, from a secret")
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port past 65535, or brackets around what is no IPv6 address
        good = False
    if not good:
        raise ValueError(f"a URL like https://api.example.com/v1 was expected, not {url!r}")
    if parts.query or parts.fragment:
        raise ValueError("no query or fragment in a URL: put it under `query`")
    return url


Origin = Annotated[str, BeforeValidator(parse_origin, json_schema_input_type=str)]

Unit = Literal["s", "ms", "unix", "unix_ms"]
"""Of a number that tells a time: a span in seconds or milliseconds, or a moment since 1970."""

NAME = re.compile(r"[a-z][a-z0-9_]*")


def parse_name(value: Any) -> str:
    """Names become assets, tables and columns: ``[a-z][a-z0-9_]*`` without ``__``, at most ``limits.NAME_BYTES``."""
    if not isinstance(value, str) or not NAME.fullmatch(value) or "__" in value:
        raise ValueError(f"a name of a-z, 0-9 and single _ that starts with a letter was expected, not {value!r}")
    if len(value) > NAME_BYTES:
        raise ValueError(f"a name of at most {NAME_BYTES} characters was expected; this has {len(value)}")
    return value


Name = Annotated[str, BeforeValidator(parse_name, json_schema_input_type=str)]


def parse_plain(value: Any) -> Any:
    """Text, a number, true or false; null where a connector's default is to be given by the connection."""
    if isinstance(value, list | dict):
        raise ValueError("a plain value was expected: text, a number, true or false")
    if isinstance(value, str) and "<" in value:
        raise ValueError("a setting is a plain value: no '<', and no placeholder inside another")
    return value


Plain = Annotated[Any, BeforeValidator(parse_plain)]

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def parse_request(value: Any) -> Any:
    """``METHOD /path`` or ``METHOD https://…`` without a query string."""
    parts = value.split(None, 1) if isinstance(value, str) else []
    if len(parts) != 2 or parts[0] not in METHODS or not parts[1].startswith(("/", "https://", "http://")):
        raise ValueError(f"a call like 'GET /contacts' was expected ({', '.join(METHODS)}), not {value!r}")
    if "?" in parts[1]:
        raise ValueError("no '?' in a path: put what follows it under `query`")
    return value


Request = Annotated[str, BeforeValidator(parse_request, json_schema_input_type=str)]


class Call(Model):
    """One request: method and path (joined to the API's url), and what goes with it. Placeholders are unrendered."""

    short_form: ClassVar[dict[str, Any] | None] = {
        "type": "string",
        "pattern": rf"^({'|'.join(METHODS)})\s+(/|https?://)[^?]*$",
    }
    request: Request
    query: dict[str, Any] | None = None
    headers: dict[str, Any] | None = None
    body: Any = None
    encoding: Literal["json", "form"] | None = None
    graphql: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"request": value} if isinstance(value, str) else value

    @property
    def method(self) -> str:
        return self.request.split(None, 1)[0]

    @property
    def path(self) -> str:
        return self.request.split(None, 1)[1]
