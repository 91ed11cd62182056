"""A connection file and a kind file, as frozen values."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PrivateAttr, field_validator
from pydantic import Field as Key

from integrations_pipeline.spec.api import Api
from integrations_pipeline.spec.fields import Field
from integrations_pipeline.spec.forms import Duration, EveryText, HoursText, Model, Percent, parse_percent
from integrations_pipeline.spec.secrets import SecretSource
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.spec.webhook import Webhook


def parse_at_least(value: Any) -> Any:
    """``at least 1``."""
    words = value.split() if isinstance(value, str) else []
    if len(words) == 3 and words[:2] == ["at", "least"] and words[2].isdecimal():
        return int(words[2])
    if isinstance(value, int):
        return value
    raise ValueError(f"'at least NUMBER' was expected, not {value!r}")


def parse_under(value: Any) -> Any:
    """``under 5%``."""
    if isinstance(value, str) and value.startswith("under "):
        return parse_percent(value[6:])
    if isinstance(value, float):
        return value
    raise ValueError(f"'under NUMBER%' was expected, not {value!r}")


AtLeast = Annotated[int, BeforeValidator(parse_at_least, json_schema_input_type=str)]
Under = Annotated[Percent, BeforeValidator(parse_under, json_schema_input_type=str)]


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


class Hooks(Model):
    """The only code: ``module.function`` each."""

    request: str | None = None
    page: str | None = None
    record: str | None = None
    verify: str | None = None


class Connection(Model):
    """One account of one outside system, the connector's facts merged in and settings filled in."""

    connection: str
    uses: str | None = None
    description: str = ""
    settings: dict[str, Any] = {}
    secrets: dict[str, SecretSource] = {}
    select: list[str] | None = None
    every: EveryText | None = None
    off_peak: HoursText | None = None
    expect: Expect = Expect()
    alerts: list[Alert] = []
    owner: str | None = None
    tags: list[str] = []
    faults: dict[str, Any] = {}
    log_bodies: Literal["failures", "all"] = "failures"
    hooks: Hooks = Hooks()
    api: Api
    streams: dict[str, Stream] = Key(min_length=1)
    webhook: Webhook | None = None
    _file: FilePath | None = PrivateAttr(default=None)

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


class OnChange(Model):
    url: SecretSource
    secret: SecretSource


class Kind(Model):
    """A kind of the team's own model: one canonical table."""

    kind: str
    description: str = ""
    fields: dict[str, Field] = Key(min_length=1)
    on_change: list[OnChange] = []

    @field_validator("fields")
    @classmethod
    def _names(cls, value: dict[str, Field]) -> dict[str, Field]:
        reserved = {"id", "updated_at", "version", "edit_stamp", "edited_at", "deleted_at"}
        taken = sorted(reserved & set(value))
        if taken:
            raise ValueError(f"{', '.join(taken)}: our own columns have these names")
        return value
