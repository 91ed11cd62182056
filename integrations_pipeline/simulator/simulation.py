"""One simulated source: answers the requests its YAML declares, and lets tests change and inspect what it holds.

A request passes `Simulation.answer` in order: credentials, faults that stand instead of an answer, limits, view, page,
faults of the finished answer. Every change passes `changed`, and `telling` makes webhooks of it. `reading` answers what
reads, `writes` what writes; all see the same datasets.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from email.utils import format_datetime, parsedate_to_datetime
from threading import RLock
from typing import Any

from integrations_pipeline.simulator import shaping, stamps, subjects
from integrations_pipeline.simulator.access import Access, Limits
from integrations_pipeline.simulator.answer import Answer, Refused, refusal
from integrations_pipeline.simulator.asked import Asked
from integrations_pipeline.simulator.dataset import CHILDREN, Dataset
from integrations_pipeline.simulator.faults.answers import Asking, too_many
from integrations_pipeline.simulator.faults.board import Board
from integrations_pipeline.simulator.faults.registry import (
    CHANGES,
    CONCERNS,
    INSTEAD,
    REPLIES,
)
from integrations_pipeline.simulator.paging import has_position
from integrations_pipeline.simulator.reading import Reading
from integrations_pipeline.simulator.records import Plan, put
from integrations_pipeline.simulator.telling import Telling
from integrations_pipeline.simulator.tokens import Tokens
from integrations_pipeline.simulator.told import Told
from integrations_pipeline.simulator.views import Request, View, Views
from integrations_pipeline.simulator.webhooks import (
    Verb,
)
from integrations_pipeline.simulator.writes import Writes
from integrations_pipeline.spec.clock import Clock, SystemClock
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.decoding import encode
from integrations_pipeline.spec.errors import CursorExpired, DataError, IntegrationError, NotFound
from integrations_pipeline.spec.faults import Fault
from integrations_pipeline.spec.paths import MISSING
from integrations_pipeline.spec.placeholders import as_text
from integrations_pipeline.spec.simulated import imitated, is_simulated
from integrations_pipeline.spec.streams import Count

CACHE_BYTES = 64_000_000
"""Finished answers kept for equal requests, until the next change: a benchmark measures its reader, not this source."""

LOGGED_REQUESTS = 100_000

STATUSES: dict[type[IntegrationError], int] = {DataError: 400, NotFound: 404, CursorExpired: 410}
Row = dict[str, Any]


class Simulation:
    """A fake of the connection's source, seeded and repeatable; a demo connection keeps the address it already has.

    ``records`` is how many each top-level stream holds (a key of few values holds fewer, and places are few),
    ``page_limit`` caps what a page may hold, ``secrets`` gives values by name (default: as the connection resolves
    them; ConfigError where one is missing), ``latency_ms`` is added to every answer, ``faults`` are switched on
    from the beginning (default: those of the YAML; DataError for what is none), ``webhooks`` is told of all
    changes from the beginning. Thread-safe.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        records: int = 1000,
        seed: int = 0,
        page_limit: int | None = None,
        secrets: Mapping[str, str] | None = None,
        enforce_limits: bool = False,
        latency_ms: float = 0.0,
        clock: Clock | None = None,
        faults: Sequence[Fault | str] | None = None,
        webhooks: str | None = None,
    ):
        self.connection = imitated(connection) if is_simulated(connection) else connection
        self.name = connection.name
        self.records = records
        self.seed = seed
        self.page_limit = page_limit
        self.latency_ms = latency_ms
        self.clock = clock or SystemClock()
        self.lock = RLock()
        self.reading, self.writes = Reading(self), Writes(self)
        self.views = Views(self.connection)
        self.access = Access(self.connection, secrets, lambda: self.clock.now().timestamp())
        self.limits = Limits(self.connection, self.clock.monotonic_seconds) if enforce_limits else None
        self.newest = stamps.microseconds(self.clock.now()) - stamps.DAY
        self.datasets: dict[str, Dataset] = {}
        for name in connection.streams:
            self.dataset(name)
        self.generation = 0  # of opaque cursors; those of an earlier one have expired
        self.log: deque[Asked] = deque(maxlen=LOGGED_REQUESTS)
        self.told = Told(self.clock.monotonic_seconds)
        self.faults = Board(connection.faults if faults is None else faults, seed, self.clock, list(connection.streams))
        self.kept: OrderedDict[tuple[str, ...], Answer] = OrderedDict()
        self.kept_bytes = 0
        self.telling = Telling(self)
        self.telling.tell_at(webhooks)

    def url(self, port: int, host: str = "127.0.0.1") -> str:
        """What `api.url` is to be replaced by."""
        return f"http://{host}:{port}/{self.name}{self.views.base}"

    def dataset(self, name: str) -> Dataset:
        """The contents of a stream; its parents' come first. Raises DataError for an unknown one."""
        if name not in self.connection.streams:
            raise DataError(f"{self.name} has no stream {name}")
        if name not in self.datasets:
            parent = self.connection.streams[name].parent_stream
            parents = self.dataset(parent) if parent else None
            few = min(self.records, subjects.FEW) if subjects.PLACES.fullmatch(name) else self.records
            alone = 1 if self.connection.streams[name].record else few
            count = alone if parents is None else parents.seeded * CHILDREN
            plan = Plan(self.connection, name, self.seed, count, self.lookup, self.newest)
            self.datasets[name] = Dataset(plan, self.clock, parents)
        return self.datasets[name]

    def lookup(self, stream: str, number: int) -> Any:
        """The key of one of a stream's seeded records, chosen by any number; None where there is none near."""
        dataset = self.dataset(stream)
        for attempt in range(8 if dataset.seeded else 0):
            ordinal = (number + attempt) % dataset.seeded
            if dataset.is_seeded(ordinal):
                return dataset.plan.key.write(ordinal)[0]
        return None

    # answering

    def answer(self, request: Request) -> Answer:
        """The answer to any request; never raises on what is sent."""
        with self.lock:
            self.faults.begin()
            self.told.asked()
            view, granted = self.views.match(request), None
            stream = view.stream if view else ""
            try:
                granted = self.granted(request)
                answer = granted or self.refused(request, view) or self.viewed(view, request)
            except Refused as error:
                answer = error.answer
            except tuple(STATUSES) as error:
                answer = refusal(STATUSES[type(error)], error.error_class, error.what)
            answer = self.spoilt(answer, stream)
            self.told.answered(answer)
            self.note(replace(request, content=b"") if granted else request, view, answer)
            return answer

    def granted(self, request: Request) -> Answer | None:
        """The answer of the token endpoint or the login, where the request is for one of them."""
        given = self.tokens.answer(request) if self.tokens else None
        return Answer(given.status, encode(given.document), dict(given.headers)) if given else None

    @property
    def tokens(self) -> Tokens | None:
        """Who issues tokens and sessions; None where the credentials are fixed ones."""
        return self.access.tokens

    def refused(self, request: Request, view: View | None) -> Answer | None:
        """What stands instead of an answer: wrong credentials, a fault, a limit."""
        if not self.access.allows(request):
            return refusal(401, "unauthorized", "the credentials are missing or wrong")
        path = request.path.removeprefix(self.views.base)
        instead = self.instead(request, view)
        if instead is not None:
            return instead
        wait = self.limits.refuse(request.method, path) if self.limits else None
        return None if wait is None else too_many(wait)

    def instead(self, request: Request, view: View | None) -> Answer | None:
        """The answer of the first fault that has one for this request."""
        for switched in self.faults.of("answer", view.stream if view else ""):
            asking = Asking(request, switched, self.clock, view is not None and has_position(view, request))
            concerns = CONCERNS.get(switched.fault.name)
            if (concerns is None or concerns(asking)) and self.faults.strikes(switched):
                answer = INSTEAD[switched.fault.name](asking)
                if answer is not None:
                    return answer
        return None

    def spoilt(self, answer: Answer, stream: str) -> Answer:
        """The finished answer with the faults of its text and its delivery."""
        struck = list(self.faults.turns("reply", stream))
        if not struck:
            return answer
        answer = replace(answer, headers=dict(answer.headers))  # the cache keeps the good one
        for switched in struck:
            REPLIES[switched.fault.name](answer, switched)
        return answer

    def note(self, request: Request, view: View | None, answer: Answer) -> None:
        if self.limits:
            quota = self.limits.headers(request.method, request.path.removeprefix(self.views.base))
            answer.headers = {**answer.headers, **quota}
        stream, purpose = (view.stream, view.purpose) if view else ("", "")
        entry = Asked(
            self.clock.now(),
            request.method,
            request.path,
            request.query,
            request.body,
            stream,
            purpose,
            answer.status,
            answer.count,
            request.headers.get("host", ""),
            tuple(self.faults.struck),
            self.writes.key(view, request),
            answer.wrote,
        )
        self.log.append(entry)

    def viewed(self, view: View | None, request: Request) -> Answer:
        """The answer of a view; what is read may lag behind what was written."""
        if view is None:
            raise NotFound(f"nothing is at {request.method} {request.path}")
        if view.form is not None:
            return self.writes.answer(view, request)
        for switched in self.faults.turns("change", view.stream) if view.purpose in ("list", "full") else ():
            CHANGES[switched.fault.name](self, view.stream, switched)
        with self.writes.lag.seen() as lagging:
            return self.read(view, request, is_kept=not (lagging or self.faults.alters_pages))

    def read(self, view: View, request: Request, *, is_kept: bool) -> Answer:
        """From the cache where nothing changed since an equal request."""
        validators = self.validators(view)
        if validators and is_fresh(request, validators):
            return Answer(304, b"", validators)
        key = (request.method, request.path, request.query_string, request.content.hex(), request.origin)
        is_kept = is_kept and view.purpose not in ("subscribe", "unsubscribe")
        answer = self.kept.get(key) if is_kept else None
        if answer is None:
            answer = self.fresh(view, request)
            answer.headers.update(validators)
            if is_kept:
                self.keep(key, answer)
        return answer

    def keep(self, key: tuple[str, ...], answer: Answer) -> None:
        self.kept[key] = answer
        self.kept_bytes += len(answer.body)
        while self.kept_bytes > CACHE_BYTES:
            self.kept_bytes -= len(self.kept.popitem(last=False)[1].body)

    def validators(self, view: View) -> dict[str, str]:
        """ETag or Last-Modified of a list, where the stream declares that it can be asked for."""
        stream = self.connection.streams.get(view.stream)
        if (
            stream is None
            or stream.probe is None
            or isinstance(stream.probe, Count)
            or view.purpose not in ("list", "full")
        ):
            return {}
        dataset = self.datasets[view.stream]
        if stream.probe == "etag":
            return {"ETag": f'"{self.seed:x}-{dataset.stamp_now:x}-{dataset.next_rank:x}"'}
        return {"Last-Modified": format_datetime(dataset.modified_at, usegmt=True)}

    def fresh(self, view: View, request: Request) -> Answer:
        if view.purpose == "check":
            return Answer(200, encode({"ok": True}))
        if view.purpose == "subscribe":
            return self.telling.subscribe(view, request)
        if view.purpose == "unsubscribe":
            return self.telling.unsubscribe(view.values(request))
        if view.purpose == "find":
            return self.writes.found(view, request)
        return self.reading.answer(view, request)

    def close(self) -> None:
        """Nothing more is sent."""
        self.telling.sender.close()

    # contents

    def row(self, dataset: Dataset, ordinal: int) -> Row:
        """A record with the rows of other streams that lie inside it."""
        row = dataset.row(ordinal)
        change = dataset.changes.get(ordinal)
        for child in self.inside(dataset):
            shape = child.plan.stream.rows
            if not (change and shape.path in change.values):
                rows = [self.row(child, inner) for inner in child.seeded_of(ordinal)]
                if rows or not shape.optional:
                    put(row, shape.path.parts, shaping.embedded(child.plan, rows))
        return row

    def rows(self, dataset: Dataset, ordinals: Sequence[int]) -> list[Row]:
        if self.inside(dataset):
            return [self.row(dataset, ordinal) for ordinal in ordinals]
        return dataset.rows(ordinals)

    def inside(self, dataset: Dataset) -> list[Dataset]:
        """The streams whose rows lie inside this one's records."""
        return [child for child in self.datasets.values() if child.plan.stream.parent == dataset.plan.name]

    def landed(self, dataset: Dataset, ordinal: int) -> Row:
        """A record as a reader lands it, with what is included from around it."""
        parent = dataset.parent(ordinal)
        parent_row = dataset.parents.row(parent) if dataset.parents and parent is not None else None
        return self.row(dataset, ordinal) | shaping.around_of(dataset.plan, parent_row)

    def contents(self, stream: str, *, deleted: bool = False) -> Iterator[Row]:
        """Every live record as a reader should land it, in order of place; with ``deleted`` also the tombstones."""
        dataset = self.dataset(stream)
        if dataset.plan.stream.parent:
            yield from self.lying_inside(dataset)
            return
        for ordinal in dataset.all():
            if dataset.lives(ordinal) or deleted:
                yield self.landed(dataset, ordinal)

    def truth(self, stream: str) -> Iterator[Row]:
        """Each record that ever was: its external id, the value it is ordered by, whether it is deleted, its faults."""
        dataset = self.dataset(stream)
        if dataset.plan.stream.parent:
            for row in self.lying_inside(dataset):
                yield {"key": external_id_of(dataset, row), "version": None, "deleted": False, "faults": []}
            return
        ordered_by = dataset.plan.stream.version or dataset.plan.stamp_path
        for ordinal in dataset.all():
            row = self.landed(dataset, ordinal)
            yield {
                "key": external_id_of(dataset, row),
                "version": None if ordered_by is None else ordered_by.get(row),
                "deleted": not dataset.lives(ordinal),
                "faults": self.faults.of_row(stream, ordinal),
            }

    def lying_inside(self, dataset: Dataset) -> Iterator[Row]:
        """The rows of a stream that lies inside its parent's records."""
        parents = dataset.parents
        for ordinal in parents.live() if parents else ():
            parent_row = self.row(parents, ordinal) if parents else {}
            found = dataset.plan.stream.rows.path.get(parent_row)
            around = shaping.around_of(dataset.plan, parent_row)
            for row in shaping.rows_in(dataset.plan, found):
                yield row | around

    def counts(self) -> dict[str, int]:
        """Live records per stream."""
        with self.lock:
            return {name: self.live_count(dataset) for name, dataset in self.datasets.items()}

    def live_count(self, dataset: Dataset) -> int:
        if dataset.plan.stream.parent:
            return sum(1 for _ in self.lying_inside(dataset))
        return dataset.live_count()

    # changes

    def insert(self, stream: str, rows: Iterable[Mapping[str, Any]] | int = 1, parent: Any = None) -> list[str]:
        """New records: so many seeded ones, or seeded ones with the given values over them. Returns external ids.

        ``parent`` is the external id of a child's parent. Raises DataError, and then inserts nothing further.
        """
        with self.lock:
            dataset = self.changeable(stream)
            above = None if dataset.parents is None else self.ordinal(dataset.parents, parent)
            given: Iterable[Mapping[str, Any]] = [{}] * rows if isinstance(rows, int) else rows
            return self.changed(dataset, [dataset.insert(row, above) for row in given], "created")

    def update(self, stream: str, keys: Sequence[Any] | int = 1, values: Mapping[str, Any] | None = None) -> list[str]:
        """Changes the records of these external ids, or so many seeded ones: to the values, or one field by seed."""
        with self.lock:
            dataset = self.changeable(stream)
            ordinals = self.meant(dataset, keys)
            for ordinal in ordinals:
                dataset.update(ordinal, values)
            return self.changed(dataset, ordinals, "updated")

    def delete(self, stream: str, keys: Sequence[Any] | int = 1) -> list[str]:
        """Deletes the records of these external ids, or so many seeded ones."""
        with self.lock:
            dataset = self.changeable(stream)
            ordinals = self.meant(dataset, keys)
            for ordinal in ordinals:
                dataset.delete(ordinal)
            return self.changed(dataset, ordinals, "deleted")

    def changeable(self, stream: str) -> Dataset:
        dataset = self.dataset(stream)
        inside = dataset.plan.stream.parent
        if inside:
            raise DataError(f"{stream} lies inside {inside}: change the record there")
        return dataset

    def meant(self, dataset: Dataset, keys: Sequence[Any] | int) -> list[int]:
        return dataset.chosen(keys) if isinstance(keys, int) else [self.ordinal(dataset, key) for key in keys]

    def ordinal(self, dataset: Dataset, key: Any) -> int:
        """The record of an external id (a list, or its JSON text, for a composite one). Raises DataError."""
        parts = key if isinstance(key, list) else [key]
        if isinstance(key, str) and len(dataset.plan.stream.primary_key) > 1:
            parts = self.varying(dataset, key)
        found = dataset.find_key(parts) if len(parts) == len(dataset.plan.key_paths) else None
        if found is None:
            raise DataError(f"{dataset.plan.name} has no record {as_text(key)}")
        return found

    def varying(self, dataset: Dataset, key: str) -> list[Any]:
        """The parts of a composite external id that the records themselves hold."""
        plan = dataset.plan
        try:
            parts = dict(zip(plan.stream.primary_key, shaping.composite_parts(key), strict=True))
        except ValueError:
            raise DataError(f"{key!r} is no composite key of {plan.name}") from None
        return [parts[path] for path in plan.key_paths]

    def changed(self, dataset: Dataset, ordinals: Sequence[int], verb: Verb) -> list[str]:
        """After every change: forgets what was computed before it, tells subscribers. Returns the external ids."""
        self.kept.clear()
        self.kept_bytes = 0
        for ordinal in ordinals if self.telling.subscriptions else ():
            self.telling.tell(dataset, ordinal, verb)
        return [self.external_id(dataset, ordinal) for ordinal in ordinals]

    def external_id(self, dataset: Dataset, ordinal: int) -> str:
        """One key's text, or a composite one as a JSON array."""
        return external_id_of(dataset, self.landed(dataset, ordinal))

    def reset(self) -> None:
        """The seeded beginning: no change, no log."""
        with self.lock:
            for dataset in self.datasets.values():
                dataset.reset()
            self.kept.clear()
            self.kept_bytes = 0
            self.log.clear()
            self.told.reset()
            self.writes.reset()
            self.switch([one.fault for one in self.faults.switched])
            if self.tokens:
                self.tokens.reset()

    def switch(self, faults: Sequence[Fault | str]) -> None:
        """Replaces the faults; an empty list ends them. Raises DataError for what is none, and changes nothing."""
        with self.lock:
            self.faults.switch(faults)
            self.kept.clear()
            self.kept_bytes = 0

    def report(self) -> dict[str, Any]:
        """The faults with their counts; requests, answers of 429, and requests that came while told to wait."""
        with self.lock:
            return {"faults": self.faults.report(), **self.told.report()}

    def expire_cursors(self) -> None:
        """From now on every opaque cursor given out so far is answered by 410."""
        with self.lock:
            self.generation += 1
            self.kept.clear()
            self.kept_bytes = 0

    def requests(self) -> list[Asked]:
        """The request log, oldest first; at most the last LOGGED_REQUESTS."""
        with self.lock:
            return list(self.log)


def external_id_of(dataset: Dataset, row: Row) -> str:
    parts = [None if (value := path.get(row)) is MISSING else value for path in dataset.plan.stream.primary_key]
    return as_text(parts[0]) if len(parts) == 1 else encode(parts).decode()


def is_fresh(request: Request, validators: Mapping[str, str]) -> bool:
    """Whether what the request holds already is what there is."""
    if "ETag" in validators:
        return validators["ETag"] in request.headers.get("if-none-match", "")
    since = request.headers.get("if-modified-since")
    try:
        return bool(since) and parsedate_to_datetime(validators["Last-Modified"]) <= parsedate_to_datetime(since or "")
    except ValueError:
        return False
