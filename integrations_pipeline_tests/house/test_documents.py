"""The documents are true: links resolve, names exist, and whatever a user can meet is written down."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from pydantic import BaseModel
from typer.core import TyperGroup

from integrations_pipeline.cli.app import app
from integrations_pipeline.spec import limits
from integrations_pipeline.spec.auth import Auth
from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.spec.errors import IntegrationError
from integrations_pipeline.spec.mapping import ARGUMENT_TRANSFORMS, PLAIN_TRANSFORMS, Transform
from integrations_pipeline_tests.house.tree import PACKAGE, ROOT, TESTS, documents, modules, shown

DOCS = ROOT / "docs"
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")


def text_of(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def prose_of(path: Path) -> str:
    """A document without its code blocks."""
    return CODE.sub("", path.read_text(encoding="utf-8"))


def anchors(path: Path) -> set[str]:
    """The link targets that the headings of a document make."""
    headings = re.findall(r"^#+ (.+)$", prose_of(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(path: Path, target: str) -> bool:
    """Whether a link leads nowhere inside the repository; addresses of other sites are not asked."""
    if "://" in target or target.startswith("mailto:"):
        return False
    name, _, anchor = target.partition("#")
    place = (path.parent / name).resolve() if name else path
    if not place.exists():
        return True
    return bool(anchor) and place.suffix == ".md" and anchor not in anchors(place)


def test_links_lead_somewhere() -> None:
    wrong = [f"{shown(path)}: {t}" for path in documents() for t in LINK.findall(prose_of(path)) if broken(path, t)]
    assert not wrong, "\n".join(wrong)


def test_the_tests_that_documents_name_exist() -> None:
    known = {node.name for _, tree in modules(TESTS) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    named = {
        (shown(path), span)
        for path in documents()
        for span in SPAN.findall(prose_of(path))
        if re.fullmatch(r"test_\w+", span)
    }
    assert not {one for one in named if one[1] not in known}


def error_classes(cls: type[IntegrationError] = IntegrationError) -> Iterator[type[IntegrationError]]:
    """Each class below the root that stands for a word of the grammar."""
    for sub in cls.__subclasses__():
        if "error_class" in vars(sub):
            yield sub
        yield from error_classes(sub)


@pytest.mark.parametrize("cls", list(error_classes()), ids=lambda cls: cls.__name__)
def test_each_error_class_is_documented(cls: type[IntegrationError]) -> None:
    row = f"| `{cls.error_class}` | {cls.__name__} | {cls.exit_code} |"
    found = [line for line in text_of("errors.md").splitlines() if line.startswith(row)]
    assert found, f"docs/errors.md needs a row that starts with {row}"
    assert cls.default_who in found[0], f"who acts: {cls.default_who}"
    assert cls.default_next in found[0], f"next step: {cls.default_next}"


def declared_limits() -> list[tuple[str, str, str]]:
    """Name, value and reason of each limit, as the rows of docs/limits.md say them."""
    body = ast.parse((PACKAGE / "spec" / "limits.py").read_text(encoding="utf-8")).body
    found = []
    for node, after in pairwise(body):
        if isinstance(node, ast.Assign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            name = ast.unparse(node.targets[0])
            found.append((name, f"{getattr(limits, name):,}", " ".join(str(after.value.value).split())))
    return found


@pytest.mark.parametrize("row", declared_limits(), ids=lambda row: row[0])
def test_each_limit_is_documented_with_its_reason(row: tuple[str, str, str]) -> None:
    name, value, reason = row
    assert f"| `{name}` | {value} | {reason} |" in text_of("limits.md")


def test_every_limit_has_a_reason() -> None:
    tree = ast.parse((PACKAGE / "spec" / "limits.py").read_text(encoding="utf-8"))
    assert len(declared_limits()) == sum(isinstance(node, ast.Assign) for node in tree.body)


def test_each_environment_variable_is_documented() -> None:
    used = {
        node.value
        for _, tree in modules(PACKAGE)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"INTEGRATIONS_[A-Z_]+", node.value)
    }
    documented = set(re.findall(r"^## `(INTEGRATIONS_[A-Z_]+)`", text_of("settings.md"), re.MULTILINE))
    assert used <= documented, f"not in docs/settings.md: {used - documented}"


@pytest.mark.parametrize("name", sorted({*PLAIN_TRANSFORMS, *ARGUMENT_TRANSFORMS}))
def test_each_transform_is_documented(name: str) -> None:
    assert re.search(rf"^\| `{name}`", text_of("transforms.md"), re.MULTILINE), "docs/transforms.md needs a row"


def models_inside(annotation: Any, found: set[type[BaseModel]]) -> set[type[BaseModel]]:
    """Every model of the grammar that can be reached from an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in found:
        found.add(annotation)
        for field in annotation.model_fields.values():
            models_inside(field.annotation, found)
    for inner in get_args(annotation):
        models_inside(inner, found)
    return found


def grammar_keys() -> list[tuple[str, str]]:
    """Each key a YAML file may hold, with the model it belongs to."""
    found: set[type[BaseModel]] = set()
    for root in (Connection, Kind, Auth):
        models_inside(root, found)
    found.discard(Transform)  # written as ``name`` or ``{name: argument}``
    return sorted(
        {
            (model.__name__, field.alias or name)
            for model in found
            if model.__module__.startswith("integrations_pipeline.")
            for name, field in model.model_fields.items()
        }
    )


def words_in_code(text: str) -> set[str]:
    """Every word inside code spans and code blocks."""
    pieces = [*CODE.findall(text), *SPAN.findall(CODE.sub("", text))]
    return {word for piece in pieces for word in re.findall(r"\w+", piece)}


def test_each_key_of_the_grammar_is_documented() -> None:
    known = words_in_code(text_of("grammar.md"))
    missing = [f"{model}.{key}" for model, key in grammar_keys() if key not in known]
    assert not missing, f"not in docs/grammar.md: {missing}"


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its whole name."""
    if isinstance(command, TyperGroup):
        for word, inner in command.commands.items():
            yield from commands(inner, f"{name} {word}")
    else:
        yield name, command


def test_each_command_and_option_is_documented() -> None:
    sections = dict(re.findall(r"^## `(.+?)`$(.*?)(?=^## |\Z)", text_of("cli.md"), re.MULTILINE | re.DOTALL))
    declared = dict(commands(typer.main.get_command(app), "integrations"))
    assert set(sections) == set(declared)
    missing = [
        f"{name} {option}"
        for name, command in declared.items()
        for parameter in command.params
        for option in [*parameter.opts, *parameter.secondary_opts]
        if option.startswith("--") and option != "--help" and f"`{option}`" not in sections[name]
    ]
    assert not missing, f"not in docs/cli.md: {missing}"


def test_no_option_is_documented_that_does_not_exist() -> None:
    declared = {
        option
        for _, command in commands(typer.main.get_command(app), "integrations")
        for parameter in command.params
        for option in [*parameter.opts, *parameter.secondary_opts]
    }
    named = set(re.findall(r"^\| `(--[a-z-]+)`", text_of("cli.md"), re.MULTILINE))
    assert named <= declared
