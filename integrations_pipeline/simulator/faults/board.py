"""Which faults are switched on, and whose turn it is. The same seed and the same requests give the same faults."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from integrations_pipeline.spec.clock import Clock
from integrations_pipeline.spec.errors import DataError
from integrations_pipeline.spec.faults import Fault, Scope, parse_fault


@dataclass(slots=True)
class Switched:
    """A fault that is on. ``seen`` counts its opportunities, ``hits`` those it took; ``memory`` is its own."""

    fault: Fault
    seed: int
    since: float
    seen: int = 0
    hits: int = 0
    memory: Any = field(default=None, repr=False)

    @property
    def arguments(self) -> dict[str, Any]:
        return self.fault.arguments

    def number(self, *about: Any) -> int:
        """A number that depends on the seed, this fault and what it is about, and on nothing else."""
        text = "/".join(map(str, (self.seed, self.fault.text, *about)))
        return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())

    def holds(self, index: int, now: float) -> bool:
        """Whether it is the turn of the opportunity with this number."""
        return self.fault.when.holds(index, now - self.since, lambda: self.number("chance", index) / 2**64)


class Board:
    """The switched faults of one simulation, in the order in which they were given."""

    def __init__(self, faults: Sequence[Fault | str], seed: int, clock: Clock, streams: Sequence[str]):
        self.seed, self.clock, self.streams = seed, clock, streams
        self.switched: list[Switched] = []
        self.struck: list[str] = []
        self.switch(faults)

    def switch(self, faults: Sequence[Fault | str]) -> None:
        """Replaces all faults; their counts begin anew. Raises DataError for an unknown one, and changes nothing."""
        try:
            parsed = [parse_fault(fault) for fault in faults]
        except ValueError as error:
            raise DataError(str(error)) from None
        for fault in parsed:
            if fault.stream is not None and fault.stream not in self.streams:
                raise DataError(f"{fault.text!r}: no stream {fault.stream}; there are {', '.join(self.streams)}")
        now = self.clock.monotonic_seconds()
        self.switched = [Switched(fault, self.seed, now) for fault in parsed]

    def begin(self) -> None:
        """A new request: none has struck yet."""
        self.struck = []

    def of(self, scope: Scope, stream: str) -> Iterator[Switched]:
        """Those of a scope that concern a stream ('' is a request that means none)."""
        for one in self.switched:
            if one.fault.scope == scope and one.fault.stream in (None, stream):
                yield one

    def turns(self, scope: Scope, stream: str) -> Iterator[Switched]:
        """Those whose turn it is at this request; counted when they are asked for."""
        return (one for one in self.of(scope, stream) if self.strikes(one))

    def strikes(self, one: Switched) -> bool:
        """Counts an opportunity; whether the fault takes it."""
        index, one.seen = one.seen, one.seen + 1
        return self.strikes_at(one, index)

    def strikes_at(self, one: Switched, index: int) -> bool:
        """Whether the fault takes the opportunity with this number."""
        if not one.holds(index, self.clock.monotonic_seconds()):
            return False
        one.hits += 1
        if one.fault.scope != "webhook":  # deliveries have lines of their own
            self.struck.append(one.fault.text)
        return True

    def of_row(self, stream: str, ordinal: int) -> list[str]:
        """The faults that a record has whenever it is read now."""
        now = self.clock.monotonic_seconds()
        return [one.fault.text for one in self.of("row", stream) if one.holds(ordinal, now)]

    @property
    def alters_pages(self) -> bool:
        """Whether equal requests may have different answers though nothing changed."""
        return any(one.fault.scope in ("cut", "page", "row") for one in self.switched)

    def report(self) -> list[dict[str, Any]]:
        return [{"fault": one.fault.text, "seen": one.seen, "hits": one.hits} for one in self.switched]
