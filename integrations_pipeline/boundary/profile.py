"""What a stream's accepted rows usually look like, learned from a sample of them, and what differs from it by now.

The profile is what is taken for right: a difference is a finding, and becomes part of the profile when a person accepts
it. Fields that the file names, and values that it maps, are no news.

learning (no run has succeeded yet, or fewer than STOP_ABOVE_ROWS rows were looked at) ──▶ comparing
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from integrations_pipeline.boundary.columns import read
from integrations_pipeline.boundary.new_fields import find_new, mapped_paths, named_paths, tree_of
from integrations_pipeline.spec.drift import SAMPLES, Drift, FieldProfile, Kind
from integrations_pipeline.spec.limits import PROFILE_PATHS, PROFILE_SAMPLE_ROWS, PROFILE_VALUES, STOP_ABOVE_ROWS
from integrations_pipeline.spec.paths import MISSING, Path, parse_path
from integrations_pipeline.spec.personal import looks_personal, shown
from integrations_pipeline.spec.reasons import printable, sample
from integrations_pipeline.spec.streams import Stream

DEPTH = 4
"""Objects further in are one value."""
SHARE = 100
"""One row of so many is looked at once the first PROFILE_SAMPLE_ROWS of a run were."""
DATA_KEY = re.compile(r"[\d\W_]+|[0-9a-fA-F-]{16,}")
"""A key that is data (a date, a number, an id) names no field."""
VALUE_CHARACTERS = 40
FINDINGS = 100
"""Open ones of a stream: more are a sign of data in the place of names."""
Key = tuple[str, str]
TYPES: dict[type, str] = {str: "text", bool: "boolean", int: "number", float: "number", Decimal: "number",
                          dict: "object", list: "list"}  # fmt: skip


@dataclass
class Seen:
    """One path in a sample: how often which type came, the first value of each, and the texts that may be few."""

    types: dict[str, int] = field(default_factory=dict)
    first: dict[str, Any] = field(default_factory=dict)
    values: set[Any] = field(default_factory=set)


class Profile:
    """What is known of one stream's rows; used by one thread. ``learned`` says that a run has succeeded before."""

    def __init__(self, stream: Stream, known: Iterable[FieldProfile], findings: Iterable[Drift], *, learned: bool):
        self.fields = {one.path: one for one in known}
        self.findings = {one.key: one for one in findings}
        self._named = {str(path) for path in named_paths(stream)}
        self._read = {str(path) for path in (*mapped_paths(stream), *stream.primary_key)}
        self._enums = {str(path): (path, values) for path, values in enums(stream)}
        self._looked = self._rows = 0
        self.learned = learned and max((one.rows for one in self.fields.values()), default=0) >= STOP_ABOVE_ROWS
        self._changed: set[str] = set()
        self._told: set[Key] = set()
        self._grow()
        for one in self.findings.values():
            self._end_named(one)

    def _grow(self) -> None:
        """The names that are known, as a tree; what lies in an object that the file names as a whole is known too."""
        above = {one for path in (*self.fields, *self._named) for one in lineage(path)[:-1]}
        own = {path for path in self.fields if self._named.isdisjoint(lineage(path)[:-1])}
        self._tree = tree_of(Path(tuple(path.split("."))) for path in self._named | (own - above))

    def learn(self, rows: Sequence[Any]) -> None:
        """Takes accepted rows in: all of them for names and mapped values, a sample for the rest."""
        self._rows += len(rows)
        for path, (at, _) in self._enums.items():
            self._values(path, read(rows, at))  # type: ignore[arg-type]
        self._new_fields(rows)
        looked = self._sample(rows)
        seen = gather(looked)
        if self.learned:
            self._types(seen)
        if looked:
            self._merge(seen, len(looked))

    def refused(self, path: str, values: list[str]) -> None:
        """Values that the field's `values` don't have, of rows that were rejected for it."""
        if path in self._enums:
            self._values(path, values)

    def finish(self) -> None:
        """A list was read to its end: fields that should have come by now and didn't are told."""
        for path, known in self.fields.items() if self.learned else ():
            if not known.filled or known.missing * known.filled < STOP_ABOVE_ROWS * (known.rows - known.missing):
                continue
            told = self.findings.get(("vanished_field", path))
            if any(("vanished_field", one) in self.findings for one in lineage(path)[:-1]):
                continue
            if told is None or told.rows < known.missing:  # else nothing was read since
                self._tell("vanished_field", path, [], [], known.missing - (told.rows if told else 0), known.missing)

    def changes(self) -> tuple[list[FieldProfile], list[Drift]]:
        """What changed since last asked, as copies: a commit may be under way while more is learned."""
        fields = [
            replace(one, types=dict(one.types), values=one.values and list(one.values))
            for one in (self.fields[path] for path in sorted(self._changed))
        ]
        findings = [replace(one) for key, one in sorted(self.findings.items()) if key in self._told]
        self.findings = {key: one for key, one in self.findings.items() if one.ended is None}
        self._changed, self._told = set(), set()
        return fields, findings

    def _sample(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Evenly spread: all of the first rows of a run, then few: short lists are known, and long ones cheap."""
        allowed = max(0, PROFILE_SAMPLE_ROWS + self._rows // SHARE - self._looked)
        looked = rows[:: -(-len(rows) // allowed)] if allowed and rows else ()
        self._looked += len(looked)
        return looked

    def _new_fields(self, rows: Sequence[Any]) -> None:
        shown_now: set[Key] = set()
        for names, value in find_new(rows, self._tree).items() if rows else ():  # type: ignore[arg-type]
            path = printable(".".join(names))
            if path in self.fields or DATA_KEY.fullmatch(names[-1]):
                continue
            if not self.learned:
                self._add_path(path)
                continue
            count = sum(1 for row in rows if Path(names).get(row) is not MISSING)
            shown_now.add(self._tell("new_field", path, [], [shown(path, sample(value))], count, len(rows)))
        for key, finding in self.findings.items():
            if finding.kind == "new_field" and key not in shown_now:
                self._calm(finding, len(rows))

    def _types(self, seen: dict[str, Seen]) -> None:
        for path, one in seen.items():
            known = self.fields.get(path)
            filled = sum(one.types.values())
            new = [kind for kind in one.types if kind not in known.types] if known and known.types else []
            if new:
                count = sum(one.types[kind] for kind in new)
                self._tell("changed_type", path, new, [shown(path, sample(one.first[new[0]]))], count, filled)
            else:
                self._calm(self.findings.get(("changed_type", path)), filled)

    def _values(self, path: str, column: list[Any]) -> None:
        """A value that neither the file nor the profile has, in all rows: one alone would escape a sample."""
        try:
            distinct = set(column)
        except TypeError:
            distinct = {value for value in column if not isinstance(value, dict | list)}
        distinct.discard(None)
        known = self._enums[path][1]
        profile = self.fields.get(path) or self._add_path(path)
        if profile is None or profile.values is None:
            return
        new = {value for value in distinct if form(value) not in known}.difference(profile.values)
        if not self.learned and new:
            values = [*profile.values, *sorted(new, key=str)]
            profile.values = values if len(values) <= PROFILE_VALUES else None  # too many for a list of values
            self._changed.add(path)
        elif new:
            found = sorted(new, key=str)
            count = sum(1 for value in column if value.__hash__ and value in new)
            self._tell("new_value", path, found, [shown(path, sample(one)) for one in found], count, len(column))
        else:
            self._calm(self.findings.get(("new_value", path)), len(column))

    def _tell(self, kind: Kind, path: str, found: list[Any], samples: list[str], rows: int, looked: int) -> Key:
        key: Key = (kind, path)
        if key not in self.findings and len(self.findings) >= FINDINGS:
            return key
        one = self.findings.setdefault(key, Drift(kind, path, "error" if self._is_read(path) else "warning"))
        one.found = [*one.found, *(value for value in found if value not in one.found)][:PROFILE_VALUES]
        one.samples = list(dict.fromkeys([*one.samples, *samples]))[:SAMPLES]
        one.looked += one.calm + looked
        one.rows, one.calm, one.ended = one.rows + rows, 0, None
        self._told.add(key)
        return key

    def _is_read(self, path: str) -> bool:
        """Whether the mapping reads it, a part of it, or what it lies in; or it is the key."""
        return not self._read.isdisjoint(lineage(path)) or any(one.startswith(f"{path}.") for one in self._read)

    def _calm(self, finding: Drift | None, rows: int) -> None:
        """Rows that don't show it. It is over where, by its share so far, as many as prove something should have."""
        if finding is None or not rows or finding.ended:
            return
        finding.calm += rows
        self._told.add(finding.key)
        if finding.calm * finding.rows >= STOP_ABOVE_ROWS * finding.looked:
            finding.ended = "it is gone"

    def _end_named(self, finding: Drift) -> None:
        """An edit of the file has settled it."""
        _, known = self._enums.get(finding.path, (None, set()))
        named = finding.kind == "new_field" and not self._named.isdisjoint(lineage(finding.path))
        if named or (finding.kind == "new_value" and all(form(value) in known for value in finding.found)):
            finding.ended = "the file names it"
            self._told.add(finding.key)

    def _merge(self, seen: dict[str, Seen], rows: int) -> None:
        """A path is learned at first, where the file names it, or where an object was only met empty so far."""
        parents = {path.rpartition(".")[0] for path in self.fields}
        for path in seen:
            above = path.rpartition(".")[0]
            if not self.learned or path in self._named or (above in self.fields and above not in parents):
                self._add_path(path)
        for path, known in self.fields.items():
            self._add(known, seen.get(path, NOTHING), rows)
        self._changed.update(self.fields)

    def _add_path(self, path: str) -> FieldProfile | None:
        if path in self.fields or len(self.fields) >= PROFILE_PATHS or DATA_KEY.fullmatch(path.rpartition(".")[2]):
            return self.fields.get(path)
        self.fields[path] = FieldProfile(path)
        self._changed.add(path)
        self._grow()
        return self.fields[path]

    def _add(self, known: FieldProfile, one: Seen, rows: int) -> None:
        filled = sum(one.types.values())
        fresh = not known.types or not self.learned
        known.rows, known.filled = known.rows + rows, known.filled + filled
        known.missing = 0 if filled else known.missing + rows
        for kind, count in one.types.items():
            if kind in known.types or fresh:
                known.types[kind] = known.types.get(kind, 0) + count
        if known.path not in self._enums and known.values is not None and not self.learned:
            values = {*known.values, *(text for text in one.values if not looks_personal(known.path, text))}
            few = len(values) <= PROFILE_VALUES and one.types.keys() <= {"text"}
            known.values = sorted(values) if few else None
        gone = self.findings.get(("vanished_field", known.path))
        if filled and gone and not gone.ended:
            gone.ended = "it is back"
            self._told.add(gone.key)


def lineage(path: str) -> list[str]:
    """``a.b.c`` as a, a.b, a.b.c."""
    parts = path.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


NOTHING = Seen()


def gather(rows: Sequence[Any]) -> dict[str, Seen]:
    """Each path of the rows with what stands there; null counts as nothing."""
    seen: dict[str, Seen] = {}
    for row in rows:
        gather_one(row, "", 1, seen)
    return seen


def gather_one(row: dict[str, Any], prefix: str, depth: int, seen: dict[str, Seen]) -> None:
    for key, value in row.items():
        if value is None:
            continue
        path = prefix + key
        one = seen.get(path)
        if one is None:
            one = seen[path] = Seen()
        kind = TYPES.get(type(value), "other")
        if kind not in one.types:
            one.types[kind], one.first[kind] = 0, value
        one.types[kind] += 1
        if kind == "object" and depth < DEPTH:
            gather_one(value, f"{path}.", depth + 1, seen)
        elif kind == "text" and len(value) <= VALUE_CHARACTERS and len(one.values) <= PROFILE_VALUES:
            one.values.add(value)


def enums(stream: Stream) -> list[tuple[Path, set[str]]]:
    """Paths whose values the file lists, in `values` of the map or of the field, with those values."""
    found = {parse_path(name): set(field.values) for name, field in stream.fields.items() if field.values}
    for one in stream.map.fields.values() if stream.map else ():
        if one.values is not None and one.from_ is not None and one.from_.parts:
            found.setdefault(one.from_, set()).update(one.values)
    return [(path, {form(value) for value in values}) for path, values in found.items()]


def form(value: Any) -> str:
    """Compared without case and surrounding space: the map may `trim` and `lower` first."""
    return str(value).strip().lower()
