"""The form in which what is known of a stream's rows is handed from the boundary to the store, and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["new_field", "vanished_field", "changed_type", "new_value"]
Severity = Literal["warning", "error"]

SAMPLES = 3
"""Kept of a finding."""


@dataclass
class FieldProfile:
    """One path of a stream's accepted rows. ``rows`` are those looked at since it was first met, ``filled`` those of
    them with a value that isn't null, ``missing`` those in a row without one. ``types`` counts JSON's types; ``values``
    are the distinct ones while they are few, else None."""

    path: str
    rows: int = 0
    filled: int = 0
    missing: int = 0
    types: dict[str, int] = field(default_factory=dict)
    values: list[Any] | None = field(default_factory=list)


@dataclass
class Drift:
    """A difference between a stream's profile and the rows that come now.

    ``found`` are the new types or values; ``rows`` showed it of the ``looked`` at, and the last ``calm`` ones did not.
    ``ended`` says why it is over.
    """

    kind: Kind
    path: str
    severity: Severity
    found: list[Any] = field(default_factory=list)
    samples: list[str] = field(default_factory=list)
    rows: int = 0
    looked: int = 0
    calm: int = 0
    ended: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.kind, self.path
