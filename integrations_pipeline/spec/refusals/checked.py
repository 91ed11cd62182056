"""What the refusals look at, and the list they are registered in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from integrations_pipeline.spec.api import Api
from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.spec.webhook import Webhook
from integrations_pipeline.spec.yaml_text import KeyPath

Told = Iterator[tuple[KeyPath, str]]


@dataclass(frozen=True, slots=True)
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

    def part(self, name: str) -> Mapping[Any, Any]:
        """A map of the data, empty where there is none."""
        found = self.data.get(name)
        return found if isinstance(found, dict) else {}


REFUSALS: list[Callable[[Checked], Told]] = []


def refusal(find: Callable[[Checked], Told]) -> Callable[[Checked], Told]:
    REFUSALS.append(find)
    return find


def leaves(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """Each scalar inside a value with its path; a map's keys too, since they may hold placeholders."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key), key
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, index))
    else:
        yield path, value
