"""docs/grammar.md names every word a file may hold; that it names every key is tested with the other documents."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest

from integrations_pipeline.spec import auth, connection, fields, pagination, streams, webhook, write
from integrations_pipeline.spec.api import ErrorClass
from integrations_pipeline.spec.forms import Unit
from integrations_pipeline.spec.mapping import ARGUMENT_TRANSFORMS, PLAIN_TRANSFORMS
from integrations_pipeline.spec.refusals.names import RESERVED_PREFIXES, RESERVED_WORDS

PAGE = (Path(__file__).parents[2] / "docs" / "grammar.md").read_text(encoding="utf-8")
WORDS = {word for span in re.findall(r"`([^`]+)`", PAGE) for word in re.findall(r"\w+", span)}


def types(union: Any) -> list[str]:
    return [get_args(one.model_fields["type"].annotation)[0] for one in get_args(get_args(union)[0])]


def choices(model: Any, key: str) -> list[str]:
    return [str(word) for word in get_args(model.model_fields[key].annotation)]


VOCABULARIES = {
    "auth": types(auth.Auth),
    "pagination": types(pagination.Pagination),
    "classes": get_args(ErrorClass),
    "units": get_args(Unit),
    "transforms": (*PLAIN_TRANSFORMS, *ARGUMENT_TRANSFORMS),
    "field types": get_args(fields.FieldType),
    "field formats": get_args(fields.Format),
    "policies": get_args(write.Policy),
    "contract": choices(fields.Contract, "new_field"),
    "order": choices(streams.StreamCursor, "order"),
    "verify": choices(webhook.Verify, "type"),
    "apply": choices(webhook.Webhook, "apply"),
    "log_bodies": choices(connection.Connection, "log_bodies"),
    "placeholders": (*RESERVED_WORDS, *RESERVED_PREFIXES),
}


@pytest.mark.parametrize(("about", "words"), VOCABULARIES.items())
def test_every_word_is_on_the_page(about: str, words: tuple[str, ...]) -> None:
    assert words, about
    assert [word for word in words if word not in WORDS] == []
