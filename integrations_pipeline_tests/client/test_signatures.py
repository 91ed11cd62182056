"""Signature schemes as data: what the providers publish is accepted, and nothing else is."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from integrations_pipeline.client.delivery import Delivery
from integrations_pipeline.client.signatures import Signatures, sign
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.secrets import Secret
from integrations_pipeline.spec.webhook import Webhook

URL = "https://hooks.example.com/webhooks/acme"
NOW = datetime(2025, 10, 1, 12, tzinfo=UTC)
FORM = "application/x-www-form-urlencoded"
SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
    b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
TWILIO_BODY = b"CallSid=CA1234567890ABCDE&Digits=1234&From=%2B14158675309&To=%2B18005551212&Caller=%2B14158675309"

SCHEMES: dict[str, dict[str, Any]] = {
    "standard_webhooks": {"type": "standard_webhooks"},
    "stripe": {
        "signature": "header Stripe-Signature",
        "format": "t=<timestamp>,v1=<signature>",
        "signed": "<timestamp>.<body>",
    },
    "github": {"signature": "header X-Hub-Signature-256", "format": "sha256=<signature>", "signed": "<body>"},
    "shopify": {"signature": "header X-Shopify-Hmac-Sha256", "encoding": "base64", "signed": "<body>"},
    "hubspot": {
        "signature": "header X-HubSpot-Signature-v3",
        "encoding": "base64",
        "timestamp": "header X-HubSpot-Request-Timestamp",
        "unit": "ms",
        "signed": "<method><url><body><timestamp>",
    },
    "slack": {
        "signature": "header X-Slack-Signature",
        "format": "v0=<signature>",
        "timestamp": "header X-Slack-Request-Timestamp",
        "signed": "v0:<timestamp>:<body>",
    },
    "docusign": {"signature": "header X-DocuSign-Signature-*", "encoding": "base64", "signed": "<body>"},
    "dropbox_sign": {
        "signature": "event.event_hash",
        "signed": "<json event.event_time><json event.event_type>",
    },
    "square": {"signature": "header x-square-hmacsha256-signature", "encoding": "base64", "signed": "<url><body>"},
    "twilio": {
        "signature": "header X-Twilio-Signature",
        "algorithm": "sha1",
        "encoding": "base64",
        "signed": "<url><form>",
    },
    "plain": {"type": "shared_secret", "signature": "header Authorization", "prefix": "Bearer "},
}
PAYLOADS = {"twilio": "form", "dropbox_sign": "form json"}


def webhook(scheme: str, **over: Any) -> Webhook:
    verify = {"type": "hmac", "secret": "$signing", **SCHEMES[scheme], **over}
    events = {"**": {"sync": "orders"}}
    return Webhook.model_validate({"verify": verify, "payload": PAYLOADS.get(scheme, "json"), "events": events})


def delivery(body: bytes, headers: Mapping[str, str] | None = None, url: str = URL, payload: str = "json") -> Delivery:
    lower = [(name.lower(), value) for name, value in (headers or {}).items()]
    return Delivery("POST", url, lower, body, payload)


@dataclass(frozen=True)
class Vector:
    """What a provider publishes: a secret, a request, and the signature it must have."""

    source: str
    scheme: str
    secret: str
    sent: Delivery
    at: datetime = NOW


VECTORS = [
    Vector(
        "https://github.com/standard-webhooks/standard-webhooks, the libraries' own tests, 2025-10",
        "standard_webhooks",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        delivery(
            b'{"test": 2432232314}',
            {
                "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
                "webhook-timestamp": "1614265330",
                "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            },
        ),
        datetime.fromtimestamp(1614265330, UTC),
    ),
    Vector(
        "https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries, 2025-10",
        "github",
        "It's a Secret to Everybody",
        delivery(
            b"Hello, World!",
            {"X-Hub-Signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
        ),
    ),
    Vector(
        "https://docs.slack.dev/authentication/verifying-requests-from-slack, 2025-10",
        "slack",
        "8f742231b10e8888abcd99yyyzzz85a5",
        delivery(
            SLACK_BODY,
            {
                "X-Slack-Request-Timestamp": "1531420618",
                "X-Slack-Signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
            },
        ),
        datetime.fromtimestamp(1531420618, UTC),
    ),
    Vector(
        "https://developer.squareup.com/docs/webhooks/step3validate, 2025-10",
        "square",
        "asdf1234",
        delivery(
            b'{"hello":"world"}',
            {"X-Square-HmacSha256-Signature": "2kRE5qRU2tR+tBGlDwMEw2avJ7QM4ikPYD/PJ3bd9Og="},
            "https://example.com/webhook",
        ),
    ),
    Vector(
        "https://github.com/twilio/twilio-python, tests/unit/test_request_validator.py, 2025-10",
        "twilio",
        "12345",
        delivery(
            TWILIO_BODY,
            {"X-Twilio-Signature": "RSOYDt4T1cUTdK1PDd93/VVr8B8=", "Content-Type": FORM},
            "https://mycompany.com/myapp.php?foo=1&bar=2",
            "form",
        ),
    ),
    Vector(
        "https://github.com/twilio/twilio-python, the same, a field that comes three times, 2025-10",
        "twilio",
        "12345",
        delivery(
            b"Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234&Digits=1234",
            {"X-Twilio-Signature": "IK+Dwps556ElfBT0I3Rgjkr1wJU=", "Content-Type": FORM},
            "https://mycompany.com/myapp.php?foo=1&bar=2",
            "form",
        ),
    ),
]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda one: one.scheme)
def test_what_a_provider_publishes_is_accepted(vector: Vector) -> None:
    scheme = Signatures(webhook(vector.scheme), [Secret(vector.secret)])
    assert scheme.refusal(vector.sent, vector.at) is None
    assert scheme.refusal(replace(vector.sent, body=vector.sent.body + b"&x=1"), vector.at) == "signature"
    assert Signatures(webhook(vector.scheme), [Secret("b3RoZXI=")]).refusal(vector.sent, vector.at) == "signature"


# Of these the pages describe the recipe and publish no signature: it is made here a second time, by hand.
def mac(secret: str, text: bytes) -> bytes:
    return hmac.new(secret.encode(), text, hashlib.sha256).digest()


BODY = '{"id": 1, "name": "Zoë"}'.encode()
STAMP = str(int(NOW.timestamp()))
MILLIS = str(int(NOW.timestamp() * 1000))
CALLBACK = (
    '{"event": {"event_time": "1348177752", "event_type": "signature_request_sent", "event_hash": "'
    + mac("k", b"1348177752signature_request_sent").hex()
    + '"}}'
).encode()
RECIPES = {
    # https://docs.stripe.com/webhooks#verify-manually, 2025-10
    "stripe": delivery(BODY, {"Stripe-Signature": f"t={STAMP},v1={mac('k', f'{STAMP}.'.encode() + BODY).hex()},v0=00"}),
    # https://shopify.dev/docs/apps/build/webhooks/subscribe/https, 2025-10
    "shopify": delivery(BODY, {"X-Shopify-Hmac-Sha256": base64.b64encode(mac("k", BODY)).decode()}),
    # https://developers.hubspot.com/docs/apps/developer-platform/build-apps/authentication/request-validation, 2025-10
    "hubspot": delivery(
        BODY,
        {
            "X-HubSpot-Request-Timestamp": MILLIS,
            "X-HubSpot-Signature-v3": base64.b64encode(
                mac("k", b"POST" + URL.encode() + BODY + MILLIS.encode())
            ).decode(),
        },
    ),
    # https://developers.docusign.com/platform/webhooks/connect/hmac/, 2025-10: one header per key
    "docusign": delivery(
        BODY,
        {
            "X-DocuSign-Signature-1": base64.b64encode(mac("old", BODY)).decode(),
            "X-DocuSign-Signature-2": base64.b64encode(mac("k", BODY)).decode(),
        },
    ),
    # https://developers.hellosign.com/docs/events/walkthrough/, 2025-10: a multipart form with one field
    "dropbox_sign": delivery(
        b'--xYzZY\r\nContent-Disposition: form-data; name="json"\r\n\r\n' + CALLBACK + b"\r\n--xYzZY--\r\n",
        {"Content-Type": "multipart/form-data; boundary=xYzZY"},
        payload="form json",
    ),
    "plain": delivery(BODY, {"Authorization": "Bearer k"}),
}


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_recipe_says_is_accepted(name: str) -> None:
    scheme = Signatures(webhook(name), [Secret("k")])
    assert scheme.refusal(RECIPES[name], NOW) is None
    assert Signatures(webhook(name), [Secret("other")]).refusal(RECIPES[name], NOW) == "signature"


def secrets_of(name: str, *texts: str) -> list[Secret]:
    standard = name == "standard_webhooks"
    return [Secret("whsec_" + base64.b64encode(text.encode()).decode() if standard else text) for text in texts]


def unsigned(name: str) -> Delivery:
    if name == "twilio":
        return delivery(b"From=%2B1&To=%2B2", {"Content-Type": FORM}, payload="form")
    if name == "dropbox_sign":
        return delivery(b'{"event": {"event_time": "1", "event_type": "sent"}}')
    return delivery(BODY)


@pytest.mark.parametrize("name", SCHEMES)
def test_what_is_signed_here_is_accepted_here(name: str) -> None:
    """A sender with the new and the old secret, a receiver with either, or with both."""
    hook = webhook(name)
    hook = hook.model_copy(update={"payload": "json"}) if name == "dropbox_sign" else hook
    both = secrets_of(name, "new", "old")
    sent = sign(
        hook, both if name not in ("plain", "dropbox_sign", "github", "shopify") else both[:1], unsigned(name), NOW
    )
    assert Signatures(hook, both).refusal(sent, NOW) is None
    assert Signatures(hook, both[:1]).refusal(sent, NOW) is None
    assert Signatures(hook, secrets_of(name, "third")).refusal(sent, NOW) == "signature"
    only_old = sign(hook, both[1:], unsigned(name), NOW)
    assert Signatures(hook, both).refusal(only_old, NOW) is None


@pytest.mark.parametrize("name", ["standard_webhooks", "stripe", "hubspot", "slack"])
@pytest.mark.parametrize(("away", "why"), [(299, None), (-299, None), (301, "timestamp"), (-301, "timestamp")])
def test_a_stamp_is_neither_old_nor_of_the_future(name: str, away: int, why: str | None) -> None:
    sent = sign(webhook(name), secrets_of(name, "k"), unsigned(name), NOW)
    assert Signatures(webhook(name), secrets_of(name, "k")).refusal(sent, NOW + timedelta(seconds=away)) == why


def with_header(sent: Delivery, name: str, value: str) -> Delivery:
    return replace(sent, headers=[(n, value if n == name else v) for n, v in sent.headers])


GOOD = RECIPES["stripe"].headers[0][1]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", "malformed"),
        (f"t={STAMP}", "signature"),
        (GOOD.partition(",")[2], "malformed"),
        (GOOD.replace(STAMP, "now"), "malformed"),
        (GOOD.replace(STAMP, STAMP + "0" * 40), "malformed"),
        (f"t={STAMP}," + GOOD, "malformed"),
        (GOOD.replace("v1=", "v2="), "signature"),
        (GOOD.replace("v1=", "v1=zz"), "signature"),
        (f"t={STAMP}" + ",v1=00" * 101, "signature"),
        (GOOD.replace("v1=", "v1=\u00e9"), "signature"),
        (f"v1=00,v1=11, {GOOD}", None),
    ],
)
def test_a_header_that_is_not_what_it_should_be(value: str, why: str | None) -> None:
    scheme = Signatures(webhook("stripe"), [Secret("k")])
    refused = scheme.refusal(with_header(RECIPES["stripe"], "stripe-signature", value), NOW)
    assert refused == why if value else refused is not None


def test_a_delivery_without_what_the_scheme_needs() -> None:
    bare = delivery(BODY)
    for name in SCHEMES:
        assert Signatures(webhook(name), secrets_of(name, "k")).refusal(bare, NOW) in ("signature", "malformed")
    with_stamp = RECIPES["hubspot"]
    twice = replace(with_stamp, headers=[*with_stamp.headers, with_stamp.headers[0]])
    assert Signatures(webhook("hubspot"), [Secret("k")]).refusal(twice, NOW) == "malformed"


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"\xff\xfe", FORM), (b"a=1&" * 2000, FORM), (b"--x", "multipart/form-data"), (b"{", "text/plain"), (b"", "")],
)
def test_a_body_that_cannot_be_read_is_refused_not_raised(body: bytes, kind: str) -> None:
    for name in ("twilio", "dropbox_sign"):
        sent = delivery(body, {"Content-Type": kind, "X-Twilio-Signature": "AAAA"}, payload=PAYLOADS[name])
        assert Signatures(webhook(name), [Secret("k")]).refusal(sent, NOW) in ("signature", "malformed")


def test_the_words_id_header_and_json() -> None:
    verify = {
        "type": "hmac",
        "signature": "query sig",
        "signed": "<id>/<header X-Topic>/<json a.0.b>",
        "secret": "$s",
        "key_encoding": "hex",
        "algorithm": "sha512",
    }
    hook = Webhook.model_validate({"verify": verify, "event_id": "header X-Id", "events": {"a": {"sync": "o"}}})
    sent = delivery(b'{"a": [{"b": 7}]}', {"X-Topic": "t", "X-Id": "e1"})
    digest = hmac.new(b"\x01\x02", b"e1/t/7", hashlib.sha512).hexdigest()
    signed = sign(hook, [Secret("0102")], sent, NOW)
    assert signed.url == f"{URL}?sig={digest}"
    assert Signatures(hook, [Secret("0102")]).refusal(signed, NOW) is None


@pytest.mark.parametrize(("name", "over"), [("standard_webhooks", {}), ("github", {"key_encoding": "hex"})])
def test_a_secret_in_the_wrong_encoding_is_named_but_not_shown(name: str, over: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as raised:
        Signatures(webhook(name, **over), [Secret("hunter-2!")])
    assert "webhook.verify" in str(raised.value) and "hunter" not in str(raised.value)


def test_nothing_is_asked_where_nothing_is_declared() -> None:
    hook = Webhook.model_validate({"verify": {"type": "none"}, "events": {"a": {"sync": "o"}}})
    assert Signatures(hook, []).refusal(delivery(b""), NOW) is None
    assert sign(hook, [], delivery(b"x"), NOW) == delivery(b"x")


def test_only_a_scheme_that_signs_the_address_needs_it() -> None:
    needing: Sequence[str] = [name for name in SCHEMES if Signatures(webhook(name), []).needs_url]
    assert needing == ["hubspot", "square", "twilio"]
