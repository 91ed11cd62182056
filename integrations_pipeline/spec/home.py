"""Where a team's files lie: connections, models, own connectors, and the state folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from integrations_pipeline.spec.errors import ConfigError

PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Home:
    """The folder that ``INTEGRATIONS_HOME`` names. Of its folders only those in use need to exist."""

    root: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Home:
        """``INTEGRATIONS_HOME``, else the checkout. Raises ConfigError where the variable names no folder."""
        named = (os.environ if environment is None else environment).get("INTEGRATIONS_HOME", "").strip()
        if not named:
            return cls(checkout())
        root = Path(named).expanduser().absolute()
        if not root.is_dir():
            raise ConfigError(
                f"INTEGRATIONS_HOME is {named}, which is no folder",
                who="whoever started this program",
                next="create the folder with `connections/` and `models/` in it, or correct the variable",
            )
        return cls(root)

    @property
    def connections(self) -> Path:
        return self.root / "connections"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def connectors(self) -> tuple[Path, ...]:
        """The team's own, then the catalogue that comes with the package: the first that has a name wins."""
        return self.root / "connectors", PACKAGE / "connectors"

    @property
    def state(self) -> Path:
        """Database, keys and logs; made on first use by whoever writes there."""
        return self.root / ".integrations"


def checkout() -> Path:
    """The folder the package lies in where that is a checkout, else the current one."""
    folder = PACKAGE.parent
    return folder if (folder / "pyproject.toml").is_file() else Path.cwd()
