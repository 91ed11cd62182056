"""`integrations simulate`: the fake outside systems, until Ctrl-C."""

from __future__ import annotations

from integrations_pipeline.cli import output
from integrations_pipeline.simulator.server import run
from integrations_pipeline.simulator.simulation import Simulation
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection


def run_simulate(
    names: list[str], *, records: int, seed: int, port: int, latency_ms: float, enforce_limits: bool
) -> int:
    """Serves the connections' sources on 127.0.0.1. Raises ConfigError for a bad file or a port that is taken."""
    home = Home.from_environment()
    simulations = [
        Simulation(
            load_connection(name, home),
            records=records,
            seed=seed,
            latency_ms=latency_ms,
            enforce_limits=enforce_limits,
        )
        for name in names
    ]

    def started(taken: int) -> None:
        for simulation in simulations:
            output.console.print(f"{simulation.name}: {simulation.url(taken)}", markup=False)
        output.console.print(f"control: http://127.0.0.1:{taken}/_simulator/ (Ctrl-C stops)", markup=False)

    try:
        run(simulations, port=port, started=started)
    except OSError as error:
        raise ConfigError(
            f"port {port} of 127.0.0.1 can't be used: {error.strerror}",
            who="whoever typed the command",
            next="choose another with --port, or 0 for a free one",
        ) from None
    return 0
