"""One record may come several times in one call; the newest stands for all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from integrations_pipeline.boundary.batch import Batch
from integrations_pipeline.boundary.columns import Column

UNREADABLE = "\U0010ffff"
"""Sorts after every version: a row that can't be placed in time counts as new, so that it isn't lost."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Positions of the rows that stand, and (external id, version) of those that a newer one of the call stands for."""

    good: list[int]
    rejected: list[int]
    superseded: list[tuple[str, str]]


def settle(batch: Batch, versions: Column, *, desc: bool) -> Kept:
    """Of several rows of one key the highest version stays; of equal ones the later row, or with ``desc`` the earlier.

    A good row stays unless a newer good one is there. A rejected one stays unless any newer one is there: a key has
    one place in quarantine, and none is needed once a newer good row has come.
    """
    good, bad = batch.standing(), sorted(batch.reasons)
    ids = batch.ids
    if not bad and len({ids[position] for position in good}) == len(good):
        return Kept(good, [], [])

    def age(position: int) -> tuple[str, int]:
        text = UNREADABLE if position in versions.bad else versions.typed[position] or UNREADABLE
        return text, -position if desc else position

    def newest(positions: Iterable[int]) -> dict[str, int]:
        best: dict[str, int] = {}
        for position in positions:
            key = ids[position]
            if key is not None and (key not in best or age(position) > age(best[key])):
                best[key] = position
        return best

    best_good, best_of_all = newest(good), newest((*good, *bad))
    stays_good = set(best_good.values())
    stays_bad = {p for p in bad if ids[p] is None or best_of_all[ids[p] or ""] == p}
    gone = [p for p in (*good, *bad) if p not in stays_good and p not in stays_bad]
    return Kept(
        [p for p in good if p in stays_good],
        [p for p in bad if p in stays_bad],
        [(ids[p] or "", versions.typed[p] or "") for p in gone],
    )
