"""Secrets as references: named in the YAML, resolved at use, never printed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

from pydantic import model_validator

from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.forms import Model

REFERENCE = re.compile(r"\$([a-z_][a-z0-9_]*)")


class Secret:
    """A value that prints as ``***``. Only ``reveal`` gives it, at the moment of use."""

    __slots__ = ("_value",)

    def __init__(self, value: str):
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __reduce__(self) -> Any:
        raise TypeError("a secret is never pickled")


class SecretSource(Model):
    """``{env: NAME}`` or ``{file: /path}``."""

    env: str | None = None
    file: str | None = None

    @model_validator(mode="after")
    def _one(self) -> SecretSource:
        if (self.env is None) == (self.file is None):
            raise ValueError(
                "one of {env: NAME} or {file: /path} was expected; a secret never stands in the YAML itself"
            )
        return self

    def resolve(self, name: str, environment: Mapping[str, str] | None = None) -> Secret:
        """The secret. Raises ConfigError naming the variable or file where it is missing or empty."""
        environment = os.environ if environment is None else environment
        if self.env is not None:
            value = environment.get(self.env, "").strip()
            if not value:
                raise ConfigError(
                    f"secret {name} is missing: the environment variable {self.env} is not set",
                    next=f"set {self.env}, then run the command again",
                )
            return Secret(value)
        try:
            value = FilePath(str(self.file)).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise ConfigError(
                f"secret {name} is missing: {self.file}: {reason}", next="write the secret's file"
            ) from None
        if not value:
            raise ConfigError(f"secret {name} is missing: {self.file} is empty", next="write the secret's file")
        return Secret(value)


def reference_in(value: Any) -> str | None:
    """The name in ``$name`` where that is the whole value, else None."""
    found = REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return found[1] if found else None
