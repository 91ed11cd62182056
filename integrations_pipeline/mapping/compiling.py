"""A map as one function, written out field by field: to call each step would cost more than most steps do.

What is written is what ``explain`` runs step by step; where a step raises, ``explain`` says which one it was. All words
are our own; field names and keys are quoted. For a text that is trimmed and required, with a rule of its kind:

    try:
        v = get('email')
        if v.__class__ not in PLAIN: v = as_stored(v)
        if v is not None: v = step_0(v if v.__class__ is str else as_text(v))
        if v is not None and v.__class__ is not str: v = as_text(v)
        if v is not None and not step_2(v): raise ValueError
        if v is None or v.__class__ is str: v = step_3(v, record)
    except (ValueError, ArithmeticError):
        v = None; bad.append(0)
    v0 = v
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import NoneType
from typing import Any, NamedTuple

from integrations_pipeline.mapping.transforms import OnText, Rule, as_text
from integrations_pipeline.spec.decoding import as_stored
from integrations_pipeline.spec.paths import Getter, Missing

PLAIN = frozenset((str, int, bool, NoneType, Missing))
"""What a jsonb column gives back as it is."""


class Field(NamedTuple):
    """One field to be written out. ``key``: it starts from what stands there in the record; else ``read`` says."""

    name: str
    key: str | None
    read: Getter
    steps: Sequence[tuple[str, Callable[[Any, Any], Any], bool]]


def write_out(fields: Sequence[Field]) -> Callable[[Any], tuple[dict[str, Any], list[int]]]:
    """A function of a record: the value of each field, and the numbers of those that can't be made."""
    names: dict[str, Any] = {"PLAIN": PLAIN, "as_stored": as_stored, "as_text": as_text}
    lines = ["def values(record):", " bad = []", " get = record.get if record.__class__ is dict else {}.get"]
    for number, field in enumerate(fields):
        lines += [" try:", *(f"  {line}" for line in written(field, number, names))]
        lines += [" except (ValueError, ArithmeticError):", f"  v = None; bad.append({number})", f" v{number} = v"]
    pairs = ", ".join(f"{field.name!r}: v{number}" for number, field in enumerate(fields))
    exec("\n".join([*lines, f" return {{{pairs}}}, bad"]), names)
    return names["values"]  # type: ignore[no-any-return]


def written(field: Field, number: int, names: dict[str, Any]) -> list[str]:
    """The lines of one field; the functions they call are put among the names."""
    if field.key is not None:
        lines = [f"v = get({field.key!r})", "if v.__class__ not in PLAIN: v = as_stored(v)"]
    else:
        names[f"read_{number}"] = field.read
        lines = [f"v = read_{number}(record)"]
    for place, (rule, run, on_null) in enumerate(field.steps):
        name = f"step_{number}_{place}"
        names[name] = run.change if isinstance(run, OnText) else run.holds if isinstance(run, Rule) else run
        if isinstance(run, OnText):
            lines.append(f"if v is not None: v = {name}(v if v.__class__ is str else as_text(v))")
        elif isinstance(run, Rule):
            lines.append(f"if v is not None and not {name}(v): raise ValueError")
        elif rule == "required":
            lines.append(f"if v is None or v.__class__ is str: v = {name}(v, record)")
        else:
            lines.append(f"{'' if on_null else 'if v is not None: '}v = {name}(v, record)")
    return lines
