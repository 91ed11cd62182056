"""The boundary: raw rows in, each accepted, rejected with its reasons, skipped or superseded; none lost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NoReturn

from integrations_pipeline.boundary.batch import Batch
from integrations_pipeline.boundary.columns import Column, Reader, pick, put, read, reader
from integrations_pipeline.boundary.duplicates import settle
from integrations_pipeline.boundary.keys import Keys
from integrations_pipeline.boundary.new_fields import find_new, named_paths, new_in, tree_of
from integrations_pipeline.boundary.order import Order, watermark
from integrations_pipeline.boundary.outcome import Landing, Rejected, Split, digest
from integrations_pipeline.boundary.rules import Rules
from integrations_pipeline.spec.decoding import encode_ascii
from integrations_pipeline.spec.errors import ContractError
from integrations_pipeline.spec.limits import STOP_ABOVE_ROWS
from integrations_pipeline.spec.paths import MISSING, Path, parse_path
from integrations_pipeline.spec.personal import shown
from integrations_pipeline.spec.reasons import Reason, sample
from integrations_pipeline.spec.streams import Stream


class Boundary:
    """What is asked of the rows of one stream, compiled once; used by one thread at a time.

    ``desc`` says that the list comes newest first: of equal versions the earlier row is newer. Raises ConfigError
    where a declared limit doesn't fit its field.
    """

    def __init__(self, connection: str, stream_name: str, stream: Stream, *, desc: bool = False):
        self.where = f"{connection}/{stream_name}"
        self.stream = stream
        self.desc = desc
        self._keys = Keys(stream.primary_key)
        self._order = Order(stream)
        self._readers: dict[str, Reader] = {n: reader(parse_path(n), f) for n, f in stream.fields.items()}
        self._rules = Rules(stream.fields, self.where)
        self._named = tree_of(named_paths(stream))
        needed = (*stream.primary_key, self._order.path)
        self._needed = {str(path) for path in needed if path}

    def warm(self) -> None:
        """Imports what the first split needs (about 2 s of CPU): for a thread, while the first page is on its way."""
        self._rules.warm()

    def split(self, rows: list[Any], read_at: datetime, moments: Sequence[datetime] = ()) -> Split:
        """Judges rows read together, the last of them at that (aware) time; ``moments``: each row's own, where they
        differ. The four lists of the answer balance with the rows.

        Raises ContractError, and nothing is to be stored, where the contract says `freeze` or more than `stop_above`
        of at least ``STOP_ABOVE_ROWS`` rows are bad. Rows are never changed.
        """
        batch = Batch(rows, [row if isinstance(row, dict) else {} for row in rows])
        self._identify(batch)
        version, cursor = self._order.columns(batch.records)
        batch.encode(batch.standing())
        self._check_fields(batch, version)
        self._check_new(batch)
        texts = self._order.texts(version, batch.records, moments or [read_at] * len(rows))
        self._check_versions(batch, texts)
        self._stop_if_mostly_bad(batch)
        return self._sort(batch, texts, cursor, read_at)

    def _identify(self, batch: Batch) -> None:
        """Who is who: external ids, what `skip` leaves out, what is deleted."""
        batch.ids, no_key = self._keys.read(batch.records)
        skip, gone = self.stream.skip, self.stream.deletes and self.stream.deletes.when
        if not (skip or gone or no_key):
            return
        for position, row in enumerate(batch.rows):
            if not isinstance(row, dict):
                batch.reject(position, "object", "", "the row is no object", row)
            elif skip and skip.holds(row):
                batch.skipped[position] = skip.text
            elif position in no_key:
                batch.reject(position, "primary_key", self._keys.name, no_key[position], row)
            elif gone and gone.holds(row):
                batch.tombstones.add(position)

    def _check_fields(self, batch: Batch, version: Column | None) -> None:
        """Types first, by our own parsers; then the rules, by pandera."""
        positions = batch.living()
        if not positions or not self._readers:
            return
        records = pick(batch.records, positions)
        typed: dict[str, list[Any]] = {}
        for name, one in self._readers.items():
            known = version if version and self._order.path == one.path else None
            column = known.select(positions) if known else one.read(records)
            typed[name] = column.typed
            for index, message in column.bad.items():
                self._break(batch, positions[index], name, "type", message)
        self._check_rules(batch, typed, positions)

    def _check_rules(self, batch: Batch, typed: dict[str, list[Any]], positions: list[int]) -> None:
        """The whole batch first; failing rows are taken out (or failing values made null) until the rest is clean."""
        if not self._rules.fields:
            return
        frame = self._rules.frame(typed, positions)
        if batch.reasons:
            frame = frame.drop(index=[p for p in positions if p in batch.reasons])
        while len(frame) and (failures := self._rules.failures(frame)):
            for position, name, rule in failures:
                frame.at[position, name] = None
                self._break(batch, position, name, rule, self._rules.message(name, rule))
            frame = frame.drop(index=[p for p in {failure[0] for failure in failures} if p in batch.reasons])

    def _break(self, batch: Batch, position: int, name: str, rule: str, message: str) -> None:
        """A value broke its type or a rule: as the contract says, the row goes, the value goes, or all stops."""
        mode, path = self.stream.contract.bad_value, self._readers[name].path
        (shown,) = read([batch.rows[position]], path)
        if mode == "freeze":
            self._stop(f"{name} is {message} ({sample(shown)!r}), and the contract says bad_value: freeze")
        if mode != "discard_value" or self.stream.fields[name].required or name in self._needed:
            batch.reject(position, rule, name, message, shown)
        elif path.get(batch.records[position]) not in (None, MISSING):  # broken by two rules, or with what it lies in
            batch.records[position] = put(batch.records[position], path.parts, None)
            batch.note("discarded_value", name, shown, rows=1)
            batch.encode([position])

    def _check_new(self, batch: Batch) -> None:
        """Fields that the connection doesn't name; where it declares none, nothing is new."""
        positions = batch.living() if self.stream.fields else []
        found = find_new([batch.rows[p] for p in positions], self._named) if positions else {}
        mode = self.stream.contract.new_field
        for names, value in found.items():
            if mode == "freeze":
                self._stop(
                    f"the new field {'.'.join(names)} ({sample(value)!r}), and the contract says new_field: freeze"
                )
            batch.note("new_field", ".".join(names), value)
        if mode in ("quarantine", "discard_value") and found:
            for position in positions:
                self._take_new(batch, position, discard=mode == "discard_value")

    def highest_cursor(self, rows: list[Any], read_at: datetime) -> Any:
        """The highest cursor value among rows as they came that isn't in the future, whatever else is wrong with them;
        None where there is none."""
        if self._order.cursor is None:
            return None
        objects = [row for row in rows if isinstance(row, dict)]
        return watermark(self._order.cursor.read(objects).typed, read_at)

    def _take_new(self, batch: Batch, position: int, *, discard: bool) -> None:
        new = list(new_in(batch.records[position], self._named))
        for names in new:
            if discard:
                batch.records[position] = put(batch.records[position], names, MISSING)
            else:
                value = Path(names).get(batch.rows[position])
                batch.reject(position, "new_field", ".".join(names), "not declared, and the contract is closed", value)
        if discard and new:
            batch.encode([position])

    def _check_versions(self, batch: Batch, texts: Column) -> None:
        """A row that can't be ordered could overwrite a newer one."""
        path = self._order.path
        if path is None or not texts.bad:
            return
        for position in [position for position in batch.standing() if position in texts.bad]:
            (shown,) = read([batch.rows[position]], path)
            batch.reject(position, "version", str(path), texts.bad[position], shown)

    def _stop_if_mostly_bad(self, batch: Batch) -> None:
        judged, bad = len(batch.rows) - len(batch.skipped), len(batch.reasons)
        if judged < STOP_ABOVE_ROWS or bad * 100 <= self.stream.contract.stop_above * judged:
            return
        limit = f"{self.stream.contract.stop_above:g}%"
        broken = worst(batch)
        (field, rule), _ = broken[0]
        self._stop(
            f"{bad} of {judged} rows are bad, more than stop_above ({limit}): {told(broken)}",
            next=self._mend(field, rule),
        )

    def _mend(self, field: str, rule: str) -> str:
        """What whoever reads it should do about most rows breaking this rule."""
        place = (
            f"`fields.{field}`" if field in self.stream.fields else f"`{rule if rule == 'primary_key' else 'records'}`"
        )
        return (
            f"look whether the source has changed; if so, edit {place} of the stream and sync again, which goes on "
            "where it stands: nothing of this page was stored"
        )

    def _stop(self, what: str, next: str = "") -> NoReturn:
        asked = "compare the source's rows with the stream's fields; nothing was stored"
        raise ContractError(what, where=self.where, next=next or asked)

    def _sort(self, batch: Batch, texts: Column, cursor: Column | None, read_at: datetime) -> Split:
        kept = settle(batch, texts, desc=self.desc)
        good = map(
            Landing,
            *(pick(column, kept.good) for column in (batch.ids, batch.bodies, batch.hashes, texts.typed)),
            [position in batch.tombstones for position in kept.good],
            pick(batch.records, kept.good),
        )
        keyed = zip(cursor.typed, batch.ids, strict=True) if cursor else ()
        return Split(
            good=list(good),
            rejected=[rejected(batch, position) for position in kept.rejected],
            skipped=[(batch.ids[position], why) for position, why in batch.skipped.items()],
            superseded=kept.superseded,
            findings=list(batch.findings.values()),
            positions=list(kept.good),
            rejected_positions=list(kept.rejected),
            skipped_positions=list(batch.skipped),
            watermark=watermark([value for value, external_id in keyed if external_id is not None], read_at),
        )


def rejected(batch: Batch, position: int) -> Rejected:
    payload = encode_ascii(batch.rows[position])
    return Rejected(batch.ids[position], payload, digest(payload.encode("ascii")), batch.reasons[position])


def worst(batch: Batch) -> list[tuple[tuple[str, str], list[Reason]]]:
    """The three (field, rule) that most rows broke, with what was said of them."""
    broken: dict[tuple[str, str], list[Reason]] = {}
    for one in (one for reasons in batch.reasons.values() for one in reasons):
        broken.setdefault((one["field"], one["rule"]), []).append(one)
    return sorted(broken.items(), key=lambda pair: len(pair[1]), reverse=True)[:3]


def told(broken: list[tuple[tuple[str, str], list[Reason]]]) -> str:
    """With an example each, of which the form only is told where it looks personal."""
    return "; ".join(
        f"{field or 'row'} ({rule}, {len(found)} rows): {found[0]['message']}, "
        f"e.g. {shown(field, found[0]['sample'])[:40]!r}"
        for (field, rule), found in broken
    )
