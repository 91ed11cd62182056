"""Which run the work at hand belongs to, known to all that is done for it, in whichever thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import partial
from typing import ParamSpec, TypeVar
from uuid import UUID

P = ParamSpec("P")
T = TypeVar("T")

_run: ContextVar[UUID | None] = ContextVar("run", default=None)


@contextmanager
def in_run(run_id: UUID) -> Iterator[None]:
    """What is done until the block ends belongs to this run."""
    token = _run.set(run_id)
    try:
        yield
    finally:
        _run.reset(token)


def current_run() -> UUID | None:
    """The run that this is done for; None outside of one."""
    return _run.get()


def carried(function: Callable[P, T]) -> Callable[P, T]:
    """The function for another thread, where it belongs to the same run as here. To be called once."""
    return partial(copy_context().run, function)
