"""`integrations simulate`: the fake outside systems, until Ctrl-C."""

from __future__ import annotations

from integrations_pipeline.cli import output
from integrations_pipeline.simulator.server import run
from integrations_pipeline.simulator.simulation import Simulation
from integrations_pipeline.spec.connection import Connection
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.faults import Fault, parse_fault
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_connection
from integrations_pipeline.spec.wording import did_you_mean


def run_simulate(
    names: list[str],
    *,
    records: int,
    seed: int,
    port: int,
    latency_ms: float,
    enforce_limits: bool,
    faults: list[str],
    webhooks: str | None,
) -> int:
    """Serves the connections' sources on 127.0.0.1, with the faults of their YAML and those given.

    Raises ConfigError for a bad file, a fault that is none, or a port that is taken.
    """
    home = Home.from_environment()
    given = parsed(faults)
    simulations = [
        Simulation(
            connection,
            records=records,
            seed=seed,
            latency_ms=latency_ms,
            enforce_limits=enforce_limits,
            faults=[*connection.faults, *(one for one in given if one.stream in (None, *connection.streams))],
            webhooks=address(webhooks, connection),
        )
        for connection in [load_connection(name, home) for name in names]
    ]
    refuse_unused(given, simulations)

    def started(taken: int) -> None:
        for simulation in simulations:
            output.console.print(f"{simulation.name}: {simulation.url(taken)}", markup=False)
            for switched in simulation.faults.switched:
                output.console.print(f"  fault: {switched.fault.text}", markup=False)
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


def address(webhooks: str | None, connection: Connection) -> str | None:
    """Where a connection's changes are told: below what was given, if it has a webhook. Raises ConfigError."""
    if webhooks is not None and not webhooks.startswith(("http://", "https://")):
        raise ConfigError(
            f"--webhooks {webhooks} is no address",
            who=output.TYPED,
            next="give the gateway's, such as http://127.0.0.1:8766",
        )
    return f"{webhooks.rstrip('/')}/webhooks/{connection.name}" if webhooks and connection.webhook else None


def parsed(faults: list[str]) -> list[Fault]:
    try:
        return [parse_fault(text) for text in faults]
    except ValueError as error:
        raise ConfigError(str(error), who=output.TYPED, next="compare it with docs/faults.md") from None


def refuse_unused(faults: list[Fault], simulations: list[Simulation]) -> None:
    """A fault on a stream that nothing here has would be waited for in vain."""
    known = sorted({name for simulation in simulations for name in simulation.connection.streams})
    for one in faults:
        if one.stream is not None and one.stream not in known:
            raise ConfigError(
                f"{one.text!r}: no stream {one.stream}{did_you_mean(one.stream, known)}",
                who=output.TYPED,
                next=f"name one of {', '.join(known)}",
            )
