"""`integrations plan`: what a sync and a push would do, and what an edit of a mapping changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from json import dumps
from typing import Any

from integrations_pipeline.cli import output
from integrations_pipeline.cli.opening import opened
from integrations_pipeline.client.redaction import Redactor, redactor
from integrations_pipeline.spec.cautions import creating_nothing
from integrations_pipeline.spec.decoding import decode, encode
from integrations_pipeline.spec.errors import ConfigError, Deferred
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.limits import PLAN_REQUESTS
from integrations_pipeline.spec.loading import load_all, load_connection_and_kinds
from integrations_pipeline.store.planned import Sample
from integrations_pipeline.store.store import open_store

VALUE_CHARACTERS = 60


def run_plan(name: str, streams: list[str], *, full: bool, requests: int | None, mapping: bool, json: bool) -> int:
    if mapping and (full or requests is not None):
        raise ConfigError(
            "--mapping asks the source nothing", who=output.TYPED, next="leave out --full and --requests, or --mapping"
        )
    return run_mapping(name, streams, json=json) if mapping else run_sync_plan(name, streams, full, requests, json=json)


def run_sync_plan(name: str, streams: list[str], full: bool, requests: int | None, *, json: bool) -> int:
    from integrations_pipeline.sync.plan import plan

    home = Home.from_environment()
    rivals = creating_nothing(load_all(home).connections.values())
    with opened(name) as at:
        found = plan(
            at.connection,
            at.client,
            at.store,
            at.kinds,
            streams=streams,
            full=full,
            requests=requests or PLAN_REQUESTS,
            rivals=rivals.get(at.connection.name, ()),
        )
    hide = redactor(found.connection, home)
    if json:
        output.print_json(hidden(found.as_dict(), hide))
    else:
        show_plan(found, hide)
    errors = [one.result.error for one in found.streams if one.result and one.result.error and not one.read.cut]
    return 0 if not errors else 3 if all(isinstance(one, Deferred) for one in errors) else 1


def show_plan(found: Any, hide: Redactor) -> None:
    output.console.print(f"{found.connection}: nothing is written, neither here nor there", markup=False)
    asked = found.as_dict()["requests"]
    about = "" if found.complete else "at least "
    said = f"{about}{asked['read']:,} requests, about {lasting(found.read_seconds)}"
    output.console.print(f"reading: {said} ({asked['made']:,} made for this plan)", markup=False)
    output.console.print(f"writing: {asked['write']:,} requests, about {lasting(found.write_seconds)}", markup=False)
    table = output.table("stream", "", "created", "updated", "deleted", "conflicts", "quarantined",
                         right=("created", "updated", "deleted", "conflicts", "quarantined"))  # fmt: skip
    for one in found.streams:
        table.add_row(one.stream, "in", *cells(one.incoming, one.share, cut=one.read.cut))
        if one.outgoing or one.writes:
            table.add_row("", "out", *cells(one.outgoing, 1.0, cut=False))
    output.console.print(table)
    for one in found.streams:
        if one.read.cut:
            known = f"about {one.share:.0%} of them" if one.share else "how many there are the source doesn't tell"
            text = (
                f"{one.stream}: {one.read.rows:,} rows were read, {known}; ~ is reckoned from these, deletions aren't"
            )
            output.console.print(text, markup=False)
        elif one.result and one.result.error:
            output.show_error(output.by_hand(one.result.error))
        show_samples(f"{one.stream} in", one.samples_in, hide)
        show_samples(f"{one.stream} out", one.samples_out, hide)


def cells(counts: Mapping[str, int], share: float | None, *, cut: bool) -> list[str]:
    """A count each; of a part of a list, what it comes to."""
    told = []
    for sort in ("created", "updated", "deleted", "conflicts", "quarantined"):
        count = counts.get(sort, 0)
        if not cut:
            told.append(f"{count:,}" if count else "–")
        elif sort == "deleted":
            told.append("?")
        else:
            told.append(f"~{count / share:,.0f}" if share else f"{count:,}+")
    return told


def lasting(seconds: float) -> str:
    """A span as people say it."""
    for unit, size in (("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def show_samples(where: str, samples: Iterable[Sample], hide: Redactor) -> None:
    for one in (Sample(**hidden(given._asdict(), hide)) for given in samples):
        parts = [f"{where}, {one.sort}: {one.id or 'no key'}"]
        if one.reason:
            parts.append(f"({one.reason})")
        if one.after is not None:
            names = list(one.after) if one.sort == "conflicts" else [*{**(one.before or {}), **one.after}]
            parts.append("; ".join(step(one, name) for name in names))
        output.console.print("  " + " ".join(parts), markup=False)


def step(one: Sample, name: str) -> str:
    """A field before → after; of a new record only what it is."""
    after = shown((one.after or {}).get(name))
    if one.before is None or one.sort == "conflicts":
        return f"{name} {after}"
    return f"{name} {shown(one.before.get(name))} → {after}"


def shown(value: Any) -> str:
    text = encode(value).decode()
    return text if len(text) <= VALUE_CHARACTERS else f"{text[:VALUE_CHARACTERS]}…"


def hidden(value: Any, hide: Redactor) -> Any:
    """The document without secrets, known by their value or their field's name."""
    if isinstance(value, str):
        return hide.text(value)
    if isinstance(value, dict):
        texts = {
            key: decode(hide.text(dumps({key: inner})).encode()) for key, inner in value.items() if type(inner) is str
        }
        return {key: texts[key][key] if key in texts else hidden(inner, hide) for key, inner in value.items()}
    return [hidden(inner, hide) for inner in value] if isinstance(value, list | tuple) else value


def run_mapping(name: str, streams: list[str], *, json: bool) -> int:
    """An edited mapping against the records held."""
    from integrations_pipeline.sync.previewing import preview

    home = Home.from_environment()
    connection, kinds = load_connection_and_kinds(name, home)
    with open_store(home=home) as store:
        found = preview(connection, store, kinds, streams=streams)
    hide = redactor(connection.name, home)
    if json:
        output.print_json({"connection": connection.name, "streams": [hidden(one.as_dict(), hide) for one in found]})
        return 0
    for one in found:
        edited = "" if one.edited else ", as the mapping wasn't edited since"
        also = [f"{count:,} {words}" for count, words in
                ((one.heals, "that had failed come in"), (one.new, "were never mapped")) if count]  # fmt: skip
        counts = [f"{one.changed:,} of {one.rows:,} rows change", f"{one.fails:,} newly fail", *also]
        output.console.print(f"{one.stream}: {'; '.join(counts)}{edited}", markup=False)
        for told in (one.fields, one.reasons):
            for what, count in told.most_common(10):
                output.console.print(f"  {count:,}× {what}", markup=False)
        show_samples(one.stream, one.samples, hide)
    return 0
