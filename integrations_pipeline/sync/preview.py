"""The verb `preview`: what an edit of a stream's mapping would do to the raw records that are stored.

Nothing is written, and the source is asked nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from integrations_pipeline.mapping import Mapping as Shape
from integrations_pipeline.spec.connection import Kind
from integrations_pipeline.spec.decoding import decode
from integrations_pipeline.spec.reasons import Reason
from integrations_pipeline.spec.streams import Stream

NOTHING: dict[str, Any] = {}


@dataclass(frozen=True)
class Previewed:
    """One record that comes out otherwise: field → (before, after), and what would send it to quarantine."""

    external_id: str
    changes: dict[str, tuple[Any, Any]]
    problems: list[Reason]


@dataclass
class Preview:
    """Of the records looked at: how many would change, how many that are fine would fail, how many that fail would be
    fine. ``samples`` are the first of each; ``fields`` counts the changes of each field."""

    records: int = 0
    changed: int = 0
    failing: int = 0
    mended: int = 0
    fields: dict[str, int] = field(default_factory=dict)
    samples: list[Previewed] = field(default_factory=list)


def preview(
    before: Stream, after: Stream, kinds: Mapping[str, Kind], records: Iterable[tuple[str, str]], samples: int
) -> Preview:
    """``records``: external ids and raw records as JSON text. Raises ConfigError where map and kind don't fit."""
    old, new = shape_of(before, kinds), shape_of(after, kinds)
    found, shown = Preview(), {"changed": 0, "failing": 0}
    for external_id, text in records:
        payload = decode(text.encode())
        was, was_bad = mapped(old, payload)
        now, now_bad = mapped(new, payload)
        found.records += 1
        failing = bool(now_bad) and not was_bad
        found.failing += failing
        found.mended += bool(was_bad) and not now_bad
        changes = differences(was, now)
        if not (changes or failing):
            continue
        found.changed += not failing
        for name in changes:
            found.fields[name] = found.fields.get(name, 0) + 1
        sort = "failing" if failing else "changed"
        if shown[sort] < samples:
            shown[sort] += 1
            found.samples.append(Previewed(external_id, changes, now_bad))
    found.samples.sort(key=lambda one: not one.problems)
    return found


def shape_of(stream: Stream, kinds: Mapping[str, Kind]) -> Shape | None:
    return Shape(stream, kinds[stream.map.to]) if stream.map is not None else None


def mapped(shape: Shape | None, payload: Any) -> tuple[dict[str, Any], list[Reason]]:
    if shape is None:
        return NOTHING, []
    made = shape.apply(payload)
    return {**made.values, **made.references}, made.problems


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {
        name: (was.get(name), now.get(name)) for name in dict.fromkeys([*was, *now]) if was.get(name) != now.get(name)
    }
