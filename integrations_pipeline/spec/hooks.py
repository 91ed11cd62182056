"""Hooks: a team's own functions, for the third quirk of one provider. The only code that a connection names.

``module.function`` is looked for in a file of the folder `hooks/`, beside `connections/`, then among what is installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from types import ModuleType
from typing import Any

from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import IntegrationError, Problem, SourceConfigError, config_error
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.wording import did_you_mean

FURTHER = {"request": ("secrets",), "page": ("stream",), "record": ("stream",), "verify": ("secrets",)}
"""By hook, what else a function may ask for by the name of a parameter, beside the one value it is given."""

AUTHOR = "whoever wrote the hook"


@dataclass
class OutgoingRequest:
    """What the hook `request` may change in place: ``url`` with its query, ``headers`` and ``content``. Credentials are
    added after it."""

    method: str
    url: str
    headers: dict[str, str]
    content: bytes | None


@dataclass(frozen=True)
class IncomingDelivery:
    """What the hook `verify` judges: a delivery as it came. ``url`` is the address as its sender knows it, with its
    query; names of ``headers`` are in lower case, and several values of one are joined by commas."""

    method: str
    url: str
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True)
class Hook:
    """One loaded function."""

    name: str
    path: str
    function: Callable[..., Any]
    further: frozenset[str] = frozenset()

    def __call__(self, value: Any, **known: Any) -> Any:
        """Calls it with the value and those of the known things that it asks for. Raises SourceConfigError, naming
        the hook and the error's line, where it raises."""
        try:
            return self.function(value, **{name: known[name] for name in self.further})
        except IntegrationError:
            raise
        except Exception as error:
            raise self.failed(f"raised {type(error).__name__}: {error}{line_of(error)}") from error

    def failed(self, what: str) -> SourceConfigError:
        """The error for what the function did wrong."""
        return SourceConfigError(f"the hook {self.name} ({self.path}) {what}", who=AUTHOR, next="correct the function")

    def record(self, row: Any, *, stream: str, key: str) -> Any:
        """A row as the hook `record` makes it; what is no object passes. ``key`` names the row in an error."""
        if not isinstance(row, dict):
            return row
        try:
            made = self(row, stream=stream)
        except SourceConfigError as error:
            error.what += f", at the record {key}"
            raise
        if not isinstance(made, dict):
            raise self.failed(f"returned {type(made).__name__} instead of a record, at the record {key}")
        return made


def line_of(error: Exception) -> str:
    """Where in the team's own file it happened."""
    frames = inspect.getinnerframes(error.__traceback__) if error.__traceback__ else []
    return f" ({FilePath(frames[-1].filename).name}:{frames[-1].lineno})" if len(frames) > 1 else ""


def load_hooks(connection: Connection, home: Home, only: str | None = None) -> dict[str, Hook]:
    """The connection's hooks by name, or the one of that name. Raises ConfigError, with file and line, for each that
    can't be used."""
    given = {name: path for name, path in connection.hooks if path is not None and only in (None, name)}
    hooks: dict[str, Hook] = {}
    problems: list[Problem] = []
    for name, path in given.items():
        try:
            hooks[name] = load_hook(name, path, folders_of(connection, home))
        except ValueError as error:
            file, line = connection.place_of_hook(name)
            problems.append(Problem(file, line, f"hooks.{name}", str(error)))
    if problems:
        raise config_error(problems)
    return hooks


def folders_of(connection: Connection, home: Home) -> list[FilePath]:
    """Of the home, then for a file outside it the folders near it, as kinds are looked for."""
    folders = [home.root / "hooks"]
    if connection.file is not None:
        folders += [connection.file.parent / "hooks", connection.file.absolute().parent.parent / "hooks"]
    return folders


def load_hook(name: str, path: str, folders: list[FilePath]) -> Hook:
    """Raises ValueError with what was expected."""
    module_name, _, function_name = path.rpartition(".")
    module = load_module(module_name, folders)
    function = getattr(module, function_name, None)
    if function is None:
        known = [one for one, value in vars(module).items() if callable(value) and not one.startswith("_")]
        hint = did_you_mean(function_name, known)
        raise ValueError(f"a function was expected: {module_name} has no {function_name}{hint}")
    if not callable(function):
        raise ValueError(f"a function was expected: {path} is of type {type(function).__name__}")
    return Hook(name, path, function, further_of(name, path, function))


def further_of(name: str, path: str, function: Callable[..., Any]) -> frozenset[str]:
    """What the function asks for beside its value."""
    known = FURTHER[name]
    parameters = list(inspect.signature(function).parameters.values())
    named = [one.name for one in parameters[1:] if one.default is one.empty or one.name in known]
    if not parameters or not set(named) <= set(known):
        raise ValueError(
            f"a function of one value was expected, which may also ask for {' and '.join(known)}:"
            f" {path}{inspect.signature(function)} can't be called so"
        )
    return frozenset(named)


def load_module(name: str, folders: list[FilePath]) -> ModuleType:
    """The module of a file in the folders, else an installed one. Raises ValueError."""
    below = FilePath(*name.split(".")).with_suffix(".py")
    file = next((folder / below for folder in folders if (folder / below).is_file()), None)
    try:
        return module_of(name, file) if file else importlib.import_module(name)
    except ModuleNotFoundError as error:
        if file is None and error.name and name.startswith(error.name):
            known = [one.stem for folder in folders if folder.is_dir() for one in folder.glob("*.py")]
            hint = did_you_mean(name, known)
            raise ValueError(f"a module was expected, as hooks/{below} or installed, not {name}{hint}") from None
        raise ValueError(f"{name} can't be imported: {error}") from None
    except Exception as error:  # noqa: BLE001 - a team's own code may raise anything
        raise ValueError(f"{name} can't be imported: {type(error).__name__}: {error}{line_of(error)}") from None


def module_of(name: str, file: FilePath) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"hooks.{name}", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file.name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
