"""`integrations up`: database, simulator, gateway, Dagster's UI and daemon, until Ctrl-C."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from integrations_pipeline.cli import output
from integrations_pipeline.cli.children import Child, stop_all
from integrations_pipeline.cli.demo import Demo
from integrations_pipeline.cli.stopping import Stopped, stopped_by_signals
from integrations_pipeline.spec.errors import ConfigError, IntegrationError
from integrations_pipeline.spec.home import Home, checkout
from integrations_pipeline.spec.webhook import PUBLIC_URL
from integrations_pipeline.store.server import EmbeddedServer
from integrations_pipeline.store.store import URL_VARIABLE, open_store
from integrations_pipeline.sync.alerting import UI_URL

LOOK_SECONDS = 0.5
DATABASE_SECONDS = 2.0
"""How often the database is looked for; a killed one is back within about this and its recovery."""


def run_up(*, port: int, gateway_port: int, records: int) -> int:
    """Starts everything, prints the UI's address, stays until Ctrl-C or SIGTERM, stops what it started."""
    home = Home.from_environment()
    folder = home.state / "dagster"
    with stopped_by_signals(), ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(alone(home))
            began = time.monotonic()
            store = stack.enter_context(open_store(home=home))
            say(f"database: ready after {time.monotonic() - began:.1f} s")
            demo = stack.enter_context(Demo(home, records))
            environment = {**os.environ, **demo.environment}
            sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="integrations-up-")))
            children = [*dagster_processes(home, folder, sockets, environment), gateway(home, folder, environment)]
            stack.callback(stop_all, children)
            for child in children:
                child.end_leftovers()  # of an `up` that was killed: they hold its port
            free, door = free_port(port, "UI", "--port"), free_port(gateway_port, "gateway", "--gateway-port")
            for child in children:
                child.command += {"webserver": ["--port", str(free)], "gateway": ["--port", str(door)]}.get(
                    child.name, []
                )
                child.environment.setdefault(PUBLIC_URL, f"http://127.0.0.1:{door}")
                child.environment.setdefault(UI_URL, f"http://127.0.0.1:{free}")
            say(f"webhooks: http://127.0.0.1:{door}/webhooks/CONNECTION")
            say(f"status page: http://127.0.0.1:{door}/")
            stay(home, children, demo, free, began, partial(demo.subscribe, store, f"http://127.0.0.1:{door}"))
        except Stopped:
            say("stopping: what was committed is kept, runs under way go on at the next start")
    return 0


def say(text: str) -> None:
    output.console.print(text, markup=False)


def tell(*news: str | None) -> None:
    for one in filter(None, news):
        say(one)


@contextmanager
def alone(home: Home) -> Iterator[None]:
    """One `integrations up` per home. Raises ConfigError where there is another."""
    with (home.state / "up.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"`integrations up` runs already for {home.root}",
                who="whoever typed the command",
                next="use that one, or stop it first",
            ) from None
        yield


def free_port(wanted: int, whose: str, option: str) -> int:
    """The port wanted, or a free one with a word about it."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found = int(probe.getsockname()[1])
            if found != wanted:
                say(f"port {wanted} of 127.0.0.1 is taken: the {whose} takes {found}; `{option}` chooses another")
            return found
    raise ConfigError("no port of 127.0.0.1 is free", who="whoever runs this machine", next="close some programs")


def dagster_processes(home: Home, folder: Path, sockets: Path, environment: Mapping[str, str]) -> list[Child]:
    """The server of the definitions, the UI and the daemon. They share one instance, in the state folder."""
    shutil.copyfile(instance_file(home), folder / "dagster.yaml")
    workspace = folder / "workspace.yaml"
    place = sockets / "code"
    workspace.write_text(f"load_from:\n  - grpc_server: {{socket: {place}, location_name: integrations}}\n")
    common = {**environment, "DAGSTER_HOME": str(folder), "INTEGRATIONS_HOME": str(home.root), "PYTHONUNBUFFERED": "1"}
    python = [sys.executable, "-m"]
    code = ["dagster", "code-server", "start", "--socket", str(place), "--module-name",
            "integrations_pipeline.definitions", "--location-name", "integrations"]  # fmt: skip
    web = ["dagster_webserver", "--host", "127.0.0.1", "--workspace", str(workspace)]
    daemon = ["dagster._daemon", "run", "--workspace", str(workspace)]
    commands = {"code": code, "webserver": web, "daemon": daemon}
    return [Child(name, [*python, *command], common, folder) for name, command in commands.items()]


def gateway(home: Home, folder: Path, environment: Mapping[str, str]) -> Child:
    """The door for webhooks, as `integrations serve` starts it."""
    command = [sys.executable, "-c", "from integrations_pipeline.cli import main; main()", "serve"]
    return Child("gateway", command, {**environment, "INTEGRATIONS_HOME": str(home.root)}, folder)


def instance_file(home: Home) -> Path:
    """The home's own dagster.yaml, else the checkout's."""
    own = home.root / "dagster.yaml"
    return own if own.is_file() else checkout() / "dagster.yaml"


def stay(
    home: Home, children: list[Child], demo: Demo, port: int, began: float, subscribe: Callable[[], list[str]]
) -> None:
    """Starts the children and watches over them, the database and the demo's files; ends by Stopped only."""
    tell(*demo.see())
    for child in children:
        child.start()
    say(f"Dagster is starting; its logs are in {home.state / 'dagster'}")
    told = False
    database, looked_at = WatchedDatabase(home), time.monotonic()
    while True:
        if time.monotonic() - looked_at >= DATABASE_SECONDS:
            looked_at = time.monotonic()
            tell(database.see())
        for child in children:
            tell(child.see())
        tell(*demo.see(), *subscribe())
        if not told and is_ready(port):
            told = True
            seconds = time.monotonic() - began
            say(f"UI: http://127.0.0.1:{port} (ready after {seconds:.0f} s; Ctrl-C stops everything)")
        time.sleep(LOOK_SECONDS)


LOADED = "{workspaceOrError{... on Workspace{locationEntries{locationOrLoadError{__typename}}}}}"


def is_ready(port: int) -> bool:
    """Whether the UI answers and has the definitions."""
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        data=json.dumps({"query": LOADED}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(asked, timeout=5) as answer:
            return b'"RepositoryLocation"' in answer.read()
    except OSError:
        return False


class WatchedDatabase:
    """The embedded server, started again where it was killed. A managed one is somebody else's."""

    def __init__(self, home: Home):
        self.server = EmbeddedServer(home.state)
        self.managed = bool(os.environ.get(URL_VARIABLE))
        self.pid = None if self.managed else self.server.pid
        self.trouble = ""

    def see(self) -> str | None:
        """Returns what a person should know, or None. Whoever needs a dead server first starts it: also a run does."""
        if self.managed:
            return None
        try:
            self.server.acquire()
        except IntegrationError as error:
            told, self.trouble = self.trouble, f"database: {error}"
            return self.trouble if self.trouble != told else None
        self.server.release()  # this process holds it by its store: it goes on
        self.trouble = ""
        before, self.pid = self.pid, self.server.pid
        return "database: it was gone, and is back" if self.pid != before else None
