"""All doors of a home, made anew when a file changes: a connection that is saved goes live without a restart."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from integrations_pipeline.gateway.door import Door, Kept
from integrations_pipeline.gateway.verifying import own_verifier
from integrations_pipeline.spec.connection import Connection, Kind
from integrations_pipeline.spec.errors import ConfigError, IntegrationError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_all, shown_name
from integrations_pipeline.spec.stamps import Stamp, stamp, stamps
from integrations_pipeline.spec.webhook import PUBLIC_URL
from integrations_pipeline.store.subscriptions import Subscriptions

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Closed:
    """A connection with a webhook that can't be verified now: its senders are asked to come again."""

    name: str
    reason: ConfigError


class Doors:
    """By connection. ``find`` may be called while another thread loads. ``saved`` is told of each change of the files
    but the first look."""

    def __init__(
        self,
        home: Home,
        public_url: str | None = None,
        subscriptions: Subscriptions | None = None,
        saved: Callable[[], None] = lambda: None,
    ):
        self.home = home
        self.subscriptions, self.saved = subscriptions, saved
        self.public_url = (public_url or os.environ.get(PUBLIC_URL, "")).strip().rstrip("/") or None
        self._doors: dict[str, Door | Closed] = {}
        self._connections: dict[str, Connection] = {}
        self.kinds: Mapping[str, Kind] = {}
        self._broken: dict[str, str] = {}
        self._stamps: tuple[list[Stamp], list[Stamp]] | None = None  # of our files, of those that hold secrets
        self._marks: list[Any] = []
        self._kept: dict[str, list[Kept]] = {}

    def find(self, name: str) -> Door | Closed | None:
        """The connection's door; None for one that is unknown or has no `webhook`."""
        return self._doors.get(name)

    def immediate(self) -> dict[str, Connection]:
        """The connections whose events the gateway applies itself."""
        found = self._connections.items()
        return {name: one for name, one in found if one.webhook is not None and one.webhook.apply == "immediately"}

    @property
    def connections(self) -> Mapping[str, Connection]:
        """As they were last loaded."""
        return self._connections

    @property
    def broken(self) -> Mapping[str, str]:
        """What is wrong with files that were not loaded, by file."""
        return dict(self._broken)

    def feeding(self, kind: str) -> list[tuple[str, str]]:
        """The (connection, stream) pairs that bring records of the kind."""
        return [
            (name, stream)
            for name, one in sorted(self._connections.items())
            for stream, declared in one.selected.items()
            if declared.map is not None and declared.map.to == kind
        ]

    def written(self, kind: str) -> list[tuple[str, str]]:
        """Those of them that edits of the kind are written to."""
        found = self.feeding(kind)
        return [(name, stream) for name, stream in found if self._connections[name].streams[stream].write is not None]

    def names(self) -> list[str]:
        return sorted(self._doors)

    def refresh(self) -> bool:
        """Loads the files if any of them changed, secrets in files included. Returns whether it did.

        A file that is broken by its last edit stays as it was before: its senders shall not suffer for it.
        """
        files, secrets = list(stamps(self.home)), list(self._secret_files())
        before = self._stamps
        if not self._subscribed() and (files, secrets) == before:
            return False
        loaded = load_all(self.home)
        kept = {
            name: one
            for name, one in self._connections.items()
            if one.file and shown_name(one.file, self.home) in loaded.broken
        }
        for file, error in loaded.broken.items():
            if self._broken.get(file) != error.what:
                log.warning("a file is broken and was not loaded", file=file, error=error.what)
        self._broken = {file: error.what for file, error in loaded.broken.items()}
        self._connections = {**kept, **loaded.connections}
        self.kinds = loaded.kinds
        secrets = list(self._secret_files())  # before they are read: one that changes meanwhile is noticed
        doors = {name: self._open(one) for name, one in self._connections.items() if one.webhook is not None}
        self._tell(doors)
        self._doors = doors
        self._stamps = files, secrets
        if before is not None and files != before[0]:
            self.saved()
        return True

    def _subscribed(self) -> bool:
        """Reads what subscriptions gave, if any changed. While the database is away they stay as they were."""
        if self.subscriptions is None:
            return False
        try:
            marks = self.subscriptions.marks()
            if marks == self._marks:
                return False
            kept: dict[str, list[Kept]] = {}
            for one in self.subscriptions.every():
                kept.setdefault(one.connection, []).append(one.kept)
        except IntegrationError as error:
            log.warning("the subscriptions can't be read; the doors stay as they were", error=str(error))
            return False
        self._kept, self._marks = kept, list(marks)
        return True

    def _open(self, connection: Connection) -> Door | Closed:
        assert connection.webhook is not None
        try:
            own = own_verifier(connection, self.home)
            return Door(connection, connection.webhook, self.public_url, self._kept.get(connection.name, ()), own)
        except ConfigError as error:
            return Closed(connection.name, error)

    def _tell(self, doors: dict[str, Door | Closed]) -> None:
        for name in sorted(doors.keys() | self._doors.keys()):
            door, before = doors.get(name), self._doors.get(name)
            if isinstance(door, Closed):
                log.error("a webhook can't be verified: 503 for its senders", connection=name, error=str(door.reason))
            elif door is None or before is None:
                log.info("webhook open" if door else "webhook gone", connection=name)

    def _secret_files(self) -> Iterator[Stamp]:
        for connection in self._connections.values():
            for source in connection.secrets.values():
                if source.file is not None:
                    yield stamp(Path(source.file))
