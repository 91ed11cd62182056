"""Messages on their way: nothing that is logged meanwhile quotes the destination, and nobody else's lines are lost."""

from __future__ import annotations

import logging
import threading

import pytest

from integrations_pipeline.orchestration.notifying import Apprise
from integrations_pipeline.sync.alerting import Message
from integrations_pipeline_tests.client.source import Reply, Source

MESSAGE = Message("broken: shop", "no orders", "failure")
HOOK = "/hooks/planted-3c1e77"


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """Everything that is logged, at any level; also what our own client mutes where it is in use."""
    caplog.set_level(logging.DEBUG)
    for name in ("urllib3.connectionpool", "urllib3.connection", "urllib3.response", "apprise"):
        caplog.set_level(logging.DEBUG, name)
        monkeypatch.setattr(logging.getLogger(name), "filters", [])
    return caplog


def test_the_destination_is_in_no_line_at_any_level(lines: pytest.LogCaptureFixture) -> None:
    with Source(lambda seen: {}) as chat:
        url = chat.url.replace("http:", "json:") + HOOK
        assert Apprise().tell(url, MESSAGE) is None
        chat.answer = lambda seen: Reply({}, 503)
        assert Apprise().tell(url, MESSAGE) == "the destination answered 503"
        assert [seen.path for seen in chat.seen] == [HOOK, HOOK]
    assert Apprise().tell("nothing:/" + HOOK, MESSAGE) == "its variable holds no URL of a form that apprise knows"
    assert "planted" not in lines.text
    logging.getLogger("urllib3.connectionpool").debug("of another request")
    assert "of another request" in lines.text, "afterwards all is logged as ever"


def test_another_threads_lines_are_kept_while_one_sends(lines: pytest.LogCaptureFixture) -> None:
    sending, other = threading.Event(), logging.getLogger("urllib3.connectionpool")
    said = threading.Event()

    def slow(seen: object) -> dict[str, str]:
        sending.set()
        said.wait(30)
        return {}

    with Source(slow) as chat:
        url = chat.url.replace("http:", "json:") + HOOK
        told: list[str | None] = []
        thread = threading.Thread(target=lambda: told.append(Apprise().tell(url, MESSAGE)))
        thread.start()
        assert sending.wait(30)
        other.debug("a line of the thread that sends nothing")
        said.set()
        thread.join(30)
    assert "a line of the thread that sends nothing" in lines.text
    assert "planted" not in lines.text
