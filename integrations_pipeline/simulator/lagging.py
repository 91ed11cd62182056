"""Read lag: for a while after a write, readers see what was there before it, as from a copy that follows behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from integrations_pipeline.simulator.dataset import Change, Dataset
from integrations_pipeline.spec.clock import Clock


@dataclass(frozen=True, slots=True)
class Before:
    """One record's state before a write that isn't seen until then. ``rank``: the first one that isn't seen."""

    until: datetime
    ordinal: int
    change: Change | None
    rank: int
    modified_at: datetime


class Lag:
    """The writes of one simulation that readers don't see yet. Used under its lock."""

    def __init__(self, clock: Clock):
        self.clock = clock
        self.unseen: dict[str, tuple[Dataset, list[Before]]] = {}

    def begin(self, dataset: Dataset, ordinal: int, seconds: float) -> None:
        """To be called before the write is done; ``ordinal`` may be that of a record to be created."""
        change = dataset.changes.get(ordinal)
        before = Before(
            self.clock.now() + timedelta(seconds=seconds),
            ordinal,
            change and replace(change),
            dataset.next_rank,
            dataset.modified_at,
        )
        self.unseen.setdefault(dataset.plan.name, (dataset, []))[1].append(before)

    def lagging(self) -> list[tuple[Dataset, list[Before]]]:
        """What isn't seen now, by dataset; forgets what is seen by now."""
        now = self.clock.now()
        for name, (dataset, befores) in list(self.unseen.items()):
            still = [one for one in befores if one.until > now]
            if still:
                self.unseen[name] = (dataset, still)
            else:
                del self.unseen[name]
        return list(self.unseen.values())

    @contextmanager
    def seen(self) -> Iterator[bool]:
        """Within it all datasets hold what readers see; whether that is less than there is."""
        lagging = self.lagging()
        real = [(one, one.changes, one.holders, one.next_rank, one.modified_at) for one, _ in lagging]
        for dataset, befores in lagging:
            put_back(dataset, befores)
        try:
            yield bool(lagging)
        finally:
            for dataset, changes, holders, next_rank, modified_at in real:
                dataset.changes, dataset.holders = changes, holders
                dataset.next_rank, dataset.modified_at = next_rank, modified_at
                dataset.listings.clear()


def put_back(dataset: Dataset, befores: list[Before]) -> None:
    """The records as they were before the first write that isn't seen."""
    dataset.changes, dataset.holders = dict(dataset.changes), {}
    for one in reversed(befores):
        if one.change is None:
            dataset.changes.pop(one.ordinal, None)
        else:
            dataset.changes[one.ordinal] = one.change
    dataset.next_rank, dataset.modified_at = befores[0].rank, befores[0].modified_at
    dataset.listings.clear()
