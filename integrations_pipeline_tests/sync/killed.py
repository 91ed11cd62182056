"""A push in a process of its own that kills itself with signal 9 at a named point."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pandera.pandas as pa

from integrations_pipeline.client import Client
from integrations_pipeline.store import agreeing, outbox
from integrations_pipeline.store.sessions import Sessions
from integrations_pipeline_tests.sync.provider import Desk

# Imported here, not in each child.
pa.DataFrameSchema({"a": pa.Column(None, pa.Check(lambda values: values == values))}).validate(pd.DataFrame({"a": [1]}))

POINTS: dict[str, tuple[Any, str]] = {
    "leased": (outbox, "lease"),
    "about to be fixed": (outbox, "fix"),
    "fixed": (outbox, "fix"),
    "answer read": (Client, "write"),
    "about to be settled": (agreeing, "settle"),
    "settled": (agreeing, "settle"),
    "marked": (outbox, "mark_answered"),
    "committed": (Sessions, "write"),
    "about to land": (outbox, "mark_landed"),
    "landed": (outbox, "mark_landed"),
}
"""By name, after which of our steps; where it begins with `about to`, before it."""

AT_THE_SOURCE = ("arrived", "done")
"""The source kills the process: when the request has come, and once it has done what it asks."""


def dying(step: Callable[..., Any], *, before: bool) -> Callable[..., Any]:
    def die(*args: Any, **kwargs: Any) -> Any:
        if not before:
            step(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    return die


def run(database_url: str, url: str, write: dict[str, Any], point: str) -> None:
    if point in POINTS:
        place, name = POINTS[point]
        setattr(place, name, dying(getattr(place, name), before=point.startswith("about")))
    desk = Desk(database_url, SimpleNamespace(url=url), None)  # type: ignore[arg-type]
    desk.write = write
    desk.push()


def start(desk: Desk, point: str) -> BaseProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    child = context.Process(target=run, args=(desk.database_url, desk.source.url, desk.write, point), daemon=True)
    child.start()
    return child
