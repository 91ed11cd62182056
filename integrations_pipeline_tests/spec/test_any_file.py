"""Whatever a file holds, loading ends in a connection or in named problems, never in another exception."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import Reader, read_kinds
from integrations_pipeline.spec.yaml_text import Document, read_document
from integrations_pipeline_tests.spec.written import EXAMPLES

FILES = [read_document(path, path.name).data for path in sorted((EXAMPLES / "connections").glob("*.yaml"))]
HOME = Home(EXAMPLES)
KINDS = read_kinds(HOME, [HOME.models])
ODD = (
    "| |<|<x>|<a.b>|<contacts.id>|$|$token|.|..|a.b|header|body x|GET|GET /x?y|0|5xx|1 per 0s|9999999d|at least x|%|²|"
    "{x}|under 101%|* * * * *|24:00-25:00 UTC|reread|**|https://[|http://|\ud800|\0|issues|rates|customer|iso|url|spread"
)
SCALARS = st.none() | st.booleans() | st.integers(-5, 10**20) | st.floats() | st.sampled_from(ODD.split("|"))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "from", "a", "id"]), inner),
    max_leaves=6,
)


def places(data: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [at, *(place for key, value in inner for place in places(value, (*at, key)))]


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """One of the grammar's files with some values changed, removed or added."""
    data = copy.deepcopy(draw(st.sampled_from(FILES)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.sampled_from(places(data)[1:]))
        holder = data
        for key in place[:-1]:
            holder = holder[key]
        change = draw(st.sampled_from(["set", "remove", "add"]))
        if change == "remove":
            del holder[place[-1]]
        elif change == "add" and isinstance(holder, dict):
            holder[draw(st.sampled_from(["parent", "send", "type", "url", "new", "start", "apply"]))] = draw(VALUES)
        else:
            holder[place[-1]] = draw(VALUES)
        if not data:
            break
    return data


@given(mutated())
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_mutated_file_loads_or_says_why(data: Any) -> None:
    if not (isinstance(data, dict) and "connection" in data):
        return
    connection, problems = Reader(HOME, KINDS).assembled(Document("a.yaml", data))
    assert isinstance(connection, Connection) or problems
    for problem in problems:
        assert problem.message
        assert problem.file


@pytest.mark.long
@given(mutated())
@settings(max_examples=5000, deadline=None, suppress_health_check=list(HealthCheck))
def test_many_mutated_files_load_or_say_why(data: Any) -> None:
    test_a_mutated_file_loads_or_says_why.hypothesis.inner_test(data)  # type: ignore[attr-defined]
