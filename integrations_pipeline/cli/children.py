"""Processes that belong to this one: each in a group of its own, restarted when it dies, stopped with all it started.

A child and everything it starts inherit its lock file, which is free exactly when none of them is alive. So what an
`integrations up` that was killed left behind is found by the next one, and nothing else is ever signalled.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

STOP_SECONDS = 15.0
"""Runs end at their next event, then the servers; who still lives after this is killed. Nothing committed is lost."""

STEADY_SECONDS = 60.0
"""A child that lived this long is restarted at once, else after a wait that doubles up to BACK_OFF_SECONDS."""
BACK_OFF_SECONDS = 30.0

LOG_BYTES = 10 * 1024 * 1024
"""A larger log is put aside when the child starts."""


class Child:
    """A command that is kept running. ``folder`` gets its log and its lock file."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path):
        self.name, self.command, self.environment = name, list(command), dict(environment)
        self.lock, self.log = folder / f"{name}.lock", folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.wait_seconds = 0.0
        self.started_at = self.restart_at = 0.0

    def start(self) -> None:
        """Ends what an earlier one left, then starts."""
        self.end_leftovers()
        descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        try:
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment,
                    pass_fds=[descriptor], start_new_session=True,
                )  # fmt: skip
            self.lock.write_text(str(self.process.pid))
        finally:
            os.close(descriptor)
        self.started_at = time.monotonic()

    def end_leftovers(self) -> None:
        """Kills the group of an earlier child that is still alive, after the one that started it was killed."""
        if self.held():
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.killpg(int(self.lock.read_text()), signal.SIGKILL)
            self.wait_for_end(STOP_SECONDS)

    def held(self) -> bool:
        """Whether any process of the group is alive."""
        if not self.lock.exists():
            return False
        descriptor = os.open(self.lock, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def wait_for_end(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.held() and time.monotonic() < deadline:
            if self.process is not None:
                self.process.poll()
            time.sleep(0.05)
        return not self.held()

    def see(self) -> str | None:
        """Restarts it where it died, when its wait is over. Returns what a person should know, or None."""
        if self.process is None or self.process.poll() is None:
            return None
        now = time.monotonic()
        if not self.restart_at:
            steady = now - self.started_at >= STEADY_SECONDS
            self.wait_seconds = 0.0 if steady else min(max(1.0, self.wait_seconds * 2), BACK_OFF_SECONDS)
            self.restart_at = now + self.wait_seconds
            when = f"in {self.wait_seconds:.0f} s" if self.wait_seconds else "now"
            return f"{self.name} ended (exit {self.process.returncode}), starts again {when}; see {self.log}"
        if now >= self.restart_at:
            self.restart_at = 0.0
            self.start()
        return None

    def ask_to_stop(self) -> None:
        """The whole group: runs under way end too, and are resumed by a later one."""
        if self.process is not None and self.held():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGTERM)

    def stop(self, deadline: float) -> None:
        """Waits until the monotonic ``deadline``, then kills what is left of the group."""
        if self.process is None:
            return
        if not self.wait_for_end(deadline - time.monotonic()):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.wait_for_end(STOP_SECONDS)
        self.process.poll()

    def last_words(self, lines: int = 5) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""


def stop_all(children: Sequence[Child]) -> None:
    """Asks all at once, then waits for each."""
    for child in children:
        child.ask_to_stop()
    deadline = time.monotonic() + STOP_SECONDS
    for child in children:
        child.stop(deadline)
