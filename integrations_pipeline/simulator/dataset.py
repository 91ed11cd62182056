"""The records of one stream: seeded ones made on demand, and an overlay of what was changed since.

Memory grows with the changes, never with the records. Two orders exist: of place (as created; a change moves nothing)
and of change (a changed record moves to the end, as in a list sorted by its update stamp).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

from integrations_pipeline.simulator.records import Plan, put
from integrations_pipeline.simulator.stamps import microseconds
from integrations_pipeline.simulator.values import mixer
from integrations_pipeline.spec.clock import Clock
from integrations_pipeline.spec.errors import DataError
from integrations_pipeline.spec.paths import MISSING, Path
from integrations_pipeline.spec.placeholders import as_text

CHILDREN = 4
"""At most so many seeded records per parent; 0 to 4 of them exist."""

BLOCK = 8
"""Where a list has no promised order, stamps are shuffled within blocks of so many neighbours."""

MODIFIED = datetime(2024, 12, 1, tzinfo=UTC)
"""`Last-Modified` before any change. Each change moves it by a second at least, since the header tells no less."""

LISTINGS = 8
"""Lists kept ready; a list of a million numbers takes 8 MB."""


@dataclass(slots=True)
class Change:
    """What became of a record since it was seeded. ``rank`` orders all changes of the stream."""

    rank: int
    stamp: int
    parent: int | None = None
    deleted: bool = False
    inserted: bool = False
    values: dict[Path, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records a list holds: stamps from ``since`` to ``until`` (both inclusive), ranks past ``after_rank``."""

    by_change: bool = False
    since: int | None = None
    until: int | None = None
    after_rank: int | None = None
    gone: bool = False
    parent: int | None = None
    only_gone: bool = False

    @property
    def is_narrowed(self) -> bool:
        return self.since is not None or self.until is not None or self.after_rank is not None


class Dataset:
    """The true contents of one stream. Not thread-safe: the simulation holds one lock around it."""

    def __init__(self, plan: Plan, clock: Clock, parents: Dataset | None = None):
        self.plan = plan
        self.clock = clock
        self.parents = parents
        by_stamp = bool(plan.conditional & {plan.stamp_path, plan.stream.version})
        self.unique_stamps = by_stamp or (plan.pages_by_change and plan.keyset_path is not None)
        self.children_of = mixer(*plan.values.salt, "children")
        self.seeded: int = plan.count if parents is None else parents.seeded * CHILDREN
        self.reset()

    def reset(self) -> None:
        """Forgets every change."""
        self.changes: dict[int, Change] = {}
        self.aliases: dict[tuple[Path, str], int] = {}
        self.holders: dict[Path, dict[str, list[int]]] = {}
        self.next_ordinal = self.next_rank = self.seeded
        self.has_given_stamps = False
        self.modified_at = MODIFIED
        self.stamp_now = self.plan.seeded_stamp(max(self.seeded - 1, 0))
        self.listings: OrderedDict[Selection, Sequence[int]] = OrderedDict()

    # one record

    def rank(self, ordinal: int) -> int:
        """The record's place in order of change."""
        change = self.changes.get(ordinal)
        return change.rank if change else self.seeded_rank(ordinal)

    def seeded_rank(self, ordinal: int) -> int:
        if not self.plan.scrambled or ordinal | (BLOCK - 1) >= self.seeded:
            return ordinal
        return (ordinal & -BLOCK) | ((ordinal * 5 + 3) & (BLOCK - 1))

    def stamp(self, ordinal: int) -> int:
        change = self.changes.get(ordinal)
        return change.stamp if change else self.plan.seeded_stamp(self.seeded_rank(ordinal))

    def mark(self, ordinal: int) -> tuple[int, int]:
        """The record's place in order of change, exact even where a stamp was given by hand."""
        return self.stamp(ordinal), self.rank(ordinal)

    def row(self, ordinal: int) -> dict[str, Any]:
        """The record as it is now, with the flag that marks it as deleted where it is."""
        made: dict[str, Any] = self.plan.make(ordinal, self.stamp(ordinal))
        change = self.changes.get(ordinal)
        if change:
            for path, value in change.values.items():
                put(made, path.parts, value)
            if change.deleted:
                for path, gone in self.plan.gone:
                    put(made, path.parts, gone(ordinal, change.stamp))
        for path in self.plan.versions:
            put(made, path.parts, self.version(path, ordinal))
        return made

    def version(self, path: Path, ordinal: int) -> Any:
        """What a conditional write must name: another one after each change."""
        field = self.plan.declared.get(path)
        number = self.rank(ordinal) + 1
        return number if field and field.type == "integer" else f"v{number:x}"

    def rows(self, ordinals: Sequence[int]) -> list[dict[str, Any]]:
        """Many records at once; quickly where nothing was changed."""
        if self.changes or self.plan.versions:
            return [self.row(ordinal) for ordinal in ordinals]
        make, stamp, rank = self.plan.make, self.plan.seeded_stamp, self.seeded_rank
        return [make(ordinal, stamp(rank(ordinal))) for ordinal in ordinals]

    def exists(self, ordinal: int) -> bool:
        """Whether it ever did."""
        if ordinal in self.changes:
            return True
        return 0 <= ordinal < self.seeded and self.is_seeded(ordinal)

    def is_seeded(self, ordinal: int) -> bool:
        if self.parents is None:
            return True
        parent, number = divmod(ordinal, CHILDREN)
        return number < self.family(parent) and self.parents.is_seeded(parent)

    def family(self, parent: int) -> int:
        """How many seeded records stand under a parent."""
        return 1 if self.plan.stream.record else self.children_of(parent) % (CHILDREN + 1)

    def lives(self, ordinal: int) -> bool:
        """Whether it exists, and so does its parent."""
        change = self.changes.get(ordinal)
        if change.deleted if change else not self.exists(ordinal):
            return False
        parent = self.parent(ordinal)
        return self.parents is None or parent is None or self.parents.lives(parent)

    def parent(self, ordinal: int) -> int | None:
        """The number of the parent's record, for a child stream."""
        change = self.changes.get(ordinal)
        if change and change.inserted:
            return change.parent
        return None if self.parents is None else ordinal // CHILDREN

    def find(self, path: Path, value: Any) -> int | None:
        """The number of the record that has this value in a key field, also of a deleted one."""
        alias = self.aliases.get((path, as_text(value)))
        if alias is not None:
            return alias
        form = self.plan.unique.get(path)
        if form is not None:
            ordinal = form.read(value)
            return ordinal if ordinal is not None and self.exists(ordinal) else None
        return next((o for o in self.all() if as_text(path.get(self.row(o))) == as_text(value)), None)

    def find_key(self, values: Sequence[Any]) -> int | None:
        """The record of a primary key, given by its varying parts in order."""
        if len(values) == 1:
            return self.find(self.plan.key_paths[0], values[0])
        alias = self.aliases.get((Path(()), as_text(values)))
        if alias is not None:
            return alias
        ordinal = self.plan.key.read(values)
        return ordinal if ordinal is not None and self.exists(ordinal) else None

    def holding(self, path: Path, value: Any) -> list[int]:
        """The records that have this value in a field, also deleted ones, in order of place. No case matters."""
        if path not in self.holders:
            self.holders[path] = {}
            for ordinal in self.all():
                self.remember_holder(path, ordinal)
        text = folded(value)
        found = sorted(set(self.holders[path].get(text, ())))
        return [ordinal for ordinal in found if folded(path.get(self.row(ordinal))) == text]

    def remember_holder(self, path: Path, ordinal: int) -> None:
        self.holders[path].setdefault(folded(path.get(self.row(ordinal))), []).append(ordinal)

    def key_values(self, row: Mapping[str, Any]) -> list[Any]:
        return [path.get(row) for path in self.plan.key_paths]

    # many records

    def seeded_of(self, parent: int | None) -> Sequence[int]:
        """The seeded numbers, of one parent for a child stream."""
        if self.parents is None:
            return range(self.seeded)
        if parent is None:
            return list(filter(self.is_seeded, range(self.seeded)))
        if parent >= self.parents.seeded or not self.parents.is_seeded(parent):
            return ()
        return range(parent * CHILDREN, parent * CHILDREN + self.family(parent))

    def all(self, parent: int | None = None) -> Iterable[int]:
        """Every record that ever was, in order of place."""
        return chain(self.seeded_of(parent), self.inserted(parent))

    def inserted(self, parent: int | None = None) -> Iterator[int]:
        for ordinal, change in self.changes.items():
            if change.inserted and parent in (None, change.parent):
                yield ordinal

    def live(self) -> Iterator[int]:
        return (ordinal for ordinal in self.all() if self.lives(ordinal))

    def live_count(self) -> int:
        if self.parents is not None:
            return sum(1 for _ in self.live())
        gone = sum(change.deleted for change in self.changes.values())
        return self.seeded + sum(1 for _ in self.inserted()) - gone

    def listing(self, wanted: Selection) -> Sequence[int]:
        """The numbers of a list, in ascending order of place or of change. Kept until the next change."""
        found = self.listings.get(wanted)
        if found is None:
            found = self.listings[wanted] = self.make_listing(wanted)
            while len(self.listings) > LISTINGS:
                self.listings.popitem(last=False)
        return found

    def make_listing(self, wanted: Selection) -> Sequence[int]:
        seeded = () if wanted.only_gone else self.narrowed(self.seeded_of(wanted.parent), wanted)
        if not self.changes:
            return seeded
        changed = [o for o, change in self.changes.items() if self.is_wanted(o, change, wanted)]
        kept = [o for o in seeded if o not in self.changes]
        if not wanted.by_change:
            return array("q", sorted(chain(kept, changed)))
        if self.has_given_stamps:
            return array("q", sorted(chain(kept, changed), key=self.mark))
        return array("q", chain(kept, sorted(changed, key=self.rank)))

    def is_wanted(self, ordinal: int, change: Change, wanted: Selection) -> bool:
        return (
            (wanted.gone if change.deleted else not wanted.only_gone)
            and (wanted.parent is None or self.parent(ordinal) == wanted.parent)
            and (wanted.since is None or change.stamp >= wanted.since)
            and (wanted.until is None or change.stamp <= wanted.until)
            and (wanted.after_rank is None or change.rank > wanted.after_rank)
        )

    def narrowed(self, seeded: Sequence[int], wanted: Selection) -> Sequence[int]:
        """The seeded numbers within the bounds: their stamps rise with the rank, so only the edges are looked at."""
        if not wanted.is_narrowed or not seeded:
            return seeded
        low, high = self.bounds(wanted)
        if not self.plan.scrambled:
            return seeded[bisect_left(seeded, low) : bisect_left(seeded, high)]
        first, last = low & -BLOCK, -(-high // BLOCK) * BLOCK
        near = seeded[bisect_left(seeded, first) : bisect_left(seeded, last)]
        inner = range((first + BLOCK) if low != first else first, (last - BLOCK) if high != last else last)
        return array("q", (o for o in near if o in inner or low <= self.seeded_rank(o) < high))

    def bounds(self, wanted: Selection) -> tuple[int, int]:
        """The ranks of seeded records within the bounds, as a half-open range."""
        ranks, stamp_of = range(self.seeded), self.plan.seeded_stamp
        low = 0 if wanted.since is None else bisect_left(ranks, wanted.since, key=stamp_of)
        high = self.seeded if wanted.until is None else bisect_right(ranks, wanted.until, key=stamp_of)
        if wanted.after_rank is not None:
            low = max(low, wanted.after_rank + 1)
        return low, max(low, high)

    # changes

    def tick(self) -> int:
        """The stamp of a change made now: never before the last one's; equal ones happen, as in real systems."""
        form = self.plan.form
        if form.is_number:
            return self.next_rank + 1
        now = microseconds(self.clock.now())
        step = form.resolution if self.unique_stamps else 0
        self.stamp_now = max(now - now % form.resolution, self.stamp_now + step)
        return self.stamp_now

    def changed(self, ordinal: int, values: Mapping[Path, Any]) -> Change:
        """The record's entry in the overlay, moved to the end of the order of change."""
        stamp = self.given_stamp(values)
        if stamp is None:
            stamp = self.plan.seeded_stamp(ordinal) if self.plan.stamp_in_key else self.tick()
        change = self.changes.setdefault(ordinal, Change(self.next_rank, stamp))
        change.rank, change.stamp = self.next_rank, stamp
        change.values = {**change.values, **values}
        self.next_rank += 1
        now = self.clock.now().replace(microsecond=0)
        self.modified_at = max(now, self.modified_at + timedelta(seconds=1))
        self.listings.clear()
        for path in self.holders:
            self.remember_holder(path, ordinal)
        return change

    def given_stamp(self, values: Mapping[Path, Any]) -> int | None:
        """A stamp given by hand, such as one of a record that appears late or of the future."""
        path = self.plan.stamp_path
        if path is None or path not in values:
            return None
        try:
            stamp, _ = self.plan.form.read(values[path])
        except (ValueError, TypeError):
            return None
        self.has_given_stamps = True
        return stamp

    def insert(self, given: Mapping[str, Any] | None = None, parent: int | None = None) -> int:
        """A new record: seeded, with what is given put over it. Raises DataError for a key that is there."""
        ordinal = self.next_ordinal
        capacity = self.plan.key.capacity
        if capacity is not None and ordinal >= capacity and not given:
            raise DataError(f"{self.plan.name} has no free key left: its key has only {capacity} values")
        values = {Path(parts): value for parts, value in leaves(given or {})}
        self.refuse_known_key(given or {})
        self.next_ordinal += 1
        change = self.changed(ordinal, values)
        change.inserted, change.parent = True, parent
        self.remember_key(ordinal, values)
        return ordinal

    def refuse_known_key(self, given: Mapping[str, Any]) -> None:
        key = self.key_values(given)
        if MISSING not in key and self.find_key(key) is not None:
            raise DataError(f"{self.plan.name} already has a record {as_text(key[0] if len(key) == 1 else key)}")

    def remember_key(self, ordinal: int, values: Mapping[Path, Any]) -> None:
        """A key that was given can't be computed back, so it is kept."""
        if len(self.plan.key_paths) > 1 and any(path in values for path in self.plan.key_paths):
            self.aliases[Path(()), as_text(self.key_values(self.row(ordinal)))] = ordinal
        for path in [*self.plan.key_paths, *self.plan.unique]:
            if path in values:
                self.aliases[path, as_text(values[path])] = ordinal

    def update(self, ordinal: int, given: Mapping[str, Any] | None = None) -> None:
        """Puts values over a record, or changes one field by seed where none are given; a deleted one comes back."""
        if given is None:
            values = self.change_at_random(ordinal)
        else:
            values = {Path(parts): value for parts, value in leaves(given)}
        self.changed(ordinal, values).deleted = False

    def change_at_random(self, ordinal: int) -> dict[Path, Any]:
        row, fields = self.row(ordinal), self.plan.changing
        for attempt in range(8 if fields else 0):
            number = self.next_rank * 8 + attempt
            path, maker = fields[self.children_of(number) % len(fields)]
            value = maker(number, self.stamp_now)
            if value != path.get(row):
                return {path: value}
        return {}

    def delete(self, ordinal: int) -> None:
        self.changed(ordinal, {}).deleted = True

    def chosen(self, count: int) -> list[int]:
        """Live records, picked by seed: the same ones for the same history."""
        live = self.listing(Selection()) if self.parents is None else list(self.live())
        picked: dict[int, None] = {}
        number = self.next_rank
        while len(picked) < min(count, len(live)):
            picked[live[self.children_of(number) % len(live)]] = None
            number += 1
        return list(picked)


def folded(value: Any) -> str:
    """How sources compare what they look for: an address in capitals is the same one."""
    return as_text(value).strip().casefold()


Leaf = tuple[tuple[str, ...], Any]


def leaves(document: Mapping[str, Any], before: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """The values of nested objects with their paths; lists are values."""
    for key, value in document.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*before, key))
        else:
            yield (*before, key), value
