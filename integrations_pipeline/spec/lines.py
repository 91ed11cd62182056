"""Lines of the log, on stderr: JSON for machines, readable where stderr is a terminal. Off unless asked for."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import structlog

from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.running import current_run

VARIABLE = "INTEGRATIONS_LOG"
LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "off": logging.CRITICAL,  # nothing is as grave
}


def logger() -> Any:
    """Where lines are written. Silent until ``log_lines`` was called, or for good where INTEGRATIONS_LOG says so."""
    if not structlog.is_configured():
        log_lines("off")
    return structlog.get_logger()


def log_lines(unless_set: str) -> None:
    """Lines from this level on, or from the one that INTEGRATIONS_LOG names. Raises ConfigError for another word."""
    named = os.environ.get(VARIABLE, "").strip().lower() or unless_set
    if named not in LEVELS:
        raise ConfigError(
            f"{VARIABLE} is {named[:20]!r}", who="whoever started it", next=f"set it to one of: {', '.join(LEVELS)}"
        )
    structlog.configure(
        [
            add_run,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *rendering(sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[named]),
        logger_factory=lambda *_: Stderr(),
    )


class Stderr:
    """Writes lines to stderr as it is then. Where nobody reads it any more, nothing is said, and no work is stopped."""

    def msg(self, line: str) -> None:
        try:
            sys.stderr.write(line + "\n")
        except (OSError, ValueError):
            pass

    debug = info = warning = error = exception = critical = msg


def rendering(readable: bool) -> list[Any]:
    """Traces as plain text: what else shows them prints variables too, and with them secrets."""
    if readable:
        return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]


def add_run(_: Any, __: str, event: Any) -> Any:
    """The run that a line belongs to."""
    run_id = current_run()
    if run_id is not None:
        event.setdefault("run_id", str(run_id))
    return event
