"""What is allowed but doubtful: `check` tells it, nothing is refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.pagination import Offset, PageNumber
from integrations_pipeline.spec.streams import Stream


def cautions(connections: Mapping[str, Connection]) -> dict[str, list[str]]:
    """By connection, for all those of a home together, since some doubts are about two files."""
    every = [(one, name, stream) for one in connections.values() for name, stream in one.streams.items()]
    told: dict[str, list[str]] = {}
    for one, name, message in [*unproven_ends(every), *unproven_seams(every), *rivals(every)]:
        told.setdefault(one.name, []).append(f"streams.{name}: {message}")
    return told


Listed = tuple[Connection, str, Stream]
Doubt = tuple[Connection, str, str]


def unproven_ends(every: list[Listed]) -> Iterator[Doubt]:
    for one, name, stream in every:
        pages = stream.pagination or one.api.pagination
        if isinstance(pages, PageNumber | Offset) and stream.request and not (pages.pages or pages.more):
            yield (
                one,
                name,
                "the end of this list can't be proven: it is taken for ended after two empty pages (name `pages` or "
                "`more` under `pagination` if the source tells)",
            )


def unproven_seams(every: list[Listed]) -> Iterator[Doubt]:
    """By number, rows that move up from page to page are noticed by a smaller total only."""
    for one, name, stream in every:
        pages = stream.pagination or one.api.pagination
        if isinstance(pages, PageNumber) and stream.request and pages.total is None:
            yield (
                one,
                name,
                "where rows are deleted while this list is read, others move up unseen and come with the next full "
                "refresh only (name `total` under `pagination` if the source tells; then they are noticed)",
            )


def creates(stream: Stream) -> bool:
    return stream.write is not None and stream.write.creates


def rivals(every: list[Listed]) -> Iterator[Doubt]:
    for one, name, stream, others in undecided_creators(every):
        kind = stream.map.to if stream.map else ""
        files = ", ".join(others)
        yield (
            one,
            name,
            f"creates nothing until it has `create_when`: {files} creates records of kind {kind} too",
        )


def creating_nothing(connections: Iterable[Connection]) -> dict[str, set[str]]:
    """By connection, the streams that create nothing, since another connection does and they don't say when."""
    every = [(one, name, stream) for one in connections for name, stream in one.streams.items()]
    found: dict[str, set[str]] = {}
    for one, name, _, _ in undecided_creators(every):
        found.setdefault(one.name, set()).add(name)
    return found


def undecided_creators(every: list[Listed]) -> Iterator[tuple[Connection, str, Stream, list[str]]]:
    """Two that create records of one kind, of which one doesn't say when, would create each record in both."""
    for one, name, stream in every:
        if stream.map is None or stream.write is None or not creates(stream) or stream.write.create_when is not None:
            continue
        others = sorted(
            {
                str(other.file or other.name)
                for other, _, rival in every
                if other is not one and rival.map and rival.map.to == stream.map.to and creates(rival)
            }
        )
        if others:
            yield one, name, stream, others
