"""Waiting for what comes by itself, however busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE_SECONDS = 60.0


def until(true: Callable[[], Any], seconds: float = PATIENCE_SECONDS, every: float = 0.01) -> Any:
    """What the call says once it is true; an OSError is a no. Raises AssertionError when it never is."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := true():
                return found
        except OSError:
            pass
        time.sleep(every)
    raise AssertionError(f"not within {seconds} s: {true()}")
