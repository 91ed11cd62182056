"""Encrypting what sources granted, and reading it back: tokens and subscriptions share one key."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psycopg

from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.store.key import OWNER, Key, find_key, restoring

ANY = "SELECT EXISTS (SELECT FROM integrations.token) OR EXISTS (SELECT FROM integrations.subscription)"
Borrow = Callable[[], AbstractContextManager[psycopg.Connection[Any]]]


class Seal:
    """``what`` is sealed, for messages, as "token". Raises ConfigError where the key is missing, or another one."""

    def __init__(self, borrow: Borrow, state: Path, what: str):
        self._borrow, self._state, self._what = borrow, state, what
        self._key: Key | None = None

    def close(self, value: bytes) -> tuple[bytes, str]:
        """The value encrypted, and the name of the key. Makes a key where nothing was ever encrypted."""
        key = self._found_key(make=True)
        return key.fernet.encrypt(value), key.name

    def open(self, value: bytes, key_name: str) -> bytes:
        from cryptography.fernet import InvalidToken

        key = self._found_key(make=False)
        if key.name != key_name:
            what = f"the stored {self._what} was encrypted with key {key_name}, but {key.source} holds key {key.name}"
            raise ConfigError(what, who=OWNER, next=restoring(self._state))
        try:
            return key.fernet.decrypt(value)
        except InvalidToken:
            what = f"the stored {self._what} is damaged: it can't be decrypted with its own key {key_name}"
            raise ConfigError(what, who=OWNER, next=restoring(self._state)) from None

    def _found_key(self, *, make: bool) -> Key:
        """Looked up once. A new key is made only where nothing was encrypted with an older one."""
        if self._key is None:
            if make:
                with self._borrow() as session:
                    row = session.execute(ANY).fetchone()
                make = not (row and row[0])
            self._key = find_key(self._state, make=make)
        return self._key
