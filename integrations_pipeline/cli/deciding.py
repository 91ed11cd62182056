"""A person's decision about what waits: those with the ids, else those of the connections in one of the statuses."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from integrations_pipeline.cli import output
from integrations_pipeline.cli.naming import connection_of, numbers_in
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.reasons import given_up
from integrations_pipeline.store.store import open_store


@dataclass(frozen=True)
class Waiting:
    """What is decided about. ``named``: one of them, for people; ``ids_of``: those of a connection in these statuses;
    ``next``: where to look when an id can't be decided about."""

    named: str
    ids_of: Callable[[Any, str, Sequence[str]], list[int]]
    next: str

    def decide(
        self,
        word: str,
        what: Sequence[str],
        statuses: Sequence[str],
        decision: Callable[[Any, Collection[int]], list[int]],
        *,
        json: bool,
    ) -> int:
        """``decision`` returns the ids it did. Raises ConfigError for a named one that it didn't."""
        home, numbers = Home.from_environment(), numbers_in(what)
        with open_store(home=home) as store, store.borrow() as session:
            names = [connection_of(one, home)[0] for one in what] if numbers is None else []
            ids = (
                numbers if numbers is not None else [id for one in names for id in self.ids_of(session, one, statuses)]
            )
            done = sorted(decision(session, ids))
        if numbers is not None and (missing := sorted(set(numbers) - set(done))):
            raise self.undecided(missing)
        if json:
            output.print_json({word: done})
            return 0
        output.console.print(f"{len(done):,} {word}", markup=False)
        return 0

    def undecided(self, numbers: Sequence[int]) -> ConfigError:
        named = ", ".join(map(str, numbers[:5]))
        what = f"no {self.named} with the id {named} can be so decided about"
        return ConfigError(what, who=output.TYPED, next=self.next)


def given_reason(reason: str) -> dict[str, str]:
    """A discard's reason as it is kept. Raises ConfigError where none is given."""
    if not reason.strip():
        raise ConfigError("a reason was expected", who=output.TYPED, next='say --reason "why it may be left out"')
    return given_up(reason)
