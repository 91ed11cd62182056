"""What the refusals look at, and the list they are registered in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from integrations_pipeline.spec.api import Api
from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.spec.webhook import Webhook
from integrations_pipeline.spec.yaml_text import KeyPath

Told = Iterator[tuple[KeyPath, str]]


@dataclass(frozen=True)
class Checked:
    """One connection with its connector merged in and its settings filled in.

    ``data`` is all of it as plain data; of the models only the parts that are right by themselves are here, so that a
    file's other problems are told together with those.
    """

    name: str
    data: Mapping[str, Any]
    api: Api | None
    streams: Mapping[str, Stream]
    webhook: Webhook | None
    kinds: Mapping[str, Kind]
    unread_kinds: frozenset[str]

    @property
    def stream_names(self) -> list[str]:
        """Also of the streams that are wrong by themselves."""
        streams = self.data.get("streams")
        return [str(name) for name in streams] if isinstance(streams, dict) else []

    @cached_property
    def secret_texts(self) -> list[tuple[KeyPath, str]]:
        """Each text with a `$`, with its path."""
        parts = ("api", "streams", "webhook")
        return [one for part in parts for one in texts_in(self.data.get(part), (part,), "$")]

    def part(self, name: str) -> Mapping[Any, Any]:
        """A map of the data, empty where there is none."""
        found = self.data.get(name)
        return found if isinstance(found, dict) else {}


REFUSALS: list[Callable[[Checked], Told]] = []


def refusal(find: Callable[[Checked], Told]) -> Callable[[Checked], Told]:
    REFUSALS.append(find)
    return find


def texts_in(value: Any, path: KeyPath, marks: str) -> list[tuple[KeyPath, str]]:
    """Each text with one of the marks inside a value, with its path; a map's keys too, since they may hold them."""
    found: list[tuple[KeyPath, str]] = []

    def look(value: Any, path: KeyPath) -> None:
        if isinstance(value, str):
            if any(mark in value for mark in marks):
                found.append((path, value))
        elif isinstance(value, dict):
            for key, inner in value.items():
                look(key, (*path, key))
                look(inner, (*path, key))
        elif isinstance(value, list | tuple):
            for index, inner in enumerate(value):
                look(inner, (*path, index))

    look(value, path)
    return found
