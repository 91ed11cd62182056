"""A connection file and a kind file, as frozen values."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PrivateAttr, field_validator
from pydantic import Field as Key

from integrations_pipeline.spec.api import Api
from integrations_pipeline.spec.faults import FaultText
from integrations_pipeline.spec.fields import Field
from integrations_pipeline.spec.forms import (
    Duration,
    Every,
    EveryText,
    HoursText,
    Model,
    Name,
    Plain,
    parse_percent,
)
from integrations_pipeline.spec.secrets import SecretSource
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.spec.webhook import Webhook


def parse_at_least(value: Any) -> Any:
    """``at least 1``."""
    words = value.split() if isinstance(value, str) else []
    if len(words) == 3 and words[:2] == ["at", "least"] and words[2].isdecimal():
        return int(words[2])
    raise ValueError(f"'at least NUMBER' was expected, not {value!r}")


def parse_under(value: Any) -> Any:
    """``under 5%``."""
    if isinstance(value, str) and value.startswith("under "):
        return parse_percent(value[6:])
    raise ValueError(f"'under NUMBER%' was expected, not {value!r}")


AtLeast = Annotated[int, BeforeValidator(parse_at_least, json_schema_input_type=str)]
Under = Annotated[float, BeforeValidator(parse_under, json_schema_input_type=str)]


class Expect(Model):
    fresh_within: Duration | None = None
    full_refresh_within: Duration | None = None
    down_under: Duration | None = None
    records_per_day: AtLeast | None = None
    rejected: Under | None = None
    webhook_loss: Under | None = None


class Alert(Model):
    env: str
    from_: Literal["warning", "error"] = Key("warning", alias="from")
    quiet: HoursText | None = None
    remind: Duration = timedelta(days=1)


def parse_function(value: Any) -> Any:
    """``module.function``."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", value):
        raise ValueError(f"module.function was expected, not {value!r}")
    return value


def parse_owner(value: Any) -> Any:
    """An e-mail address or ``team:NAME``, the two forms Dagster knows."""
    if not isinstance(value, str) or not re.fullmatch(r"team:[\w-]+|[^@\s]+@[^@\s]+\.[^@\s]+", value):
        raise ValueError(f"an e-mail address or team:NAME was expected, not {value!r}")
    return value


def parse_tag(value: Any) -> Any:
    """``key`` or ``key=value``."""
    if not isinstance(value, str) or not re.fullmatch(r"[\w.-]{1,63}(=[\w.-]{1,63})?", value):
        raise ValueError(f"a tag like team or team=sales was expected, not {value!r}")
    return value


Function = Annotated[str, BeforeValidator(parse_function, json_schema_input_type=str)]
Owner = Annotated[str, BeforeValidator(parse_owner, json_schema_input_type=str)]
Tag = Annotated[str, BeforeValidator(parse_tag, json_schema_input_type=str)]


class Hooks(Model):
    """The only code: ``module.function`` each."""

    request: Function | None = None
    page: Function | None = None
    record: Function | None = None
    verify: Function | None = None


class Connection(Model):
    """One account of one outside system, the connector's facts merged in and settings filled in."""

    connection: Name
    uses: Name | None = None
    description: str = ""
    settings: dict[Name, Plain] = {}
    secrets: dict[Name, SecretSource] = {}
    select: list[str] | None = None
    every: EveryText = Every(interval=timedelta(hours=1))
    off_peak: HoursText | None = None
    expect: Expect = Expect()
    alerts: list[Alert] = []
    owner: Owner | None = None
    tags: list[Tag] = []
    faults: list[FaultText] = []
    log_bodies: Literal["failures", "all"] = "failures"
    hooks: Hooks = Hooks()
    api: Api
    streams: dict[Name, Stream] = Key(min_length=1)
    webhook: Webhook | None = None
    _file: FilePath | None = PrivateAttr(default=None)
    _hook_places: dict[str, tuple[str, int]] = PrivateAttr(default_factory=dict)

    def place_of_hook(self, name: str) -> tuple[str, int]:
        """The file and line that name a hook, for messages; no line where it was made without a file."""
        return self._hook_places.get(name, (str(self._file or self.connection), 0))

    @property
    def name(self) -> str:
        return self.connection

    @property
    def file(self) -> FilePath | None:
        """The YAML it came from."""
        return self._file

    @property
    def selected(self) -> dict[str, Stream]:
        """The streams to sync, parents before their children."""
        chosen = {n: s for n, s in self.streams.items() if self.select is None or n in self.select}
        ordered: dict[str, Stream] = {}

        def add(name: str) -> None:
            parent = chosen[name].parent_stream
            if parent in chosen and parent not in ordered:
                add(parent)
            ordered[name] = chosen[name]

        for name in chosen:
            if name not in ordered:
                add(name)
        return ordered


class Connector(Model):
    """What a connector file may hold. It may be incomplete: a connection's keys are merged in before it is checked."""

    connector: Name
    description: str = ""
    settings: dict[Name, Plain] = {}
    hooks: Hooks = Hooks()
    api: dict[str, Any] = {}
    streams: dict[str, Any] = {}
    webhook: dict[str, Any] | None = None


class OnChange(Model):
    """Where each change of a kind's records is posted. The address is a secret too: it may hold one."""

    url: SecretSource
    secret: SecretSource

    @property
    def target(self) -> str:
        """How the queue names the address: by where it stands."""
        return f"env {self.url.env}" if self.url.env else f"file {self.url.file}"


class Kind(Model):
    """A kind of the team's own model: one canonical table."""

    kind: Name
    description: str = ""
    fields: dict[Name, Field] = Key(min_length=1)
    on_change: list[OnChange] = []

    @field_validator("fields")
    @classmethod
    def _names(cls, value: dict[str, Field]) -> dict[str, Field]:
        reserved = {"id", "updated_at", "version", "edit_stamp", "edited_at", "deleted_at"}
        taken = sorted(reserved & set(value))
        if taken:
            raise ValueError(f"{', '.join(taken)}: our own columns have these names")
        return value
