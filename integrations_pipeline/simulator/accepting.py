"""What a source takes of a written record, and what it makes of the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from integrations_pipeline.simulator.answer import Refused
from integrations_pipeline.simulator.dataset import leaves
from integrations_pipeline.simulator.records import Plan, put
from integrations_pipeline.simulator.values import inferred
from integrations_pipeline.simulator.writeforms import drop
from integrations_pipeline.spec.fields import Field
from integrations_pipeline.spec.paths import MISSING, Path

if TYPE_CHECKING:
    from integrations_pipeline.simulator.simulation import Row

TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "decimal": (int, float, str),
    "boolean": (bool,),
    "timestamp": (str, int),
    "date": (str, int),
}


def refuse_wrong(plan: Plan, fields: Row) -> None:
    """Raises Refused where a declared field was sent with a value that it can't have."""
    for path, field in plan.declared.items():
        value = path.get(fields)
        if value is not MISSING and not takes(field, value):
            raise Refused(422, "invalid", f"{path}: {value!r} is no value of this field")


def takes(field: Field, value: Any) -> bool:
    if value is None:
        return not field.required
    types = TYPES.get(field.type)
    if types and (not isinstance(value, types) or (isinstance(value, bool) and field.type != "boolean")):
        return False
    return field.values is None or value in field.values


def typed(plan: Plan, fields: Row) -> None:
    """A form holds texts only: each becomes what its field declares, an empty one null."""
    for parts, value in list(leaves(fields)):
        field = plan.declared.get(Path(parts), Field())
        put(fields, parts, None if value == "" else typed_one(field, value))


def typed_one(field: Field, value: Any) -> Any:
    if field.type == "boolean" and value in ("true", "false"):
        return value == "true"
    if field.type in ("integer", "decimal", "timestamp") and isinstance(value, str):
        try:
            return int(value) if field.type != "decimal" else value
        except ValueError:
            return value
    return value


def writable(plan: Plan, fields: Row) -> Row:
    """Without what the source itself writes: keys, stamps, versions."""
    kept: Row = {}
    for parts, value in leaves(fields):
        put(kept, parts, value)
    for path in {*plan.key_paths, *plan.unique, *plan.versions, plan.stamp_path, plan.stream.version} - {None}:
        if path is not None and path.parts:
            drop(kept, path)
    return kept


def with_blanks(plan: Plan, fields: Row, ordinal: int, stamp: int) -> Row:
    """A new record's fields, those that nobody gave empty: else it would be made up as a seeded one is."""
    made: Row = {}
    skipped = dict(plan.skip_tests)
    for path in plan.makers:
        if path in skipped:
            put(made, path.parts, plan.avoiding(path, skipped[path])(ordinal, stamp))
        elif not is_own(plan, path):
            put(made, path.parts, default_of(plan, path))
    for parts, value in leaves(fields):
        put(made, parts, value)
    return made


def is_own(plan: Plan, path: Path) -> bool:
    """Whether the source fills a field of a new record by itself."""
    field = plan.declared.get(path)
    own = {*plan.key_paths, *plan.unique, plan.stamp_path, plan.stream.version, *(gone for gone, _ in plan.gone)}
    is_time = inferred(path.parts[-1]).type == "timestamp" and "create" in path.parts[-1].lower()
    return path in own or path.parts[0] in plan.included or is_time or bool(field and field.required)


def default_of(plan: Plan, path: Path) -> Any:
    """The first of a field's known values, such as `open`; else null."""
    field, source = plan.declared.get(path), plan.mapped.get(path)
    listed = list(field.values if field and field.values else source.values if source and source.values else ())
    return listed[0] if listed else None


def normalise(plan: Plan, fields: Row, forms: Sequence[Callable[[str], str]]) -> None:
    """Texts in the form that the source keeps; never one of a field's known values."""
    for parts, value in list(leaves(fields)) if forms else ():
        path = Path(parts)
        field, source = plan.declared.get(path), plan.mapped.get(path)
        if isinstance(value, str) and not ((field and field.values) or (source and source.values)):
            for form in forms:
                value = form(value)
            put(fields, parts, value)
