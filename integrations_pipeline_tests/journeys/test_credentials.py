"""Credentials that are obtained at run time, with real processes: each kind, many at once, killed, revoked."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from integrations_pipeline.simulator.simulation import Answer, Simulation
from integrations_pipeline.simulator.views import Request
from integrations_pipeline.spec.errors import ConfigError, CredentialsError, IntegrationError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.store.store import open_store
from integrations_pipeline.sync.result import StreamResult
from integrations_pipeline_tests.client.conftest import HastyClock
from integrations_pipeline_tests.journeys.accounts import (
    ACCOUNTS,
    CLIENT,
    ISSUED,
    REFRESH,
    REFRESHED,
    Account,
    signed_by_pem,
    tokens_of,
    written_key,
)
from integrations_pipeline_tests.journeys.conftest import House

ids = [one.name for one in ACCOUNTS]


def error_of(result: StreamResult) -> IntegrationError:
    assert result.status == "failed"
    assert result.error is not None
    return result.error


@pytest.mark.parametrize("account", ACCOUNTS, ids=ids)
def test_each_kind_proves_itself_and_reads_everything(house: House, account: Account) -> None:
    source = account.built(house, records=30)
    with open_store(house.database_url, Home(house.home)) as store:
        client = account.client(house, store)
        client.check()
        client.close()
    account.sync(house)
    for stream in ("orders", "customers"):
        house.assert_whole("shop", stream)
    calls = 2 if account.name == "session" else 1
    assert account not in ISSUED or tokens_of(source).calls == calls, "what `connect` obtained is used"
    assert {one.status for one in source.requests()} == {200}


@pytest.mark.parametrize("account", ISSUED, ids=[one.name for one in ISSUED])
def test_a_token_that_expires_in_mid_list_loses_no_page(house: House, account: Account) -> None:
    source = account.built(house, records=100)
    tokens_of(source).lifetime_requests = 4
    results = account.sync(house)
    for stream in ("orders", "customers"):
        house.assert_whole("shop", stream)
        assert (results[stream].status, results[stream].counters.fetched) == ("succeeded", 100)
    pages = [one.query.get("after") for one in source.requests() if one.path.endswith("/orders") and one.status == 200]
    assert len(pages) == len({str(one) for one in pages}), "no page is read twice"
    refused = [one for one in source.requests() if one.status == 401]
    assert refused
    assert tokens_of(source).calls <= (len(refused) + 1) * (2 if account.name == "session" else 1)


@pytest.mark.parametrize("in_one_line", [False, True])
@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_a_key_in_pem_signs_and_another_one_is_refused(house: House, algorithm: str, in_one_line: bool) -> None:
    account = signed_by_pem(algorithm, in_one_line=in_one_line)
    account.built(house, records=30)
    assert account.sync(house, key=written_key(algorithm))["orders"].error is not None
    assert {one.status for one in account.sync(house).values()} == {"succeeded"}
    house.assert_whole("shop", "orders")


@pytest.mark.parametrize("spoilt", [False, True])
def test_what_is_no_pem_is_told_without_showing_it(house: House, spoilt: bool) -> None:
    account = signed_by_pem("ES256")
    wrong = account.secrets["key"].replace("M", "A") if spoilt else "no key at all"
    source = account.built(house)
    with pytest.raises(ConfigError, match="can't be read as a key for ES256") as told:
        account.sync(house, key=wrong)
    assert source.requests() == []
    assert wrong not in f"{told.value} {told.value.next}"


def test_a_session_is_refreshed_before_it_ends_and_after_without_a_second_login(house: House) -> None:
    source = REFRESHED.built(house, records=100)
    tokens_of(source).lifetime_seconds, tokens_of(source).lifetime_requests = 100, 4
    clock = HastyClock()
    with open_store(house.database_url, Home(house.home)) as store:
        client = REFRESHED.client(house, store, clock=clock)
        for seconds in (0, 85, 85):
            clock.sleep(seconds)
            client.check()
        client.close()
    assert {one.status for one in source.requests()} == {200}
    results = REFRESHED.sync(house)  # each session ends after four requests, in the middle of lists
    assert {one.status for one in results.values()} == {"succeeded"}
    for stream in ("orders", "customers"):
        house.assert_whole("shop", stream)
        assert results[stream].counters.fetched == 100, "no page is read twice"
    asked = [one.path.rsplit("/", 1)[-1] for one in source.requests()]
    assert (asked.count("login"), asked.count("refresh") > 3) == (1, True)


def test_a_token_is_renewed_before_it_expires(house: House) -> None:
    source = CLIENT.built(house)
    tokens_of(source).lifetime_seconds = 100
    clock = HastyClock()
    with open_store(house.database_url, Home(house.home)) as store:
        client = CLIENT.client(house, store, clock=clock)
        for seconds, calls in ((0, 1), (70, 1), (15, 2)):
            clock.sleep(seconds)
            client.check()
            assert tokens_of(source).calls == calls, "a fifth of its life before its end"
        client.close()
    assert {one.status for one in source.requests()} == {200}


def test_four_processes_that_need_a_token_at_once_make_one_call(house: House) -> None:
    source = REFRESH.built(house, records=10)
    source.latency_ms = 150  # all four are there before the first has its answer
    running = [house.start("check", "shop", "--live") for _ in range(4)]
    for one in running:
        out, err = one.communicate(timeout=120)
        assert one.returncode == 0, out + err
    assert tokens_of(source).calls == 1


class Gate:
    """Holds the first answer to a request until it is let go."""

    def __init__(self, source: Simulation, part: str, *, after_the_work: bool):
        self.reached, self.open = threading.Event(), threading.Event()
        self._part, self._after, self._answer = part, after_the_work, source.answer
        source.answer = self.answer  # type: ignore[method-assign]

    def answer(self, request: Request) -> Answer:
        held = self._part in request.path and not self.reached.is_set()
        done = self._answer(request) if self._after or not held else None
        if held:
            self.reached.set()
            self.open.wait(60)
        return done or self._answer(request)


def kill_at(house: House, gate: Gate) -> None:
    process = house.start("sync", "shop", "--json")
    assert gate.reached.wait(60)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    gate.open.set()


def test_killed_after_the_rotation_was_stored_the_next_run_goes_on_with_it(house: House) -> None:
    source = REFRESH.built(house)
    kill_at(house, Gate(source, "/orders", after_the_work=True))
    tokens_of(source).expire()
    house.sync("shop")
    house.assert_whole("shop", "orders")
    assert tokens_of(source).calls == 2
    assert not tokens_of(source).revoked, "no refresh token was used twice"


def test_killed_before_the_source_answered_the_next_run_says_what_may_be_lost(house: House) -> None:
    source = REFRESH.built(house)
    kill_at(house, Gate(source, "/oauth/token", after_the_work=True))
    error = house.sync("shop", expect=1)["orders"]["error"]
    assert error["class"] == "credentials"
    assert "ended before its answer was stored" in error["message"]
    assert error["who"] == "whoever holds the account"
    assert "the secret refresh" in error["next"]
    assert tokens_of(source).calls == 2, "the second stream, and the next runs, ask nothing"


def test_revoked_stops_without_another_call_until_the_secret_changes(house: House) -> None:
    source = REFRESH.built(house)
    REFRESH.sync(house)
    tokens_of(source).revoke()
    first = REFRESH.sync(house)
    calls, asked = tokens_of(source).calls, len(source.requests())
    for stream in ("orders", "customers"):
        assert error_of(first[stream]).error_class == "credentials", error_of(first[stream]).__cause__
        assert "was revoked, has expired or was used before" in error_of(first[stream]).what
    again = REFRESH.sync(house)
    assert "not asked again until the secret changes" in error_of(again["orders"]).what
    assert (tokens_of(source).calls, len(source.requests())) == (calls, asked)
    tokens_of(source).families["granted-anew"] = "second"
    assert REFRESH.sync(house, refresh="granted-anew")["orders"].status == "succeeded"
    house.assert_whole("shop", "orders")


def test_401_and_403_are_told_apart_and_403_asks_for_no_token(house: House) -> None:
    source = CLIENT.built(house)
    CLIENT.sync(house)
    plain, status = source.answer, 403

    def refusing(request: Request) -> Answer:
        return Answer(status, b'{"error": "no"}') if "/orders" in request.path else plain(request)

    source.answer = refusing  # type: ignore[method-assign]
    results = CLIENT.sync(house)
    assert error_of(results["orders"]).error_class == "permission"
    assert error_of(results["orders"]).who == "an administrator of the outside system"
    assert (results["customers"].status, tokens_of(source).calls) == ("succeeded", 1)
    status = 401
    results = CLIENT.sync(house)
    assert error_of(results["orders"]).error_class == "credentials"
    assert results["customers"].status == "succeeded"
    assert tokens_of(source).calls == 2, "renewed once, not once per try"


@pytest.mark.parametrize("account", ACCOUNTS, ids=ids)
def test_wrong_secrets_are_told_with_who_must_act(house: House, account: Account) -> None:
    account.built(house)
    wrong = "ff" * 64 if account.name == "jwt" else "a-wrong-secret-that-is-long-enough"
    error = error_of(account.sync(house, **{list(account.secrets)[-1]: wrong})["orders"])
    assert error.error_class == "credentials"
    assert error.who in ("whoever owns the account", "whoever holds the account")
    assert wrong not in f"{error} {error.next}"


def test_a_corrected_client_secret_is_tried_at_once_and_connect_tries_the_same_again(house: House) -> None:
    source = CLIENT.built(house)
    CLIENT.sync(house, client="wrong")
    CLIENT.sync(house, client="wrong")
    assert tokens_of(source).calls == 1, "a refused secret is not shown again"
    with open_store(house.database_url, Home(house.home)) as store:
        client = CLIENT.client(house, store, client="wrong")
        with pytest.raises(CredentialsError, match="client is not accepted"):
            client.check()
        client.close()
    assert tokens_of(source).calls == 2, "a person may try it again"
    assert CLIENT.sync(house)["orders"].status == "succeeded"


def test_a_lost_key_is_told_and_a_new_secret_heals_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    source = REFRESH.built(house)
    REFRESH.sync(house)
    key = house.home / ".integrations" / "token.key"
    assert key.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("INTEGRATIONS_KEY", "another key, long enough to be one of them")
    error = error_of(REFRESH.sync(house)["orders"])
    assert error.error_class == "config"
    assert "was encrypted with key" in error.what
    assert "token.key" in error.next
    monkeypatch.delenv("INTEGRATIONS_KEY")
    key.unlink()
    assert "is missing" in error_of(REFRESH.sync(house)["orders"]).what
    assert not key.exists(), "no new key is made while something is encrypted with the old one"
    monkeypatch.setenv("INTEGRATIONS_KEY", "too short")
    assert "at least 32" in error_of(REFRESH.sync(house)["orders"]).what
    monkeypatch.setenv("INTEGRATIONS_KEY", "a new key, since the old one can't be found")
    tokens_of(source).families["granted-anew"] = "second"
    assert REFRESH.sync(house, refresh="granted-anew")["orders"].status == "succeeded"
    assert not tokens_of(source).revoked
