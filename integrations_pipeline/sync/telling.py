"""What became of a stream's run, as lines of the log: people get one clear line elsewhere, here all is told."""

from __future__ import annotations

from integrations_pipeline.spec.errors import Deferred, IntegrationError
from integrations_pipeline.spec.lines import logger
from integrations_pipeline.sync.result import StreamResult


def tell_end(connection: str, result: StreamResult) -> None:
    """The run's end, with its counters."""
    told = {name: value for name, value in result.as_dict().items() if value not in (None, 0) and name != "error"}
    logger().info("stream synced", connection=connection, **told)


def tell_error(connection: str, stream: str, error: IntegrationError) -> None:
    """An error with its whole trace; a deferred stream comes back by itself."""
    write = logger().warning if isinstance(error, Deferred) else logger().error
    write("stream stopped", connection=connection, stream=stream, **error.as_dict(), exc_info=error)
