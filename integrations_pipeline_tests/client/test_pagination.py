"""Each pagination kind reads the whole list, proves its end, and goes on from any of its positions."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest

from integrations_pipeline.client import Client, Page
from integrations_pipeline.spec.errors import ConfigError, ContractError
from integrations_pipeline_tests.client.conftest import Bench, rows
from integrations_pipeline_tests.client.source import Reply, Seen, Source

DATA = rows(23)
SIZE = {"send": "limit", "value": 5}
Answer = Callable[[Seen], Any]


def stream(pagination: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "things": {"request": "GET /things", "records": "items", "primary_key": "id", "pagination": pagination, **more}
    }


def ids(pages: list[Page]) -> list[int]:
    return [row["id"] for page in pages for row in page.rows]


def read(client: Client, **how: Any) -> list[Page]:
    return list(client.pages("things", **how))


def by_number(seen: Seen) -> Any:
    page, size = int(seen.one("page")), int(seen.one("limit", "5"))
    return {"items": DATA[(page - 1) * size : page * size], "pages": 5, "more": page < 5, "total": len(DATA)}


def by_offset(seen: Seen) -> Any:
    offset, size = int(seen.one("offset")), int(seen.one("limit", "5"))
    return {"items": DATA[offset : offset + size], "more": offset + size < len(DATA), "total": len(DATA), "pages": 5}


def by_token(seen: Seen) -> Any:
    start = int(seen.one("after", "0").removeprefix("t"))
    after = f"t{start + 5}" if start + 5 < len(DATA) else None
    return {"items": DATA[start : start + 5], "paging": {"next": {"after": after}}}


def by_key(seen: Seen) -> Any:
    start = int(seen.one("starting_after", "-1")) + 1
    return {"items": DATA[start : start + 5], "has_more": start + 5 < len(DATA)}


def by_link_header(seen: Seen) -> Reply:
    page = int(seen.one("page", "1"))
    last = f'<http://{seen.headers["Host"]}/things?page=5>; rel="last"'
    link = f'<http://{seen.headers["Host"]}/things?page={page + 1}&x=a%2Cb>; foo="<,>"; rel="next"' if page < 5 else ""
    return Reply({"items": DATA[(page - 1) * 5 : page * 5]}, headers={"Link": ", ".join(filter(None, [link, last]))})


def by_link_body(seen: Seen) -> Any:
    page = int(seen.one("page", "1"))
    return {"items": DATA[(page - 1) * 5 : page * 5], "next": f"?page={page + 1}" if page < 5 else ""}


KINDS: dict[str, tuple[dict[str, Any], Answer, int]] = {
    "page_number by pages": ({"type": "page_number", "send": "page", "pages": "pages", "size": SIZE}, by_number, 5),
    "page_number by more": ({"type": "page_number", "send": "page", "more": "more"}, by_number, 5),
    "page_number by empty pages": ({"type": "page_number", "send": "page", "size": SIZE}, by_number, 7),
    "page_number with total": ({"type": "page_number", "send": "page", "total": "total"}, by_number, 7),
    "offset by more": ({"type": "offset", "send": "offset", "more": "more", "size": SIZE}, by_offset, 6),
    "offset by pages": ({"type": "offset", "send": "offset", "pages": "pages", "size": SIZE}, by_offset, 5),
    "offset by empty pages": ({"type": "offset", "send": "offset", "total": "total"}, by_offset, 8),
    "cursor": ({"type": "cursor", "read": "paging.next.after", "send": "after"}, by_token, 5),
    "keyset by more": ({"type": "keyset", "send": "starting_after", "more": "has_more"}, by_key, 5),
    "keyset by empty page": ({"type": "keyset", "send": "starting_after", "read": "id"}, by_key, 6),
    "link_header": ({"type": "link_header"}, by_link_header, 5),
    "link_body": ({"type": "link_body", "read": "next"}, by_link_body, 5),
}
each_kind = pytest.mark.parametrize(("form", "answer", "requests"), KINDS.values(), ids=KINDS.keys())


@each_kind
@pytest.mark.parametrize("concurrency", [1, 4])
def test_each_kind_reads_all_in_order(
    bench: Bench, form: dict[str, Any], answer: Answer, requests: int, concurrency: int
) -> None:
    client = bench.client(bench.source(answer).url, stream(form), concurrency=concurrency)
    pages = read(client)
    assert ids(pages) == list(range(23))
    assert [page.number for page in pages] == list(range(len(pages)))
    assert len(pages) == requests
    assert client.meter.requests >= requests
    assert pages[-1].next is None
    assert all(page.next for page in pages[:-1])


@each_kind
def test_each_position_goes_on_after_a_round_trip_through_json(
    bench: Bench, form: dict[str, Any], answer: Answer, requests: int
) -> None:
    source = bench.source(answer)
    client = bench.client(source.url, stream(form))
    pages = read(client)
    for done, page in enumerate(pages[:-1], 1):
        expected = ids(pages[done:])
        rest = ids(read(client, position=json.loads(json.dumps(page.next))))
        if form["type"] in (
            "offset",
            "page_number",
        ):  # the page before is read again, by offset the row at its seam too
            expected = ids(pages[done - 1 :])
            rest = rest[len(rest) - len(expected) :]
        assert rest == expected


def test_a_resumed_list_asks_first_for_exactly_its_position(bench: Bench) -> None:
    source = bench.source(by_token)
    client = bench.client(source.url, stream(KINDS["cursor"][0]))
    position = read(client)[1].next
    source.seen.clear()
    read(client, position=position)
    assert source.seen[0].query == {"after": ["t10"]}


def test_single_page(bench: Bench) -> None:
    source = bench.source(lambda seen: {"items": DATA})
    assert ids(read(bench.client(source.url, stream({"type": "single_page"})))) == list(range(23))
    assert len(source.seen) == 1


@pytest.mark.parametrize(
    "form", [{"type": "page_number", "send": "page"}, {"type": "cursor", "read": "next", "send": "page"}]
)
def test_an_empty_page_in_the_middle_ends_nothing(bench: Bench, form: dict[str, Any]) -> None:
    contents = {1: rows(5), 2: [], 3: rows(5, 5), 4: rows(1, 10)}

    def answer(seen: Seen) -> Any:
        page = int(seen.one("page", "1"))
        return {"items": contents.get(page, []), "next": page + 1 if page < 4 else None}

    assert ids(read(bench.client(bench.source(answer).url, stream(form)))) == list(range(11))


def test_an_empty_page_is_remembered_by_the_position(bench: Bench) -> None:
    source = bench.source(lambda seen: {"items": rows(1) if seen.one("page") == "1" else []})
    client = bench.client(source.url, stream({"type": "page_number", "send": "page"}))
    after_first_empty = read(client)[1].next
    source.seen.clear()
    again, end = read(client, position=after_first_empty)  # the page before is read again
    assert again.next is not None and end.next is None
    assert len(source.seen) == 2


@pytest.mark.parametrize("period", [1, 2, 7])
def test_tokens_that_come_again_are_refused(bench: Bench, period: int) -> None:
    def answer(seen: Seen) -> Any:
        step = int(seen.one("after", "-1")) + 1
        return {"items": rows(1, step), "paging": {"next": {"after": str(step % period)}}}

    source = bench.source(answer)
    client = bench.client(source.url, stream({"type": "cursor", "read": "paging.next.after", "send": "after"}))
    with pytest.raises(ContractError, match="circle"):
        read(client)
    assert len(source.seen) <= period + 2


def test_a_last_page_that_names_itself_is_refused_also_after_an_interruption(bench: Bench) -> None:
    source = bench.source(lambda seen: {"items": rows(1), "next": "last"})
    client = bench.client(source.url, stream({"type": "cursor", "read": "next", "send": "after"}))
    with pytest.raises(ContractError, match="circle"):
        read(client, position={"token": "last"})
    assert len(source.seen) == 1


def test_fresh_tokens_for_ever_meet_the_cap(bench: Bench) -> None:
    def answer(seen: Seen) -> Any:
        step = int(seen.one("after", "0")) + 1
        return {"items": [], "next": step}

    source = bench.source(answer)
    form = {"type": "cursor", "read": "next", "send": "after", "max_pages": 20}
    with pytest.raises(ContractError, match="more than 20 pages"):
        read(bench.client(source.url, stream(form)))
    assert len(source.seen) <= 22


def test_a_source_that_ignores_the_page_asked_for_is_found_out(bench: Bench) -> None:
    source = bench.source(lambda seen: {"items": rows(5)})
    with pytest.raises(ContractError, match="very same items"):
        read(bench.client(source.url, stream({"type": "page_number", "send": "page"})))
    assert len(source.seen) <= 3


def test_more_without_a_token_is_a_contradiction(bench: Bench) -> None:
    source = bench.source(lambda seen: {"items": rows(5), "more": True})
    form = {"type": "cursor", "read": "next", "send": "after", "more": "more"}
    with pytest.raises(ContractError, match="no token"):
        read(bench.client(source.url, stream(form)))


@pytest.mark.parametrize("more", ["perhaps", 7, {"a": 1}])
def test_more_must_be_true_or_false(bench: Bench, more: Any) -> None:
    source = bench.source(lambda seen: {"items": rows(5), "more": more})
    with pytest.raises(ContractError, match="neither true nor false"):
        read(bench.client(source.url, stream({"type": "page_number", "send": "page", "more": "more"})))


@pytest.mark.parametrize("total", [3, 10_000, "many", None])
def test_a_total_that_lies_ends_nothing_and_keeps_nothing_going(bench: Bench, total: Any) -> None:
    source = bench.source(lambda seen: {**by_offset(seen), "total": total})
    form = {"type": "offset", "send": "offset", "total": "total", "size": SIZE}
    client = bench.client(source.url, stream(form), concurrency=4)
    assert ids(read(client)) == list(range(23))
    assert len(source.seen) < 25


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_source_that_gives_less_than_asked_loses_no_row(bench: Bench, concurrency: int) -> None:
    def answer(seen: Seen) -> Any:
        offset = int(seen.one("offset"))
        size = 7 if offset < 35 else 4
        return {"items": rows(300)[offset : offset + size], "total": 300}

    source = bench.source(answer)
    form = {"type": "offset", "send": "offset", "total": "total", "size": {"send": "limit", "value": 100}}
    pages = read(bench.client(source.url, stream(form), concurrency=concurrency))
    assert ids(pages) == list(range(300))
    assert len(source.seen) < len(pages) + 12


@pytest.mark.parametrize("full", [3, 150], ids=["then only empty pages", "pages with rows"])
def test_fresh_tokens_for_ever_end_the_reading_not_a_long_list(bench: Bench, full: int) -> None:
    def answer(seen: Seen) -> Any:
        number = int(seen.one("after", "0"))
        gap = number % 5 and full > 3
        return {"items": [] if gap or number >= full else rows(2, number * 2), "next": number + 1}

    source = bench.source(answer)
    with pytest.raises(ContractError, match="empty pages in a row"):
        read(bench.client(source.url, stream({"type": "cursor", "read": "next", "send": "after"})))
    assert full + 90 <= len(source.seen) <= full + 105


def by_page(data: list[Any], seen: Seen) -> Any:
    """A page of whatever the list holds at that moment, by number or by offset."""
    begin = int(seen.one("offset")) if "offset" in seen.query else (int(seen.one("page")) - 1) * 5
    return {"items": data[begin : begin + 5], "total": len(data), "more": begin + 5 < len(data)}


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("send", ["offset", "page"])
@pytest.mark.parametrize("gone", [[0], [9], [4, 5], [0, 1, 2, 3, 4, 5, 6, 7], [20, 21, 22]], ids=str)
@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_rows_that_move_up_while_the_list_is_read_are_not_passed_over(
    bench: Bench, concurrency: int, send: str, gone: list[int], after: int
) -> None:
    data, asked = list(DATA), []

    def answer(seen: Seen) -> Any:
        asked.append(seen)
        if len(asked) == after + 1:
            data[:] = [row for row in data if row["id"] not in gone]
        return by_page(data, seen)

    kind = {"offset": "offset", "page": "page_number"}[send]
    form = {"type": kind, "send": send, "more": "more", "total": "total", "size": SIZE}
    pages = read(bench.client(bench.source(answer).url, stream(form), concurrency=concurrency))
    found = {row["id"] for page in pages for row in page.rows}
    assert found >= {row["id"] for row in data}
    assert len(asked) < 25


@pytest.mark.parametrize("send", ["offset", "page"])
@pytest.mark.parametrize("told", [{"total": "total"}, {}], ids=["total", "no total"])
@pytest.mark.parametrize("gone", [1, 4, 8, 12])
def test_rows_that_moved_up_while_a_list_was_interrupted_are_not_passed_over(
    bench: Bench, send: str, told: dict[str, Any], gone: int
) -> None:
    if gone > 4 and not told:
        pytest.skip("only a total tells of more than a page")
    data = list(DATA)
    source = bench.source(lambda seen: by_page(data, seen))
    kind = {"offset": "offset", "page": "page_number"}[send]
    client = bench.client(source.url, stream({"type": kind, "send": send, "more": "more", "size": SIZE, **told}))
    first = list(islice(client.pages("things"), 3))
    del data[:gone]
    rest = read(client, position=json.loads(json.dumps(first[-1].next)))
    assert {*ids(first), *ids(rest)} >= {row["id"] for row in data}
    assert len(source.seen) < 15


@pytest.mark.parametrize("send", ["offset", "page"])
@pytest.mark.parametrize("told", [{"total": "total"}, {}], ids=["total", "no total"])
@pytest.mark.parametrize("gone_before", [None, 2, 3, 4, 5], ids=str)
def test_one_request_per_run_comes_to_the_end(
    bench: Bench, send: str, told: dict[str, Any], gone_before: int | None
) -> None:
    """Each run reads one page and is interrupted; before one of them the first rows vanish."""
    if gone_before and send == "page" and not told:
        pytest.skip("by number only a total tells")
    data, position, found, runs = list(DATA), None, set(), 0
    source = bench.source(lambda seen: by_page(data, seen))
    kind = {"offset": "offset", "page": "page_number"}[send]
    client = bench.client(source.url, stream({"type": kind, "send": send, "more": "more", "size": SIZE, **told}))
    while runs < 30:
        runs += 1
        if runs == gone_before:
            del data[:2]
        page = next(iter(client.pages("things", position=position)))
        found |= {row["id"] for row in page.rows}
        if page.next is None:
            break
        position = json.loads(json.dumps(page.next))
    assert page.next is None
    assert found >= {row["id"] for row in data}
    assert runs <= 2 * len(DATA) // 3


def test_a_source_that_rounds_offsets_down_is_read_in_whole_pages(bench: Bench) -> None:
    def answer(seen: Seen) -> Any:
        begin = int(seen.one("offset")) // 5 * 5
        return {"items": DATA[begin : begin + 5], "more": begin + 5 < len(DATA)}

    source = bench.source(answer)
    form = {"type": "offset", "send": "offset", "more": "more", "size": SIZE}
    assert ids(read(bench.client(source.url, stream(form)))) == list(range(23))
    assert len(source.seen) == 6


def test_rows_without_any_order_end_the_list_nevertheless(bench: Bench) -> None:
    dice = random.Random(7)
    source = bench.source(lambda seen: by_page(dice.sample(DATA, len(DATA)), seen))
    form = {"type": "offset", "send": "offset", "more": "more", "size": SIZE}
    read(bench.client(source.url, stream(form)))
    assert len(source.seen) < 30


def test_a_keyset_goes_on_from_the_last_item_that_has_a_key(bench: Bench) -> None:
    def answer(seen: Seen) -> Any:
        if seen.one("after") == "":
            return {"items": [{"id": "a"}, {"id": "b"}, None, {"id": None}]}
        return {"items": [{"id": "c"}] if seen.one("after") == "b" else []}

    pages = read(bench.client(bench.source(answer).url, stream({"type": "keyset", "send": "after"})))
    assert [len(page.rows) for page in pages] == [4, 1, 0]


def test_a_keyset_page_without_any_key_is_refused(bench: Bench) -> None:
    source = bench.source(lambda seen: {"items": [{"name": "x"}]})
    with pytest.raises(ContractError, match="no item of the page has a `id`"):
        read(bench.client(source.url, stream({"type": "keyset", "send": "after"})))


def test_a_keyset_over_a_composite_key_needs_read(bench: Bench) -> None:
    source = bench.source(lambda seen: {})
    with pytest.raises(ConfigError, match="composite"):
        read(bench.client(source.url, stream({"type": "keyset", "send": "after"}, primary_key=["a", "b"])))


def test_a_keyset_reads_the_item_before_unwrap(bench: Bench) -> None:
    def answer(seen: Seen) -> Any:
        if seen.one("after"):
            return {"items": []}
        return {"items": [{"id": "evt_1", "data": {"id": "cus_9"}}]}

    source = bench.source(answer)
    records = {"path": "items", "unwrap": "data"}
    client = bench.client(source.url, stream({"type": "keyset", "send": "after"}, records=records))
    assert [page.rows for page in read(client)] == [[{"id": "cus_9"}], []]
    assert source.seen[1].one("after") == "evt_1"


def test_a_token_may_be_an_object_that_spreads(bench: Bench) -> None:
    def answer(seen: Seen) -> Any:
        page = int(seen.one("page", "1"))
        return {"items": rows(1, page), "next": {"page": page + 1, "mark": f"m{page}"} if page < 3 else {}}

    source = bench.source(answer)
    client = bench.client(source.url, stream({"type": "cursor", "read": "next", "send": "spread"}))
    assert ids(read(client)) == [1, 2, 3]
    assert source.seen[2].query == {"page": ["3"], "mark": ["m2"]}


def test_a_token_is_sent_in_the_body_of_a_post(bench: Bench) -> None:
    def answer(seen: Seen) -> Any:
        after = seen.json.get("page", {}).get("after", 0)
        return {"items": rows(1, after), "next": after + 1 if after < 2 else None}

    source = bench.source(answer)
    form = {"type": "cursor", "read": "next", "send": "body page.after", "size": {"send": "body limit", "value": 9}}
    client = bench.client(source.url, stream(form, request="POST /search", body={"q": "x"}))
    assert ids(read(client)) == [0, 1, 2]
    assert source.seen[2].json == {"q": "x", "limit": 9, "page": {"after": 2}}


def test_a_next_url_replaces_everything_but_headers_and_what_each_request_carries(bench: Bench) -> None:
    def answer(seen: Seen) -> Any:
        return {"items": rows(1, len(seen.query)), "next": None if seen.one("p") else "/v1/other?p=2&a=1%2F2&b=x+y"}

    source = bench.source(answer)
    client = bench.client(
        source.url + "/v1",
        stream({"type": "link_body", "read": "next", "size": SIZE}, query={"state": "all"}),
        query={"version": "3"},
        headers={"X-Team": "blue"},
    )
    read(client)
    second = source.seen[1]
    assert (second.path, second.query) == ("/v1/other", {"p": ["2"], "a": ["1/2"], "b": ["x y"], "version": ["3"]})
    assert second.headers["X-Team"] == "blue"


@pytest.mark.parametrize(
    "form", [{"type": "link_body", "read": "next"}, {"type": "cursor", "read": "next", "send": "url"}]
)
@pytest.mark.parametrize(
    "trick", ["{other}/things", "//{host}/things", "http://127.0.0.1@{host}/", "{other}\\@x/", "ftp://x/"]
)
def test_a_next_link_of_another_origin_is_refused_and_sees_nothing(
    bench: Bench, form: dict[str, Any], trick: str
) -> None:
    other = bench.source(lambda seen: {"items": []})
    link = trick.format(other=other.url, host=other.url.removeprefix("http://"))
    source = bench.source(lambda seen: {"items": rows(1), "next": link})
    client = bench.client(
        source.url, stream(form), auth={"type": "bearer", "token": "$token"}, secrets={"token": "tok-12345"}
    )
    with pytest.raises(ContractError, match="not an origin of this connection"):
        read(client)
    assert other.seen == []


def test_a_declared_second_origin_is_followed(bench: Bench) -> None:
    other = bench.source(lambda seen: {"items": rows(1, 7), "next": None})
    source = bench.source(lambda seen: {"items": rows(1), "next": other.url + "/more"})
    client = bench.client(source.url, stream({"type": "link_body", "read": "next"}), origins=[other.url])
    assert ids(read(client)) == [0, 7]


def test_a_stored_next_url_holds_no_credential(bench: Bench) -> None:
    source = Source(lambda seen: None)

    def answer(seen: Seen) -> Any:
        assert seen.query["key"] == ["sec-777"]
        page = int(seen.one("page", "1"))
        return {"items": rows(1, page), "next": f"/things?key=sec-777&page={page + 1}&k2=sec-777" if page < 3 else None}

    source = bench.source(answer)
    auth = {"type": "api_key", "send": "key", "key": "$key"}
    client = bench.client(
        source.url, stream({"type": "link_body", "read": "next"}), auth=auth, secrets={"key": "sec-777"}
    )
    pages = read(client)
    assert ids(pages) == [1, 2, 3]
    assert "sec-777" not in json.dumps([page.next for page in pages])


def test_a_window_that_is_full_stops_with_what_is_left_to_the_caller(bench: Bench) -> None:
    source = bench.source(by_token)
    form = {**KINDS["cursor"][0], "size": SIZE, "max_records": 17}
    client = bench.client(source.url, stream(form))
    pages = read(client)
    assert ids(pages) == list(range(15))
    assert [page.window_full for page in pages] == [False, False, True]
    assert pages[-1].next is None
    resumed = read(client, position=pages[1].next)
    assert resumed[-1].window_full
    assert len(resumed) == 1


def test_a_list_that_ends_within_its_window_is_no_full_window(bench: Bench) -> None:
    form = {**KINDS["cursor"][0], "size": SIZE, "max_records": 25}
    pages = read(bench.client(bench.source(by_token).url, stream(form)))
    assert (ids(pages), pages[-1].window_full) == (list(range(23)), False)


@pytest.mark.parametrize("status", [404, 400])
def test_a_declared_end_of_list_ends_it(bench: Bench, status: int) -> None:
    def answer(seen: Seen) -> Any:
        page = int(seen.one("page"))
        return {"items": rows(1, page)} if page < 3 else Reply({"code": "PAST_END"}, status=status)

    errors = [{"status": status, "when": {"code": "PAST_END"}, "is": "end_of_list"}]
    client = bench.client(bench.source(answer).url, stream({"type": "page_number", "send": "page"}, errors=errors))
    pages = read(client)
    assert ids(pages) == [1, 2]
    assert pages[-1].next is None
