"""A process that has imported everything and forks a child per command: each is a process of its own, without the two
seconds of processor time that its imports cost.

Imported by multiprocessing's fork server (`set_forkserver_preload`), which has no threads of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Event

import pandas as pd
import pandera.pandas as pa

from integrations_pipeline.cli import main
from integrations_pipeline.cli.syncing import run_sync  # noqa: F401 - imported here, not in each child

pa.DataFrameSchema({"a": pa.Column(None, pa.Check(lambda values: values == values))}).validate(pd.DataFrame({"a": [1]}))


def command(arguments: Sequence[str], environment: Mapping[str, str], folder: Path, output: str) -> None:
    """The command line in this process; what it prints goes to the file, what it logs beside it."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for descriptor, name in ((1, output), (2, output + ".errors")):
        opened = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, descriptor)
    main(list(arguments))


def start(arguments: Sequence[str], environment: Mapping[str, str], folder: Path, output: Path) -> BaseProcess:
    """Runs a command of `integrations` in a forked child."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    child = context.Process(target=command, args=(arguments, environment, folder, str(output)), daemon=True)
    child.start()
    return child


def run(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Waits until it has ended. Raises TimeoutExpired as ``subprocess.run`` does."""
    with tempfile.TemporaryDirectory() as place:
        output, errors = Path(place) / "output", Path(place) / "output.errors"
        child = start(arguments, environment, folder, output)
        child.join(timeout)
        if child.exitcode is None:
            child.kill()
            raise subprocess.TimeoutExpired(list(arguments), timeout)
        return subprocess.CompletedProcess(list(arguments), child.exitcode, output.read_text(), errors.read_text())


def kill_when(child: BaseProcess, reached: Event, later_ms: int) -> None:
    """kill -9 so many milliseconds after it is reached, or when the child has ended before."""
    while child.is_alive() and not reached.wait(0.01):
        pass
    child.join(later_ms / 1000)
    child.kill()
