"""From files to connections: what merges, what is filled in, and what a broken file says."""

from __future__ import annotations

import shutil
import time
from datetime import timedelta
from pathlib import Path

import pytest

from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.home import Home
from integrations_pipeline.spec.loading import load_all, load_connection, load_connection_and_kinds, load_kinds
from integrations_pipeline.spec.paths import WHOLE
from integrations_pipeline_tests.spec.written import CUSTOMER, EXAMPLES, SHOP, load, problems, write_home


@pytest.mark.parametrize("name", ["stripe_eu", "github_shop", "reference_rates", "hubspot_eu", "acme_eu"])
def test_the_files_of_the_grammar_load(name: str) -> None:
    connection = load_connection(name, Home(EXAMPLES))
    assert connection.name == name
    assert connection.selected


def test_a_file_alone_finds_its_models_beside_it() -> None:
    connection, kinds = load_connection_and_kinds(str(EXAMPLES / "connections" / "crm.yaml"), Home(EXAMPLES.parent))
    assert connection.name == "hubspot_eu"
    assert "customer" in kinds
    assert connection.file == EXAMPLES / "connections" / "crm.yaml"


def test_defaults_of_the_grammar(tmp_path: Path) -> None:
    connection = load(tmp_path, SHOP + "    write: {fields: [email], create: POST /orders}\n" + MAPPED)
    stream = connection.streams["orders"]
    assert connection.every.interval == timedelta(hours=1)
    assert stream.write is not None
    assert stream.write.answer == WHOLE
    assert connection.api.timeout == timedelta(seconds=60)
    assert connection.api.retry.attempts == 5


MAPPED = "    map: {to: customer, fields: {email: email}}\n"

CONNECTOR = """\
connector: vendor
settings: {shop: null, region: eu}
api:
  url: https://<shop>.example.com/<region>
  headers: {Accept: application/json, X-Trace: on-demand}
  auth: {type: bearer, token: $token}
  pagination: {type: cursor, read: next, send: after}
  limits: [10 per 1s]
streams:
  orders: {request: GET /orders, query: {state: any, sort: id}, records: data, primary_key: id}
  refunds: {request: GET /refunds, records: data, primary_key: id}
webhook:
  verify: {type: hmac, signature: header X-Sign, signed: <url><body>, secret: $token}
  events: {order.*: {upsert: orders, record: data}}
"""
USER = """\
connection: shop
uses: vendor
settings: {shop: acme}
secrets: {token: {env: TOKEN}}
"""


def test_a_connector_gives_the_facts(tmp_path: Path) -> None:
    connection = load(tmp_path, USER, connectors__vendor=CONNECTOR)
    assert connection.api.url == "https://acme.example.com/eu"
    assert connection.settings == {"shop": "acme", "region": "eu"}
    assert connection.webhook is not None
    assert connection.webhook.verify.signed == "<url><body>"


def test_maps_merge_scalars_and_lists_replace_null_removes(tmp_path: Path) -> None:
    over = """\
api:
  headers: {X-Trace: null, X-Own: own}
  limits: [5 per 1s, 100 per 1h]
  auth: {type: basic, username: me, password: $token}
streams:
  orders: {query: {sort: null, limit: 5}}
  refunds: null
webhook:
  events: {order.deleted: {delete: orders, key: id}}
"""
    connection = load(tmp_path, USER + over, connectors__vendor=CONNECTOR)
    assert connection.api.headers == {"Accept": "application/json", "X-Own": "own"}
    assert [limit.rate.count for limit in connection.api.limits] == [5, 100]
    assert connection.api.auth.type == "basic"
    assert list(connection.streams) == ["orders"]
    assert connection.streams["orders"].query == {"state": "any", "limit": 5}
    assert connection.webhook is not None
    assert list(connection.webhook.events) == ["order.deleted", "order.*"]


def test_null_inside_full_stays(tmp_path: Path) -> None:
    over = "streams: {orders: {body: {a: 1}, full: {body: null, query: {state: null}}}}\n"
    full = load(tmp_path, USER + over, connectors__vendor=CONNECTOR).streams["orders"].full
    assert full is not None
    assert "body" in full.model_fields_set
    assert full.query == {"state": None}


def test_settings_are_values_and_quoted_in_addresses(tmp_path: Path) -> None:
    text = """\
connection: shop
settings: {owner: a/b, size: 50, exact: 1.10, flag: true}
api: {url: "https://api.example.com/<owner>", pagination: {type: offset, send: skip, size: {send: top, value: <size>}}}
streams:
  orders:
    request: GET /x/<owner>/y
    query: {flag: <flag>, text: is <flag>, version: v<exact>, plain: <<owner>}
    records: .
    primary_key: id
"""
    connection = load(tmp_path, text)
    stream = connection.streams["orders"]
    assert connection.api.url == "https://api.example.com/a%2Fb"
    assert connection.api.pagination is not None
    assert connection.api.pagination.size is not None
    assert connection.api.pagination.size.value == 50
    assert stream.request == "GET /x/a%2Fb/y"
    assert stream.query == {"flag": True, "text": "is true", "version": "v1.10", "plain": "<<owner>"}


def test_errors_name_the_file_and_line_they_come_from(tmp_path: Path) -> None:
    over = "streams:\n  orders: {primary_kee: id}\n"
    broken = CONNECTOR.replace("limits: [10 per 1s]", "limits: [10 a second]")
    assert problems(tmp_path, USER + over, connectors__vendor=broken) == [
        "connections/shop.yaml:6: streams.orders.primary_kee: a key of the grammar was expected "
        "(did you mean 'primary_key'?)",
        "connectors/vendor.yaml:8: api.limits[0]: a rate like 100 per 10s was expected, not '10 a second'",
    ]


def test_a_missing_setting_points_to_the_connection(tmp_path: Path) -> None:
    assert problems(tmp_path, USER.replace("{shop: acme}", "{}"), connectors__vendor=CONNECTOR) == [
        "connections/shop.yaml:2: settings.shop: a value was expected: connectors/vendor.yaml has no default for it"
    ]


def test_an_unknown_connector(tmp_path: Path) -> None:
    assert problems(tmp_path, USER.replace("vendor", "vendro"), connectors__vendor=CONNECTOR) == [
        "connections/shop.yaml:2: uses: a connector with a file connectors/vendro.yaml was expected, not vendro "
        "(did you mean 'vendor'?)"
    ]


def test_a_connector_holds_no_keys_of_a_connection(tmp_path: Path) -> None:
    text = CONNECTOR.replace("connector: vendor", "connector: vendors") + "secrets: {token: {env: T}}\nalerts: []\n"
    assert problems(tmp_path, USER, connectors__vendor=text) == [
        "connectors/vendor.yaml:1: connector: vendor was expected, as in the file's name, not vendors",
        f"connectors/vendor.yaml:15: secrets: {ITS_KEYS}",
        f"connectors/vendor.yaml:16: alerts: {ITS_KEYS}",
    ]


ITS_KEYS = "one of the keys api, connector, description, hooks, settings, streams or webhook was expected"

WRONG = """\
connection: Shop
every: 10s
off_peak: 22:00-06:00 Europe/Berln
alerts: [{env: X, form: error}]
api:
  url: ftp://user@example.com
  pagination: {type: cursr, send: after}
  concurrency: 0
  errors: [{status: 403, is: ratelimited}]
streams:
  orders:
    records: data
    primary_key: id
    fields: {id: {type: strng, required: yes}}
    map: {to: customer, fields: {email: {from: email, apply: [trimm]}}}
"""


def test_all_that_is_wrong_is_told_at_once_in_words(tmp_path: Path) -> None:
    home = write_home(tmp_path, connections__wrong=WRONG)
    with pytest.raises(ConfigError) as caught:
        load_connection("wrong", home)
    lines = [line.removeprefix("connections/wrong.yaml:") for line in caught.value.what.splitlines()]
    starts = [
        "1: connection: a name of a-z, 0-9 and single _ that starts with a letter was expected, not 'Shop'",
        "2: every: at least 1m was expected",
        "3: off_peak: an IANA time zone like Europe/Berlin was expected, not 'Europe/Berln'",
        "4: alerts[0].form: a key of the grammar was expected (did you mean 'from'?)",
        "6: api.url: no user info in a URL: put it under `auth`, from a secret",
        "7: api.pagination: single_page, page_number, offset, cursor, keyset, link_header or link_body was expected, "
        "not 'cursr' (did you mean 'cursor'?)",
        "8: api.concurrency: a larger number (at least 1) was expected, not 0",
        "9: api.errors[0].is: rate_limited, transient, ",
        "11: streams.orders: exactly one of request, parent was expected",
        "14: streams.orders.fields.id.required: true, false or a quoted text was expected: quote it ('yes')",
        "14: streams.orders.fields.id.type: string, integer, decimal, boolean, timestamp, date or json was expected, "
        "not 'strng' (did you mean 'string'?)",
        "15: streams.orders.map.fields.email.apply[0]: a transform was expected (",
    ]
    assert [line[: len(start)] for line, start in zip(lines, starts, strict=True)] == starts
    assert lines[7].endswith("not 'ratelimited' (did you mean 'rate_limited'?)")


def test_what_a_value_should_have_been(tmp_path: Path) -> None:
    for broken, message in (
        ("select: orders", "select: a list was expected, not 'orders'"),
        ("tags: [a b]", "tags[0]: a tag like team or team=sales was expected, not 'a b'"),
        ("owner: sales", "owner: an e-mail address or team:NAME was expected, not 'sales'"),
        ("expect: {rejected: 1%}", "expect.rejected: 'under NUMBER%' was expected, not '1%'"),
        ("expect: {records_per_day: 1}", "expect.records_per_day: 'at least NUMBER' was expected, not 1"),
        ("hooks: {page: clean}", "hooks.page: module.function was expected, not 'clean'"),
        ("settings: {a: [1]}", "settings.a: a plain value was expected: text, a number, true or false"),
        ("secrets: {a: sk_live_1}", "secrets.a: {env: NAME} or {file: /path} was expected; a secret never"),
        ("webhook: {verify: {type: hmac}, events: {a: {sync: orders}}}", "webhook.verify: hmac needs signature, "),
        ("description: null", "description: text was expected, not null"),
    ):
        found = problems(tmp_path, SHOP + broken + "\n")
        assert any(line.startswith(f"connections/shop.yaml:10: {message}") for line in found), found
        assert "sk_live_1" not in "".join(found)


def test_missing_keys_point_to_the_map_around_them(tmp_path: Path) -> None:
    assert problems(tmp_path, "connection: shop\napi: {}\nstreams:\n  orders: {request: GET /x, records: .}\n") == [
        "connections/shop.yaml:2: api.url: a required key is missing",
        "connections/shop.yaml:4: streams.orders.primary_key: a required key is missing",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "shop.yaml:1: a map that starts with `connection: NAME` was expected"),
        ("api: {}\n", "shop.yaml:1: a map that starts with `connection: NAME` was expected"),
        (CONNECTOR, "this is a connector, which a connection names under `uses`"),
        ("connection: [shop]\n", "connection: a name of a-z, 0-9 and single _"),
    ],
)
def test_a_file_that_is_no_connection(tmp_path: Path, text: str, message: str) -> None:
    assert message in "\n".join(problems(tmp_path, text))


def test_an_unknown_name(tmp_path: Path) -> None:
    home = write_home(tmp_path, connections__shop=SHOP)
    with pytest.raises(ConfigError, match=r"there is no connection shoop \(did you mean 'shop'\?\)"):
        load_connection("shoop", home)
    with pytest.raises(ConfigError, match=r"there is no file shoop\.yaml"):
        load_connection("shoop.yaml", home)


def test_a_name_needs_no_file_of_that_name(tmp_path: Path) -> None:
    home = write_home(tmp_path, connections__europe=SHOP)
    assert load_connection("shop", home).name == "shop"
    assert list(load_all(home).connections) == ["shop"]


def test_two_files_with_one_name_are_refused(tmp_path: Path) -> None:
    home = write_home(tmp_path, connections__a=SHOP, connections__b="# mine\n" + SHOP, connections__c=OTHER)
    with pytest.raises(ConfigError) as caught:
        load_connection("shop", home)
    told = "a name of its own was expected: shop is also the connection of"
    assert caught.value.what.splitlines() == [
        f"connections/a.yaml:1: connection: {told} connections/b.yaml",
        f"connections/b.yaml:2: connection: {told} connections/a.yaml",
    ]
    loaded = load_all(home)
    assert list(loaded.connections) == ["other"]
    assert set(loaded.broken) == {"connections/a.yaml", "connections/b.yaml"}


OTHER = SHOP.replace("connection: shop", "connection: other")


def test_a_broken_file_takes_no_other_down(tmp_path: Path) -> None:
    home = write_home(
        tmp_path,
        connections__good=SHOP,
        connections__cut='connection: "cut\n',
        connections__mapped=OTHER.replace("other", "mapped") + MAPPED.replace("customer", "supplier"),
        models__supplier="kind: supplier\nfields: {id: {type: string}, size: {type: int}}\n",
    )
    (tmp_path / "connections" / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "connections" / "folder.yaml").mkdir()
    loaded = load_all(home)
    assert list(loaded.connections) == ["shop"]
    assert list(loaded.kinds) == ["customer"]
    assert {file: error.problems[0].line for file, error in loaded.broken.items()} == {
        "models/supplier.yaml": 2,
        "connections/binary.yaml": 1,
        "connections/cut.yaml": 1,
        "connections/folder.yaml": 0,
        "connections/mapped.yaml": 10,
    }
    assert "mend its file in models/ first" in loaded.broken["connections/mapped.yaml"].what


def test_kinds(tmp_path: Path) -> None:
    home = write_home(tmp_path, models__a=CUSTOMER, models__b="kind: Big\nfields: {a__b: {type: string}}\n")
    with pytest.raises(ConfigError) as caught:
        load_kinds(home)
    assert [line.split(" was expected")[0] for line in caught.value.what.splitlines()] == [
        "models/b.yaml:1: kind: a name of a-z, 0-9 and single _ that starts with a letter",
        "models/b.yaml:2: fields.a__b: a name of a-z, 0-9 and single _ that starts with a letter",
        "models/customer.yaml:1: kind: a name of its own",
    ]


def test_an_empty_home_has_nothing_and_breaks_nothing(tmp_path: Path) -> None:
    loaded = load_all(Home(tmp_path))
    assert (loaded.connections, loaded.kinds, loaded.broken) == ({}, {}, {})


def test_the_home_comes_from_the_environment(tmp_path: Path) -> None:
    assert Home.from_environment({"INTEGRATIONS_HOME": str(tmp_path)}).connections == tmp_path / "connections"
    assert (Home.from_environment({}).root / "pyproject.toml").is_file()
    with pytest.raises(ConfigError, match="which is no folder"):
        Home.from_environment({"INTEGRATIONS_HOME": str(tmp_path / "none")})


def test_a_hundred_connections_load_at_once(tmp_path: Path) -> None:
    """On an idle core it takes 0.3 s; the bound leaves room for a busy machine."""
    shutil.copytree(EXAMPLES / "models", tmp_path / "models")
    text = (EXAMPLES / "connections" / "issues.yaml").read_text(encoding="utf-8")
    third = text[text.index("  comments:\n") : text.index("webhook:\n")].replace("comments:", "reviews:", 1)
    text = text.replace("webhook:\n", third + "webhook:\n", 1)
    (tmp_path / "connections").mkdir()
    for number in range(100):
        named = text.replace("connection: github_shop", f"connection: shop{number}")
        (tmp_path / "connections" / f"shop{number}.yaml").write_text(named, encoding="utf-8")
    started = time.process_time()
    loaded = load_all(Home(tmp_path))
    assert time.process_time() - started < 1.5
    assert len(loaded.connections) == 100
    assert all(len(connection.streams) == 3 for connection in loaded.connections.values())
