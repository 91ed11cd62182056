"""What pydantic refused, in the words of the grammar: where, what was expected, did you mean."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from integrations_pipeline.spec.yaml_text import KeyPath

EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a map",
    "model_type": "a map",
    "model_attributes_type": "a map",
    "invalid_key": "a key that is text",
    "too_short": "at least one entry",
    "greater_than": "a larger number",
    "greater_than_equal": "a larger number",
    "less_than_equal": "a smaller number",
}
SECRET_PLACES = ("auth", "secrets", "verify", "handshake", "headers", "settings")
SAMPLE_CHARACTERS = 60


def did_you_mean(word: Any, known: Iterable[str]) -> str:
    """`` (did you mean 'contacts'?)`` or nothing."""
    found = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.6)
    return f" (did you mean {found[0]!r}?)" if found else ""


def one_of(known: Iterable[str]) -> str:
    """``a, b or c``."""
    names = list(known)
    return " or ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def complaints(error: ValidationError, model: type[BaseModel], data: Any) -> Iterator[tuple[KeyPath, str]]:
    """Each thing wrong, once: the key's path in the YAML and the message.

    pydantic looks at a map as a whole only when each of its keys is right. So what is wrong is taken out, and the rest
    looked at again; a map that lost a key itself is left alone.
    """
    told = messages_of(error, model, data)
    try:
        model.model_validate(without(data, set(told)))
    except ValidationError as again:
        lessened = {path[:-1] for path in told}
        found = messages_of(again, model, data)
        told.update({path: found[path] for path in found if path not in told and path not in lessened})
    for path, messages in told.items():
        yield path, " or: ".join(messages)


def messages_of(error: ValidationError, model: type[BaseModel], data: Any) -> dict[KeyPath, list[str]]:
    told: dict[KeyPath, list[str]] = {}
    for one in error.errors(include_url=False):
        path = yaml_path(one, data)
        message = message_of(one, path, model)
        if message not in told.setdefault(path, []):
            told[path].append(message)
    return told


def without(data: Any, paths: set[KeyPath], at: KeyPath = ()) -> Any:
    """The data without what lies at the paths."""
    if isinstance(data, dict):
        return {k: without(v, paths, (*at, k)) for k, v in data.items() if (*at, k) not in paths}
    if isinstance(data, list):
        return [without(v, paths, (*at, n)) for n, v in enumerate(data) if (*at, n) not in paths]
    return data


def yaml_path(error: Any, data: Any) -> KeyPath:
    """pydantic's location without what isn't in the file: union tags, and keys behind a short form."""
    path: list[Any] = []
    location = error["loc"]
    for step in location:
        if has(data, step):
            data = data[step]
        elif not (isinstance(data, dict) and error["type"] == "missing" and step is location[-1]):
            continue
        path.append(step)
    return tuple(path)


def has(data: Any, step: Any) -> bool:
    if isinstance(data, list):
        return isinstance(step, int) and step < len(data)
    return isinstance(data, dict) and step in data


def message_of(error: Any, path: KeyPath, model: type[BaseModel]) -> str:
    kind, context, given = error["type"], error.get("ctx") or {}, error["input"]
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return "a required key is missing"
    if kind == "extra_forbidden":
        known = sorted(keys_at(model, error["loc"][:-1]))
        hint = did_you_mean(path[-1], known)
        return f"a key of the grammar was expected{hint}" if hint else f"one of the keys {one_of(known)} was expected"
    if kind in ("literal_error", "union_tag_invalid"):
        known = re.findall(r"'([^']*)'", context.get("expected") or context["expected_tags"])
        word = context.get("tag", given)
        return f"{one_of(known)} was expected{but(word, path)}{did_you_mean(word, known)}"
    if path[:1] == ("secrets",) and kind == "model_type":
        return "{env: NAME} or {file: /path} was expected; a secret never stands in the YAML itself"
    if kind == "union_tag_not_found":
        return "a map with `type` was expected"
    limit = next((f" ({sign} {context[key]})" for key, sign in BOUNDS.items() if key in context), "")
    return f"{EXPECTED.get(kind, error['msg'])}{limit} was expected{but(given, path)}"


BOUNDS = {"gt": "more than", "ge": "at least", "le": "at most"}


def but(given: Any, path: KeyPath) -> str:
    """``, not 'yes'``; never where a secret could have been written by mistake."""
    if isinstance(given, dict | list):
        return f", not a {'map' if isinstance(given, dict) else 'list'}"
    if any(part in SECRET_PLACES for part in path):
        return ""
    return f", not {'null' if given is None else repr(given)[:SAMPLE_CHARACTERS]}"


def keys_at(model: type[BaseModel], location: KeyPath) -> set[str]:
    """The keys the grammar knows at a place."""
    inside: list[Any] = [model]
    for step in location:
        inside = [after for annotation in inside for part in parts_of(annotation) for after in below(part, step)]
    models = [part for annotation in inside for part in parts_of(annotation) if is_model(part)]
    return {field.alias or name for part in models for name, field in part.model_fields.items()}


def parts_of(annotation: Any) -> Iterator[Any]:
    """The members of a union, without Annotated."""
    if get_origin(annotation) is Annotated:
        yield from parts_of(get_args(annotation)[0])
    elif get_origin(annotation) in (list, dict, Literal) or not get_args(annotation):
        yield annotation
    else:
        for inner in get_args(annotation):
            yield from parts_of(inner)


def below(part: Any, step: Any) -> Iterator[Any]:
    """What stands under a key, an index, or the tag of a union: its `type`, or the model's name."""
    if is_model(part):
        yield from (field.annotation for name, field in part.model_fields.items() if (field.alias or name) == step)
        if "type" in part.model_fields and step in get_args(part.model_fields["type"].annotation):
            yield part
        if step == part.__name__:
            yield part
    elif get_origin(part) in (list, dict):
        yield get_args(part)[-1]


def is_model(part: Any) -> bool:
    return isinstance(part, type) and issubclass(part, BaseModel)
