"""Each fault over real HTTP: what a reader meets, that it can be repeated, and that the truth stays as it is."""

from __future__ import annotations

import gzip
import time
from http.client import HTTPConnection, HTTPException
from typing import Any

import pytest
import requests

from integrations_pipeline.simulator.faults import registry
from integrations_pipeline.spec.errors import DataError
from integrations_pipeline.spec.faults import VOCABULARY
from integrations_pipeline_tests.simulator.conftest import Serve, Source

YAML = """
connection: shop
api:
  url: https://api.shop.example/v1
  pagination: PAGINATION
streams:
  orders:
    request: GET /orders
    records: items
    primary_key: id
    cursor: {field: updated_at, send: since}
    fields:
      id: {type: string}
      updated_at: {type: timestamp}
      name: {type: string}
      amount: {type: decimal}
      paid: {type: boolean}
      due: {type: date}
"""
KINDS = {
    "cursor": "{type: cursor, read: next, send: after, size: {send: n, value: 10}, total: total}",
    "more": "{type: cursor, read: next, send: after, size: {send: n, value: 10}, more: has_more}",
    "offset": "{type: offset, send: skip, size: {send: n, value: 10}, pages: pages}",
    "page": "{type: page_number, send: page, size: {send: n, value: 10}, pages: pages}",
    "keyset": "{type: keyset, send: after, size: {send: n, value: 10}}",
    "links": "{type: link_body, read: next, size: {send: n, value: 10}}",
}


def shop(served: Serve, *faults: str, kind: str = "cursor", **options: Any) -> Source:
    return served(YAML.replace("PAGINATION", KINDS[kind]), **{"records": 35, "faults": faults, **options})


def statuses(source: Source, count: int) -> list[int]:
    return [source.get("/orders", allow_redirects=False).status_code for _ in range(count)]


def ids(page: dict[str, Any]) -> list[str]:
    return [row["id"] for row in page["items"]]


def walk(source: Source, most: int = 12) -> list[dict[str, Any]]:
    """The pages of a cursor list, by its tokens."""
    pages: list[dict[str, Any]] = []
    token = None
    while len(pages) < most:
        pages.append(source.get("/orders", params={"after": token} if token else {}).json())
        token = pages[-1].get("next")
        if not token:
            break
    return pages


def all_ids(source: Source) -> list[str]:
    return [row["id"] for row in source.truth("orders")]


def test_each_entry_does_something_and_nothing_else_does() -> None:
    by_scope = {
        "answer": registry.INSTEAD,
        "reply": registry.REPLIES,
        "change": registry.CHANGES,
        "cut": registry.CUTS,
        "page": registry.PAGES,
        "row": registry.ROWS,
        "webhook": registry.WEBHOOKS,
        "write": registry.WRITES,
        "item": registry.ITEMS,
    }
    for scope, table in by_scope.items():
        assert set(table) == {name for name, form in VOCABULARY.items() if form.scope == scope}


def test_the_same_seed_and_requests_give_the_same_faults(served: Serve) -> None:
    first, second = [statuses(shop(served, "503 30%", "429 every 5th", seed=4), 40) for _ in range(2)]
    assert first == second
    assert {200, 429, 503} == set(first)
    assert statuses(shop(served, "503 30%", "429 every 5th", seed=5), 40) != first


def test_a_fault_knows_its_turn_and_its_stream(served: Serve) -> None:
    assert statuses(shop(served, "503 after 2 for 3 requests"), 7) == [200, 200, 503, 503, 503, 200, 200]
    source = shop(served, "503 on orders")
    assert (source.get("/orders").status_code, source.get("/elsewhere").status_code) == (503, 404)
    with pytest.raises(DataError, match="no stream nothing"):
        shop(served, "503 on nothing")


@pytest.mark.parametrize(
    ("fault", "headers"),
    [
        ("429", {}),
        ("429 retry-after soon", {"Retry-After": "soon"}),
        ("403 retry-after 1.5", {"Retry-After": "1.5"}),
        ("429 reset-after 2", {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": "2"}),
        ("429 draft 3", {"RateLimit": "limit=100, remaining=0, reset=3"}),
        ("503 structured 3", {"RateLimit": '"default";r=0;t=3'}),
    ],
)
def test_forms_of_slow_down(served: Serve, fault: str, headers: dict[str, str]) -> None:
    answer = shop(served, fault).get("/orders")
    assert str(answer.status_code) == fault[:3]
    assert {name: answer.headers[name] for name in headers} == headers
    assert ("Retry-After" in answer.headers) == ("Retry-After" in headers)


def test_moments_of_slow_down_lie_ahead(served: Serve) -> None:
    assert shop(served, "429 date 30").get("/orders").headers["Retry-After"].endswith("GMT")
    reset = int(shop(served, "429 reset 30").get("/orders").headers["X-RateLimit-Reset"])
    assert 25 < reset - time.time() < 32


def test_redirects(served: Serve) -> None:
    source = shop(served, "redirect")
    assert len(source.get("/orders").json()["items"]) == 10
    moved = source.get("/orders", allow_redirects=False)
    assert (moved.status_code, moved.headers["Location"].startswith(source.url)) == (302, True)
    away = shop(served, "redirect elsewhere").get("/orders", allow_redirects=False)
    assert away.headers["Location"].startswith("http://localhost:")
    with pytest.raises(requests.TooManyRedirects):
        shop(served, "redirect loop").get("/orders")


BROKEN = ["reset", "hang up", *(f"truncate {cut}" for cut in ("length", "chunked", "gzip", "headers"))]


@pytest.mark.parametrize("fault", BROKEN)
def test_an_answer_that_does_not_come_whole(served: Serve, fault: str) -> None:
    source = shop(served, f"{fault} once")
    with pytest.raises((OSError, HTTPException, EOFError)):
        unpacked(source)
    assert len(unpacked(source)) > 100


def unpacked(source: Source) -> bytes:
    """A whole body, by a reader that takes nothing half."""
    connection = HTTPConnection("127.0.0.1", source.port, timeout=10)
    connection.request("GET", "/shop/v1/orders")
    answer = connection.getresponse()
    body = answer.read()
    if not body:
        raise EOFError
    return gzip.decompress(body) if answer.headers["Content-Encoding"] == "gzip" else body


def test_a_cut_that_nothing_marks(served: Serve) -> None:
    answer = shop(served, "truncate unframed").get("/orders")
    assert "Content-Length" not in answer.headers
    with pytest.raises(ValueError, match=r"Expecting|Unterminated|delimiter"):
        answer.json()


def test_an_answer_after_which_the_connection_is_gone(served: Serve) -> None:
    connection = HTTPConnection("127.0.0.1", shop(served, "half close").port, timeout=10)
    connection.request("GET", "/shop/v1/orders")
    answer = connection.getresponse()
    assert (len(answer.read()) > 100, answer.will_close) == (True, False)
    assert connection.sock.recv(1) == b"", "the source has closed what it promised to keep"


def test_slow_and_dripping_answers(served: Serve) -> None:
    begun = time.monotonic()
    assert shop(served, "slow 150ms").get("/orders").ok
    assert time.monotonic() - begun >= 0.15
    begun = time.monotonic()
    assert len(shop(served, "drip 1ms", records=2).get("/orders").json()["items"]) == 2
    assert time.monotonic() - begun >= 0.3


@pytest.mark.parametrize("fault", ["huge 3MB", "bomb 3MB"])
def test_answers_far_too_large(served: Serve, fault: str) -> None:
    source = shop(served, fault)
    assert len(source.get("/orders").content) > 3_000_000
    assert len(source.get("/orders").json()["items"]) == 10
    if fault.startswith("bomb"):
        assert len(source.get("/orders", stream=True).raw.read(decode_content=False)) < 30_000


def test_bodies_that_are_not_plain_json(served: Serve) -> None:
    html = shop(served, "html").get("/orders")
    assert (html.status_code, html.text[:9]) == (200, "<!doctype")
    assert shop(served, "empty body").get("/orders").content == b""
    assert shop(served, "bom").get("/orders").content.startswith(b"\xef\xbb\xbf{")
    assert shop(served, "content type text/html").get("/orders").headers["Content-Type"] == "text/html"
    with pytest.raises(ValueError, match="Expecting"):
        shop(served, "garble").get("/orders").json()
    for name, codec in (("latin-1", "latin-1"), ("utf-16", "utf-16"), ("unsaid", "latin-1")):
        answer = shop(served, f"charset {name}").get("/orders")
        assert answer.content.decode(codec).count("ü") == 1
        assert ("utf-8" in answer.headers["Content-Type"]) == (name == "unsaid")


def test_a_source_that_is_down_comes_back(served: Serve) -> None:
    source = shop(served, "down 400ms after 1")
    assert source.get("/orders").ok
    refused = 0
    for _ in range(400):
        try:
            answer = requests.get(source.url + "/orders", timeout=10)
            break
        except requests.ConnectionError as error:
            refused += "refused" in str(error)
            time.sleep(0.01)
    assert answer.ok
    assert refused


# pages


@pytest.mark.parametrize(("fault", "sizes"), [
    ("smaller pages 15", [10, 10, 10, 5]),
    ("smaller pages 4", [4] * 8 + [3]),
    ("empty page 2", [10, 0, 10, 10, 5]),
    ("empty page 1", [0, 10, 10, 10, 5]),
    ("overlap 3", [10, 13, 13, 8]),
])  # fmt: skip
def test_pages_of_unexpected_sizes_lose_nothing(served: Serve, fault: str, sizes: list[int]) -> None:
    source = shop(served, fault)
    pages = walk(source)
    assert [len(page["items"]) for page in pages] == sizes
    assert sorted({one for page in pages for one in ids(page)}) == sorted(all_ids(source))


@pytest.mark.parametrize("kind", ["offset", "page"])
@pytest.mark.parametrize("fault", ["smaller pages 4", "empty page 2"])
def test_counted_pages_of_unexpected_sizes_lose_nothing(served: Serve, kind: str, fault: str) -> None:
    source = shop(served, fault, kind=kind)
    found: list[str] = []
    number, at = 1, 0
    while True:
        page = source.get("/orders", params={"page": number} if kind == "page" else {"skip": at}).json()
        found += ids(page)
        if number >= page["pages"]:
            break
        number, at = number + 1, at + (len(page["items"]) or 10)
    assert found == all_ids(source)


def test_tokens_that_lead_nowhere(served: Serve) -> None:
    tokens = [page.get("next") for page in walk(shop(served, "repeat token after 2", records=90), 6)]
    assert tokens[1] == tokens[2] == tokens[3]
    tokens = [page.get("next") for page in walk(shop(served, "cycle tokens 2", records=90), 9)]
    assert tokens[0] == tokens[2] == tokens[4]
    assert len(set(tokens)) == 2
    tokens = [page.get("next") for page in walk(shop(served, "last page names itself"), 6)]
    assert tokens[2] == tokens[3] == tokens[4]
    pages = walk(shop(served, "endless tokens"), 9)
    assert len({page["next"] for page in pages}) == 9
    assert [len(page["items"]) for page in pages[3:]] == [5, 0, 0, 0, 0, 0]


def test_what_is_told_of_the_rest_may_be_a_lie(served: Serve) -> None:
    assert {page["total"] for page in walk(shop(served, "lie total 7"))} == {7}
    assert {page["has_more"] for page in walk(shop(served, "lie more yes", kind="more"))} == {True}
    assert shop(served, "lie pages 99", kind="page").get("/orders").json()["pages"] == 99


def test_links_of_another_form(served: Serve) -> None:
    assert shop(served, "relative links", kind="links").get("/orders").json()["next"].startswith("/shop/v1/orders?")
    assert shop(served, "next elsewhere", kind="links").get("/orders").json()["next"].startswith("http://localhost")


def test_a_window_and_pages_past_the_end(served: Serve) -> None:
    source = shop(served, "window 20", kind="offset")
    assert [source.get("/orders", params={"skip": at}).status_code for at in (10, 20)] == [200, 400]
    for answer in ("404", "400"):
        source = shop(served, f"past end {answer}", kind="page")
        assert [source.get("/orders", params={"page": at}).status_code for at in (4, 5)] == [200, int(answer)]
    last = shop(served, "past end last", kind="page")
    assert last.get("/orders", params={"page": 9}).json() == last.get("/orders", params={"page": 4}).json()


@pytest.mark.parametrize(("fault", "status"), [("expire cursor", 410), ("expire cursor 400", 400)])
def test_a_position_expires_once_and_the_list_can_begin_again(served: Serve, fault: str, status: int) -> None:
    source = shop(served, f"{fault} after 1")
    token = source.get("/orders").json()["next"]
    second = source.get("/orders", params={"after": token}).json()["next"]
    assert source.get("/orders", params={"after": second}).status_code == status
    assert len(walk(source)) == 4


def test_the_source_changes_while_it_is_read(served: Serve) -> None:
    source = shop(served, "insert while reading 2 every 2nd")
    before = set(all_ids(source))
    walk(source)
    assert len(set(all_ids(source)) - before) == 4
    source = shop(served, "delete while reading after 1 for 2")
    walk(source)
    assert len(all_ids(source)) == 33
    source = shop(served, "late row 1h once", "future row 2d once")
    walk(source)
    newest = sorted(row["updated_at"] for row in source.truth("orders"))
    assert len(newest) == 37
    assert newest[-1] > newest[-2]


def test_records_of_a_page_in_another_order_and_twice(served: Serve) -> None:
    source = shop(served, "shuffle", "repeat row every 5th")
    page = source.get("/orders").json()
    assert sorted(set(ids(page))) == sorted(all_ids(source)[:10])
    assert ids(page) != sorted(ids(page))
    assert len(ids(page)) == 12


# records


def test_fields_come_and_go(served: Serve) -> None:
    faults = ["rename field name title", "drop field paid", "new field extra", "retype field amount"]
    source = shop(served, *faults, "new value due")
    row = source.get("/orders").json()["items"][0]
    assert {"title", "extra"} <= row.keys()
    assert not {"name", "paid"} & row.keys()
    assert isinstance(row["amount"], str)
    assert row["due"].startswith("brand_new")
    assert {"name", "paid"} <= source.truth("orders")[0].keys()


RAW = {
    "nul": b'"name":"a\\u0000b"', "surrogate": b'"name":"half \\ud83d"', "nan": b'"amount":NaN',
    "infinity": b'"amount":-Infinity', "big_integer": b'"amount":9007199254740993', "text_boolean": b'"paid":"false"',
    "zero_date": b'"due":"0000-00-00"', "far_year": b'"due":"12024-', "naive_time": b'"due":"2024-02-03T04:05:06"',
    "duplicate_key": b'"name":"the second of two"', "no_object": b'"a text where [',
    "deep": b'"spoilt":[[[[', "entities": b"Fish &amp; Chips", "empty": b'"name":""', "null_id": b'"id":null',
}  # fmt: skip


@pytest.mark.parametrize("kind", RAW)
def test_bad_rows_are_as_bad_as_they_say(served: Serve, kind: str) -> None:
    source = shop(served, f"bad row {kind} every 7th")
    body = source.get("/orders", params={"n": 100}).content
    assert body.count(RAW[kind]) == 5
    assert source.get("/orders", params={"n": 100}).content == body
    assert len(source.truth("orders")) == 35


def test_a_named_field_is_spoilt(served: Serve) -> None:
    body = shop(served, "bad row null in updated_at every 5th").get("/orders").content
    assert body.count(b'"updated_at":null') == 2


# the control door


def test_faults_are_switched_and_counted_at_the_control_door(served: Serve) -> None:
    source = shop(served)
    assert source.control("faults").json()["faults"] == []
    assert source.control("faults", json={"faults": ["503 every 2nd"]}).ok
    statuses(source, 6)
    assert source.control("faults").json() == {
        "faults": [{"fault": "503 every 2nd", "seen": 6, "hits": 3}],
        "requests": 6,
        "too_many": 0,
        "while_told_to_wait": 0,
    }
    assert source.control("requests").json()[1]["faults"] == ["503 every 2nd"]
    wrong = source.control("faults", json={"faults": ["503 evry 2nd"]})
    assert (wrong.status_code, "was expected" in wrong.json()["error"]) == (400, True)
    assert source.control("faults", json=["503"]).status_code == 400
    assert source.control("faults").json()["faults"][0]["fault"] == "503 every 2nd"
    source.control("faults", json={"faults": []})
    assert statuses(source, 4) == [200] * 4


def test_faults_of_the_yaml_are_on_from_the_beginning(served: Serve) -> None:
    text = YAML.replace("PAGINATION", KINDS["cursor"]) + "faults: [503 every 2nd]\n"
    assert statuses(served(text, records=20), 2) == [200, 503]


def test_who_comes_too_early_is_counted(served: Serve) -> None:
    source = shop(served, "limit 3 per 1h after 2")
    assert statuses(source, 7) == [200] * 5 + [429] * 2
    time.sleep(0.3)  # what comes sooner was on its way
    assert statuses(source, 1) == [429]
    report = source.control("faults").json()
    assert (report["too_many"], report["while_told_to_wait"]) == (3, 1)


def test_the_truth_tells_every_record_with_version_deletion_and_faults(served: Serve) -> None:
    source = shop(served, "bad row nul every 10th")
    (gone,) = source.simulation.delete("orders", 1)
    found = [line for line in source.control("orders/truth").iter_lines() if line]
    rows = {row["key"]: row for row in map(requests.compat.json.loads, found)}
    assert len(rows) == 35
    assert [key for key, row in rows.items() if row["deleted"]] == [gone]
    assert sum(bool(row["faults"]) for row in rows.values()) == 3
    assert all(row["version"] for row in rows.values())
