"""The home's files as Dagster takes them, and as they are by now."""

from __future__ import annotations

from dataclasses import replace

from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import Loaded, load_all
from integrations_pipeline.spec.simulated import relocated
from integrations_pipeline.spec.stamps import stamps


def load(home: Home) -> Loaded:
    """The home's files; demo connections at the address where the simulator is."""
    loaded = load_all(home)
    connections = {name: relocated(connection) for name, connection in loaded.connections.items()}
    return replace(loaded, connections=connections)


class Files:
    """Read anew when one of them changed: what Dagster knows of them is as old as the last reload of its location."""

    def __init__(self, home: Home, loaded: Loaded):
        self.home, self.loaded = home, loaded
        self._stamps = list(stamps(home))

    def now(self) -> Loaded:
        found = list(stamps(self.home))
        if found != self._stamps:
            self.loaded, self._stamps = load(self.home), found
        return self.loaded
