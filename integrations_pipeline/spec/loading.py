"""From files to Connections: a connector's facts merged in, settings filled in, everything checked at once.

A wrong file is refused with every problem it has, each with file and line; it never takes another file down.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from integrations_pipeline.spec.api import Api
from integrations_pipeline.spec.connection import Alert, Connection, Connector, Kind
from integrations_pipeline.spec.errors import ConfigError, Problem, config_error
from integrations_pipeline.spec.hearing import still_told
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.merging import Settings, merge
from integrations_pipeline.spec.refusals import Checked, refused
from integrations_pipeline.spec.streams import Stream
from integrations_pipeline.spec.webhook import Webhook
from integrations_pipeline.spec.wording import complaints, did_you_mean
from integrations_pipeline.spec.yaml_text import Document, KeyPath, read_document, shown_path

M = TypeVar("M", bound=BaseModel)
SUFFIXES = (".yaml", ".yml")
FILLED = ("api", "streams", "webhook")
AModel = TypeVar("AModel", bound=BaseModel)
NAME_LINE = re.compile(r"^connection:[ \t]*[\"']?([A-Za-z0-9_-]+)", re.MULTILINE)
SHORT_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Loaded:
    """Everything in a home. ``broken`` says by file, as ``connections/acme.yaml``, why one isn't among the rest;
    ``still_told`` are the destinations that such files name."""

    connections: dict[str, Connection]
    kinds: dict[str, Kind]
    broken: dict[str, ConfigError]
    still_told: list[Alert] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Kinds:
    """The kinds of some folders. ``broken`` has the errors by file; ``unread`` the names those files would give."""

    read: dict[str, Kind]
    broken: dict[str, ConfigError]
    unread: frozenset[str]


def load_connection(name_or_file: str, home: Home) -> Connection:
    """The connection of that name in the home, or in that file. Raises ConfigError with every problem it has."""
    return load_connection_and_kinds(name_or_file, home)[0]


def load_connection_and_kinds(name_or_file: str, home: Home) -> tuple[Connection, dict[str, Kind]]:
    """The connection, and the kinds its streams may be mapped to. Raises ConfigError with every problem it has.

    For a file outside the home, kinds are looked for in the home's models, then in `models/` beside the file, then
    beside its folder.
    """
    path = FilePath(name_or_file)
    if not is_file_name(name_or_file):
        path = find_by_name(name_or_file, home)
    elif not path.is_file():
        raise ConfigError(f"there is no file {name_or_file}", next="correct the path, or give a connection's name")
    return loaded_from(path, home)


def load_named(name: str, home: Home) -> tuple[Connection, dict[str, Kind]]:
    """The home's connection of that name, and its kinds; never another file, whatever text is given: for names that
    come from outside. Raises ConfigError with every problem it has."""
    if not SHORT_NAME.fullmatch(name):
        raise ConfigError(f"there is no connection {name}", next="give a connection's name")
    return loaded_from(find_by_name(name, home), home)


def loaded_from(path: FilePath, home: Home) -> tuple[Connection, dict[str, Kind]]:
    folders = [home.models, path.parent / "models", path.absolute().parent.parent / "models"]
    kinds = read_kinds(home, folders)
    connection, problems = Reader(home, kinds).connection(path)
    if connection is None or problems:
        raise config_error(problems)
    return connection, kinds.read


def load_all(home: Home) -> Loaded:
    """Every connection and kind of the home. Never raises for a file's content: see ``Loaded.broken``."""
    kinds = read_kinds(home, [home.models])
    reader = Reader(home, kinds)
    found: dict[str, list[Connection]] = {}
    broken = dict(kinds.broken)
    for path in yaml_files(home.connections):
        connection, problems = reader.connection(path)
        if connection is None or problems:
            broken[shown_name(path, home)] = config_error(problems)
        else:
            found.setdefault(connection.name, []).append(connection)
    for name, same in found.items():
        if len(same) > 1:
            broken.update(namesakes(name, [one.file for one in same if one.file], home))
    unread = [path for path in yaml_files(home.connections) if shown_name(path, home) in broken]
    told = [alert for path in unread for alert in still_told(text_of(path))]
    return Loaded({name: same[0] for name, same in found.items() if len(same) == 1}, kinds.read, broken, told)


def load_kinds(home: Home) -> dict[str, Kind]:
    """The kinds of the home's models. Raises ConfigError with the problems of all files that are wrong."""
    kinds = read_kinds(home, [home.models])
    if kinds.broken:
        raise config_error([problem for error in kinds.broken.values() for problem in error.problems])
    return kinds.read


def is_file_name(text: str) -> bool:
    return text.endswith(SUFFIXES) or FilePath(text).is_file()


def yaml_files(folder: FilePath) -> list[FilePath]:
    """In the order of their names, without hidden files and folders below."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES and not p.name.startswith("."))


def shown_name(path: FilePath, home: Home) -> str:
    """How messages name a file: from the home where it lies there, else as it was given."""
    absolute = path.absolute()
    return absolute.relative_to(home.root).as_posix() if absolute.is_relative_to(home.root) else str(path)


def find_by_name(name: str, home: Home) -> FilePath:
    """The file whose `connection:` is the name; also one that is broken further down. Raises ConfigError."""
    names = files_by_name(home)
    same = names.get(name) or [path for path in yaml_files(home.connections) if path.stem == name]
    if len(same) == 1:
        return same[0]
    if same:
        raise config_error(one for error in namesakes(name, same, home).values() for one in error.problems)
    raise ConfigError(
        f"there is no connection {name}{did_you_mean(name, names)}",
        next=f"add {shown_name(home.connections / f'{name}.yaml', home)}, or correct the name",
    )


def files_by_name(home: Home) -> dict[str, list[FilePath]]:
    """The home's connection files by the name each begins with, also of those that are broken further down."""
    names: dict[str, list[FilePath]] = {}
    for path in yaml_files(home.connections):
        for found in NAME_LINE.findall(text_of(path))[:1]:
            names.setdefault(found, []).append(path)
    return names


def has_file(name: str, home: Home) -> bool:
    """Whether a file of the home is, or was meant to be, the connection's."""
    return name in files_by_name(home) or any(path.stem == name for path in yaml_files(home.connections))


def text_of(path: FilePath) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def namesakes(name: str, paths: list[FilePath], home: Home) -> dict[str, ConfigError]:
    """Two files with one name would write to the same tables: neither is taken."""
    errors: dict[str, ConfigError] = {}
    for path in paths:
        others = ", ".join(shown_name(other, home) for other in paths if other != path)
        document = read_document(path, shown_name(path, home))
        line = document.line_of(("connection",))
        message = f"a name of its own was expected: {name} is also the connection of {others}"
        errors[document.file] = config_error([Problem(document.file, line, "connection", message)])
    return errors


def read_kinds(home: Home, folders: Iterable[FilePath]) -> Kinds:
    """The kinds of some folders; of two with one name the earlier folder's counts."""
    read: dict[str, Kind] = {}
    broken: dict[str, ConfigError] = {}
    unread: set[str] = set()
    for folder in dict.fromkeys(one.absolute() for one in folders):
        here: dict[str, str] = {}
        for path in yaml_files(folder):
            document = read_document(path, shown_name(path, home))
            kind = kind_in(document, here)
            if document.problems or kind is None:
                broken[document.file] = config_error(document.problems)
                unread.add(path.stem)
                unread.update([document.data["kind"]] if named(document.data, "kind") else [])
            else:
                here[kind.kind] = document.file
                read.setdefault(kind.kind, kind)
    return Kinds(read, broken, frozenset(unread))


def named(data: Any, key: str) -> bool:
    return isinstance(data, dict) and isinstance(data.get(key), str)


def kind_in(document: Document, taken: Mapping[str, str]) -> Kind | None:
    """The kind of a document; the reasons why there is none are added to its problems."""
    if document.data is None:
        return None
    sources = Sources([document])
    kind = validated(Kind, document.data, sources)
    if kind is not None and kind.kind in taken:
        message = f"a name of its own was expected: {kind.kind} is also the kind of {taken[kind.kind]}"
        sources.complain(("kind",), message)
    document.problems = sources.problems
    return kind


class Sources:
    """The files that one thing is made of, the nearest first, and what is wrong with it."""

    def __init__(self, documents: list[Document]):
        self.documents = documents
        self.problems = [problem for document in documents for problem in document.problems]
        self.misread = {problem.path for problem in self.problems}

    def complain(self, path: KeyPath, message: str) -> None:
        """Names the file and line of the path, or of the nearest one around it.

        What the YAML's text made wrong isn't said again as a wrong type.
        """
        document, line = self.find(path)
        if shown_path(path) not in self.misread:
            self.problems.append(Problem(document.file, line, shown_path(path), message))

    def find(self, path: KeyPath) -> tuple[Document, int]:
        for length in range(len(path), 0, -1):
            for document in self.documents:
                if path[:length] in document.lines:
                    return document, document.lines[path[:length]]
        return self.documents[0], 1


def validated(model: type[AModel], data: Any, sources: Sources, path: KeyPath = ()) -> AModel | None:
    """The model of some data, or None with each reason told to the sources."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        for below, message in complaints(error, model, data):
            sources.complain((*path, *below), message)
        return None


class Reader:
    """Reads the connection files of a home; each connector is read once."""

    def __init__(self, home: Home, kinds: Kinds):
        self.home = home
        self.kinds = kinds
        self.connectors: dict[str, Document] = {}

    def connection(self, path: FilePath) -> tuple[Connection | None, list[Problem]]:
        """The connection of a file, and what is wrong with it."""
        document = read_document(path, shown_name(path, self.home))
        if document.data is None:
            return None, document.problems
        sources = Sources([document])
        if not isinstance(document.data, dict) or "connection" not in document.data:
            has_connector = isinstance(document.data, dict) and "connector" in document.data
            hint = ": this is a connector, which a connection names under `uses`" if has_connector else ""
            sources.complain((), f"a map that starts with `connection: NAME` was expected{hint}")
            return None, sources.problems
        connection = self.assembled(document)
        if connection[0] is not None:
            connection[0]._file = path
        return connection

    def assembled(self, document: Document) -> tuple[Connection | None, list[Problem]]:
        """Connector and connection as one: merged, filled in, validated, and held against the refusals."""
        connector = self.connector_of(document)
        sources = Sources([document, connector] if connector else [document])
        base = {k: v for k, v in connector.data.items() if k != "connector"} if connector else {}
        if document.data.get("uses") is not None and connector is None:
            uses = document.data["uses"]
            known = [path.stem for folder in self.home.connectors for path in yaml_files(folder)]
            message = f"a connector with a file connectors/{uses}.yaml was expected, not {uses}"
            sources.complain(("uses",), message + did_you_mean(uses, known))
            return None, sources.problems
        data = filled(merge(base, document.data), connector, sources)
        connection = validated(Connection, data, sources)
        checked = self.checked(data, connection)
        for path, message in refused(checked):
            sources.complain(path, message)
        if connection is not None:
            for name in connection.hooks.model_fields_set:
                named_in, line = sources.find(("hooks", name))
                connection._hook_places[name] = (named_in.file, line)
        return connection, sources.problems

    def checked(self, data: Mapping[str, Any], connection: Connection | None) -> Checked:
        """What the refusals look at; where the whole is wrong, the parts of it that are right by themselves."""
        kinds, name = (self.kinds.read, self.kinds.unread), str(data.get("connection"))
        if connection is not None:
            return Checked(name, data, connection.api, connection.streams, connection.webhook, *kinds)
        quiet = Sources([Document("")])
        given = data.get("streams")
        tried = {n: validated(Stream, one, quiet) for n, one in (given if isinstance(given, dict) else {}).items()}
        streams = {name: stream for name, stream in tried.items() if stream is not None}
        api = validated(Api, data.get("api"), quiet)
        return Checked(name, data, api, streams, validated(Webhook, data.get("webhook"), quiet), *kinds)

    def connector_of(self, document: Document) -> Document | None:
        """The connector that the connection uses, from the home or the catalogue; None where there is none."""
        name = document.data.get("uses")
        if not isinstance(name, str):
            return None
        if name not in self.connectors:
            files = [p for folder in self.home.connectors for p in yaml_files(folder) if p.stem == name]
            if not files:
                return None
            self.connectors[name] = self.read_connector(name, files[0])
        return self.connectors[name]

    def read_connector(self, name: str, path: FilePath) -> Document:
        shown = f"catalogue: {path.name}" if path.parent == self.home.connectors[1] else shown_name(path, self.home)
        document = read_document(path, shown)
        sources = Sources([document])
        if document.data is not None:
            validated(Connector, document.data, sources)
            if named(document.data, "connector") and document.data["connector"] != name:
                message = f"{name} was expected, as in the file's name, not {document.data['connector']}"
                sources.complain(("connector",), message)
        document.problems = sources.problems
        if not isinstance(document.data, dict):
            document.data = {}
        return document


def filled(data: dict[str, Any], connector: Document | None, sources: Sources) -> dict[str, Any]:
    """The data with its settings in place; tells which must be given, and which are never used."""
    given = data.get("settings")
    values = given if isinstance(given, dict) else {}
    settings = Settings({name: "missing" if value is None else value for name, value in values.items()})
    data = {key: settings.fill(value, key) if key in FILLED else value for key, value in data.items()}
    for name, value in values.items():
        if value is None and connector is not None:
            document, line = sources.find(("uses",))
            message = f"a value was expected: {connector.file} has no default for it"
            sources.problems.append(Problem(document.file, line, f"settings.{name}", message))
        elif value is None:
            sources.complain(("settings", name), "a value was expected, not null")
        if name not in settings.used:
            sources.complain(("settings", name), f"<{name}> is never used: remove it, or name it where it belongs")
    return data
